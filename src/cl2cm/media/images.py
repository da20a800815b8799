"""Pictures and films to frames: the only place that tells the two apart.

Whatever stands for V in "The task" of method.md leaves this module as frames uint8
[F, H, W, 3], square, RGB; a picture has F = 1. What a picture's bytes may hold is settled here:
orientation, transparency, colour model, depth, size and damage; a film's in ``video.py``.
"""

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from cl2cm.errors import MediaError
from cl2cm.media.sampling import sampled_frames
from cl2cm.media.video import Frame
from cl2cm.types import Example, Sampling

Pixels = npt.NDArray[np.uint8]  # [H, W, 3], [F, H, W, 3] or [N, H, W, 3]; RGB, 0 to 255
Source = Example | Path | bytes | Pixels

PIXEL_LIMIT = 100_000_000  # decoded pixels of one picture: 300 MB, the largest cameras' size
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
FILMS = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"}
    | {".ogv", ".webm", ".wmv"}
)
EVENLY = Sampling()
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


def load_frames(source: Source, preprocess: Preprocess, sampling: Sampling = EVENLY) -> Pixels:
    """Read a picture as one square frame, or a film as several.

    A picture that is a square of the right size already is passed through, byte for byte.

    Args:
        source: an example, a picture or film, a picture's bytes, or decoded pixels uint8 [H, W, 3].
        preprocess: how a frame becomes a square.
        sampling: which frames of a film.

    Returns:
        uint8 [F, size, size, 3], RGB; F = 1 for a picture, whose transparent parts are white.

    Raises:
        MediaError: the source is missing, damaged, too large, or neither picture nor film.
        MissingExtraError: a film, and the extra ``video`` is not installed.
    """
    if is_film(source):
        return np.stack([frame.pixels for frame in film_frames(source, preprocess, sampling)])
    return _load_picture(source, preprocess)[None]


def is_film(source: Source) -> bool:
    """Whether a source is a film: by the manifest's word, or by the file's name."""
    if isinstance(source, Example):
        return source.video is not None
    return isinstance(source, Path) and source.suffix.lower() in FILMS


def film_frames(source: Source, preprocess: Preprocess, sampling: Sampling) -> Iterator[Frame]:
    """The frames of a film, or of an example's part of it, one at a time.

    Yields:
        Seconds and pixels uint8 [size, size, 3] of each.

    Raises:
        MediaError: the film cannot be read.
        MissingExtraError: the extra ``video`` is not installed.
    """
    if isinstance(source, Example) and source.video is not None:
        frames = sampled_frames(source.video, sampling, source.start, source.end)
    else:
        assert isinstance(source, Path), "only a path or an example is a film"  # noqa: S101
        frames = sampled_frames(source, sampling)
    for seconds, pixels in frames:
        yield Frame(seconds, _square(Image.fromarray(pixels), preprocess))


def media_of(example: Example) -> Path | Example:
    """An example's file, or the example itself where it is a part of a film or has no file."""
    path = example.image or example.video
    part = example.start is not None or example.end is not None
    return example if path is None or part else path


def _load_picture(source: Source, preprocess: Preprocess) -> Pixels:
    stored, name = _stored(source)
    if isinstance(stored, np.ndarray):
        return _square(_from_pixels(stored, name), preprocess)
    _silence_size_warning()
    try:
        with Image.open(stored) as opened:
            return _square(_whole(opened, preprocess.shorter_side, name), preprocess)
    except MediaError:
        raise
    except Exception as error:  # damaged bytes make a decoder raise anything
        raise _unreadable(name, stored, error) from error


# --- one picture -----------------------------------------------------------------------------


def _stored(source: Source) -> tuple[Path | io.BytesIO | Pixels, str]:
    """Where the picture is, and its name for messages."""
    if isinstance(source, np.ndarray):
        return source, "pixels in memory"
    if isinstance(source, bytes):
        return io.BytesIO(source), "a picture in memory"
    path = _picture_of(source) if isinstance(source, Example) else source
    if path.suffix.lower() in FILMS:
        remedy = 'write "video" in place of "image" in the manifest'
        raise MediaError(str(path), expected="a picture", found="a film", remedy=remedy)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        remedy = "correct the path, or skip what is broken"
        raise MediaError(str(path), expected="a picture", found=found, remedy=remedy)
    return path, str(path)


def _picture_of(example: Example) -> Path:
    if example.image is not None:
        return example.image
    raise MediaError(
        f"item {example.id}",
        expected="a picture or film",
        found=f"the id {example.features!r} of stored features",
        remedy="name the feature store as the encoder (features:DIR)",
    )


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
