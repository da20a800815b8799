import random

import pytest

from cl2cm.encode.array_parts import ArrayJob
from cl2cm.encode.plan import plan_store
from cl2cm.encode.store import FeatureStore
from cl2cm.encode.store_writing import write_part, write_planned
from cl2cm.errors import ConfigError, StoreError
from cl2cm.storage import only_writer
from fixtures.slow_step import WIDTH, Step, hashes

COUNT, JOBS = 22, 7


def plan(**changes):
    settings = {"encoder": "e", "fingerprint": "f" * 64, "width": WIDTH, "shard_items": 2}
    contents = [f"state {i}" for i in range(COUNT)]
    ids = changes.pop("ids", [f"item {i}" for i in range(COUNT)])
    return plan_store(ids, contents=changes.pop("contents", contents), **{**settings, **changes})


@pytest.fixture
def step(tmp_path):
    (tmp_path / "log").mkdir()
    return Step(tmp_path / "log")


@pytest.fixture
def expected(tmp_path, step):
    write_planned(tmp_path / "here", plan(), step)
    return hashes(tmp_path / "here")


def write_parts(folder, step, jobs=range(1, JOBS + 1), **changes):
    jobs = list(jobs)
    random.Random(1).shuffle(jobs)
    return [write_part(folder, plan(**changes), ArrayJob(job, JOBS), step) for job in jobs]


def test_parts_in_any_order_merge_into_the_same_bytes(tmp_path, step, expected):
    counts = write_parts(tmp_path / "s", step)
    assert [sum(column) for column in zip(*counts, strict=True)] == [COUNT // 2, COUNT]
    with pytest.raises(StoreError, match="an unfinished one; run the same cl2cm encode again"):
        FeatureStore.open(tmp_path / "s")
    write_planned(tmp_path / "s", plan(), None)
    assert hashes(tmp_path / "s") == expected
    assert write_parts(tmp_path / "s", None, [1]) == [(2, 4)]  # done: nothing is encoded
    assert hashes(tmp_path / "s") == expected


@pytest.mark.parametrize("damage", ["never ran", "changed byte", "replaced file"])
def test_a_merge_names_the_jobs_that_have_to_run(damage, tmp_path, step, expected):
    store = tmp_path / "s"
    jobs = [1, 2, 4, 5, 6, 7] if damage == "never ran" else range(1, JOBS + 1)
    write_parts(store, step, jobs)
    now = plan()
    if damage == "changed byte":
        (path,) = store.glob("part-00003-*/00002.safetensors")
        path.write_bytes(path.read_bytes()[:-1] + b"\7")
    elif damage == "replaced file":
        now = plan(contents=[*(f"state {i}" for i in range(4)), "new", *plan().contents[5:]])
    with pytest.raises(StoreError, match=r"expected all 11 shards.* 2.*run again: --shard 3/7$"):
        write_planned(store, now, None)
    with pytest.raises(StoreError, match="unfinished"):
        FeatureStore.open(store)
    write_part(store, now, ArrayJob(3, JOBS), step)
    write_planned(store, now, None)
    if damage != "replaced file":
        assert hashes(store) == expected


def test_what_no_job_did_is_encoded_by_an_ordinary_call(tmp_path, step, expected):
    write_parts(tmp_path / "s", step, [2, 5])
    for path in step.log.iterdir():
        path.unlink()
    write_planned(tmp_path / "s", plan(), step)
    assert hashes(tmp_path / "s") == expected
    assert len(list(step.log.iterdir())) == COUNT // 2 - 3  # the jobs did shards 1, 4 and 8


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"fingerprint": "a" * 64, "encoder": "x"}, "another encoder .x, aaaaaaaaaaaa."),
        ({"ids": [f"other {i}" for i in range(COUNT)]}, "the ids differ"),
        ({"shard_items": 3}, "shard_items differ"),
    ],
)
def test_parts_of_another_plan_are_refused(change, found, tmp_path, step):
    write_parts(tmp_path / "s", step, [1, 2])
    write_part(tmp_path / "s", plan(**change), ArrayJob(3, JOBS), step)
    with pytest.raises(StoreError, match=found):
        write_planned(tmp_path / "s", plan(), None)


def test_parts_without_hard_links_are_copied(tmp_path, step, expected, monkeypatch):
    write_parts(tmp_path / "s", step)

    def none(*_):
        raise OSError("no hard links")

    monkeypatch.setattr("os.link", none)
    write_planned(tmp_path / "s", plan(), None)
    assert hashes(tmp_path / "s") == expected


def test_a_part_that_is_written_stays_at_a_merge(tmp_path, step, expected):
    write_parts(tmp_path / "s", step)
    folder = ArrayJob(3, JOBS).folder(tmp_path / "s")
    with only_writer(folder):
        write_planned(tmp_path / "s", plan(), None)
        assert folder.exists()
    kept = {name: value for name, value in hashes(tmp_path / "s").items() if "/" not in name}
    assert kept == expected


def test_a_store_that_was_begun_with_other_shards_keeps_them(tmp_path, step):
    """As one of an earlier version, whose shards were larger."""
    with pytest.raises(ZeroDivisionError):
        write_planned(
            tmp_path / "s", plan(shard_items=4), lambda p: step(p) if p[0] == 0 else 1 / 0
        )
    write_planned(tmp_path / "s", plan(shard_items=2), step)
    write_planned(tmp_path / "t", plan(shard_items=4), step)
    assert hashes(tmp_path / "s") == hashes(tmp_path / "t")


@pytest.mark.parametrize("text", ["", "3", "0/7", "8/7", "3/7/1", "-1/7", "a/b", "3 / 7"])
def test_a_job_that_is_none(text):
    with pytest.raises(ConfigError, match="--shard: expected a job of an array"):
        ArrayJob.parse(text)
    assert str(ArrayJob.parse("3/7")) == "3/7"
