"""Untrusted tar files, read sequentially; only regular, complete files are accepted.

Nothing is extracted by name. A tar that was cut or has a damaged header would end early and look
whole; it is an error here, as are links, devices and names that lead out of a folder.
"""

import gzip
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

from cl2cm.data.gzip_reading import open_gzip
from cl2cm.errors import DatasetError
from cl2cm.storage import open_regular

_PIECE = 2**20  # bytes read at a time
_HEADER = 2**18  # bytes that a member's long name and attributes may have
_HEADERS = 4 * _HEADER  # bytes of all that is before a member's contents
_ATTRIBUTES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_RECORD = re.compile(rb"(\d{1,7}) [^=\n]{1,1000}=")
_DIGITS = re.compile(rb"\d{100}")


class _Headers:
    """A tar's file: while a header is read, it may be asked for few bytes at a time.

    ``tarfile`` reads a long name, or a member's attributes, in one piece of the size that the
    header claims, keeps the attributes that hold for all members, and parses attributes in
    quadratic time and memory where their records overlap or hold long numbers.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._in_header, self._left = True, _HEADERS
        self._kind = b""  # of the header whose name or attributes are read next
        self._tar = tarfile.TarFile(fileobj=cast("IO[bytes]", self), mode="r")

    @property
    def tar(self) -> tarfile.TarFile:
        """The tar, whose members are read without a bound."""
        return self._tar

    def next(self) -> tarfile.TarInfo | None:
        """Read the header of the next member."""
        self._in_header, self._left, self._kind = True, _HEADERS, b""
        info = self._tar.next()
        self._in_header = False
        self._tar.members = []  # type: ignore[attr-defined]  # it would grow with the shard
        if sum(len(key) + len(value) for key, value in self._tar.pax_headers.items()) > _HEADER:
            raise tarfile.ReadError(f"headers of more than {_HEADER // 2**10} kB")
        return info

    def read(self, size: int) -> bytes:
        if not self._in_header:
            return self._file.read(size)
        self._left -= size
        if size > _HEADER or self._left < 0:
            raise tarfile.ReadError(f"a header of {max(size, _HEADERS - self._left):,} bytes")
        data, kind = self._file.read(size), self._kind
        self._kind = b"" if kind or data[156:157] not in _ATTRIBUTES + _NAMES else data[156:157]
        if kind in _ATTRIBUTES:
            _check_attributes(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _check_attributes(data: bytes) -> None:
    """Refuse attributes that are not records one after the other, up to the zeros at the end."""
    place = 0
    while place < len(data) and data[place]:
        record = _RECORD.match(data, place)
        end = place + int(record[1]) if record else 0
        if record is None or end < record.end() + 1 or data[end - 1 : end] != b"\n":
            raise tarfile.ReadError("damaged attributes")
        place = end
    if _DIGITS.search(data):
        raise tarfile.ReadError("attributes with a number of 100 digits")


class Member(NamedTuple):
    """A file in a tar; ``read`` gives its next bytes, at most so many, until the next member.

    ``offset``: where its bytes begin in the tar, unpacked.
    """

    place: str  # TAR: NAME, for messages
    name: str  # a relative path
    size: int  # bytes
    read: Callable[[int], bytes]
    offset: int = 0


def read_members(path: Path | str, file: IO[bytes] | None = None) -> Iterator[Member]:
    """Yield files of a tar, in order; gzip by its name.

    Args:
        path: the tar, or what messages call it.
        file: the tar, opened; None: it is at ``path``.

    Raises:
        DatasetError: it cannot be read, is damaged or cut short, or has a member that is not a
            file or a folder.
    """
    tar = _opened(Path(path)) if file is None else file
    with _tar_errors(str(path)), tar:
        headers = _Headers(tar)
        while (info := headers.next()) is not None:
            if not info.isdir():
                yield _member(path, headers.tar, info)
        _check_end(path, tar, headers.tar.offset)


def _opened(path: Path) -> IO[bytes]:
    return open_gzip(path) if path.suffix == ".gz" else open_regular(path)


def _member(path: Path | str, tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    name = PurePosixPath(info.name)
    place = f"{path}: {info.name[:200]!r}"
    kind = {tarfile.SYMTYPE: "a link", tarfile.LNKTYPE: "a link"}.get(info.type, "a device")
    data = tar.extractfile(info) if info.isreg() and not info.issparse() else None
    if data is None:
        raise _error(place, "a file", "a sparse file" if info.issparse() else kind)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise _error(place, "a path in a folder", "one that leads out of it")
    return Member(place, name.as_posix(), info.size, data.read, info.offset_data)


def read_whole(member: Member, limit: int) -> bytes:
    """Return the bytes of a member.

    Raises:
        DatasetError: it has more than ``limit``.
    """
    return b"".join(read_pieces(member, limit))


def read_pieces(member: Member, limit: int) -> Iterator[bytes]:
    """Yield the bytes of a member in pieces; see `read_whole`."""
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


def _check_end(path: Path | str, file: IO[bytes], offset: int) -> None:
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
    except RecursionError:
        raise _error(place, "a whole tar", "a long chain of headers") from None
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _error(place, "a whole tar", f"a damaged one ({error})") from None
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise _error(place, "a readable file", found) from None
    except (ValueError, OverflowError, MemoryError) as error:  # numbers of a damaged header
        raise _error(place, "a whole tar", f"a damaged one ({error})") from None


def _error(place: str, expected: str, found: str) -> DatasetError:
    return DatasetError(place, expected=expected, found=found, remedy="write the shard again")
