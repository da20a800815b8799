"""Work that is killed before each of its writes goes on, and ends as if it never was killed."""

import multiprocessing
import sys

import pytest

from fixtures.kills import WORK, killed, result, write_sources

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has no fork")
POINTS = {"store": 6, "prepared": 5, "state": 4, "index": 5, "changed": 6}  # kills of each
STEP = {"store": 3, "prepared": 2, "state": 3, "index": 2, "changed": 8}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_sources(tmp_path_factory.mktemp("kills") / "source")


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    made = {}
    for name, work in WORK.items():
        out = tmp_path_factory.mktemp("whole") / name
        work(source, out)
        made[name] = result(name, out)
    return made


@pytest.mark.parametrize(
    ("name", "kill"), [(n, k) for n, many in POINTS.items() for k in range(many)]
)
def test_killed_before_a_write_it_goes_on(name, kill, source, whole, tmp_path):
    out = tmp_path / name
    assert killed(name, source, out, point=1 + kill * STEP[name]), "it ended before"
    WORK[name](source, out)
    assert result(name, out) == whole[name]
    left = [path.name for path in tmp_path.rglob("*") if "partial" in path.name]
    assert not left


def test_killed_again_and_again_it_ends(source, whole, tmp_path):
    """The second kill is in the repair of the first."""
    out = tmp_path / "store"
    for point in (2, 5, 3, 4):
        killed("store", source, out, point=point)
    WORK["store"](source, out)
    assert result("store", out) == whole["store"]


def test_two_at_once_on_one_cold_cache(tmp_path):
    """As of two trainings: one encodes, the other waits for it."""
    from cl2cm.encode.store import FeatureStore

    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_shared, args=(tmp_path / "store",)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert len(FeatureStore.open(tmp_path / "store")) == 12


def _shared(out):
    import time

    import torch

    from cl2cm.encode.rows import Rows
    from cl2cm.encode.store_writing import write_store

    def encode(part):
        time.sleep(0.05)
        return Rows(
            torch.ones(len(part), 8).half(),
            torch.ones(len(part), dtype=torch.long),
            torch.ones(len(part)) > 0,
        )

    ids = [f"item {i}" for i in range(12)]
    write_store(
        out, ids, encode, encoder="e", fingerprint="f" * 64, width=8, shard_items=4, shared=True
    )
