"""An update writes what is new, and nothing else; whatever its history, the index is the same."""

import json
import os
import random
import shutil

import numpy as np
import pytest

from cl2cm.data.scan import scan_folder
from cl2cm.index import Index
from cl2cm.index.metadata import parts_of, read_metadata
from cl2cm.index.update.change import away_from
from cl2cm.index.update.journal import Journal
from cl2cm.index.update.state import states_of
from cl2cm.index.update.update import UpdateOptions, replace_index, update_index
from cl2cm.types import Example
from fixtures.kills import Model as _Model


class Model(_Model):
    def __init__(self):
        self.encoded = []

    def encode_visual(self, media):
        self.encoded += [str(each) for each in media]
        return super().encode_visual(media)


@pytest.fixture
def folder(tmp_path):
    photos = tmp_path / "photos"
    for i in range(60):
        (photos / f"{i % 3}").mkdir(parents=True, exist_ok=True)
        (photos / f"{i % 3}" / f"{i:03}.png").write_bytes(b"%d" % i)
    return photos


def update(photos, out, model=None, **options):
    made = update_index(
        model or Model(), scan_folder(photos), out, run=out.parent / "run",
        options=UpdateOptions(**options),
    )  # fmt: skip
    made.index.close()
    return made


def contents(path):
    index = Index.open(path)
    items = index.items(range(len(index)))
    found = {item.id: (index.vector(row).tobytes(), item) for row, item in enumerate(items)}
    assert len(found) == len(index)
    index.verify()
    index.close()
    return found


def sizes(path):
    return [part["count"] for part in parts_of(read_metadata(path))]


def files(path, *patterns):
    return {one.name: one.stat().st_mtime_ns for pattern in patterns for one in path.glob(pattern)}


def test_only_what_is_new_is_looked_up_and_written(folder, tmp_path, monkeypatch):
    out, looked_up = tmp_path / "index", []
    update(folder, out)
    before = files(out, "vectors-*", "items-*")
    real = Journal.content
    monkeypatch.setattr(
        Journal, "content", lambda *a, **k: looked_up.append(a[1].id) or real(*a, **k)
    )
    (folder / "0" / "new.png").write_bytes(b"new")
    (folder / "1" / "001.png").write_bytes(b"changed")
    (folder / "2" / "002.png").unlink()
    made = update(folder, out)
    assert (made.encoded, made.kept, made.dropped) == (2, 58, 1)
    assert set(looked_up) == {"0/new.png", "1/001.png"}
    after = files(out, "vectors-*", "items-*")
    assert before.items() <= after.items()  # the old files are as they were
    assert len(after) == len(before) + 2
    assert sizes(out) == [60, 2]
    update(folder, tmp_path / "at-once")
    assert contents(out).keys() == contents(tmp_path / "at-once").keys()


def test_what_has_not_changed_writes_no_part(folder, tmp_path):
    out = tmp_path / "index"
    update(folder, out)
    before = files(out, "vectors-*", "items-*", "removed-*")
    generation = Index.open(out).generation
    assert update(folder, out).kept == 60
    assert files(out, "vectors-*", "items-*", "removed-*") == before
    assert Index.open(out).generation == generation


@pytest.mark.parametrize("seed", range(4))
def test_any_history_ends_with_the_index_of_the_files(folder, tmp_path, seed):
    rng, out = random.Random(seed), tmp_path / "index"
    update(folder, out)
    for step in range(12):
        there = sorted(folder.rglob("*.png"))
        for path in rng.sample(there, rng.choice([0, 1, 3, 20])):
            if rng.random() < 0.5 and len(there) > 30:
                path.unlink()
            else:
                path.write_bytes(b"%d %d" % (step, rng.randrange(1000)))
        for number in range(rng.choice([0, 1, 2, 30])):
            (folder / "1" / f"{step}-{number}.png").write_bytes(b"%d" % rng.randrange(10**6))
        made = update(folder, out)
        found = contents(out)
        assert made.encoded + made.kept == len(found)
        left = {path.name for path in out.glob("*-*.*")}
        assert {entry.name for entry in out.iterdir() if "partial" in entry.name} == set()
        named = json.dumps(read_metadata(out))
        assert all(name in named for name in left if not name.startswith("encoded"))
    shutil.rmtree(tmp_path / "at-once", ignore_errors=True)
    update(folder, tmp_path / "at-once")
    expected = contents(tmp_path / "at-once")
    assert found == expected
    queries = np.eye(Model.dim, dtype=np.float32)[:4]
    for path in (out, tmp_path / "at-once"):
        index = Index.open(path)
        hits = index.search(queries, 7, model="one")
        if path == out:
            seen = [[(hit.id, hit.score) for hit in line] for line in hits]
        else:
            assert seen == [[(hit.id, hit.score) for hit in line] for line in hits]


def test_small_parts_are_written_together(folder, tmp_path):
    """The number of parts grows with the logarithm of the number of updates."""
    out, most = tmp_path / "index", 0
    for i in range(500):
        (folder / "0" / f"more-{i}.png").write_bytes(b"more %d" % i)
    update(folder, out)
    for i in range(33):
        (folder / "1" / f"one-{i}.png").write_bytes(b"one %d" % i)
        update(folder, out)
        most = max(most, len(sizes(out)))
    assert sizes(out)[0] == 560
    assert most <= 7
    assert sum(sizes(out)) == 593


def test_a_part_that_is_mostly_removed_is_written_again(folder, tmp_path):
    out = tmp_path / "index"
    update(folder, out)
    for path in sorted((folder / "1").iterdir())[:14]:
        path.unlink()
    update(folder, out)
    assert sizes(out) == [60]  # with a list of removed rows
    assert len(list(out.glob("removed-*"))) == 1
    for path in sorted((folder / "1").iterdir())[:3]:
        path.unlink()
    update(folder, out)
    assert sizes(out) == [43]
    assert not list(out.glob("removed-*"))


def test_a_damaged_index_is_written_anew(folder, tmp_path):
    out = tmp_path / "index"
    update(folder, out)
    path = next(out.glob("vectors-*"))
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    model = Model()
    (folder / "0" / "new.png").write_bytes(b"new")
    assert update(folder, out, model).kept == 60
    assert len(model.encoded) == 1
    contents(out)


def test_an_index_of_an_earlier_version_gets_its_states(folder, tmp_path, monkeypatch):
    out, model = tmp_path / "index", Model()
    monkeypatch.setattr(
        "cl2cm.index.update.work.states_of", lambda examples: [None for _ in examples]
    )
    update(folder, out)
    monkeypatch.undo()
    update(folder, out, model)
    assert (sizes(out), model.encoded) == ([60], [])
    (folder / "0" / "new.png").write_bytes(b"new")
    update(folder, out)
    assert sizes(out) == [60, 1]


def test_known_vectors_can_be_added_to(folder, tmp_path):
    out, model, examples = tmp_path / "index", Model(), scan_folder(folder)
    vectors = model.encode_visual([example.path for example in examples])
    replace_index(model, examples, vectors, out, run=tmp_path / "run").index.close()
    model.encoded.clear()
    (folder / "0" / "new.png").write_bytes(b"new")
    made = update(folder, out, model)
    assert (made.encoded, made.kept, len(model.encoded)) == (1, 60, 1)


def test_a_moved_index_is_written_anew(folder, tmp_path):
    out = tmp_path / "index"
    update(folder, out)
    out.rename(tmp_path / "moved")
    model = Model()
    update(folder, tmp_path / "moved", model)
    assert model.encoded == []
    assert read_metadata(tmp_path / "moved")["folder"] == str(tmp_path / "moved")


def test_a_reader_keeps_the_parts_that_it_opened(folder, tmp_path):
    out = tmp_path / "index"
    update(folder, out)
    for round_ in range(3):
        index = Index.open(out)
        before = contents(out)
        for i in range(10 * (round_ + 1)):
            (folder / "0" / f"{round_}-{i}.png").write_bytes(b"%d of %d" % (i, round_))
        update(folder, out)
        items = index.items(range(len(index)))
        assert {one.id: (index.vector(r).tobytes(), one) for r, one in enumerate(items)} == before
        index.close()


# --- folders that are not mounted -----------------------------------------------------------------


def test_items_of_an_empty_folder_stay_in_the_index(folder, tmp_path, capsys):
    out, model = tmp_path / "index", Model()
    (folder / "disk").mkdir()
    (folder / "1").rename(folder / "disk" / "1")
    update(folder, out, model, folder=folder)
    (folder / "disk" / "1").rename(tmp_path / "away")
    (folder / "0" / "new.png").write_bytes(b"new")
    made = update(folder, out, model, folder=folder)
    assert (made.encoded, made.dropped, made.kept) == (1, 0, 60)
    said = " ".join(capsys.readouterr().err.split())
    assert "disk: empty, 20 items of it stay" in said
    assert "remove the folder to drop them" in said
    for i in range(100):  # enough to write all parts again
        (folder / "0" / f"more-{i}.png").write_bytes(b"more %d" % i)
    assert update(folder, out, model, folder=folder).dropped == 0
    (tmp_path / "away").rename(folder / "disk" / "1")
    model.encoded.clear()
    assert update(folder, out, model, folder=folder).dropped == 0
    assert model.encoded == []
    shutil.rmtree(folder / "disk")
    assert update(folder, out, model, folder=folder).dropped == 20


def test_which_folders_are_empty(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    gone = {"empty/a.png", "empty/b/c.png", "full/y.png", "nowhere/z.png", "top.png"}
    assert away_from(gone, tmp_path) == {"empty": {"empty/a.png", "empty/b/c.png"}}


# --- states ---------------------------------------------------------------------------------------


def test_the_state_of_a_file_tells_what_could_change_its_item(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    example = Example("a", "all", image=path)
    [state] = states_of([example])
    assert states_of([example]) == [state]
    others = [
        Example("a", "all", image=path, captions={"en": ("x",)}),
        Example("a", "all", video=path),
        Example("a", "all", video=path, start=0.0, end=1.0),
    ]
    assert len({state, *states_of(others)}) == 4
    os.utime(path, ns=(1, 1))
    assert states_of([example]) != [state]
    assert states_of([Example("f", "all", features="f")]) == [None]
    assert states_of([Example("f", "all", image=tmp_path / "gone.png")]) == [None]
