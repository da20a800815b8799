"""Gzip files of others, read within bounds: a few megabytes may not unpack to many gigabytes."""

import gzip
import io
from pathlib import Path
from typing import IO, Any

from cl2cm.storage import open_regular

FREE = 2**28  # bytes that any file may unpack to
RATIO = 100  # bytes unpacked for each packed one, beyond that; text has 3 to 20


class _Bounded(io.RawIOBase):
    """The unpacked bytes of a gzip file; reading beyond the bound is an error of the file."""

    def __init__(self, path: Path) -> None:
        self._packed = open_regular(path)
        self._file = gzip.GzipFile(fileobj=self._packed, mode="rb")
        self._bound = FREE + RATIO * path.stat().st_size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - a buffer
        view = memoryview(buffer)
        data = self._file.read(len(view))
        self._check(self._file.tell())
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        target = offset + (self._file.tell() if whence == io.SEEK_CUR else 0)
        self._check(target)
        return self._file.seek(target)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        self._packed.close()
        super().close()

    def _check(self, position: int) -> None:
        if position > self._bound:
            unpacked = f"{self._bound // 2**20:,} MB"
            raise gzip.BadGzipFile(f"it unpacks to more than {unpacked}, {RATIO} times its size")


def open_gzip(path: Path) -> IO[bytes]:
    """Open a gzip file for reading.

    Reading raises ``gzip.BadGzipFile`` where the file is damaged, or unpacks to more than a hundred
    times its size and 256 MB.
    """
    return io.BufferedReader(_Bounded(path), 2**16)
