"""Shards that are built independently and merged are the index that is built in one go."""

import shutil

import numpy as np
import pytest

from cl2cm.data.scan import scan_folder
from cl2cm.errors import ConfigError, VectorIndexError
from cl2cm.index import BackendOptions, Filter, Index
from cl2cm.index.metadata import parts_of, read_metadata
from cl2cm.index.update.shards import Shard, find_shards, merge_shards
from cl2cm.index.update.update import UpdateOptions, replace_index, update_index
from cl2cm.types import Example
from fixtures.kills import Model
from fixtures.strangers import write_head

QUERIES, N, D = 1000, 4000, 32


def unit(count, seed):
    vectors = np.random.default_rng(seed).standard_normal((count, D)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Known:
    dim, fingerprint, run = D, "m", "run"


def build(out, examples, vectors, **backend):
    options = UpdateOptions(backend=BackendOptions(**backend), roots=())
    replace_index(
        Known(), examples, vectors, out, run=out.parent / "run", options=options
    ).index.close()


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_a_thousand_queries_over_eight_shards_are_those_of_one_index(tmp_path, dtype, monkeypatch):
    monkeypatch.setattr("cl2cm.index.parts.LARGE", 100)  # searched in parallel
    monkeypatch.setattr("cl2cm.index.parts.cores", lambda: 4)
    vectors = unit(N, 1)
    vectors[[1, 999, 1000, 3999]] = vectors[17]  # ties within and between shards
    examples = [Example(f"{i % 7}/{i:05}.png", "all", features=f"{i}") for i in range(N)]
    whole, out = tmp_path / "whole", tmp_path / "index"
    build(whole, examples, vectors, dtype=dtype)
    for number in (5, 1, 8, 3, 2, 7, 4, 6):
        shard = Shard(number, 8)
        rows = np.array(shard.of(range(N)))
        build(shard.folder(out), shard.of(examples), vectors[rows], dtype=dtype)
        shard.finish(out, [example.id for example in examples])
    merged, one = merge_shards(out), Index.open(whole)
    assert len(parts_of(read_metadata(out))) == 8
    queries = np.vstack([unit(QUERIES - 1, 2), vectors[17]])
    for k in (1, 10):
        for found, expected in zip(
            merged.nearest(queries, k, model="m"), one.nearest(queries, k, model="m"), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
    filtered = [
        i.nearest(queries[:50], 10, model="m", filter=Filter(folder="3")) for i in (merged, one)
    ]
    np.testing.assert_array_equal(filtered[0][1], filtered[1][1])
    assert merged.items(range(N)) == one.items(range(N))
    merged.verify()


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(30):
        (folder / f"{i:03}.png").write_bytes(b"%d" % i)
    return folder


def index(out, examples, model=None):
    made = update_index(model or Model(), examples, out, run=out.parent / "run")
    made.index.close()
    return made


def shards(photos, out, count=3):
    for number in range(1, count + 1):
        shard = Shard(number, count)
        index(shard.folder(out), shard.of(scan_folder(photos)))
        shard.finish(out, [example.id for example in scan_folder(photos)])


def test_updates_go_on_from_the_merged_index(photos, tmp_path):
    out = tmp_path / "index"
    shards(photos, out)
    merge_shards(out).close()
    for folder in find_shards(out):
        shutil.rmtree(folder)
    (photos / "new.png").write_bytes(b"new")
    made = index(out, scan_folder(photos))
    assert (made.encoded, made.kept) == (1, 30)
    assert [part["count"] for part in parts_of(read_metadata(out))] == [10, 10, 10, 1]
    for path in sorted(photos.iterdir())[:25]:  # all parts are written again, from the journals
        path.write_bytes(path.read_bytes() + b" ")
    made = index(out, scan_folder(photos))
    assert (made.encoded, made.kept) == (25, 6)


def test_a_merge_replaces_an_index_that_was_there_only_if_told(photos, tmp_path):
    out = tmp_path / "index"
    index(out, scan_folder(photos)[:5])
    shards(photos, out)
    with pytest.raises(VectorIndexError, match="built without them; remove the shards"):
        merge_shards(out)
    merge_shards(out, rebuild=True).close()
    assert len(merge_shards(out)) == 30  # again, by a job that was queued twice
    named = {
        entry["name"] for part in parts_of(read_metadata(out)) for entry in part["files"].values()
    }
    assert {path.name for path in out.iterdir()} == named | {
        "index.json", "encoded.sqlite", "encoded.sqlite.lock",
    }  # fmt: skip


def test_what_cannot_be_merged_is_named(photos, tmp_path):
    out = tmp_path / "index"
    with pytest.raises(VectorIndexError, match=r"found none.*--shard"):
        merge_shards(out)
    shards(photos, out)
    second = Shard(2, 3).folder(out)
    kept = shutil.copytree(second, tmp_path / "kept")
    shutil.rmtree(second)
    with pytest.raises(VectorIndexError, match=r"none of number 2;.*--shard 2/3"):
        merge_shards(out)
    index(second, scan_folder(photos)[:3])
    with pytest.raises(VectorIndexError, match=r"'000\.png' here and in"):
        merge_shards(out)
    shutil.rmtree(second)
    other = Model()
    other.fingerprint = "two"
    index(second, scan_folder(photos)[10:20], other)
    with pytest.raises(VectorIndexError, match=r"model one.*found two"):
        merge_shards(out)
    shutil.rmtree(second)
    shutil.copytree(kept, second)
    write_head(second, model="x")  # without our seal
    with pytest.raises(VectorIndexError, match="an index that you made"):
        merge_shards(out)
    shutil.rmtree(second)
    shutil.copytree(kept, second)
    path = next(second.glob("vectors-*"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(VectorIndexError, match=path.name):
        merge_shards(out)
    Shard(1, 2).finish(out, ["a", "b"])
    with pytest.raises(VectorIndexError, match="arrays of 2 and 3"):
        merge_shards(out)
    assert not (out / "index.json").exists()
    assert not list(out.glob("vectors-*"))


@pytest.mark.parametrize("text", ["", "0/3", "4/3", "1", "a/b", "1/0", "-1/3", "1/3/5", "1 /3"])
def test_a_shard_that_cannot_be(text):
    with pytest.raises(ConfigError, match="I/N"):
        Shard.parse(text)


@pytest.mark.parametrize("count", [1, 3, 7, 30, 31])
def test_shards_hold_each_item_once(count):
    items = list(range(30))
    parts = [Shard.parse(f"{number}/{count}").of(items) for number in range(1, count + 1)]
    assert [item for part in parts for item in part] == items


def test_an_update_after_the_merge_is_not_undone(photos, tmp_path):
    out = tmp_path / "index"
    shards(photos, out)
    merge_shards(out).close()
    (photos / "new.png").write_bytes(b"new")
    index(out, scan_folder(photos))
    with pytest.raises(VectorIndexError, match="updated since they were merged"):
        merge_shards(out)
    assert len(Index.open(out)) == 31


def test_shards_of_a_folder_that_changed_are_refused(photos, tmp_path):
    out = tmp_path / "index"
    shards(photos, out)
    for path in sorted(photos.iterdir())[:2]:
        path.unlink()
    last, left = Shard(3, 3), scan_folder(photos)
    index(last.folder(out), last.of(left))
    last.finish(out, [example.id for example in left])
    with pytest.raises(VectorIndexError, match=r"same 30 items.*of 28 items; .*all --shard jobs"):
        merge_shards(out)


def test_a_shard_that_was_not_finished_is_missing(photos, tmp_path):
    out = tmp_path / "index"
    shards(photos, out)
    Shard(2, 3).begin(out)
    with pytest.raises(VectorIndexError, match="none of number 2"):
        merge_shards(out)
    Shard(2, 3).plan_file(out).write_text('{"items": 30}')
    with pytest.raises(VectorIndexError, match="none of number 2"):
        merge_shards(out)


def test_more_shards_than_items(photos, tmp_path):
    out = tmp_path / "index"
    for path in sorted(photos.iterdir())[2:]:
        path.unlink()
    left = scan_folder(photos)
    for number in range(1, 6):
        shard = Shard(number, 5)
        if own := shard.of(left):
            index(shard.folder(out), own)
        shard.finish(out, [example.id for example in left])
    assert len(merge_shards(out)) == 2
