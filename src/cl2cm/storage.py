"""Files and folders that are either whole or not there.

Everything that cl2cm writes goes through here: it is written beside its place under a hidden
name, flushed to the disk, and renamed into place. A process killed at any moment leaves at most
a hidden ``.NAME.partial-*`` behind, which nothing ever reads.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import sqlite3
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from cl2cm.errors import CL2CMError, StorageError

_STORAGE_ERRNOS = {
    errno.ENOSPC: ("room on the disk", "a full disk", "free some space and run again"),
    errno.EDQUOT: ("room in your disk quota", "a full quota", "free some space and run again"),
    errno.EROFS: ("a writable place", "a read-only file system", "choose another place"),
    errno.EACCES: ("permission to write", "permission denied", "choose another place"),
    errno.EPERM: ("permission to write", "operation not permitted", "choose another place"),
    errno.EEXIST: ("a folder", "a file in its path", "choose another place"),
    errno.ENOTDIR: ("a folder", "a file in its path", "choose another place"),
    errno.EISDIR: ("a file", "a folder of that name", "choose another place"),
    errno.ENAMETOOLONG: ("a shorter name", "a name that is too long", "choose another place"),
}
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # safetensors says so, in no class of its own


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's word on a full or closed disk into a StorageError."""
    try:
        yield
    except CL2CMError:
        raise
    except Exception as error:
        found = storage_error(path, error)
        if found is None:
            raise
        raise found from error


def storage_error(path: Path, error: Exception) -> StorageError | None:
    """The StorageError for an exception, or None where it is of another kind."""
    number = error.errno if isinstance(error, OSError) else None
    if match := _OS_ERROR.search(str(error)):
        number = int(match[1])
    if number not in _STORAGE_ERRNOS:
        return None
    expected, found, remedy = _STORAGE_ERRNOS[number]
    return StorageError(str(path), expected=expected, found=found, remedy=remedy)


_SQLITE_ERRORS = {
    sqlite3.SQLITE_FULL: ("room on the disk", "free some space and run again"),
    sqlite3.SQLITE_READONLY: ("permission to write", "make it writable, or choose another place"),
    sqlite3.SQLITE_PERM: ("permission to write", "make it writable, or choose another place"),
    sqlite3.SQLITE_CANTOPEN: ("a file that can be opened", "correct its permissions"),
    sqlite3.SQLITE_IOERR: ("a disk that can be read and written", "check the disk and run again"),
    sqlite3.SQLITE_BUSY: ("a file that nobody else has", "wait for the other process"),
    sqlite3.SQLITE_LOCKED: ("a file that nobody else has", "wait for the other process"),
}


def sqlite_error(path: Path, error: sqlite3.Error) -> StorageError | None:
    """The StorageError for an error of SQLite; None where the file itself is damaged."""
    known = _SQLITE_ERRORS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    if known is None:
        return None
    expected, remedy = known
    return StorageError(str(path), expected=expected, found=str(error), remedy=remedy)


def open_sqlite(
    path: Path, schema: str, *, begins: bool = True, wait: float = 60.0
) -> sqlite3.Connection:
    """Open a file of SQLite that several processes write, one at a time, and kills do not harm.

    Args:
        path: the file, which is made where it is not there.
        schema: statements that make what is not there.
        begins: whether a statement that writes begins a transaction by itself.
        wait: seconds to wait for another process.

    Raises:
        sqlite3.Error: as it comes; see `sqlite_error`.
    """
    base = sqlite3.connect(path, timeout=wait, isolation_level="DEFERRED" if begins else None)
    try:
        _write_ahead(base, time.monotonic() + wait)
        base.execute("PRAGMA synchronous = NORMAL")  # whole after a kill or a crash
        base.executescript(schema)
    except BaseException:
        base.close()
        raise
    return base


def _write_ahead(base: sqlite3.Connection, until: float) -> None:
    """Turn to a write-ahead log; SQLite does not itself wait for others who do so just now."""
    while True:
        try:
            base.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _parent(path: Path) -> Iterator[None]:
    """Make the folder of a path; on failure remove again what was made and is still empty."""
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()
        raise


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a hidden path beside ``path``; rename the file written there on success.

    Raises:
        StorageError: the disk is full, read-only or closed to us.
    """
    with storage_errors(path), _parent(path):
        if path.exists() and not (path.is_file() or path.is_dir()):  # it would be replaced
            raise StorageError(
                str(path),
                expected="a file",
                found="a device or a pipe",
                remedy="choose another place",
            )
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.partial-", dir=path.parent)
        os.close(descriptor)
        partial = Path(name)
        try:
            yield partial
            partial.chmod(0o644)
            _fsync(partial)
            partial.replace(path)
            _fsync(path.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open ``path`` for writing bytes; it appears whole, or not at all."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        yield file


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a hidden folder beside ``path``; rename it into place on success.

    A folder that is already there is replaced; it must not be in use by a reader that expects
    it to stay (such formats keep one small file that points at the current data instead).
    """
    with storage_errors(path), _parent(path):
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
        try:
            yield partial
            partial.chmod(0o755)
            for file in partial.rglob("*"):
                file.chmod(0o755 if file.is_dir() else 0o644)
                _fsync(file)
            if path.exists():
                _exchange(path, partial)
            else:
                partial.replace(path)
            _fsync(path.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _exchange(path: Path, new: Path) -> None:
    """Put a folder in the place of another; where that fails, the other is back in it."""
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old-", dir=path.parent))
    try:
        path.replace(old / path.name)
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            (old / path.name).replace(path)
        with contextlib.suppress(OSError):
            old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock among processes; it ends with the process, however that ends.

    Args:
        path: the lock's file; its folder is made. Who holds the lock may remove both.
        on_wait: called when another process holds the lock.

    Raises:
        StorageError: the disk is full, read-only or closed to us.
    """
    while True:
        with _opened(path) as file:
            if not _lock(file.fileno(), wait=False):
                if on_wait is not None:
                    on_wait()
                while not _lock(file.fileno(), wait=True):
                    pass
            if _is_at(file, path):
                yield
                return


def _opened(path: Path) -> IO[bytes]:
    while True:
        with storage_errors(path), contextlib.suppress(FileNotFoundError):  # its folder just went
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
            for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):  # not on every system
                flags |= getattr(os, name, 0)
            try:
                descriptor = os.open(path, flags, 0o644)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
                    raise
                raise _no_lock(path) from error
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return os.fdopen(descriptor, "ab")
            os.close(descriptor)
            raise _no_lock(path)


def _no_lock(path: Path) -> StorageError:
    return StorageError(str(path), expected="a file", found="a link or a pipe", remedy="remove it")


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Take the lock of an open file; False when another process has it."""
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415 — of this system alone

        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
    else:
        import fcntl  # noqa: PLC0415

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
    return True


def open_confined(path: Path, roots: Iterable[Path]) -> BufferedReader:
    """Open a regular file below one of some folders for reading; never wait, never follow a link.

    A root itself may be, or lie behind, a symbolic link: the user named it. Below it each folder
    is opened in the one before (``openat``), so nothing that is exchanged meanwhile leads out. Use
    the descriptor for all that follows (size, type, contents); the name may already mean another.

    Args:
        path: the file; ``..`` in it is refused, and a relative path is below the working directory.
        roots: folders that may be read.

    Raises:
        FileNotFoundError: there is no such file, or it is not below a root, is reached through a
            link, is a folder, a pipe or a device, or may not be read. The text is always the same,
            so whoever sees it learns nothing of what exists.
    """
    for root in sorted({root.absolute() for root in roots}, key=lambda root: -len(root.parts)):
        if path.absolute().is_relative_to(root):
            parts = path.absolute().relative_to(root).parts
            with contextlib.suppress(OSError, ValueError):  # ValueError: a null character
                return _open_below(root, parts)
    text = "no regular file below a folder that may be read"
    raise FileNotFoundError(errno.ENOENT, text, str(path))


def _open_below(root: Path, parts: Sequence[str]) -> BufferedReader:
    if not parts or ".." in parts:
        raise IsADirectoryError(errno.EISDIR, "not a file below the folder", str(root))
    if sys.platform == "win32":  # it has neither openat nor pipes among its files
        return _open_checked(root, parts)
    steps = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    folder = os.open(root, steps)
    try:
        for part in parts[:-1]:
            inner = os.open(part, steps | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        if not stat.S_ISREG(os.lstat(parts[-1], dir_fd=folder).st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a regular file", parts[-1])
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return _regular(os.open(parts[-1], flags, dir_fd=folder))
    finally:
        os.close(folder)


def _open_checked(root: Path, parts: Sequence[str]) -> BufferedReader:
    """As `_open_below`, where a folder cannot be opened in another: look again after opening."""
    path = root.joinpath(*parts)
    file = _regular(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)))
    if path.resolve() != root.resolve().joinpath(*parts) or not _is_at(file, path):
        file.close()
        raise FileNotFoundError(errno.ENOENT, "reached through a link", str(path))
    return file


def _regular(descriptor: int) -> BufferedReader:
    """Wrap a descriptor of a regular file; close that of anything else."""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a regular file")
        if sys.platform != "win32":
            os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object, whole or not at all, readable by people and stable in order."""
    text = json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    with atomic_file(path) as file:
        file.write(text.encode())


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Hexadecimal SHA-256 of a text's UTF-8 bytes; a file name that is no text has some too."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def cache_folder() -> Path:
    """Folder for what can be fetched or computed again.

    ``$CL2CM_CACHE``, else ``$XDG_CACHE_HOME/cl2cm``, else ``~/.cache/cl2cm``.
    """
    if chosen := os.environ.get("CL2CM_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cl2cm"


def config_folder() -> Path:
    """Folder for what belongs to the user and cannot be computed again.

    ``$CL2CM_CONFIG``, else ``$XDG_CONFIG_HOME/cl2cm``, else ``~/.config/cl2cm``.
    """
    if chosen := os.environ.get("CL2CM_CONFIG"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "cl2cm"


def state_folder() -> Path:
    """Folder for what must be kept but is neither data nor cache.

    ``$CL2CM_STATE``, else ``$XDG_STATE_HOME/cl2cm``, else ``~/.local/state/cl2cm``.
    """
    if chosen := os.environ.get("CL2CM_STATE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "cl2cm"
