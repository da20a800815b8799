"""Pictures for the page: what kind a file is, and small copies of it, made once.

A file is known by its first bytes, never by its name: one that is neither a picture nor a film is
not served, whatever the index calls it.
"""

import io
import threading
from collections import OrderedDict
from pathlib import Path

from PIL import Image, ImageOps

from cl2cm.errors import MediaError

SIZES = (320, 1280)  # longest side in pixels: in the grid, and in the view of one picture
MAX_PIXELS = 64_000_000  # decoded; a JPEG is decoded at a reduced size, so it may have more
_CACHE_BYTES = 64 * 2**20
_AT_ONCE = 2  # pictures being decoded, which bounds the memory

_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
_SIGNATURES = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
)


def media_type(path: Path) -> str:
    """Give the MIME type of a picture or film by its first bytes.

    Raises:
        MediaError: the file is gone, cannot be read, or is neither.
    """
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise _unreadable(path, (error.strerror or str(error)).lower()) from error
    for offset, signature, kind in _SIGNATURES:
        if start.startswith(signature, offset):
            return kind
    raise _unreadable(path, "a file of another kind")


class Thumbnails:
    """Small copies of pictures, the last used of them kept in memory; safe between threads.

    Args:
        cache_bytes: how much of them is kept.
    """

    def __init__(self, cache_bytes: int = _CACHE_BYTES) -> None:
        self._limit = cache_bytes
        self._kept: OrderedDict[tuple[str, int, int], tuple[bytes, str]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._decoding = threading.BoundedSemaphore(_AT_ONCE)

    def get(self, path: Path, size: int) -> tuple[bytes, str]:
        """Give a copy whose longer side is at most ``size`` pixels, and its MIME type.

        Raises:
            MediaError: no picture that can be read, or one with too many pixels.
        """
        media_type(path)
        key = (str(path), path.stat().st_mtime_ns, size)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        with self._decoding:
            made = _shrink(path, size)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._bytes += len(made[0])
            while self._bytes > self._limit:
                _, (content, _) = self._kept.popitem(last=False)
                self._bytes -= len(content)
        return made


def _shrink(path: Path, size: int) -> tuple[bytes, str]:
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            picture.draft("RGB", (size, size))  # a JPEG need not be decoded in full
            if picture.width * picture.height > MAX_PIXELS:
                raise _unreadable(path, f"{picture.width} x {picture.height} pixels")
            upright = ImageOps.exif_transpose(picture)
            clear = upright.has_transparency_data
            small = upright.convert("RGBA" if clear else "RGB")
            small.thumbnail((size, size))
            file = io.BytesIO()
            small.save(file, "PNG" if clear else "JPEG", quality=85)
    except MediaError:
        raise
    except Exception as error:  # decoders of broken files raise whatever comes to hand
        raise _unreadable(path, f"{error}") from error
    return file.getvalue(), "image/png" if clear else "image/jpeg"


def _unreadable(path: Path, found: str) -> MediaError:
    return MediaError(
        path.name,
        expected=f"a picture or film, of at most {MAX_PIXELS // 1_000_000} million pixels",
        found=found,
        remedy="restore the file, or index the folder again",
    )
