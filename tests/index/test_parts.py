"""An index of several parts answers as one that was written in one go."""

import json
import random

import numpy as np
import pytest

from cl2cm.errors import VectorIndexError
from cl2cm.index import Filter, Index
from cl2cm.index.backend_choice import BackendConfig
from cl2cm.index.filter import Order
from cl2cm.index.metadata import entries_of, parts_of, read_metadata
from cl2cm.index.parts import OpenPart, other_rows, read_removed
from cl2cm.index.write import write_change
from cl2cm.types import Item
from fixtures.strangers import head_of, unit, write_head

D = 8
ORDERS: tuple[Order | None, ...] = (None, "newest", "oldest")
FILTERS = [
    Filter(), Filter(folder="a"), Filter(folder="a/b"), Filter(media="video"), Filter(name="1"),
    Filter(since="1970-01-03"), Filter(min_bytes=20), Filter(folder="nowhere"),
]  # fmt: skip


def item(name, number):
    return Item(
        name, f"/photos/{name}", kind="video" if number % 3 == 0 else "image", bytes=number,
        modified=None if number % 5 == 0 else 1e5 * (number % 7), captions={"en": (f"no {number}",)},
    )  # fmt: skip


def names(count, seed):
    rng = random.Random(seed)
    return [f"{rng.choice(['', 'a/', 'a/b/', 'ü/'])}{number:03}.png" for number in range(count)]


def add(path, new, gone, config):
    """Add items, and drop some by their ids, as an update does."""
    old = read_metadata(path)
    parts = parts_of(old)
    removed = {}
    index = Index.open(path)
    starts, places = 0, {}
    opened = getattr(index._items, "_parts", None)
    for at, part in enumerate(parts):
        live = (
            np.arange(part["count"])
            if opened is None or opened[at].live is None
            else opened[at].live
        )
        for one, row in zip(index.items(range(starts, starts + len(live))), live, strict=True):
            places[one.id] = at, int(row)
        starts += len(live)
        removed[at] = set(other_rows(live, part["count"]).tolist())
    index.close()
    for name in gone:
        at, row = places[name]
        removed[at].add(row)
    lists = {at: np.array(sorted(rows), np.int64) for at, rows in removed.items() if rows}
    vectors = np.array([vector for _, vector in new], np.float32).reshape(-1, D)
    write_change(
        path, vectors, [one for one, _ in new], [None] * len(new), old=old, kept=parts,
        removed=lists, config=config, run=path.parent / "run", roots=[],
    )  # fmt: skip


@pytest.fixture(params=["exact", "faiss", "exact-int8"])
def both(request, tmp_path, monkeypatch):
    """Two indexes of the same items in the same order: of many parts, and of one."""
    if request.param == "faiss":
        pytest.importorskip("faiss", reason="pip install 'cl2cm[faiss]'")
    monkeypatch.setattr("cl2cm.index.parts.LARGE", 1)  # threads
    monkeypatch.setattr("cl2cm.index.parts.cores", lambda: 3)
    backend, _, dtype = request.param.partition("-")
    dtype = dtype or "float16"
    vectors = unit(90, D)
    vectors[70] = vectors[3]  # a tie between parts
    about = [(item(name, n), vectors[n]) for n, name in enumerate(names(90, 1))]
    config = BackendConfig(backend, dtype)
    settings = {
        "model": "m",
        "run": tmp_path / "run",
        "backend": backend,
        "dtype": dtype,
        "roots": [],
    }
    parted = tmp_path / "parted"
    Index.create(parted, vectors[:40], [one for one, _ in about[:40]], **settings).close()
    gone = [about[n][0].id for n in (0, 7, 8, 39)]
    add(parted, about[40:60], gone, config)
    gone += [about[n][0].id for n in (9, 41, 59)]
    add(parted, about[60:90], gone[-3:], config)
    gone += [about[60][0].id]
    add(parted, [], gone[-1:], config)  # nothing new
    left = [(one, vector) for one, vector in about if one.id not in gone]
    whole = tmp_path / "whole"
    Index.create(
        whole, np.array([v for _, v in left]), [one for one, _ in left], **settings
    ).close()
    return Index.open(parted), Index.open(whole), left


def test_it_finds_what_one_part_finds(both):
    parted, whole, left = both
    assert (len(parted), parted.dim) == (len(whole), D) == (len(left), D)
    queries = np.vstack([unit(20, D), unit(90, D)[[3]]])
    for k in (1, 5, len(left), 1000):
        for found, expected in zip(
            parted.nearest(queries, k, model="m"), whole.nearest(queries, k, model="m"), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
    rows = np.arange(len(left))
    np.testing.assert_array_equal(parted.vectors(rows), whole.vectors(rows))
    np.testing.assert_array_equal(parted.vectors([5, 70, 5]), whole.vectors([5, 70, 5]))
    parted.verify()


@pytest.mark.parametrize("filter_", FILTERS, ids=repr)
def test_filters_and_orders(both, filter_):
    parted, whole, _ = both
    for order in ORDERS:
        np.testing.assert_array_equal(
            parted.matching(filter_, order), whole.matching(filter_, order)
        )
    found = parted.nearest(unit(3, D), 4, model="m", filter=filter_)
    expected = whole.nearest(unit(3, D), 4, model="m", filter=filter_)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


def test_look_ups(both):
    parted, whole, left = both
    assert parted.items(range(len(left))) == whole.items(range(len(left)))
    assert [parted.row_of(one.id) for one, _ in left] == [*range(len(left))]
    assert parted.folders() == whole.folders()
    for gone in ("000.png", "nothing"):
        with pytest.raises(VectorIndexError, match="no such id"):
            parted.row_of(gone)
    for row in (-1, len(left)):
        with pytest.raises(VectorIndexError, match="a row from 0 to"):
            parted.item(row)
    with pytest.raises(VectorIndexError, match="at least 1"):
        parted.nearest(unit(1, D), 0, model="m")
    with pytest.raises(VectorIndexError, match="model m"):
        parted.nearest(unit(1, D), 1, model="other")


def test_one_part_is_of_the_first_version_of_the_format(both):
    parted, whole, _ = both
    assert head_of(whole.path)["version"] == 1
    assert head_of(parted.path)["version"] == 2
    assert parted.ours
    kinds = [kind for kind, _ in entries_of(read_metadata(parted.path))]
    assert (kinds.count("vectors"), kinds.count("removed")) == (3, 3)


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "index"
    items = [item(f"{n}.png", n) for n in range(10)]
    Index.create(path, unit(10, D), items, model="m", run=tmp_path / "run", roots=[]).close()
    config = BackendConfig("exact", "float32")
    add(path, [(item("new.png", 1), unit(11, D)[10])], ["3.png", "4.png"], config)
    return path


@pytest.mark.parametrize("rows", [[0, 10], [4, 3], [3, 3], [-1, 3], [3, 2**40]], ids=str)
def test_rows_that_cannot_be_removed_are_damage(small, rows):
    path = next(small.glob("removed-*"))
    path.write_bytes(np.array(rows, "<i8").tobytes())
    with pytest.raises(VectorIndexError, match="removed-"):
        read_removed(path, 10)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(VectorIndexError, match="removed-"):
        read_removed(path, 10)


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_a_damaged_list_of_removed_rows_is_named(small, harm):
    path = next(small.glob("removed-*"))
    data = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    else:
        data[0] ^= 1
        path.write_bytes(data if harm == "flip" else data[:8])
    with pytest.raises(VectorIndexError, match=path.name):
        Index.open(small)


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: [],
        lambda parts: {},
        lambda parts: ["x"],
        lambda parts: [{**parts[0], "count": 0}, parts[1]],
        lambda parts: [{**parts[0], "count": "10"}, parts[1]],
        lambda parts: [{**parts[0], "count": 9}, parts[1]],
        lambda parts: [{**parts[0], "more": 1}, parts[1]],
        lambda parts: [parts[1]],
        lambda parts: [{"count": 10, "files": []}, parts[1]],
        lambda parts: [{**parts[0], "files": {}}, parts[1]],
        lambda parts: [{**parts[0], "removed": {"name": "../x.rows", "bytes": 16, "sha256": ""}}, parts[1]],
        lambda parts: [{**parts[0], "removed": parts[0]["files"]["items"]}, parts[1]],
        lambda parts: [parts[0]] * 5000,
    ],
    ids=range(13),
)  # fmt: skip
def test_parts_that_we_do_not_write_are_refused(small, change):
    write_head(small, parts=change(json.loads((small / "index.json").read_text())["parts"]))
    with pytest.raises(VectorIndexError, match=r"index\.json"):
        Index.open(small)


def test_a_part_knows_its_rows():
    part = OpenPart(np.zeros((6, 2)), None, np.array([1, 2, 5]))
    assert len(part) == 3
    assert part.inner(np.array([0, 2])).tolist() == [1, 5]
    assert part.counted(np.array([1, 5])).tolist() == [0, 2]
    assert part.is_live(np.array([0, 1, 5, 4])).tolist() == [False, True, True, False]
    assert part.removed().tolist() == [0, 3, 4]
    empty = OpenPart(np.zeros((2, 2)), None, np.array([], np.int64))
    assert empty.is_live(np.array([0, 1])).tolist() == [False, False]
