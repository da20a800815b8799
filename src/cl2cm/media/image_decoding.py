"""An image's bytes to pixels: the only place where an image decoder is opened.

This runs in the processes of ``decoder_pool.py``, under their limits of time and memory. The header
is compared with the budget first. Orientation, transparency, colour model and depth are settled
here, in the same way for an index, a thumbnail and an image to search with.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from cl2cm.errors import MediaError
from cl2cm.media.image_header import MAX_SCANS, Header, describe, kind_of, read_header

T = TypeVar("T")
Pixels = npt.NDArray[np.uint8]  # [H, W, 3], [F, H, W, 3] or [N, H, W, 3]; RGB, 0 to 255

# The decoders that may be opened. None of them starts a program or opens another file. All are
# imported here: Pillow would import all of its own to find one that is missing.
_PLUGINS = (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
_LONGEST = 3  # a longer strip is cut to this many squares before it is scaled


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How an image becomes a square: scale the shorter side, then cut out the centre.

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


@dataclass(frozen=True, slots=True)
class Allowed:
    """What an image may ask of its decoder.

    Attributes:
        pixels: decoded pixels, after the reduction that a JPEG allows.
        work: pixels times scans of a JPEG, before the reduction.
        kept: bytes of coefficients of a progressive JPEG.
    """

    pixels: int
    work: int
    kept: int


def decode_square(data: bytes, name: str, preprocess: Preprocess, allowed: Allowed) -> Pixels:
    """Decode an image to a square frame uint8 [size, size, 3]; a large JPEG at reduced size.

    Raises:
        MediaError: the image is damaged, of another kind, or asks for too much.
    """

    def finish(opened: Image.Image) -> Pixels:
        ImageOps.exif_transpose(opened, in_place=True)
        return square(_opaque(opened), preprocess)

    return _decoded(data, name, preprocess.shorter_side, allowed, finish)


def redraw(
    data: bytes, name: str, size: int, allowed: Allowed, *, lossless: bool = False
) -> tuple[bytes, str]:
    """Draw an image anew, with no side longer than ``size`` pixels.

    Args:
        data: the image.
        name: what an error calls it.
        size: pixels.
        allowed: what it may ask for.
        lossless: as PNG, in place of JPEG for an opaque image.

    Returns:
        The new file and its MIME type.

    Raises:
        MediaError: as `decode_square`.
    """
    return _decoded(data, name, size, allowed, lambda opened: save(opened, size, lossless=lossless))


def trust_own_limits() -> None:
    """Switch off Pillow's warnings and its limit of pixels, which knows of no reduced JPEG.

    For a process that does nothing but decode, under limits of its own.
    """
    Image.MAX_IMAGE_PIXELS = None
    warnings.simplefilter("ignore")


def save(image: Image.Image, size: int, *, lossless: bool = False) -> tuple[bytes, str]:
    """Save a small copy; a large image is made small first, which bounds the memory."""
    clear = image.has_transparency_data
    plain = image if image.mode in ("RGB", "RGBA", "L") else None
    small = plain or image.convert("RGBA" if clear else "RGB")
    small.thumbnail((size, size))
    ImageOps.exif_transpose(small, in_place=True)
    small = small.convert("RGBA" if clear else "RGB")
    file = io.BytesIO()
    kind = "png" if clear or lossless else "jpeg"
    small.save(file, kind, quality=85)
    return file.getvalue(), f"image/{kind}"


# --- opening ---------------------------------------------------------------------------------


def _decoded(
    data: bytes, name: str, size: int, allowed: Allowed, finish: Callable[[Image.Image], T]
) -> T:
    try:
        _check(read_header(data), name, allowed)
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            # JPEG can decode at 1/2, 1/4 or 1/8: the smallest that is no smaller than ``size``.
            opened.draft("RGB", (size, size))
            if opened.width * opened.height > allowed.pixels:
                raise too_large(name, f"{opened.width} × {opened.height}", allowed.pixels)
            opened.load()
            return finish(opened)
    except (MediaError, MemoryError):
        raise
    except Exception as error:  # damaged bytes make a decoder raise anything
        raise _unreadable(name, data, error) from error


def _check(header: Header, name: str, allowed: Allowed) -> None:
    """Refuse what asks for too much, before a decoder is opened."""
    size = f"{header.width} × {header.height}"
    if header.kind != "JPEG":
        if header.width * header.height > allowed.pixels:
            raise too_large(name, size, allowed.pixels)
    elif header.scans > MAX_SCANS:
        raise _too_costly(name, f"at most {MAX_SCANS} scans", f"a JPEG of {header.scans} scans")
    elif header.work > allowed.work or header.kept > allowed.kept:
        found = f"a JPEG of {size} pixels in {header.scans} scans"
        raise _too_costly(name, "an image that is quickly decoded", found)


def too_large(name: str, found: str, pixels: int) -> MediaError:
    """Return the error of an image of too many pixels."""
    expected = f"at most {pixels // 10**6} million pixels"
    return MediaError(name, expected=expected, found=found, remedy="make the picture smaller")


def _too_costly(name: str, expected: str, found: str) -> MediaError:
    remedy = "save the image anew, or skip what is broken"
    return MediaError(name, expected=expected, found=found, remedy=remedy)


def _unreadable(name: str, data: bytes, error: Exception) -> MediaError:
    if not data:
        found = "an empty file"
    elif isinstance(error, UnidentifiedImageError) and not kind_of(data):
        found = describe(data)
    elif isinstance(error, UnidentifiedImageError):
        found = f"a damaged {kind_of(data)} header"
    else:
        found = f"a damaged or unsupported one ({error})"
    remedy = "replace the file, or skip what is broken"
    return MediaError(name, expected="a whole picture", found=found, remedy=remedy)


# --- pixels ----------------------------------------------------------------------------------


def _opaque(image: Image.Image) -> Image.Image:
    """RGB, white where transparent; few copies of a large image are in memory at a time."""
    if image.mode == "F":
        raise ValueError("floating-point pixels")
    if image.mode.startswith("I"):  # 16 bits a pixel, the upper 8 of which we keep
        grey = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def square(image: Image.Image, preprocess: Preprocess) -> Pixels:
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
