"""Images and videos to frames.

Whatever stands for V in "The task" of method.md leaves this module as frames uint8
[F, H, W, 3], square, RGB; an image has F = 1. ``kinds.py`` tells images and videos apart. Decoding
itself happens in other processes, see ``decoder_pool.py``; what an image's bytes may hold is
settled in ``image_decoding.py``, a video's in ``video.py``. The limits of an image are here.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from cl2cm.errors import MediaError
from cl2cm.media.blob import Blob
from cl2cm.media.decoder_pool import Budget, DecoderPool, decoders
from cl2cm.media.image_decoding import Allowed, Pixels, square
from cl2cm.media.kinds import kind_by_name, media_of
from cl2cm.media.preprocess import Preprocess
from cl2cm.media.video import Frame
from cl2cm.media.video_reading import frames_of
from cl2cm.types import Example, Media, Sampling

__all__ = ["Pixels", "Preprocess", "Source", "is_video", "load_frames", "video_frames"]

Source = Example | Path | bytes | Pixels | Blob

PIXEL_LIMIT = 100_000_000  # decoded pixels of one image: 300 MB, the largest cameras' size
FILE_LIMIT = 2**29  # bytes of an image's file
WORK_LIMIT = 4 * 10**9  # pixels times scans of a JPEG
KEPT_LIMIT = 1_200_000_000  # bytes that a progressive JPEG keeps: 200 million pixels in 3 colours
BUDGET = Budget(cpu=30, wall=180, memory=2 * 2**30)  # of one image, on a machine that is busy
_BINARY = getattr(os, "O_BINARY", 0)  # of Windows
EVENLY = Sampling()


def load_frames(source: Source, preprocess: Preprocess, sampling: Sampling = EVENLY) -> Pixels:
    """Read an image as one square frame, or a video as several.

    An image that is a square of the right size already is passed through, byte for byte.

    Args:
        source: an example, an image or video, an image's bytes or blob, or decoded pixels uint8
            [H, W, 3].
        preprocess: how a frame becomes a square.
        sampling: which frames of a video.

    Returns:
        uint8 [F, size, size, 3], RGB; F = 1 for an image, whose transparent parts are white.

    Raises:
        MediaError: the source is missing, damaged, too large, or neither image nor video.
        MissingExtraError: a video, and the extra ``video`` is not installed.
    """
    if is_video(source):
        return np.stack([frame.pixels for frame in video_frames(source, preprocess, sampling)])
    return _load_picture(source, preprocess)[None]


def is_video(source: Source) -> bool:
    """Return whether a source is a video: by the manifest's word, or by the file's name."""
    media = _media(source)
    return media is not None and media.is_video


def video_frames(source: Source, preprocess: Preprocess, sampling: Sampling) -> Iterator[Frame]:
    """Yield the frames of a video, or of an example's part of it, one at a time.

    Yields:
        Seconds and pixels uint8 [size, size, 3] of each.

    Raises:
        MediaError: the video cannot be read.
        MissingExtraError: the extra ``video`` is not installed.
    """
    video = _media(source)
    assert video is not None, "only a path or an example is a video"  # noqa: S101
    return frames_of(video.path, preprocess, sampling, video.start, video.end)


def _media(source: Source) -> Media | None:
    """Return the file of a source; None for features, and for an image in memory."""
    if isinstance(source, Example):
        return source.media
    return media_of(source) if isinstance(source, Path) else None


def _load_picture(source: Source, preprocess: Preprocess) -> Pixels:
    if isinstance(source, np.ndarray):
        return square(_from_pixels(source), preprocess)
    data, name = _stored(source)
    arguments = {"preprocess": asdict(preprocess), "allowed": asdict(usual_limits())}
    answer = decoders().ask("square", name, BUDGET, arguments, data)
    shape = (preprocess.size, preprocess.size, 3)
    return np.frombuffer(answer.body, np.uint8).reshape(shape)


def redraw_image(
    source: Path | bytes,
    name: str,
    size: int,
    *,
    pool: DecoderPool,
    budget: Budget,
    allowed: Allowed,
    lossless: bool = False,
) -> tuple[bytes, str]:
    """Re-encode an image with no side longer than ``size`` pixels.

    Args:
        source: a file, or its bytes.
        name: what an error calls it.
        size: pixels.
        pool: who decodes it.
        budget: what that may cost.
        allowed: what the image may ask for.
        lossless: as PNG, instead of JPEG for an opaque image.

    Returns:
        The new file and its MIME type.

    Raises:
        MediaError: the image cannot be read, or asks for too much.
    """
    data = read_image(source, name) if isinstance(source, Path) else source
    arguments = {"allowed": asdict(allowed), "size": size, "lossless": lossless}
    answer = pool.ask("redraw", name, budget, arguments, data)
    return bytes(answer.body), answer.head["media_type"]


def usual_limits(pixels: int | None = None) -> Allowed:
    """Return the default limits for an image; ``pixels`` replaces the pixel limit."""
    return Allowed(pixels or PIXEL_LIMIT, WORK_LIMIT, KEPT_LIMIT)


# --- one image -----------------------------------------------------------------------------


def read_image(path: Path, name: str | None = None) -> bytes:
    """Read the bytes of an image's file: a regular one, of a size that an image may have.

    Args:
        path: the file.
        name: what an error calls it; by default its path.

    Raises:
        MediaError: there is no such file, it cannot be read, or is too large.
    """
    name = name or str(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _no_picture(name, "a device or a pipe")
            if status.st_size > FILE_LIMIT:
                raise _no_picture(name, f"a file of {status.st_size // 2**20:,} MB")
            return file.read(FILE_LIMIT)
    except OSError as error:
        raise _no_picture(name, (error.strerror or str(error)).lower()) from error


def _stored(source: Example | Path | bytes | Blob) -> tuple[bytes, str]:
    """Return the image's bytes, and its name for messages."""
    if isinstance(source, Blob):
        return source.read(), source.name
    if isinstance(source, bytes):
        return source, "a picture in memory"
    path = _picture_of(source) if isinstance(source, Example) else source
    if kind_by_name(path) == "video":
        remedy = 'write "video" in place of "image" in the manifest'
        raise MediaError(str(path), expected="an image", found="a video", remedy=remedy)
    if path.is_dir() or not path.exists():
        raise _no_picture(str(path), "a folder" if path.is_dir() else "no such file")
    return read_image(path), str(path)


def _no_picture(name: str, found: str) -> MediaError:
    remedy = "correct the path, or skip it (--skip-bad)"
    return MediaError(name, expected="an image", found=found, remedy=remedy)


def _picture_of(example: Example) -> Path:
    if example.path is not None:
        return example.path
    raise MediaError(
        f"item {example.id}",
        expected="an image or video",
        found=f"the id {example.features!r} of stored features",
        remedy="name the feature store as the encoder (features:DIR)",
    )


def _from_pixels(pixels: Pixels) -> Image.Image:
    if pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size and pixels.dtype == np.uint8:
        return Image.fromarray(pixels)
    found = f"{pixels.dtype} {list(pixels.shape)}"
    remedy = "convert them first"
    raise MediaError("pixels in memory", expected="uint8 [H, W, 3]", found=found, remedy=remedy)
