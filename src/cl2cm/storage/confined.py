"""Open untrusted paths: only regular files below a folder, without following links."""

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterable, Sequence
from io import BufferedReader
from pathlib import Path

from cl2cm.storage.locks import is_at

MOST = 2**30  # bytes of a text that is read in one piece
_LARGE = 2**30  # bytes from which a file has to be on the disk
_HOLLOW = 100  # times as many bytes as are on the disk


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


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading, also through a link; never wait for a pipe or a device.

    For the members of a folder of data, which may have come from anyone. A file that is nearly all
    holes is refused: a kilobyte on the disk could be read for hours.

    Raises:
        OSError: there is none, or it is something else.
    """
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):  # not on every system
        flags |= getattr(os, name, 0)
    try:
        return _regular(os.open(path, flags))
    except FileNotFoundError:
        if not path.exists() or path.is_file():
            raise
    raise OSError(errno.EINVAL, "a pipe, a device or a folder", str(path))


def read_regular(path: Path, most: int = MOST) -> bytes:
    """Read a regular file of at most ``most`` bytes; as `open_regular`."""
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"a file of more than {most // 2**20:,} MB", str(path))
    return content


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
    if path.resolve() != root.resolve().joinpath(*parts) or not is_at(file, path):
        file.close()
        raise FileNotFoundError(errno.ENOENT, "reached through a link", str(path))
    return file


def _regular(descriptor: int) -> BufferedReader:
    """Wrap a descriptor of a regular file; close any other descriptor."""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a regular file")
        if _is_hollow(descriptor):
            raise OSError(errno.EFBIG, "a file that is nearly all holes")
        if sys.platform != "win32":
            os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _is_hollow(descriptor: int) -> bool:
    """Return whether a large file is almost entirely sparse, if the system can tell."""
    state = os.fstat(descriptor)
    if state.st_size < _LARGE or not hasattr(os, "SEEK_HOLE"):
        return False
    if state.st_blocks * 512 * _HOLLOW > state.st_size:
        return False
    try:  # a file system that cannot tell holes has its only one at the end
        return os.lseek(descriptor, 0, os.SEEK_HOLE) < state.st_size
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)
