"""Turn errors of disks and SQLite files into a StorageError with a remedy."""

import errno
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cl2cm.errors import CL2CMError, StorageError

_STORAGE_ERRNOS = {
    errno.ENOSPC: ("free disk space", "a full disk", "free some space and run again"),
    errno.EDQUOT: ("room in your disk quota", "a full quota", "free some space and run again"),
    errno.EROFS: ("a writable place", "a read-only file system", "choose another place"),
    errno.EACCES: (
        "permission to read and write",
        "permission denied",
        "correct its permissions, or choose another place",
    ),
    errno.EFBIG: ("a file of a size that is allowed", "one that is too large", "see ulimit -f"),
    errno.EMFILE: ("fewer open files", "as many as are allowed", "raise ulimit -n"),
    errno.ENFILE: ("fewer open files", "as many as the system allows", "end other programs"),
    errno.EIO: ("a disk that can be read and written", "an input/output error", "check the disk"),
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
    """Return the StorageError for an exception, or None where it is of another kind."""
    number = error.errno if isinstance(error, OSError) else None
    if match := _OS_ERROR.search(str(error)):
        number = int(match[1])
    if number not in _STORAGE_ERRNOS:
        return None
    if number == errno.EFBIG and getattr(error, "strerror", None) != os.strerror(errno.EFBIG):
        return None  # confined.py refuses to read a file, and says why
    expected, found, remedy = _STORAGE_ERRNOS[number]
    return StorageError(str(path), expected=expected, found=found, remedy=remedy)


_SQLITE_ERRORS = {
    sqlite3.SQLITE_FULL: ("free disk space", "free some space and run again"),
    sqlite3.SQLITE_READONLY: ("permission to write", "make it writable, or choose another place"),
    sqlite3.SQLITE_PERM: ("permission to write", "make it writable, or choose another place"),
    sqlite3.SQLITE_CANTOPEN: ("a file that can be opened", "correct its permissions"),
    sqlite3.SQLITE_IOERR: ("a disk that can be read and written", "check the disk and run again"),
    sqlite3.SQLITE_BUSY: ("a file that nobody else has", "wait for the other process"),
    sqlite3.SQLITE_LOCKED: ("a file that nobody else has", "wait for the other process"),
}


def sqlite_error(path: Path, error: sqlite3.Error) -> StorageError | None:
    """Return the StorageError for an error of SQLite; None where the file itself is damaged."""
    known = _SQLITE_ERRORS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    if known is None:
        return None
    expected, remedy = known
    return StorageError(str(path), expected=expected, found=str(error), remedy=remedy)
