import errno
import json
import multiprocessing
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cl2cm.errors import ConfigError, StorageError
from cl2cm.storage import (
    atomic_file,
    atomic_folder,
    atomic_path,
    cache_folder,
    check_ending,
    locked,
    open_confined,
    open_regular,
    open_sqlite,
    read_regular,
    sha256_file,
    sha256_text,
    storage_errors,
    write_json,
)

FULL = OSError(errno.ENOSPC, "No space left on device")


def names(folder):
    """All that is there, hidden things too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def write_path(path, text):
    with atomic_path(path) as partial:
        partial.write_text(text)
        yield


def write_file(path, text):
    with atomic_file(path) as file:
        file.write(text.encode())
        yield


def write_folder(path, text):
    with atomic_folder(path) as partial:
        (partial / "in").mkdir()
        (partial / "in" / "file").write_text(text)
        yield


WRITERS = [write_path, write_file, write_folder]


def write(writer, path, text, error=None):
    """Write, and let something happen inside."""
    going = writer(path, text)
    next(going)
    if error is not None:
        going.throw(error)
    next(going, None)


def content(path):
    return (path / "in" / "file" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("writer", WRITERS)
def test_appears_whole_and_is_replaced_whole(writer, tmp_path):
    path = tmp_path / "a" / "b" / "thing"
    write(writer, path, "first")
    assert content(path) == "first"
    write(writer, path, "second")
    assert content(path) == "second"
    assert names(path.parent)[0] == "thing", "nothing hidden beside it"


@pytest.mark.parametrize("writer", WRITERS)
def test_is_not_there_before_the_end(writer, tmp_path):
    going = writer(tmp_path / "thing", "x")
    next(going)
    assert not (tmp_path / "thing").exists()
    assert all(name.startswith(".thing.partial-") for name in names(tmp_path))
    next(going, None)
    assert (tmp_path / "thing").exists()


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt(), FULL])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_failure_leaves_the_old_and_nothing_else(writer, error, tmp_path):
    path = tmp_path / "thing"
    write(writer, path, "old")
    before = names(tmp_path)
    with pytest.raises(StorageError if error is FULL else type(error)):
        write(writer, path, "new", error)
    assert content(path) == "old"
    assert names(tmp_path) == before


@pytest.mark.parametrize("writer", WRITERS)
def test_a_failure_where_nothing_was_leaves_nothing(writer, tmp_path):
    with pytest.raises(ZeroDivisionError):
        write(writer, tmp_path / "thing", "new", ZeroDivisionError())
    assert names(tmp_path) == []


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_at_the_last_moment_leaves_the_old(writer, failing, tmp_path, monkeypatch):
    path = tmp_path / "thing"
    write(writer, path, "old")
    before = names(tmp_path)
    real = Path.replace

    def replace(source, target):
        if ".partial-" in source.name:
            raise FULL
        return real(source, target)

    def fsync(_):
        raise FULL

    with monkeypatch.context() as patch:
        if failing == "fsync":
            patch.setattr(os, "fsync", fsync)
        else:
            patch.setattr(Path, "replace", replace)
        with pytest.raises(StorageError, match="full disk"):
            write(writer, path, "new")
    assert content(path) == "old"
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "full disk; free some space"),
        (errno.EDQUOT, "full quota"),
        (errno.EROFS, "read-only file system; choose another place"),
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "operation not permitted"),
        (errno.ENOTDIR, "a file in its path"),
        (errno.EISDIR, "a folder of that name"),
        (errno.ENAMETOOLONG, "too long"),
    ],
)
def test_the_systems_word_in_one_line(number, words, tmp_path):
    with pytest.raises(StorageError, match=words) as caught, storage_errors(tmp_path / "x"):
        raise OSError(number, os.strerror(number))
    assert caught.value.subject == str(tmp_path / "x")
    assert "\n" not in str(caught.value)


def test_other_errors_pass():
    with pytest.raises(TimeoutError), storage_errors(Path("x")):
        raise OSError(errno.ETIMEDOUT, "late")
    with pytest.raises(ValueError, match="mine"), storage_errors(Path("x")):
        raise ValueError("mine")


def test_real_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="a file in its path"):
        write(write_file, tmp_path / "file" / "under", "x")
    with pytest.raises(StorageError, match="too long"):
        write(write_file, tmp_path / ("n" * 300), "x")
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    with pytest.raises(StorageError, match="a folder of that name"):
        write(write_file, tmp_path / "folder", "x")
    assert names(tmp_path) == ["file", "folder", "folder/sub"]
    assert (tmp_path / "file").read_text() == "x"


def test_a_folder_is_replaced_with_all_that_was_in_it(tmp_path):
    path = tmp_path / "thing"
    write(write_folder, path, "old")
    (path / "more").write_text("x")
    write(write_folder, path, "new")
    assert names(tmp_path) == ["thing", "thing/in", "thing/in/file"]


@pytest.mark.parametrize("writer", WRITERS)
def test_others_may_read(writer, tmp_path):
    write(writer, tmp_path / "thing", "x")
    for path in tmp_path.rglob("*"):
        expected = 0o755 if path.is_dir() else 0o644
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_json_is_stable_and_readable(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, 2.5], "a": "雪"})
    write_json(tmp_path / "b.json", {"a": "雪", "b": [1, 2.5]})
    text = (tmp_path / "a.json").read_bytes()
    assert text == (tmp_path / "b.json").read_bytes()
    assert text == '{\n  "a": "雪",\n  "b": [\n    1,\n    2.5\n  ]\n}\n'.encode()
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["a"] == "雪"


def test_hashes(tmp_path):
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_text("abc") == sha256_file(tmp_path / "abc") == known


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CL2CM_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "cl2cm"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "cl2cm"
    monkeypatch.setenv("CL2CM_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"


def test_a_lock_is_held_among_processes(tmp_path):
    path = tmp_path / "deep" / "lock"
    script = (
        "import sys; from pathlib import Path; from cl2cm.storage import locked\n"
        f"with locked(Path({str(path)!r}), lambda: print('waits', flush=True)): print('has it')"
    )
    with locked(path):
        other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline() == "waits\n"
        assert other.poll() is None
    assert other.communicate(timeout=30)[0] == "has it\n"
    with locked(path, lambda: pytest.fail("nobody has it")):
        pass


def test_a_killed_writer_leaves_the_old(tmp_path):
    script = (
        "import os; from pathlib import Path; from cl2cm.storage import atomic_file\n"
        f"with atomic_file(Path({str(tmp_path / 'thing')!r})) as file:\n"
        "    file.write(b'new'); file.flush(); os.kill(os.getpid(), 9)"
    )
    write(write_file, tmp_path / "thing", "old")
    subprocess.run([sys.executable, "-c", script], check=False)
    assert content(tmp_path / "thing") == "old"
    left = [name for name in names(tmp_path) if name != "thing"]
    assert len(left) == 1
    assert left[0].startswith(".thing.partial-")


def open_at_once(path, gate, results):
    gate.wait()
    try:
        open_sqlite(path, "CREATE TABLE IF NOT EXISTS t (x)").close()
        results.put("")
    except sqlite3.Error as error:
        results.put(str(error))


def test_a_file_of_sqlite_is_made_by_many_at_once(tmp_path):
    """Turning a new file to its write-ahead log fails for all but one, unless they wait."""
    context = multiprocessing.get_context("fork")
    for number in range(25):
        gate, results = context.Barrier(4), context.Queue()
        path = tmp_path / f"{number}.sqlite"
        workers = [
            context.Process(target=open_at_once, args=(path, gate, results)) for _ in range(4)
        ]
        for worker in workers:
            worker.start()
        assert [results.get(timeout=30) for _ in workers] == [""] * 4
        for worker in workers:
            worker.join()


def test_a_locked_file_of_sqlite_is_waited_for_only_so_long(tmp_path):
    path = tmp_path / "x.sqlite"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        open_sqlite(path, "", wait=0.1)
    other.close()


@pytest.fixture
def media(tmp_path):
    """A root with files of every kind in it, and one beside it."""
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    (root / "inner" / "a.jpg").write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(b"outside")
    (tmp_path / "rooted").mkdir()
    (tmp_path / "rooted" / "a.jpg").write_bytes(b"outside")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "near").symlink_to(root / "inner" / "a.jpg")
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    return root


def test_a_file_below_a_root_is_opened(media, tmp_path, monkeypatch):
    with open_confined(media / "inner" / "a.jpg", [tmp_path / "other", media]) as file:
        assert file.read() == b"inside"
        assert os.get_blocking(file.fileno())
    (tmp_path / "named").symlink_to(media)  # a root may be a link: the user named it
    with open_confined(tmp_path / "named" / "inner" / "a.jpg", [tmp_path / "named"]) as file:
        assert file.read() == b"inside"
    monkeypatch.chdir(media)
    with open_confined(Path("inner/a.jpg"), [Path()]) as file:
        assert file.read() == b"inside"


@pytest.mark.parametrize(
    "name",
    ["../secret", "inner/../../secret", "inner/../inner/a.jpg", "link", "near", "folder/secret",
     "folder/root/inner/a.jpg", "pipe", "inner", "", ".", "missing", "inner/a.jpg/x", "a\0b",
     "../rooted/a.jpg", "/etc/passwd", "/dev/zero", "/dev/stdin", "\ud800", "x" * 300],
)  # fmt: skip
def test_nothing_else_is_opened_and_the_message_does_not_tell_what_is_there(media, name):
    with pytest.raises(FileNotFoundError) as caught:
        open_confined(media / name, [media])
    assert caught.value.strerror == "no regular file below a folder that may be read"


def test_without_roots_nothing_is_opened(media):
    with pytest.raises(FileNotFoundError, match="may be read"):
        open_confined(media / "inner" / "a.jpg", [])


def test_a_file_that_is_exchanged_for_a_link_never_leads_out(media, tmp_path):
    """The names change between a file, a folder and links all the while."""
    stop = tmp_path / "stop"
    code = f"""
import os, pathlib
root, stop = pathlib.Path({str(media)!r}), pathlib.Path({str(stop)!r})
os.mkdir(root / "real"); (root / "real" / "secret").write_bytes(b"inside")
os.symlink({str(tmp_path)!r}, root / "fake")
while not stop.exists():
    for name in ("real", "fake"):
        os.rename(root / name, root / "now"); os.rename(root / "now", root / name)
        os.symlink(name, root / "x"); os.unlink(root / "x")
"""
    racer = subprocess.Popen([sys.executable, "-c", code])
    try:
        seen = set()
        for _ in range(3000):
            for path in (media / "now" / "secret", media / "x" / "secret"):
                try:
                    with open_confined(path, [media]) as file:
                        seen.add(file.read())
                except FileNotFoundError:
                    pass
        assert seen <= {b"inside"}
    finally:
        stop.touch()
        racer.wait(timeout=10)


@pytest.mark.skipif(not hasattr(os, "SEEK_HOLE"), reason="no holes in files on this system")
@pytest.mark.parametrize("start", [b"", b"a header"])
def test_a_file_of_holes_is_not_read(tmp_path, start):
    path = tmp_path / "f"
    path.write_bytes(start)
    os.truncate(path, 2**40)
    if path.stat().st_blocks * 512 > 2**30:
        pytest.skip("a file system without holes")
    for opened in (open_regular, read_regular, sha256_file):
        with pytest.raises(OSError, match="nearly all holes"):
            opened(path)
    with pytest.raises(FileNotFoundError):
        open_confined(path, [tmp_path])
    os.truncate(path, 2**20)
    assert len(read_regular(path)) == 2**20


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes among files")
def test_a_pipe_is_not_hashed(tmp_path):
    os.mkfifo(tmp_path / "f")
    with pytest.raises(OSError, match=r"regular file|a pipe"):
        sha256_file(tmp_path / "f")


def test_an_ending_that_does_not_fit_is_refused():
    check_ending("--out", Path("page.htm"), (".html", ".htm"))
    for name in ("page", "page.htm.gz", "page.HTML", ".html"):
        with pytest.raises(ConfigError, match=r"--out: .*ends in \.html or \.htm, found " + name):
            check_ending("--out", Path(name), (".html", ".htm"))
