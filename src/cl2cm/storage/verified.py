"""Comparing a file with its hash, once for each state of the file.

Hashing a large file at each opening would cost as much as reading it. So a file that had the right
hash is remembered by device, inode, size and the times of change of content and of inode; it is
hashed again once any of them is another. What an application does to a file changes them, even if
it sets the time back; a disk that loses a bit does not, and ``cl2cm doctor`` hashes everything.
"""

import contextlib
import os
import sys
import time
from pathlib import Path

from cl2cm.storage.folders import cache_folder
from cl2cm.storage.hashes import sha256_file, sha256_text

SMALL = 2**18  # bytes; hashing so few takes no longer than looking up whether it was done
_FRESH_NS = 50_000_000  # the clock of a file system may stand still so long
_MOST = 4096  # files of one cache
_known: set[str] = set()


def has_hash(path: Path, sha256: str, *, again: bool = False) -> bool:
    """Return whether a file's bytes have a SHA-256.

    Args:
        path: the file.
        sha256: hexadecimal.
        again: read the file even if it was found right before.

    Raises:
        OSError: it cannot be read.
    """
    before = path.stat()
    key = _key(before, sha256)
    if not again and before.st_size > SMALL and _is_known(key):
        return True
    if sha256_file(path) != sha256:
        _forget(key)
        return False
    if before.st_size > SMALL and _key(path.stat(), sha256) == key:
        _remember(key, before)
    return True


def hash_and_remember(path: Path) -> str:
    """Return the SHA-256 of a new file, and record it so that it is not hashed again."""
    before = path.stat()
    sha256 = sha256_file(path)
    key = _key(before, sha256)
    if before.st_size > SMALL and _key(path.stat(), sha256) == key:
        _remember(key, before)
    return sha256


def _key(file: os.stat_result, sha256: str) -> str:
    changed = file.st_mtime_ns, 0 if sys.platform == "win32" else file.st_ctime_ns
    return sha256_text(repr((file.st_dev, file.st_ino, file.st_size, changed, sha256)))


def _folder() -> Path:
    return cache_folder() / "verified"


def _is_known(key: str) -> bool:
    if key in _known:
        return True
    try:
        known = (_folder() / key).exists()
    except OSError:
        known = False
    if known:
        _known.add(key)
    return known


def _forget(key: str) -> None:
    """Forget a file that a disk has changed since, without another time."""
    _known.discard(key)
    with contextlib.suppress(OSError, RuntimeError):
        (_folder() / key).unlink(missing_ok=True)


def _remember(key: str, file: os.stat_result) -> None:
    """Remember a file, unless it is so new that a later change could bear the same time."""
    if time.time_ns() - max(file.st_mtime_ns, file.st_ctime_ns) < _FRESH_NS:
        return
    _known.add(key)
    with contextlib.suppress(OSError, RuntimeError):  # without a cache it is hashed by each process
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / key).touch()
        marks = list(folder.iterdir())
        if len(marks) > _MOST:
            for mark in sorted(marks, key=lambda mark: mark.stat().st_mtime)[: _MOST // 2]:
                mark.unlink(missing_ok=True)
