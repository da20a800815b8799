"""An index folder from a stranger: it may fail to open, but does nothing else."""

import os
import shutil
import sqlite3
import struct
import time
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

import cl2cm.index.database
import cl2cm.index.items
from cl2cm.errors import CL2CMError, MediaError, VectorIndexError
from cl2cm.index import Allowed, Index
from cl2cm.index.backends.quantization import write_matrix
from cl2cm.search.hits import Hits
from cl2cm.types import Item
from fixtures.strangers import forge, head_of, make_index, the_file, unit, write_head


@pytest.fixture
def index(tmp_path):
    return make_index(tmp_path / "index")


# --- index.json ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1}, {"Files": {}}, {"ours": True}, {"sealed": True}, {"count": 0}, {"count": -1},
        {"count": 10**30}, {"count": 1.0}, {"count": True}, {"dim": 0}, {"dim": 10**9}, {"dim": "8"},
        {"url": 3}, {"previous": []}, {"cleartext": 1}, {"roots": "/"}, {"roots": [1]},
        {"roots": ["a\0b"]}, {"folder": "a\0b"}, {"run": {"absolute": "a\0", "relative": ""}},
        {"run": []}, {"run": {"absolute": "x", "relative": "y", "z": 1}}, {"run": {"absolute": 1, "relative": ""}},
        {"files": []}, {"files": None}, {"backend": []}, {"backend": "pgvector"}, {"version": "1"},
        {"version": True}, {"seal": 5}, {"model": {}}, {"dtype": "float16"}, {"dtype": "object"},
    ],
)  # fmt: skip
def test_a_head_with_what_we_never_write_is_refused(index, change):
    write_head(index, **change)
    with pytest.raises(VectorIndexError) as caught:
        Index.open(index)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "entry",
    [
        [], {}, None, "x", {"name": "v.npy", "bytes": 1}, {"name": 1, "bytes": 1, "sha256": ""},
        {"bytes": "1"}, {"bytes": True}, {"sha256": None}, {"more": 1}, {"name": "../secret.npy"},
        {"name": "/etc/passwd"}, {"name": "vectors-0/../../x.npy"}, {"name": ".."}, {"name": ""},
        {"name": "vectors-00.npy\0"}, {"name": "vectors-\\..\\x.npy"}, {"name": "index.json"},
        {"name": "items-00.npy"}, {"name": "vectors-" + "a" * 300 + ".npy"}, {"bytes": -1}, {"bytes": 10**30},
    ],
)  # fmt: skip
def test_an_entry_of_files_that_we_never_write_is_refused(index, entry):
    files = head_of(index)["files"]
    whole = isinstance(entry, dict) and len(entry) == 1
    files["vectors"] = files["vectors"] | entry if whole else entry
    write_head(index, files=files)
    with pytest.raises(VectorIndexError):
        Index.open(index)


@pytest.mark.parametrize("extra", [[], {}, {"name": "vectors-00.npy", "bytes": 1, "sha256": ""}])
def test_a_further_file_is_refused(index, extra):
    write_head(index, files=head_of(index)["files"] | {"extra": extra})
    with pytest.raises(VectorIndexError, match=r"in files the keys items, vectors, found 'extra'"):
        Index.open(index)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000, '{"a":' * 50_000, "1" * 10_000, '{"count": ' + "9" * 5000 + "}", "\ufeff{}", "",
        "NaN", '"\ud800"', "{" + " " * 2**25 + "}", "\0",
    ],
    ids=range(10),
)  # fmt: skip
def test_a_head_of_another_form_is_refused(index, text):
    (index / "index.json").write_text(text, errors="surrogatepass")
    with pytest.raises(VectorIndexError, match=r"index\.json"):
        Index.open(index)


@pytest.mark.parametrize("member", ["head", "vectors", "items"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "device"])
def test_a_member_that_is_no_file_of_the_folder_is_refused_at_once(index, tmp_path, member, kind):
    path = index / "index.json" if member == "head" else the_file(index, member)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    if kind == "link":
        path.symlink_to(elsewhere)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(VectorIndexError, match="link"):
        Index.open(index)


# --- vectors ---------------------------------------------------------------------------------------


def poison(row):
    vectors = unit(10)
    vectors[4] = row
    return vectors


@pytest.mark.parametrize("backend", ["exact", "faiss", "qdrant"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(
    "row", [np.nan, np.inf, -np.inf, 0.0, 1.0, 1e4, [np.nan, 1, 0, 0, 0, 0, 0, 0], [1.2, 0, 0, 0, 0, 0, 0, 0]],
    ids=str,
)  # fmt: skip
def test_a_vector_that_is_not_finite_or_not_of_unit_length_is_found_at_open(
    tmp_path, backend, dtype, row, monkeypatch
):
    pytest.importorskip({"exact": "numpy", "qdrant": "qdrant_client"}.get(backend, backend))
    index = make_index(tmp_path / "index", dtype=dtype, backend=backend)
    file = the_file(index, "vectors")
    monkeypatch.setattr("cl2cm.index.backends.quantization.check_unit", lambda *_: None)
    with file.open("wb") as opened:
        write_matrix(opened, poison(np.asarray(row, np.float32)), dtype)
    forge(index, "vectors", None)
    with pytest.raises(VectorIndexError, match=r"vector 4.*unit length"):
        Index.open(index)


@pytest.mark.parametrize("scale", [np.nan, np.inf, 0.0, 1e30, -np.inf, 1.0])
def test_a_scale_of_int8_that_spoils_its_vector_is_found(tmp_path, scale):
    index = make_index(tmp_path / "index", dtype="int8")
    content = bytearray(the_file(index, "vectors").read_bytes())
    content[-4:] = struct.pack("<f", scale)
    forge(index, "vectors", bytes(content))
    with pytest.raises(VectorIndexError, match="vector 9"):
        Index.open(index)


def test_int8_of_a_vector_with_one_large_component_is_sound(tmp_path):
    spiky = np.full((1, 4096), 0.0048, np.float32)
    spiky[0, 0] = np.sqrt(1 - float((spiky[0, 1:] ** 2).sum()))
    make_index(tmp_path / "index", vectors=spiky, items=[Item("a", "")], dtype="int8")


def test_a_graph_of_a_stranger_is_not_read_and_every_row_is_compared(tmp_path, monkeypatch, capsys):
    faiss = pytest.importorskip("faiss")
    index = make_index(tmp_path / "index", backend="faiss")
    query = unit(3)
    true = Index.open(index).nearest(query, 5, model="m")
    write_head(index, model="n")
    monkeypatch.setattr(faiss, "read_index", lambda *_: pytest.fail("read"))
    opened = Index.open(index)
    assert not opened.ours
    for ours, theirs in zip(true, opened.nearest(query, 5, model="n"), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert "not read" in capsys.readouterr().err


# --- items -----------------------------------------------------------------------------------------

_VIEW = 'SELECT row, id, path, start, "end", captions, media, bytes, modified, folder FROM'
_ENDLESS = "WITH RECURSIVE n(row) AS (SELECT 0 UNION ALL SELECT row + 1 FROM n) "
_COLUMNS = """row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, path TEXT NOT NULL, start REAL, "end" REAL,
    captions TEXT NOT NULL, media TEXT NOT NULL, bytes INTEGER, modified REAL, folder TEXT NOT NULL"""


@pytest.mark.parametrize(
    "statements",
    [
        f"ALTER TABLE items RENAME TO t; CREATE VIEW items AS {_VIEW} t",
        f"DROP TABLE items; CREATE VIEW items AS {_ENDLESS} SELECT row, 'a' id, '' path, NULL start, "
        "NULL \"end\", '{}' captions, 'picture' media, 1 bytes, 1 modified, '' folder FROM n",
        "CREATE TRIGGER t AFTER INSERT ON items BEGIN SELECT 1; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE more (x)",
        "CREATE INDEX more ON items (id, length(captions))",
        "DROP INDEX filter_0",
        "ALTER TABLE items ADD COLUMN g TEXT GENERATED ALWAYS AS (hex(zeroblob(1000000000)))",
        f"DROP TABLE items; CREATE TABLE items ({_COLUMNS}, CHECK (row >= 0))",
        f"DROP TABLE items; CREATE TABLE items ({_COLUMNS.replace('start REAL', 'start REAL AS (1.0)')})",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "PRAGMA user_version = 4",
        "DROP TABLE items",
    ],
    ids=range(13),
)  # fmt: skip
def test_items_that_are_not_our_table_are_refused_at_once(index, statements):
    file = the_file(index, "items")
    with sqlite3.connect(file) as base:
        try:
            base.executescript(statements)
        except sqlite3.OperationalError as error:
            pytest.skip(f"not of this SQLite: {error}")
    base.close()
    forge(index, "items", None)
    begin = time.monotonic()
    with pytest.raises(VectorIndexError, match="items"):
        Index.open(index)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("captions", "[" * 100_000), ("captions", "[]"), ("captions", "null"), ("captions", '{"en": 3}'),
        ("captions", '{"en": [1]}'), ("captions", '{"en": "abc"}'), ("captions", b"{}"), ("captions", "{"),
        ("id", b"x"), ("path", b"\xff"), ("start", "x"), ("start", 9e999), ("end", b"x"), ("bytes", "x"),
        ("modified", -9e999), ("media", "script"), ("captions", '{"en": ["\\ud800"]}'),
    ],
)  # fmt: skip
def test_an_item_of_other_types_is_refused_when_it_is_read(index, column, value):
    with sqlite3.connect(the_file(index, "items")) as base:
        base.execute(f'UPDATE items SET "{column}" = ? WHERE row = 4', [value])
    base.close()
    forge(index, "items", None)
    opened = Index.open(index)
    assert opened.item(3).id == "3.png"
    with pytest.raises(VectorIndexError, match="damaged"):
        opened.item(4)


def test_an_item_of_twenty_megabytes_is_not_read(index):
    with sqlite3.connect(the_file(index, "items")) as base:
        base.execute("UPDATE items SET captions = CAST(zeroblob(20000000) AS TEXT) WHERE row = 4")
    base.close()
    forge(index, "items", None)
    with pytest.raises(VectorIndexError, match="too big"):
        Index.open(index).item(4)


def test_many_large_items_are_not_read_at_once(index, monkeypatch):
    monkeypatch.setattr("cl2cm.index.items._LIMIT", 100)
    with pytest.raises(VectorIndexError, match="items of more than"):
        Index.open(index).items(range(10))


def test_a_question_that_takes_too_long_ends(index, monkeypatch):
    opened = Index.open(index)
    monkeypatch.setattr(cl2cm.index.database, "SECONDS", 0.0)
    monkeypatch.setattr(cl2cm.index.database, "_STEPS", 1)
    with pytest.raises(VectorIndexError, match="interrupted"):
        opened.items(range(10))
    with pytest.raises(VectorIndexError, match="interrupted"):
        opened.folders()


def test_a_log_beside_the_items_is_not_looked_at(index):
    file = the_file(index, "items")
    for suffix in ("-journal", "-wal", "-shm"):
        os.mkfifo(f"{file}{suffix}")
    assert Index.open(index).item(4).id == "4.png"


@pytest.mark.parametrize("count", [9, 11, 2**40])
def test_another_number_of_items_is_refused(index, count):
    write_head(index, count=count)
    with pytest.raises(VectorIndexError):
        Index.open(index)


# --- media and run ---------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    """Photos that the user indexes, and a private one beside them."""
    folder = tmp_path / "home" / "photos"
    folder.mkdir(parents=True)
    for i in range(10):
        (folder / f"{i}.png").write_bytes(b"photo")
    (tmp_path / "home" / "private.png").write_bytes(b"private")
    return folder


def items_at(*paths):
    return [Item(f"{i}.png", str(path)) for i, path in enumerate(paths)]


def test_our_own_index_shows_what_the_user_indexed(photos, tmp_path):
    index = make_index(tmp_path / "home/index", items=items_at(*(photos / f"{i}.png" for i in range(10))), roots=[photos])  # fmt: skip
    opened = Index.open(index)
    assert opened.roots == (index, photos)
    with opened.open_media(opened.item(3)) as file:
        assert file.read() == b"photo"
    (tmp_path / "home").rename(tmp_path / "moved")
    opened = Index.open(tmp_path / "moved/index")
    with opened.open_media(opened.item(3)) as file:
        assert file.read() == b"photo"


ESCAPES = [
    "../private.png", "../photos/../private.png", "{home}/private.png", "/etc/passwd", "{home}/photos/../private.png",
    "../index/../private.png", "link.png", "folder/private.png", "pipe.png", "/dev/zero", "/proc/self/environ",
    "..", "/", "index.json/..", "../photos",
]  # fmt: skip


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize("roots", [[], ["/"], ["../"], ["{home}"]])
def test_an_item_of_a_stranger_leads_to_nothing_outside_the_index(photos, tmp_path, path, roots):
    home = tmp_path / "home"
    fill = lambda text: text.format(home=home)  # noqa: E731
    index = make_index(home / "index", n=1, vectors=unit(1), items=[Item("a", fill(path))])
    (index / "link.png").symlink_to(home / "private.png")
    (index / "folder").symlink_to(home)
    os.mkfifo(index / "pipe.png")
    write_head(index, roots=[fill(root) for root in roots], folder=str(photos))
    opened = Index.open(index)
    assert opened.roots == (index,)
    with pytest.raises(MediaError, match="--media-root") as caught:
        opened.open_media(opened.item(0))
    assert str(home) not in str(caught.value)
    opened.search(unit(1), 1, model="m")


@pytest.mark.parametrize(
    "change", [{"roots": ["/"]}, {"folder": "/"}, {"count": 1}, {"seal": "0" * 64}]
)
def test_changing_our_own_head_takes_its_say_away(photos, tmp_path, change):
    index = make_index(
        tmp_path / "home/index", n=1, vectors=unit(1), items=items_at(photos / "0.png")
    )
    assert Index.open(index).ours
    write_head(index, **change)
    opened = Index.open(index)
    assert opened.ours == (change == {"count": 1})
    assert (photos in opened.roots) == opened.ours


def test_another_user_trusts_nothing_of_it(photos, tmp_path, monkeypatch):
    index = make_index(
        tmp_path / "home/index", n=1, vectors=unit(1), items=items_at(photos / "0.png")
    )
    monkeypatch.setenv("CL2CM_CONFIG", str(tmp_path / "other"))
    opened = Index.open(index)
    assert not opened.ours
    with pytest.raises(MediaError):
        opened.open_media(opened.item(0))
    assert not (tmp_path / "other").exists()  # nothing is written to read
    opened = Index.open(index, Allowed(roots=(photos,)))
    with opened.open_media(opened.item(0)) as file:
        assert file.read() == b"photo"
    monkeypatch.setenv("CL2CM_MEDIA_ROOTS", str(photos))
    opened = Index.open(index)
    opened.open_media(opened.item(0)).close()


def test_the_key_is_the_users_alone_and_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("CL2CM_CONFIG", str(tmp_path / "config"))
    make_index(tmp_path / "a")
    key = tmp_path / "config" / "key"
    first = key.read_bytes()
    assert key.stat().st_mode & 0o077 == 0
    make_index(tmp_path / "b")
    assert key.read_bytes() == first
    assert first.strip() not in b"".join(p.read_bytes() for p in (tmp_path / "a").iterdir())


def test_without_a_place_for_the_key_an_index_is_made_all_the_same(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("CL2CM_CONFIG", str(tmp_path / "file" / "config"))
    index = make_index(tmp_path / "index")
    assert "CL2CM_CONFIG" in capsys.readouterr().err
    assert not Index.open(index).ours


OLD = ("roots", "cleartext", "seal")  # what an index of version 0.1 does not have


def test_an_index_of_an_earlier_version_opens_and_is_searched(photos, tmp_path):
    home = tmp_path / "home"
    (home / "run").mkdir()
    index = make_index(home / "index", items=items_at(*(photos / f"{i}.png" for i in range(10))), run=home / "run")  # fmt: skip
    write_head(index, **dict.fromkeys(OLD, ...))
    opened = Index.open(index, Allowed(roots=(photos,)))
    assert len(opened.search(unit(1), 5, model="m")[0]) == 5
    assert opened.run == home / "run"
    opened.open_media(opened.item(3)).close()


@pytest.mark.parametrize("run", ["/etc", "{tmp}/far", "../far", "../../far", "run/../../far"])
def test_a_run_of_a_stranger_is_beside_the_index_or_named_by_the_user(tmp_path, run):
    run = run.format(tmp=tmp_path)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "far").mkdir()
    index = make_index(tmp_path / "bundle" / "index")
    (tmp_path / "bundle" / "far").symlink_to(tmp_path / "far")
    write_head(index, run={"absolute": run, "relative": run})
    with pytest.raises(VectorIndexError, match="--run"):
        Index.open(index).run  # noqa: B018


# --- an index that is brought up to date -----------------------------------------------------------


def journal_of(index):
    from cl2cm.index.update.journal import JOURNAL, Journal

    Journal(index / JOURNAL).close()
    return index / JOURNAL


@pytest.mark.parametrize(
    "statements",
    [
        f"DROP TABLE vectors; CREATE VIEW vectors AS {_ENDLESS} SELECT row AS content FROM n",
        "CREATE TRIGGER t AFTER INSERT ON files BEGIN DELETE FROM vectors; END",
        "CREATE TABLE keep_files (x)", "CREATE VIEW v AS SELECT 1",
        "ALTER TABLE files ADD COLUMN g AS (1)",
    ],
)  # fmt: skip
def test_a_journal_with_more_than_our_tables_is_refused(index, statements):
    from cl2cm.index.update.journal import Journal, is_useless

    path = journal_of(index)
    with sqlite3.connect(path) as base:
        base.executescript(statements)
    base.close()
    with pytest.raises(VectorIndexError, match="damaged"):
        Journal(path)
    assert not is_useless(path)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_journal_that_is_no_file_is_refused(index, tmp_path, suffix, kind):
    from cl2cm.index.update.journal import Journal

    path = journal_of(index)
    member = path.with_name(path.name + suffix)
    other = tmp_path / "other.sqlite"
    shutil.copy(path, other)
    before = other.read_bytes()
    member.unlink(missing_ok=True)
    member.symlink_to(other) if kind == "link" else os.mkfifo(member)
    with pytest.raises(VectorIndexError, match="link, or no file"):
        Journal(path)
    assert other.read_bytes() == before


def test_a_rollback_journal_of_a_stranger_is_not_obeyed(index, tmp_path):
    """It could overwrite pages, and have SQLite delete a file that it names."""
    from cl2cm.index.update.journal import Journal

    victim = tmp_path / "victim"
    victim.write_bytes(b"dear to me\0")
    path = journal_of(index)
    with sqlite3.connect(path) as base:
        base.execute("PRAGMA journal_mode = DELETE")
    base.close()
    name = str(victim).encode()
    page = path.read_bytes()[:512]
    head = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + struct.pack(">IIIII", 1, 1, 1, 512, 4096)
    record = head.ljust(512, b"\0") + struct.pack(">I", 1) + path.read_bytes()[:4096]
    check = (1 + sum(record[516 + i] for i in range(4096 - 200, 0, -200))) & 0xFFFFFFFF
    record += struct.pack(">I", check)
    tail = struct.pack(">I", 2**30 // 4096 + 1) + name
    tail += struct.pack(">II", len(name), sum(name)) + head[:8]
    assert page[:6] == b"SQLite"
    path.with_name(f"{path.name}-journal").write_bytes(record + tail)
    Journal(path).close()
    assert victim.read_bytes() == b"dear to me\0"


def test_a_vector_of_a_strangers_journal_that_is_not_of_unit_length_is_made_anew(index):
    from cl2cm.index.update.journal import Content, Journal

    path = journal_of(index)
    journal = Journal(path)
    contents = [Content(f"{i}") for i in range(3)]
    rows = np.array([[np.nan, 0], [3, 4], [0.6, 0.8]], np.float32)
    journal.add(contents, rows, model="m")
    assert set(journal.vectors(contents, model="m", dim=2)) == {contents[2]}
    journal.close()


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_lock_that_is_no_file_is_refused(index, tmp_path, kind):
    from cl2cm.index.update.journal import JOURNAL
    from cl2cm.storage import locked

    lock = index / f"{JOURNAL}.lock"
    lock.symlink_to(tmp_path / "made") if kind == "link" else os.mkfifo(lock)
    with pytest.raises(CL2CMError, match="a link or a pipe"), locked(lock):
        pass
    assert not (tmp_path / "made").exists()


def test_rows_below_zero_are_refused(index):
    with sqlite3.connect(the_file(index, "items")) as base:
        base.execute("UPDATE items SET row = -1 WHERE row = 0")
    forge(index, "items", None)
    with pytest.raises(VectorIndexError, match="rows from -1"):
        Index.open(index)


def test_folders_are_bounded_in_size(index, monkeypatch):
    monkeypatch.setattr(cl2cm.index.items, "_LIMIT", 100)
    with sqlite3.connect(the_file(index, "items")) as base:
        base.execute("UPDATE items SET folder = id || ?", ("x" * 50,))
    forge(index, "items", None)
    with (
        closing(Index.open(index)) as opened,
        pytest.raises(VectorIndexError, match="folders of more"),
    ):
        opened.folders()


@pytest.mark.parametrize("how", ["absolute", "dots", "link"])
def test_a_notebook_shows_no_file_outside_of_the_roots(tmp_path, how):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8), "red").save(secret)
    path = {"absolute": str(secret), "dots": "../secret.png", "link": "link.png"}[how]
    folder = make_index(tmp_path / "index", 1, items=[Item("a", path)], vectors=unit(1), roots=[])
    (folder / "link.png").symlink_to(secret)
    write_head(folder, seal=...)
    with closing(Index.open(folder)) as index:
        (hits,) = index.search(unit(1), 1, model="m")
        html = Hits(hits)._repr_html_()
    assert "<img" not in html
    assert "no file that may be shown" in html
    with closing(Index.open(folder, Allowed(roots=(tmp_path,)))) as index:
        (hits,) = index.search(unit(1), 1, model="m")
        assert ("<img" in Hits(hits)._repr_html_()) is (how != "link")
