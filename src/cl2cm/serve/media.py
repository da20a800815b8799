"""Pictures for the page: what kind a file is, and small copies of it, made once.

A file is known by its first bytes, never by its name: one that is neither a picture nor a film is
not served, whatever the index calls it.
"""

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path

from PIL import Image, ImageOps

from cl2cm.errors import MediaError
from cl2cm.video import Film
from cl2cm.visual import FILMS

SIZES = (320, 1280)  # longest side in pixels: in the grid, and in the view of one picture
MAX_PIXELS = 64_000_000  # decoded; a JPEG is decoded at a reduced size, so it may have more
UPLOAD_PIXELS = 32_000_000  # of what a stranger sends
_CACHE_BYTES = 64 * 2**20
_DECODING = threading.BoundedSemaphore(2)  # pictures at once, which bounds the memory

FILM_SUFFIXES = tuple(sorted(FILMS))
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
    (8, b"AVI ", "video/x-msvideo"),
    (4, b"moov", "video/quicktime"),
    (4, b"mdat", "video/quicktime"),
    (4, b"wide", "video/quicktime"),
    (0, b"\x00\x00\x01\xba", "video/mpeg"),
    (0, b"\x00\x00\x01\xb3", "video/mpeg"),
    (0, b"OggS", "video/ogg"),
    (0, b"FLV", "video/x-flv"),
    (0, b"\x30\x26\xb2\x75", "video/x-ms-wmv"),
)


def media_type(start: bytes, name: str = "the file") -> str:
    """Return the MIME type of an image or video by its first 16 bytes.

    Raises:
        MediaError: it is neither.
    """
    for offset, signature, kind in _SIGNATURES:
        if start.startswith(signature, offset):
            return kind
    raise _unreadable(name, "a file of another kind")


class Thumbnails:
    """Small copies of images, the last used of them kept in memory; safe between threads.

    Args:
        cache_bytes: how much of them is kept.
    """

    def __init__(self, cache_bytes: int = _CACHE_BYTES) -> None:
        self._limit = cache_bytes
        self._kept: OrderedDict[Hashable, tuple[bytes, str]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], tuple[bytes, str]]) -> tuple[bytes, str]:
        """Return the copy of a key, and its MIME type; make it where it is not kept.

        Args:
            key: of the very file, with its size and time in a video.
            make: gives the copy.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._bytes += len(made[0])
            while self._bytes > self._limit:
                _, (content, _) = self._kept.popitem(last=False)
                self._bytes -= len(content)
        return made


def shrink(
    source: Path | bytes,
    size: int,
    name: str,
    *,
    lossless: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> tuple[bytes, str]:
    """Draw a picture anew, with no side longer than ``size`` pixels; returns it and its MIME type.

    Args:
        source: a file, or its bytes.
        size: pixels.
        name: what an error calls it.
        lossless: as PNG, in place of JPEG for what is opaque.
        max_pixels: how many may be decoded.

    Raises:
        MediaError: no picture that can be read, or one with too many pixels.
    """
    with _DECODING:
        return _shrink(source, size, name, lossless, max_pixels)


def _shrink(
    source: Path | bytes, size: int, name: str, lossless: bool, max_pixels: int
) -> tuple[bytes, str]:
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source,
                        formats=_FORMATS) as picture:  # fmt: skip
            picture.draft("RGB", (size, size))  # a JPEG need not be decoded in full
            if picture.width * picture.height > max_pixels:
                found = f"{picture.width} x {picture.height} pixels"
                raise _unreadable(name, found, max_pixels)
            return _save(picture, size, lossless=lossless)
    except MediaError:
        raise
    except Exception as error:  # decoders of broken files raise whatever comes to hand
        found = f"{error}" if isinstance(source, Path) else "other bytes, or damaged ones"
        raise _unreadable(name, found.replace(str(source), name), max_pixels) from error


def _save(picture: Image.Image, size: int, *, lossless: bool = False) -> tuple[bytes, str]:
    """Save a small copy; a large one is made small first, so that few are in memory."""
    clear = picture.has_transparency_data
    plain = picture if picture.mode in ("RGB", "RGBA", "L") else None
    small = plain or picture.convert("RGBA" if clear else "RGB")
    small.thumbnail((size, size))
    ImageOps.exif_transpose(small, in_place=True)
    small = small.convert("RGBA" if clear else "RGB")
    file = io.BytesIO()
    kind = "png" if clear or lossless else "jpeg"
    small.save(file, kind, quality=85)
    return file.getvalue(), f"image/{kind}"


def shrink_frame(path: Path, size: int, seconds: float, name: str) -> tuple[bytes, str]:
    """Draw the frame that a film shows at a time."""
    try:
        with _DECODING, Film(path) as film:
            pixels = next(film.at([seconds])).pixels
    except MediaError as error:
        raise _unreadable(name, error.found) from error
    return _save(Image.fromarray(pixels), size)


def _unreadable(name: str, found: str, max_pixels: int = MAX_PIXELS) -> MediaError:
    return MediaError(
        name,
        expected=f"a picture or film, of at most {max_pixels // 1_000_000} million pixels",
        found=found,
        remedy="restore the file, or index the folder again",
    )
