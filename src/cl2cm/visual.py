"""Pictures (and later films) to frames: the only place that tells the two apart.

Whatever stands for V in "The task" of method.md leaves this module as frames uint8
[F, H, W, 3], square, RGB; a picture has F = 1. What a file's bytes may hold is settled here:
orientation, transparency, colour model, depth, size and damage.
"""

import io
import os
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from cl2cm.errors import MediaError
from cl2cm.types import Example

Pixels = npt.NDArray[np.uint8]  # [H, W, 3], [F, H, W, 3] or [N, H, W, 3]; RGB, 0 to 255
Source = Example | Path | bytes | Pixels

PIXEL_LIMIT = 100_000_000  # decoded pixels of one picture: 300 MB, the largest cameras' size
FILMS = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm"})
_LONGEST = 3  # a longer strip is cut to this many squares before it is scaled


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How a picture becomes a square: scale the shorter side, then cut out the centre.

    Attributes:
        size: side of the square, pixels.
        resize: shorter side before the cut, pixels, at least ``size``; None means ``size``.
        resample: filter, ``bicubic``, ``bilinear`` or ``lanczos``; all of them antialiased.
    """

    size: int
    resize: int | None = None
    resample: str = "bicubic"

    @property
    def shorter_side(self) -> int:
        """Shorter side before the cut, pixels."""
        return self.resize or self.size


class Decoded(NamedTuple):
    """A batch of pictures, and what became of the sources that were asked for.

    pixels: uint8 [n, H, W, 3]; rows: position of each among the sources, ascending;
    failures: position and error of each source of this batch that could not be read.
    """

    pixels: Pixels
    rows: list[int]
    failures: list[tuple[int, MediaError]]


def load_frames(source: Source, preprocess: Preprocess) -> Pixels:
    """Read a picture as one square frame.

    A picture that is a square of the right size already is passed through, byte for byte.

    Args:
        source: an example, a file, a file's bytes, or decoded pixels uint8 [H, W, 3].
        preprocess: how it becomes a square.

    Returns:
        uint8 [F, size, size, 3] with F = 1, RGB; transparent parts are white.

    Raises:
        MediaError: the source is missing, damaged, too large, or not a picture.
    """
    stored, name = _stored(source)
    if isinstance(stored, np.ndarray):
        return _square(_from_pixels(stored, name), preprocess)[None]
    _silence_size_warning()
    try:
        with Image.open(stored) as opened:
            return _square(_whole(opened, preprocess.shorter_side, name), preprocess)[None]
    except MediaError:
        raise
    except Exception as error:  # damaged bytes make a decoder raise anything
        raise _unreadable(name, stored, error) from error


def decode_parallel(
    sources: Sequence[Source],
    preprocess: Preprocess,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    skip_bad: bool = False,
) -> Iterator[Decoded]:
    """Read many pictures in threads, ahead of who asks, in their order.

    Args:
        sources: what ``load_frames`` takes.
        preprocess: how each becomes a square.
        batch_size: sources for each batch; three batches at most are held in memory.
        workers: threads; by default one for each processor, eight at most.
        skip_bad: list the pictures that cannot be read in place of stopping at the first.

    Yields:
        Batches of ``batch_size`` sources, fewer in the last; without the pictures that failed.

    Raises:
        MediaError: a picture cannot be read, and ``skip_bad`` is not set.
    """
    starts = iter(range(0, len(sources), batch_size))
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:

        def begin(start: int) -> _Pending:
            chosen = range(start, min(start + batch_size, len(sources)))
            pixels = np.empty((len(chosen), preprocess.size, preprocess.size, 3), np.uint8)
            tasks = [
                pool.submit(_decode_into, pixels[slot], sources[row], preprocess)
                for slot, row in enumerate(chosen)
            ]
            return _Pending(start, pixels, tasks)

        pending = deque(begin(start) for start in islice(starts, 2))
        try:
            while pending:
                batch = _finish(pending.popleft(), skip_bad=skip_bad)
                pending.extend(begin(start) for start in islice(starts, 1))
                yield batch
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Pending(NamedTuple):
    start: int
    pixels: Pixels
    tasks: list[Future[MediaError | None]]


def _decode_into(frame: Pixels, source: Source, preprocess: Preprocess) -> MediaError | None:
    try:
        frame[:] = load_frames(source, preprocess)[0]
    except MediaError as error:
        return error
    return None


def _finish(pending: _Pending, *, skip_bad: bool) -> Decoded:
    results = [task.result() for task in pending.tasks]
    failures = [(pending.start + i, error) for i, error in enumerate(results) if error]
    if not failures:
        rows = list(range(pending.start, pending.start + len(results)))
        return Decoded(pending.pixels, rows, [])
    if not skip_bad:
        raise failures[0][1]
    good = [i for i, error in enumerate(results) if error is None]
    return Decoded(pending.pixels[good], [pending.start + i for i in good], failures)


# --- one picture -----------------------------------------------------------------------------


def _stored(source: Source) -> tuple[Path | io.BytesIO | Pixels, str]:
    """Where the picture is, and its name for messages."""
    if isinstance(source, np.ndarray):
        return source, "pixels in memory"
    if isinstance(source, bytes):
        return io.BytesIO(source), "a picture in memory"
    path = _picture_of(source) if isinstance(source, Example) else source
    if path.suffix.lower() in FILMS:
        raise _is_film(str(path))
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        remedy = "correct the path, or skip what is broken"
        raise MediaError(str(path), expected="a picture", found=found, remedy=remedy)
    return path, str(path)


def _picture_of(example: Example) -> Path:
    if example.image is not None:
        return example.image
    if example.video is not None:
        raise _is_film(str(example.video))
    raise MediaError(
        f"item {example.id}",
        expected="a picture",
        found=f"the id {example.features!r} of stored features",
        remedy="name the feature store as the encoder (features:DIR)",
    )


def _is_film(name: str) -> MediaError:
    remedy = "films are not supported yet: give one of its frames as a picture"
    return MediaError(name, expected="a picture", found="a film", remedy=remedy)


def _unreadable(name: str, stored: Path | io.BytesIO, error: Exception) -> MediaError:
    if isinstance(error, Image.DecompressionBombError):
        return _too_large(name, "more than that")
    size = stored.stat().st_size if isinstance(stored, Path) else len(stored.getbuffer())
    if size == 0:
        found = "an empty file"
    elif isinstance(error, UnidentifiedImageError):
        found = "bytes of another kind"
    else:
        found = f"a damaged or unsupported one ({error})"
    remedy = "replace the file, or skip what is broken"
    return MediaError(name, expected="a whole picture", found=found, remedy=remedy)


def _too_large(name: str, found: str) -> MediaError:
    expected = f"at most {PIXEL_LIMIT // 10**6} million pixels"
    return MediaError(name, expected=expected, found=found, remedy="make the picture smaller")


def _from_pixels(pixels: Pixels, name: str) -> Image.Image:
    if pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size and pixels.dtype == np.uint8:
        return Image.fromarray(pixels)
    found = f"{pixels.dtype} {list(pixels.shape)}"
    remedy = "convert them first"
    raise MediaError(name, expected="uint8 [H, W, 3]", found=found, remedy=remedy)


@lru_cache
def _silence_size_warning() -> None:
    # Pillow warns of large pictures when it opens them; we judge them after JPEG's reduction.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def _whole(opened: Image.Image, shorter_side: int, name: str) -> Image.Image:
    """Decode: upright, RGB, white where transparent; a large JPEG at reduced size."""
    # JPEG can decode at 1/2, 1/4 or 1/8: the smallest that is no smaller than what we want.
    opened.draft("RGB", (shorter_side, shorter_side))
    if opened.width * opened.height > PIXEL_LIMIT:
        raise _too_large(name, f"{opened.width} × {opened.height}")
    opened.load()
    return _opaque(ImageOps.exif_transpose(opened))


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels")
    if image.mode.startswith("I"):  # 16 bits a pixel, the upper 8 of which we keep
        grey = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _square(image: Image.Image, preprocess: Preprocess) -> Pixels:
    """Scale the shorter side, cut out the centre."""
    image = _centre(image, *(min(side, _LONGEST * min(image.size)) for side in image.size))
    short = min(image.size)
    if short != preprocess.shorter_side:
        width, height = (preprocess.shorter_side * side // short for side in image.size)
        filter_ = Image.Resampling[preprocess.resample.upper()]
        image = image.resize((width, height), filter_, reducing_gap=3.0)
    return np.array(_centre(image, preprocess.size, preprocess.size))


def _centre(image: Image.Image, width: int, height: int) -> Image.Image:
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
