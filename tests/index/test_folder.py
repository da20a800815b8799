"""The index as a folder: round trips, refusals, damage, and being replaced under a reader."""

import json
import os
import shutil
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cl2cm.errors import ConfigError, StorageError, VectorIndexError
from cl2cm.index import Index, ItemStore
from cl2cm.types import Hit, Item


def vectors_of(n, d=8, seed=0):
    values = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def items_of(n):
    return [
        Item(f"item-{i}", f"pictures/{i}.png", captions={"en": (f"no. {i}",)}) for i in range(n)
    ]


@pytest.fixture
def make(tmp_path):
    def make(n=10, seed=0, path=tmp_path / "index", **changes):
        values = {"vectors": vectors_of(n, seed=seed), "items": items_of(n)}
        values |= {"model": "model-a", "run": tmp_path / "run"} | changes
        return Index.create(path, **values)

    return make


def the_file(folder, kind):
    return folder / json.loads((folder / "index.json").read_text())["files"][kind]["name"]


def test_what_was_stored_is_there(make, tmp_path):
    (tmp_path / "run").mkdir()
    made = make()
    for index in (made, Index.open(tmp_path / "index")):
        assert (len(index), index.dim, index.model) == (10, 8, "model-a")
        assert index.run == tmp_path / "run"
        assert index.item(3) == items_of(10)[3]
        assert index.item_by_id("item-7") == items_of(10)[7]
        assert index.row_of("item-7") == 7
        np.testing.assert_allclose(index.vector(4), vectors_of(10)[4], atol=1e-3)
        index.verify()


def test_hits_carry_items_and_scores(make, tmp_path):
    index = make()
    queries = vectors_of(3, seed=9)
    hits = index.search(queries, 4, model="model-a")
    scores, rows = index.nearest(queries, 4, model="model-a")
    assert [len(row) for row in hits] == [4, 4, 4]
    item = index.item(int(rows[1, 2]))
    path = str(tmp_path / "index" / item.path)
    assert hits[1][2] == Hit(item.id, float(scores[1, 2]), path, captions=item.captions)


def test_refuses_vectors_of_another_model(make):
    with pytest.raises(VectorIndexError, match=r"model-a.*model-b"):
        make().search(vectors_of(1), 1, model="model-b")


@pytest.mark.parametrize("row", [-1, 10, 2**40])
def test_refuses_a_row_that_is_not_there(make, row):
    index = make()
    with pytest.raises(VectorIndexError, match="a row from 0 to 9"):
        index.item(row)
    with pytest.raises(VectorIndexError, match="a row from 0 to 9"):
        index.vector(row)


@pytest.mark.parametrize("name", ["", "item-10", "' OR 1=1 --", "\ud800"])
def test_refuses_an_id_that_is_not_there(make, name):
    with pytest.raises(VectorIndexError, match="no such id"):
        make().item_by_id(name)


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_seconds = st.none() | st.floats(0, 1e6, allow_nan=False)
_items = st.lists(
    st.builds(
        Item,
        id=_text,
        path=_text.filter(lambda text: not text.startswith("/")),
        start=_seconds,
        end=_seconds,
        captions=st.dictionaries(_text, st.lists(_text, max_size=3).map(tuple), max_size=3),
    ),
    min_size=1,
    max_size=20,
    unique_by=lambda item: item.id,
)


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(items=_items)
def test_items_survive_the_round_trip(tmp_path, items):
    path = tmp_path / "items.sqlite"
    ItemStore.write(path, items)
    store = ItemStore(path)
    assert store.at(range(len(items))) == items
    assert [store.row_of(item.id) for item in items] == list(range(len(items)))
    store.close()


def test_more_rows_than_one_statement_takes(tmp_path):
    ItemStore.write(tmp_path / "items.sqlite", items_of(1300))
    store = ItemStore(tmp_path / "items.sqlite")
    rows = np.random.default_rng(0).integers(0, 1300, 1200).tolist()
    assert [item.id for item in store.at(rows)] == [f"item-{row}" for row in rows]


def test_threads_share_one_index(make):
    index = make(200)

    def look():
        return [index.item(row).id for row in range(200)]

    with ThreadPoolExecutor(8) as pool:
        for job in [pool.submit(look) for _ in range(8)]:
            assert job.result() == [f"item-{row}" for row in range(200)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"items": items_of(9)}, "10 vectors and 9 items"),
        ({"items": [*items_of(9), items_of(1)[0]]}, "the same id at 0 and 9"),
        ({"items": [*items_of(9), Item("\ud800", "x")]}, "valid Unicode"),
        ({"vectors": np.full((10, 8), np.nan, np.float32)}, "NaN"),
        ({"vectors": np.ones((10, 8), np.float32)}, "unit length"),
        ({"vectors": np.ones(10, np.float32), "items": items_of(1)}, "shape"),
        ({"vectors": np.ones((0, 8), np.float32), "items": []}, "at least one vector"),
        ({"dtype": "int4"}, "float16 or float32"),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_refuses_bad_input_and_leaves_everything_as_it_was(make, tmp_path, changes, words, there):
    if there:
        make()
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    with pytest.raises((VectorIndexError, ConfigError), match=words):
        make(**changes)
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before
    if there:
        assert len(Index.open(tmp_path / "index")) == 10


def test_does_not_write_over_another_folder(make, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "holiday.jpg").write_text("dear to me")
    with pytest.raises(VectorIndexError, match="a folder of other things"):
        make(path=folder)
    (folder / "index.json").write_text('{"a website": "has one of these too"}')
    with pytest.raises(VectorIndexError, match="a folder of other things"):
        make(path=folder)
    with pytest.raises(VectorIndexError, match="a file"):
        make(path=folder / "holiday.jpg")
    assert (folder / "holiday.jpg").read_text() == "dear to me"


def test_an_empty_folder_may_become_an_index(make, tmp_path):
    (tmp_path / "index").mkdir()
    assert len(make()) == 10


def test_a_reader_keeps_what_it_opened_while_the_index_is_replaced(make, tmp_path):
    old = make(10)
    query = vectors_of(1, seed=3)
    before = old.search(query, 5, model="model-a")
    new = make(20, seed=1, model="model-b")
    assert old.search(query, 5, model="model-a") == before
    assert old.item_by_id("item-9").id == "item-9"
    assert (len(new), new.model, len(Index.open(tmp_path / "index"))) == (20, "model-b", 20)
    assert old.generation != new.generation
    names = {p.name for p in (tmp_path / "index").iterdir()}
    assert len(names) == 3
    assert names == {"index.json"} | {the_file(new.path, k).name for k in ("vectors", "items")}


def test_an_index_opened_again_and_again_while_it_is_rewritten_is_always_whole(make, tmp_path):
    make(5)
    done = threading.Event()

    def read():
        seen = set()
        while not done.is_set():
            index = Index.open(tmp_path / "index")
            assert len(index.items(range(len(index)))) == len(index)
            seen.add(len(index))
            index.close()
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for n in range(6, 36):
            make(n)
        done.set()
        for reader in readers:
            assert reader.result() & set(range(5, 36))


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("step", ["vectors", "items", "index.json"])
def test_a_full_disk_leaves_the_old_index_or_none(make, tmp_path, monkeypatch, there, step):
    if there:
        make(5)
    before = sorted(tmp_path.rglob("*"))
    replace = Path.replace

    def full(self, target):
        if Path(target).name.startswith(step):
            raise OSError(28, "No space left on device")
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(StorageError, match="full disk"):
            make(10)
    assert sorted(tmp_path.rglob("*")) == before
    if there:
        assert len(Index.open(tmp_path / "index")) == 5


def test_what_a_killed_run_left_is_swept_after_a_day(make, tmp_path):
    make()
    fresh, old = tmp_path / "index/vectors-01.npy", tmp_path / "index/items-02.sqlite"
    mine = tmp_path / "index/notes.txt"
    for path in (fresh, old, mine):
        path.write_text("x")
        os.utime(path, (time.time() - 2 * 24 * 3600,) * 2)
    os.utime(fresh)
    make()
    assert (fresh.exists(), old.exists(), mine.exists()) == (True, False, True)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scramble(path):
    path.write_bytes(b"\x93" * path.stat().st_size)


@pytest.mark.parametrize("kind", ["vectors", "items", "head"])
@pytest.mark.parametrize("harm", [cut, scramble, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_file_is_named(make, tmp_path, kind, harm):
    folder = make().path
    path = folder / "index.json" if kind == "head" else the_file(folder, kind)
    harm(path)
    with pytest.raises(VectorIndexError) as caught:
        Index.open(folder)
    assert caught.value.subject in (str(path), str(folder))
    assert "\n" not in str(caught.value)
    remade = make(12) if kind != "head" or path.exists() else None
    assert remade is None or len(Index.open(folder)) == 12


def test_one_flipped_byte_is_found_by_verify(make):
    index = make()
    path = the_file(index.path, "vectors")
    content = bytearray(path.read_bytes())
    content[-4] ^= 1  # the least bit of a value: the vector is still of unit length
    path.write_bytes(content)
    with pytest.raises(VectorIndexError, match="hash"):
        Index.open(index.path).verify()


def test_damage_in_the_middle_of_the_items_is_found_when_they_are_read(make):
    index = make(2000)
    path = the_file(index.path, "items")
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:4096] + b"\xff" * (middle - 4096) + content[middle:])
    with pytest.raises(VectorIndexError, match="damaged"):
        Index.open(index.path).items(range(2000))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"version": 2},
        {"version": None},
        {"count": 9},
        {"count": -10, "dim": -8},
        {"count": 8, "dim": 10},
        {"dtype": "int4"},
        {"count": "10"},
        {"count": True},
        {"dim": 9},
        {"dtype": "float16"},
        {"backend": "cuneiform"},
        {"model": None},
        {"run": {}},
        {"files": {}},
        {"files": {"vectors": {"name": "../x", "bytes": 1, "sha256": ""}, "items": {}}},
    ],
)
def test_a_head_that_does_not_fit_is_refused(make, change):
    path = make().path / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(VectorIndexError, match=r"index\.json|vectors-.*\.npy"):
        Index.open(path.parent)


@pytest.mark.parametrize("text", ["[]", "null", "[" * 100_000])
def test_a_head_that_is_no_object_is_refused(make, text):
    path = make().path / "index.json"
    path.write_text(text)
    with pytest.raises(VectorIndexError, match=r"index\.json"):
        Index.open(path.parent)


def test_no_index(tmp_path):
    with pytest.raises(VectorIndexError, match=r"no such folder.*cl2cm index"):
        Index.open(tmp_path / "none")
    with pytest.raises(VectorIndexError, match="index"):
        Index.open(tmp_path)


def test_an_index_moves_with_the_pictures_and_the_run_beside_it(make, tmp_path):
    home = tmp_path / "home"
    picture = home / "pictures" / "a.png"
    picture.parent.mkdir(parents=True)
    picture.touch()
    (home / "run").mkdir()
    far = tmp_path / "far.png"
    items = [Item("near", str(picture)), Item("far", str(far))]
    vectors = vectors_of(2)
    make(path=home / "index", vectors=vectors, items=items, run=home / "run")
    home.rename(tmp_path / "moved")
    index = Index.open(tmp_path / "moved" / "index")
    assert index.media_path(index.item_by_id("near")) == tmp_path / "moved/pictures/a.png"
    assert index.media_path(index.item_by_id("far")) == far
    assert index.run == tmp_path / "moved/run"


def test_an_index_moved_alone_still_finds_the_pictures_and_the_run(make, tmp_path):
    picture = tmp_path / "home" / "a.png"
    picture.parent.mkdir()
    picture.touch()
    run = tmp_path / "home" / "run"
    run.mkdir()
    make(
        path=tmp_path / "home/index",
        vectors=vectors_of(1),
        items=[Item("a", str(picture))],
        run=run,
    )
    (tmp_path / "else").mkdir()
    shutil.move(tmp_path / "home/index", tmp_path / "else/index")
    index = Index.open(tmp_path / "else/index")
    assert index.media_path(index.item(0)) == picture
    assert index.run == run


def test_an_item_of_features_has_no_file(make):
    index = make(items=[Item("a", "")], vectors=vectors_of(1))
    assert index.search(vectors_of(1), 1, model="model-a")[0][0].path == ""
    with pytest.raises(VectorIndexError, match="only features"):
        index.media_path(index.item(0))


def test_torch_stays_out():
    import subprocess
    import sys

    code = "import sys, cl2cm.index, cl2cm.search.searcher; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_items_and_hits_know_their_kind_and_the_file_keeps_its_words(make, tmp_path):
    kinds = ["image", "video"] * 5
    items = [replace(item, kind=kind) for item, kind in zip(items_of(10), kinds, strict=True)]
    index = make(items=items)
    [hits] = index.search(vectors_of(1), 10, model="model-a")
    assert {hit.id: hit.kind for hit in hits} == {item.id: item.kind for item in items}
    with closing(sqlite3.connect(the_file(tmp_path / "index", "items"))) as db:
        stored = [media for (media,) in db.execute("SELECT media FROM items ORDER BY row")]
    assert stored == ["picture", "film"] * 5
