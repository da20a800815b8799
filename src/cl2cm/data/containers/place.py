"""A local path or a URL that the user named, and ranges of its bytes.

Only the command line names a host. What a file says, such as an entry of a manifest, is a path
below the place of that file and never leads to another host, folder or protocol.
"""

import functools
import importlib
import io
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cl2cm.errors import DatasetError, MediaError, MissingExtraError
from cl2cm.storage import open_regular

ANONYMOUS = "CL2CM_S3_ANONYMOUS"
BUFFER = 2**22  # bytes asked for at once where a container is read from its beginning
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.+)", re.IGNORECASE | re.DOTALL)
_WAITS = (0.5, 2.0)  # seconds before the next attempt at a range


def is_url(text: str) -> bool:
    """Return whether a text names a protocol, such as ``s3://bucket/photos``."""
    return _URL.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder.

    Attributes:
        url: a local path, or ``PROTOCOL://PATH``.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """Its last part."""
        return PurePosixPath(self.url).name

    @property
    def is_local(self) -> bool:
        """Whether it is a path of this machine."""
        return not is_url(self.url)

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` to before ``end``.

        Raises:
            MediaError: there is no such file.
            DatasetError: it cannot be read, in several attempts.
        """
        if self.is_local:
            return self._read_file(start, end)
        for wait in (*_WAITS, None):
            try:
                found = _range(self.url, start, end)
                if len(found) != end - start:
                    raise EOFError(f"{len(found):,} bytes in place of {end - start:,}")
                return found
            except FileNotFoundError as error:
                raise absent(self.url) from error
            except Exception as error:  # each protocol has its own
                if wait is None or isinstance(error, PermissionError):
                    raise _failed(self.url, error) from error
                time.sleep(wait)
        raise AssertionError

    def _read_file(self, start: int, end: int) -> bytes:
        try:
            with open_regular(Path(self.url)) as file:
                file.seek(start)
                return file.read(end - start)
        except FileNotFoundError as error:
            raise absent(self.url) from error
        except OSError as error:
            raise _failed(self.url, error) from error

    def open(self, size: int) -> io.BufferedReader:
        """Open for reading; ``size`` as `File` says it."""
        if self.is_local:
            return open_regular(Path(self.url))
        return io.BufferedReader(_Ranges(self, size), BUFFER)


@dataclass(frozen=True, slots=True)
class File:
    """A file that was found.

    Attributes:
        place: where it is.
        name: its path below the folder that was named, with ``/``.
        size: bytes.
        state: another once the file is another, as far as the place tells.
    """

    place: Place
    name: str
    size: int
    state: str


class _Ranges(io.RawIOBase):
    """A file of which ranges are read as they are asked for."""

    def __init__(self, place: Place, size: int) -> None:
        self._place, self._size, self._at = place, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - whatever has bytes
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        found = self._place.read(self._at, end)
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


def find(place: Place) -> list[File]:
    """Return a file, the files in and below a folder, or the files that match a pattern with ``*``.

    They are in the order of their names; hidden ones are left out.

    Raises:
        MediaError: there is none.
        DatasetError: the place cannot be read.
    """
    found = sorted(_local(place) if place.is_local else _remote(place), key=lambda file: file.name)
    if not found:
        raise absent(place.url)
    return found


def _local(place: Place) -> Iterator[File]:
    path = Path(place.url)
    if "*" in place.url:
        root = Path(*path.parts[: next(i for i, part in enumerate(path.parts) if "*" in part)])
        paths = [(p, p.name) for p in root.glob(str(path.relative_to(root)))]
    elif path.is_dir():
        paths = [(p, p.relative_to(path).as_posix()) for p in path.rglob("*")]
    else:
        paths = [(path, path.name)]
    for file, name in paths:
        if file.is_file() and not _hidden(name):
            status = file.stat()
            state = f"{status.st_size} {status.st_mtime_ns}"
            yield File(Place(str(file)), name, status.st_size, state)


def _remote(place: Place) -> Iterator[File]:
    protocol, path = _protocol(place.url), _path(place.url).rstrip("/")
    system = _system(place.url)
    try:
        found = (system.glob if "*" in path else system.find)(path, detail=True)
        if not found:
            system.info(path.partition("*")[0].rpartition("/")[0] if "*" in path else path)
    except FileNotFoundError:
        return
    except Exception as error:  # each protocol has its own
        raise _failed(place.url, error) from error
    for key, about in found.items():
        full = str(key) if path.startswith("/") else str(key).lstrip("/")
        below = full.removeprefix(f"{path}/") if "*" not in path else PurePosixPath(full).name
        name = PurePosixPath(full).name if full == path else below
        if about.get("type") != "file" or _hidden(name):
            continue
        state = about.get("ETag") or about.get("etag") or about.get("mtime") or about.get("created")
        size = int(about["size"])
        yield File(Place(f"{protocol}://{full}"), name, size, f"{size} {state}")


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _range(url: str, start: int, end: int) -> bytes:
    # pyarrow's file system reads from the beginning only, where it is not told otherwise
    options = {"seekable": True} if _protocol(url) == "s3" else {}
    return bytes(_system(url).cat_file(_path(url), start=start, end=end, **options))


def _protocol(url: str) -> str:
    return url.split("://", 1)[0].lower()


def _path(url: str) -> str:
    return url.split("://", 1)[1]


def _system(url: str) -> Any:  # noqa: ANN401 - of fsspec
    return _file_system(_protocol(url))


@functools.cache
def _file_system(protocol: str) -> Any:  # noqa: ANN401 - of fsspec
    """Return the file system of a protocol, one for each process.

    Raises:
        MissingExtraError: its package is not installed.
        DatasetError: there is no such protocol.
    """
    try:
        fsspec: Any = importlib.import_module("fsspec")
        if protocol == "s3":
            return _s3()
        return fsspec.filesystem(protocol)
    except ImportError as error:
        raise MissingExtraError(error.name or f"for {protocol}://", "remote") from error
    except ValueError as error:
        raise _failed(f"{protocol}://", error) from error


def _s3() -> Any:  # noqa: ANN401 - of fsspec
    """Return S3, or a server like it, with what the environment says of the user."""
    arrow: Any = importlib.import_module("pyarrow.fs")
    wrapper: Any = importlib.import_module("fsspec.implementations.arrow").ArrowFSWrapper
    named = os.environ.get
    scheme, _, host = (named("AWS_ENDPOINT_URL_S3") or named("AWS_ENDPOINT_URL") or "").rpartition(
        "://"
    )
    options = {
        "endpoint_override": host.rstrip("/") or None,
        "scheme": scheme or None,
        "region": named("AWS_REGION") or named("AWS_DEFAULT_REGION"),
        "anonymous": True if named(ANONYMOUS, "0") not in ("", "0") else None,
    }
    return wrapper(arrow.S3FileSystem(**{k: v for k, v in options.items() if v is not None}))


def absent(url: str) -> MediaError:
    """Return the error of a place where nothing is."""
    return MediaError(url, expected="a file or folder", found="none", remedy="check the address")


def _failed(url: str, error: Exception) -> DatasetError:
    return DatasetError(
        url,
        expected="a place that can be read",
        found=(str(error).splitlines() or [type(error).__name__])[0][:200],
        remedy="check the address and your credentials; the same command resumes",
    )
