"""Tar files of others, read from start to end: files only, and whole or not at all.

Nothing is extracted by name. A tar that was cut or has a damaged header would end early and look
whole; it is an error here, as are links, devices and names that lead out of a folder.
"""

import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

from cl2cm.errors import DatasetError

_PIECE = 2**20  # bytes read at a time


class Member(NamedTuple):
    """A file in a tar; ``read`` gives its next bytes, at most so many, until the next member."""

    place: str  # TAR: NAME, for messages
    name: str  # a relative path
    size: int  # bytes
    read: Callable[[int], bytes]


def read_members(path: Path) -> Iterator[Member]:
    """Files of a tar, in order; gzip by its name.

    Raises:
        DatasetError: it cannot be read, is damaged or cut short, or has a member that is not a
            file or a folder.
    """
    with (
        _tar_errors(str(path)),
        _opened(path) as file,
        tarfile.open(fileobj=file, mode="r:") as tar,
    ):
        while (info := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # it would grow with the shard
            if not info.isdir():
                yield _member(path, tar, info)
        _check_end(path, file, tar.offset)


def _opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path) if path.suffix == ".gz" else path.open("rb"))


def _member(path: Path, tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    name = PurePosixPath(info.name)
    place = f"{path}: {info.name[:200]!r}"
    kind = {tarfile.SYMTYPE: "a link", tarfile.LNKTYPE: "a link"}.get(info.type, "a device")
    data = tar.extractfile(info) if info.isreg() and not info.issparse() else None
    if data is None:
        raise _error(place, "a file", "a sparse file" if info.issparse() else kind)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise _error(place, "a path in a folder", "one that leads out of it")
    return Member(place, name.as_posix(), info.size, data.read)


def read_whole(member: Member, limit: int) -> bytes:
    """The bytes of a member.

    Raises:
        DatasetError: it has more than ``limit``.
    """
    return b"".join(read_pieces(member, limit))


def read_pieces(member: Member, limit: int) -> Iterator[bytes]:
    """The bytes of a member in pieces; see `read_whole`."""
    if member.size > limit:
        found = f"{member.size:,} bytes"
        raise _error(member.place, f"at most {limit // 2**20:,} MB", found)
    done = 0
    with _tar_errors(member.place):
        while piece := member.read(_PIECE):
            done += len(piece)
            yield piece
    if done != member.size:
        raise _error(member.place, f"{member.size:,} bytes", f"{done:,}: the tar is cut short")


def _check_end(path: Path, file: IO[bytes], offset: int) -> None:
    """A tar ends in blocks of zeros, and in nothing else."""
    file.seek(offset)
    count = 0
    while piece := file.read(_PIECE):
        if piece.strip(b"\0"):
            raise _error(str(path), "a whole tar", f"damage after {offset:,} bytes")
        count += len(piece)
    if count < tarfile.BLOCKSIZE:
        raise _error(str(path), "a whole tar", f"one that is cut short after {offset:,} bytes")


@contextmanager
def _tar_errors(place: str) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _error(place, "a whole tar", f"a damaged one ({error})") from None
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise _error(place, "a readable file", found) from None
    except (ValueError, OverflowError, MemoryError) as error:  # numbers of a damaged header
        raise _error(place, "a whole tar", f"a damaged one ({error})") from None


def _error(place: str, expected: str, found: str) -> DatasetError:
    return DatasetError(place, expected=expected, found=found, remedy="write the shard again")
