"""Small copies of images and of videos' frames for the page, made once."""

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path

from cl2cm.errors import MediaError
from cl2cm.media.decoder_pool import Budget, DecoderPool
from cl2cm.media.image_decoding import Allowed
from cl2cm.media.images import PIXEL_LIMIT, redraw_image, usual_limits
from cl2cm.media.video_reading import still_of

SIZES = (320, 1280)  # longest side in pixels: in the grid, and in the view of one picture
_UPLOAD = Allowed(pixels=PIXEL_LIMIT, work=10**9, kept=400_000_000)  # of what a stranger sends
_UPLOAD_BUDGET = Budget(cpu=5, wall=20, memory=3 * 2**29)
_BUDGET = Budget(cpu=15, wall=25, memory=2 * 2**30)  # within the time of a request
_AT_ONCE = 2  # images decoded for thumbnails, and for uploads, at once
_NICE = 5  # decoding steps back behind searches
_CACHE_BYTES = 64 * 2**20


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


@functools.lru_cache
def decoders(purpose: str) -> DecoderPool:
    """Return the decoder processes of thumbnails or of uploads: neither keeps the other waiting."""
    del purpose
    return DecoderPool(_AT_ONCE, nice=_NICE)


def shrink(content: bytes, size: int, name: str) -> tuple[bytes, str]:
    """Draw an image of the index with no side longer than ``size`` pixels.

    Args:
        content: the file's bytes.
        size: pixels.
        name: what an error calls it.

    Returns:
        The new file and its MIME type.

    Raises:
        MediaError: the image cannot be read, or asks for too much.
    """
    pool, allowed = decoders("thumbnails"), usual_limits()
    try:
        return redraw_image(content, name, size, pool=pool, budget=_BUDGET, allowed=allowed)
    except MediaError as error:
        raise _unreadable(name, error.found) from error


def shrink_upload(content: bytes, size: int, *, lossless: bool = False) -> tuple[bytes, str]:
    """Draw an image that a stranger sent; as `shrink`, within narrower bounds."""
    name, pool = "the picture", decoders("uploads")
    try:
        return redraw_image(
            content,
            name,
            size,
            pool=pool,
            budget=_UPLOAD_BUDGET,
            allowed=_UPLOAD,
            lossless=lossless,
        )
    except MediaError as error:
        raise _unreadable(name, error.found) from error


def shrink_frame(
    path: Path, size: int, part: tuple[float | None, float | None], name: str
) -> tuple[bytes, str]:
    """Draw the frame that stands for a video, or for its part between two times."""
    try:
        return still_of(path, name, part, size, decoders("thumbnails"), _BUDGET)
    except MediaError as error:
        raise _unreadable(name, error.found) from error


def _unreadable(name: str, found: str) -> MediaError:
    return MediaError(
        name,
        expected=f"a picture or film, of at most {PIXEL_LIMIT // 1_000_000} million pixels",
        found=found,
        remedy="restore the file, or index the folder again",
    )
