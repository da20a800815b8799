"""Locks between processes, released when the process ends."""

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cl2cm.errors import StorageError
from cl2cm.storage.atomic import sweep_partials
from cl2cm.storage.failures import storage_errors

LOCK = ".writer.lock"


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
            if is_at(file, path):
                yield
                return


@contextmanager
def only_writer(
    folder: Path,
    *,
    remedy: str = "",
    on_wait: Callable[[], None] | None = None,
    beside: bool = False,
) -> Iterator[None]:
    """Be the one process that writes into a folder, which is made, and sweep what was left there.

    Args:
        folder: is removed again where it was made and is empty at the end.
        remedy: what else the second writer may do, such as "choose another --out".
        on_wait: called before waiting for the other writer; None: do not wait.
        beside: the lock is beside the folder, which is not made.

    Raises:
        StorageError: another process writes there, and there is no ``on_wait``.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    path = folder.with_name(f".{folder.name}{LOCK}") if beside else folder / LOCK
    try:
        with locked(path, on_wait or _refuse(folder, remedy)):
            try:
                sweep_partials(folder)
                yield
            finally:
                with contextlib.suppress(OSError):  # Windows keeps what is open
                    path.unlink()
    finally:
        with contextlib.suppress(OSError):  # there is something in it
            for place in made:
                place.rmdir()


def _refuse(folder: Path, remedy: str) -> Callable[[], None]:
    def refuse() -> None:
        raise StorageError(
            str(folder),
            expected="one process at a time",
            found="another process that is writing",
            remedy=f"wait until it has finished{f', or {remedy}' if remedy else ''}",
        )

    return refuse


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


def is_at(file: IO[bytes], path: Path) -> bool:
    """Return whether an open file is still the one of that name."""
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
