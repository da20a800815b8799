"""An index made again: what is encoded, what is dropped, and what a kill leaves."""

import hashlib
import multiprocessing
import os
import random
import signal
import sqlite3
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cl2cm.data.scan import scan_folder
from cl2cm.errors import (
    CL2CMError,
    MediaError,
    QueryError,
    StorageError,
    VectorIndexError,
)
from cl2cm.index import Filter, Index
from cl2cm.index.update.journal import JOURNAL
from cl2cm.index.update.update import UpdateOptions, replace_index, update_index
from cl2cm.index.update.watch import watch
from cl2cm.types import Example

DIM = 16


class Model:
    """Vectors that are a function of a file's bytes and of the times of a part."""

    dim = DIM

    def __init__(self, fingerprint="one", delay=0.0):
        self.fingerprint, self.delay, self.encoded = fingerprint, delay, []

    def encode_visual(self, media):
        time.sleep(self.delay)
        rows = []
        for each in media:
            path = each.video or each.image if isinstance(each, Example) else each
            part = (each.start, each.end) if isinstance(each, Example) else ()
            data = path.read_bytes()
            if data == b"bad":
                raise MediaError(str(path), expected="x", found="bad", remedy="mend it")
            seed = hashlib.sha256(data + repr(part).encode() + self.fingerprint.encode()).digest()
            vector = np.random.default_rng(list(seed)).normal(size=DIM)
            rows.append(vector / np.linalg.norm(vector))
        self.encoded += [str(each) for each in media]
        return np.array(rows, np.float32).reshape(-1, DIM)


@pytest.fixture
def folder(tmp_path):
    pictures = tmp_path / "pictures"
    (pictures / "sub").mkdir(parents=True)
    for i in range(40):
        where = pictures / "sub" if i % 2 else pictures
        (where / f"{i:03}.png").write_bytes(b"%d" % i)
    return pictures


def update(folder, out, model=None, **options):
    return update_index(
        model or Model(), scan_folder(folder), out, run=out.parent / "run",
        options=UpdateOptions(**{"batch_size": 8, **options}),
    )  # fmt: skip


def contents(path):
    with_index = Index.open(path)
    items = with_index.items(range(len(with_index)))
    vectors = {item.id: with_index.vector(row).tobytes() for row, item in enumerate(items)}
    with_index.close()
    return vectors


def test_only_what_is_new_or_changed_is_encoded(folder, tmp_path):
    out, model = tmp_path / "index", Model()
    first = update(folder, out, model)
    assert (first.encoded, first.kept, first.dropped) == (40, 0, 0)
    for i in range(0, 6, 2):
        (folder / f"{i:03}.png").write_bytes(b"changed %d" % i)
        (folder / f"new-{i}.png").write_bytes(b"new %d" % i)
        (folder / "sub" / f"{i + 1:03}.png").unlink()
    model.encoded.clear()
    second = update(folder, out, model)
    assert (second.encoded, second.kept, second.dropped) == (6, 34, 3)
    assert len(model.encoded) == 6
    update(folder, tmp_path / "at-once")
    assert contents(out) == contents(tmp_path / "at-once")
    third = update(folder, out, model)
    assert (third.encoded, third.kept) == (0, 40)


def test_a_renamed_file_is_not_encoded_again_and_a_copy_is_encoded_once(folder, tmp_path):
    out, model = tmp_path / "index", Model()
    update(folder, out, model)
    (folder / "000.png").rename(folder / "sub" / "moved.png")
    (folder / "copy.png").write_bytes((folder / "002.png").read_bytes())
    model.encoded.clear()
    made = update(folder, out, model)
    assert model.encoded == []
    assert made.dropped == 1
    ids = set(contents(out))
    assert {"sub/moved.png", "copy.png"} <= ids
    assert "000.png" not in ids


def test_a_file_of_the_same_size_and_time_is_read_only_on_demand(folder, tmp_path):
    out, model = tmp_path / "index", Model()
    update(folder, out, model)
    path = folder / "010.png"
    before = path.stat()
    path.write_bytes(b"99")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert update(folder, out, model).encoded == 0
    assert update(folder, out, model, verify=True).encoded == 1


def test_another_model_is_refused_unless_the_index_is_to_be_replaced(folder, tmp_path):
    out = tmp_path / "index"
    update(folder, out)
    before = contents(out)
    with pytest.raises(VectorIndexError, match=r"model two, found one of one; .*--rebuild"):
        update(folder, out, Model("two"))
    assert contents(out) == before
    assert update(folder, out, Model("two"), rebuild=True).encoded == 40
    assert Index.open(out).model == "two"
    with sqlite3.connect(out / JOURNAL) as db:
        assert db.execute("SELECT DISTINCT model FROM vectors").fetchall() == [("two",)]


def test_bad_files_are_left_out_and_looked_at_again(folder, tmp_path):
    out = tmp_path / "index"
    (folder / "004.png").write_bytes(b"bad")
    with pytest.raises(MediaError):
        update(folder, out)
    bad = []
    made = update_index(
        Model(), scan_folder(folder), out, run=tmp_path / "run",
        on_skip=lambda name, error: bad.append(name),
    )  # fmt: skip
    assert bad == ["004.png"]
    assert len(made.index) == 39
    (folder / "004.png").write_bytes(b"good again")
    assert update(folder, out).encoded == 1


def test_parts_of_a_film_have_vectors_of_their_own(tmp_path):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"film")
    parts = [
        Example(id=f"film.mp4#t={t},{t + 1}", split="all", video=film, start=t, end=t + 1)
        for t in (0.0, 1.0)
    ]
    made = update_index(Model(), parts, tmp_path / "index", run=tmp_path / "run")
    assert made.encoded == 2
    vectors = contents(tmp_path / "index")
    assert len(set(vectors.values())) == 2
    assert update_index(Model(), parts, tmp_path / "index", run=tmp_path / "run").encoded == 0


def test_a_folder_of_other_things_is_refused_and_a_damaged_journal_made_anew(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    with pytest.raises(VectorIndexError, match="folder of other things"):
        update(folder, other)
    assert [path.name for path in other.iterdir()] == ["letter.txt"]
    out = tmp_path / "index"
    update(folder, out)
    (out / JOURNAL).write_bytes(b"no database" * 1000)
    before = contents(out)
    assert update(folder, out).encoded == 40
    assert contents(out) == before
    assert update(folder, out).encoded == 0


def _update_slowly(folder, out):
    update(folder, out, Model(delay=0.01), batch_size=2)


def test_killed_at_any_moment_it_goes_on_and_ends_as_if_it_never_was(folder, tmp_path):
    out = tmp_path / "index"
    context = multiprocessing.get_context("fork")
    rng = random.Random(0)
    for kill in range(10):
        child = context.Process(target=_update_slowly, args=(folder, out))
        child.start()
        time.sleep(rng.uniform(0.0, 0.25))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        (folder / f"{kill:03}.png").write_bytes(b"changed %d" % kill)
    model = Model()
    update(folder, out, model)
    assert len(model.encoded) <= 50
    update(folder, tmp_path / "at-once")
    assert contents(out) == contents(tmp_path / "at-once")
    names = {path.name.split("-")[0] for path in out.iterdir() if path.name[0] != "."}
    assert names - {"removed"} == {"index.json", "vectors", "items", JOURNAL, f"{JOURNAL}.lock"}


def test_a_search_that_is_open_goes_on_reading_the_index_that_it_opened(folder, tmp_path):
    out = tmp_path / "index"
    opened = update(folder, out).index
    vector = opened.vector(3)
    (folder / "sub" / "001.png").unlink()
    update(folder, out)
    assert len(opened) == 40
    assert opened.search(vector[None], 1, model="one")[0][0].id == opened.item(3).id


def test_filters_come_before_the_ranking(folder, tmp_path):
    update(folder, tmp_path / "index")
    index = Index.open(tmp_path / "index")
    query = np.random.default_rng(1).normal(size=(3, DIM)).astype(np.float32)
    everything = index.search(query, 40, model="one")
    inside = index.search(query, 5, model="one", filter=Filter(folder="sub"))
    for hits, all_hits in zip(inside, everything, strict=True):
        expected = [hit for hit in all_hits if hit.id.startswith("sub/")][:5]
        assert [hit.id for hit in hits] == [hit.id for hit in expected]
        assert [hit.score for hit in hits] == [hit.score for hit in expected]
    assert index.folders() == ["sub"]
    sizes = index.search(query, 40, model="one", filter=Filter(max_bytes=1))[0]
    assert {hit.id for hit in sizes} == {f"{i % 2 * 'sub/'}{i:03}.png" for i in range(10)}
    none = index.search(query, 3, model="one", filter=Filter(media="film"))
    assert none == [[], [], []]
    today = time.strftime("%Y-%m-%d")
    assert len(index.search(query, 40, model="one", filter=Filter(since=today))[0]) == 40
    assert index.search(query, 40, model="one", filter=Filter(until="2001-01-01")) == [[], [], []]
    assert len(index.search(query, 40, model="one", filter=Filter())[0]) == 40


def test_names_are_found_in_either_form(folder, tmp_path):
    decomposed, composed = "Ka\u0308fer", "K\u00e4fer"
    (folder / decomposed / "e\u0301").mkdir(parents=True)
    (folder / decomposed / "e\u0301" / "o\u0308.png").write_bytes(b"x")
    update(folder, tmp_path / "index")
    index = Index.open(tmp_path / "index")
    query = np.ones((1, DIM), np.float32)
    for name in (decomposed, composed, f"{composed}/\u00e9", f"{decomposed}/e\u0301"):
        assert len(index.search(query, 9, model="one", filter=Filter(folder=name))[0]) == 1
    item = index.item(index.row_of(f"{composed}/\u00e9/\u00f6.png"))
    assert item.id == f"{decomposed}/e\u0301/o\u0308.png"  # as it is on the disk
    index.close()


def test_watching_waits_for_a_change_to_last(folder, tmp_path):
    made, stop = [], threading.Event()
    once = lambda: made.append(update(folder, tmp_path / "index"))  # noqa: E731
    thread = threading.Thread(
        target=watch, args=(once, lambda: scan_folder(folder)),
        kwargs={"seconds": 0.02, "stop": stop.is_set},
    )  # fmt: skip
    thread.start()
    deadline = time.monotonic() + 10
    while len(made) < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    (folder / "late.png").write_bytes(b"late")
    while len(made) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join()
    assert [each.encoded for each in made] == [40, 1]


def watched(once, look, on_skip):
    """Watch in a thread; returns what ends it."""
    stop = threading.Event()
    thread = threading.Thread(
        target=watch, args=(once, look),
        kwargs={"seconds": 0.01, "stop": stop.is_set, "on_skip": on_skip},
    )  # fmt: skip
    thread.start()

    def end():
        stop.set()
        thread.join()

    return end


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition()


def test_watching_goes_on_when_the_folder_is_gone_for_a_while(folder, tmp_path):
    made, told, model = [], [], Model()
    end = watched(
        lambda: made.append(update(folder, tmp_path / "index", model)),
        lambda: scan_folder(folder),
        lambda name, error: told.append(str(error)),
    )
    wait_for(lambda: len(made) == 1)
    for away in (lambda: None, folder.mkdir):  # no folder, and an empty one: not mounted
        count = len(told)
        folder.rename(tmp_path / "away")
        away()
        wait_for(lambda count=count: len(told) > count)
        assert len(Index.open(tmp_path / "index")) == 40
        if folder.exists():
            folder.rmdir()
        (tmp_path / "away").rename(folder)
        wait_for(lambda count=count: len(made) > count + 1)
    end()
    assert len(model.encoded) == 40
    assert (made[-1].encoded, made[-1].kept, made[-1].dropped) == (0, 40, 0)


def test_watching_goes_on_after_a_full_disk(folder, tmp_path):
    made, told, full = [], [], threading.Event()

    def once():
        if full.is_set():
            raise StorageError("disk", expected="room", found="none", remedy="free some")
        made.append(update(folder, tmp_path / "index"))

    end = watched(once, lambda: scan_folder(folder), lambda name, error: told.append(name))
    wait_for(lambda: len(made) == 1)
    full.set()
    (folder / "late.png").write_bytes(b"late")
    wait_for(lambda: told == ["disk"])
    full.clear()
    wait_for(lambda: len(made) == 2)  # without another change
    end()
    assert (made[-1].encoded, told) == (1, ["disk"])


def test_watching_ends_with_an_error_of_the_first_update(folder):
    def once():
        raise VectorIndexError("x", expected="a", found="b", remedy="c")

    with pytest.raises(VectorIndexError):
        watch(once, lambda: scan_folder(folder), seconds=0.01, on_skip=lambda *_: None)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"media": "song"}, "'image' or 'video'"),
        ({"since": "yesterday"}, "a day such as"),
        ({"until": "2024-02-30"}, "a day such as"),
        ({"min_bytes": -1}, "0 to 2"),
        ({"max_bytes": 2**63}, "0 to 2"),
        ({"folder": "a\x00b"}, "name of a folder"),
    ],
)
def test_filters_that_cannot_be(setting, message):
    with pytest.raises(QueryError, match=message):
        Filter(**setting)


def test_an_index_of_other_captions_is_another_generation(folder, tmp_path):
    examples = scan_folder(folder)
    first = update_index(Model(), examples, tmp_path / "index", run=tmp_path / "run").index
    other = [replace(example, captions={"en": ("a word",)}) for example in examples]
    again = update_index(Model(), other, tmp_path / "index", run=tmp_path / "run")
    assert again.encoded == 0
    assert first.generation != again.index.generation
    assert Index.open(tmp_path / "index").generation == again.index.generation


def test_two_updates_at_once_encode_nothing_twice(folder, tmp_path):
    models = [Model(delay=0.01), Model(delay=0.01)]
    threads = [
        threading.Thread(target=update, args=(folder, tmp_path / "index", model))
        for model in models
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(model.encoded) for model in models) == [0, 40]
    assert len(contents(tmp_path / "index")) == 40


def test_known_vectors_replace_no_index_of_another_model(folder, tmp_path):
    out, model = tmp_path / "index", Model("two")
    update(folder, out)
    before, examples = contents(out), scan_folder(folder)[:3]
    vectors = model.encode_visual(examples)
    with pytest.raises(VectorIndexError, match="--rebuild"):
        replace_index(model, examples, vectors, out, run=tmp_path)
    assert contents(out) == before
    made = replace_index(
        model, examples, vectors, out, run=tmp_path, options=UpdateOptions(rebuild=True)
    )
    assert (made.encoded, made.dropped) == (3, 37)


def test_who_waited_looks_again_whose_index_it_is(folder, tmp_path):
    """The first update makes an index of another model while the second one waits."""
    out = tmp_path / "index"
    first = threading.Thread(target=update, args=(folder, out, Model("one", delay=0.1)))
    first.start()
    while not (out / f"{JOURNAL}.lock").exists():
        time.sleep(0.005)
    with pytest.raises(VectorIndexError, match="--rebuild"):
        update(folder, out, Model("two"))
    first.join()
    assert len(contents(out)) == 40


def test_a_lock_that_was_removed_meanwhile_is_taken_anew(folder, tmp_path):
    """The first update finds nothing to encode and removes its folder; the second goes on."""
    out = tmp_path / "index"
    (tmp_path / "bad").mkdir()
    for i in range(20):
        (tmp_path / "bad" / f"{i}.png").write_bytes(b"bad")

    def in_vain():
        with pytest.raises(VectorIndexError, match="can be read, found none"):
            update_index(
                Model(delay=0.3), scan_folder(tmp_path / "bad"), out, run=tmp_path,
                on_skip=lambda name, error: None,
            )  # fmt: skip

    first = threading.Thread(target=in_vain)
    first.start()
    while not (out / f"{JOURNAL}.lock").exists():
        time.sleep(0.005)
    assert update(folder, out).encoded == 40
    first.join()
    assert len(contents(out)) == 40


def test_a_folder_that_cannot_be_read_is_not_gone(folder, tmp_path, monkeypatch):
    def closed(path, *args, **kwargs):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path, *args, **kwargs)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(MediaError, match="sub: expected a folder that can be read"):
        scan_folder(folder)


def test_a_file_that_changes_while_others_are_encoded_gets_its_own_vector(tmp_path):
    pictures, out = tmp_path / "pictures", tmp_path / "index"
    pictures.mkdir()
    for name in ("a", "z"):
        (pictures / f"{name}.png").write_bytes(b"the same")

    class Changing(Model):
        def encode_visual(self, media):
            if not self.encoded:  # after its content was read, before its batch
                (pictures / "a.png").write_bytes(b"another")
            return super().encode_visual(media)

    made = update(pictures, out, Changing())
    assert made.encoded == 2
    update(pictures, tmp_path / "at-once")
    assert contents(out) == contents(tmp_path / "at-once")


def test_a_file_that_never_rests_is_left_out(tmp_path):
    pictures, out, said = tmp_path / "pictures", tmp_path / "index", []
    pictures.mkdir()
    for name in ("a", "z"):
        (pictures / f"{name}.png").write_bytes(name.encode())

    class Restless(Model):
        def encode_visual(self, media):
            (pictures / "a.png").write_bytes(b"a" * (len(self.encoded) + 2))
            return super().encode_visual(media)

    made = update_index(
        Restless(), scan_folder(pictures), out, run=tmp_path,
        on_skip=lambda name, error: said.append((name, error.found)),
    )  # fmt: skip
    assert said == [("a.png", "one that changed each time")]
    assert list(contents(out)) == ["z.png"]
    assert made.encoded == 1
    with pytest.raises(MediaError, match="does not change"):
        update(pictures, tmp_path / "other", Restless())


def test_each_copy_of_a_bad_file_is_named(folder, tmp_path):
    said = []
    for name in ("x", "y"):
        (folder / f"{name}.png").write_bytes(b"bad")
    update_index(
        Model(), scan_folder(folder), tmp_path / "index", run=tmp_path,
        on_skip=lambda name, error: said.append((name, str(error))),
    )  # fmt: skip
    assert sorted(one for one, _ in said) == ["x.png", "y.png"]
    assert all(f"{one}: expected" in text for one, text in said)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (sqlite3.SQLITE_FULL, "free some space"), (sqlite3.SQLITE_READONLY, "writable"),
        (sqlite3.SQLITE_BUSY, "wait for the other"), (sqlite3.SQLITE_CORRUPT, "remove it"),
    ],
)  # fmt: skip
def test_only_a_damaged_journal_is_to_be_removed(code, words, folder, tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        error = sqlite3.OperationalError("no")
        error.sqlite_errorcode = code
        raise error

    monkeypatch.setattr(sqlite3, "connect", fails)
    with pytest.raises(CL2CMError, match=words):
        update(folder, tmp_path / "index")


def test_what_is_newly_ignored_is_dropped(folder, tmp_path):
    out, model = tmp_path / "index", Model()
    update(folder, out, model)
    (folder / ".cl2cmignore").write_text("sub/\n")
    second = update(folder, out, model)
    assert (second.encoded, second.kept, second.dropped) == (0, 20, 20)
    assert not any(name.startswith("sub/") for name in contents(out))
    (folder / ".cl2cmignore").unlink()
    (folder / "sub" / ".nomedia").touch()
    assert update(folder, out, model).dropped == 0
    (folder / "sub" / ".nomedia").unlink()
    third = update(folder, out, model)
    assert (third.encoded, third.kept, third.dropped) == (0, 40, 0)


def test_a_folder_that_was_away_is_not_encoded_again(folder, tmp_path):
    out, model = tmp_path / "index", Model()
    update(folder, out, model)
    (folder / "sub").rename(tmp_path / "away")
    assert update(folder, out, model).dropped == 20
    (tmp_path / "away").rename(folder / "sub")
    assert update(folder, out, model).encoded == 0
    assert len(model.encoded) == 40


def test_vectors_of_what_is_gone_are_not_kept_without_end(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("cl2cm.index.update.journal._SPARE", 10)
    out = tmp_path / "index"
    update(folder, out)
    for path in (folder / "sub").iterdir():
        path.unlink()
    update(folder, out)  # 20 are needed, 20 are not
    for path in sorted(folder.glob("*.png"))[:1]:
        path.unlink()
    update(folder, out)
    with sqlite3.connect(out / "encoded.sqlite") as db:
        assert db.execute("SELECT count(*) FROM vectors").fetchone() == (19,)


def photo(path, taken=None):
    found = Image.Exif()
    if taken:
        found.get_ifd(0x8769)[0x9003] = taken
    Image.new("RGB", (8, 8), (len(taken or ""), 9, 9)).save(path, exif=found)
    os.utime(path, (1_700_000_000, 1_700_000_000))  # 2023-11-14, 22:13 UTC


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system has no time zone of a process")
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_days_are_those_of_the_camera_else_of_the_file_in_local_time(tmp_path, monkeypatch, zone):
    folder, out = tmp_path / "photos", tmp_path / "index"
    folder.mkdir()
    photo(folder / "night.jpg", "2019:07:14 23:30:05")
    photo(folder / "morning.jpg", "2019:07:15 00:10:00")
    photo(folder / "zeros.jpg", "0000:00:00 00:00:00")
    photo(folder / "none.jpg")
    try:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        update(folder, out)
        index = Index.open(out)

        def found(**conditions):
            query = np.ones((1, DIM), np.float32)
            return {
                hit.id
                for hit in index.search(query, 9, model="one", filter=Filter(**conditions))[0]
            }

        assert found(since="2019-07-14", until="2019-07-14") == {"night.jpg"}
        assert found(since="2019-07-15", until="2019-07-15") == {"morning.jpg"}
        changed = "2023-11-15" if zone == "Asia/Tokyo" else "2023-11-14"
        assert found(since=changed, until=changed) == {"zeros.jpg", "none.jpg"}
        everything = {"night.jpg", "morning.jpg", "zeros.jpg", "none.jpg"}
        assert found(since="0001-01-01", until="9999-12-31") == everything
    finally:
        monkeypatch.undo()
        time.tzset()


def test_dates_are_read_once(tmp_path, monkeypatch):
    from cl2cm.index.update import journal

    folder, out, asked = tmp_path / "photos", tmp_path / "index", []
    folder.mkdir()
    photo(folder / "a.jpg", "2019:07:14 23:30:05")
    real = journal.date_taken
    monkeypatch.setattr(journal, "date_taken", lambda path: asked.append(path) or real(path))
    update(folder, out)
    photo(folder / "b.jpg")
    update(folder, out)
    assert [path.name for path in asked] == ["a.jpg", "b.jpg"]
    index = Index.open(out)
    assert time.localtime(index.item(index.row_of("a.jpg")).modified)[:5] == (2019, 7, 14, 23, 30)
