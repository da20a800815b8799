"""Decode the bytes of an image; a test checks that untrusted images are decoded only here.

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
from cl2cm.media import kinds
from cl2cm.media.animation import ANIMATED, go_to_still
from cl2cm.media.image_colours import in_srgb, is_deep, opaque, standard
from cl2cm.media.image_header import MAX_SCANS, Header, describe, kind_of, read_header
from cl2cm.media.image_mending import load_without_end, mend_png
from cl2cm.media.preprocess import Preprocess

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
FORMATS = tuple(one.name for one in kinds.FORMATS if not one.is_video)
REPLACE = "replace the file, or skip it (--skip-bad)"  # of a file that cannot be read
_LONGEST = 3  # a longer strip is cut to this many squares before it is scaled


@dataclass(frozen=True, slots=True)
class Allowed:
    """Limits for decoding an image.

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
        profile = opened.info.get("icc_profile")
        pixels = square(opaque(opened), preprocess)
        return np.array(in_srgb(Image.fromarray(pixels), profile)) if profile else pixels

    return _decoded(data, name, preprocess.shorter_side, allowed, finish)


def redraw(
    data: bytes, name: str, size: int, allowed: Allowed, *, lossless: bool = False
) -> tuple[bytes, str]:
    """Re-encode an image with no side longer than ``size`` pixels.

    Args:
        data: the image.
        name: what an error calls it.
        size: pixels.
        allowed: what it may ask for.
        lossless: as PNG, instead of JPEG for an opaque image.

    Returns:
        The new file and its MIME type.

    Raises:
        MediaError: as `decode_square`.
    """
    return _decoded(data, name, size, allowed, lambda opened: save(opened, size, lossless=lossless))


def trust_own_limits() -> None:
    """Disable Pillow's pixel limit and warnings, which ignore reduced decoding of JPEG.

    For a process that does nothing but decode, under limits of its own.
    """
    Image.MAX_IMAGE_PIXELS = None
    warnings.simplefilter("ignore")


def save(image: Image.Image, size: int, *, lossless: bool = False) -> tuple[bytes, str]:
    """Save a small copy; a large image is made small first, which bounds the memory."""
    profile = image.info.get("icc_profile")
    if is_deep(image):
        ImageOps.exif_transpose(image, in_place=True)  # the rotation is lost with the depth
    small = image if image.mode == "L" else standard(image)
    small.thumbnail((size, size))
    ImageOps.exif_transpose(small, in_place=True)
    small = in_srgb(standard(small), profile)
    file = io.BytesIO()
    kind = "png" if small.mode == "RGBA" or lossless else "jpeg"
    small.save(file, kind, quality=85)
    return file.getvalue(), f"image/{kind}"


# --- opening ---------------------------------------------------------------------------------


def _decoded(
    data: bytes, name: str, size: int, allowed: Allowed, finish: Callable[[Image.Image], T]
) -> T:
    try:
        header = read_header(data)
        if not header.kind:
            raise UnidentifiedImageError
        _check(header, name, allowed)
        data = mend_png(data) if header.kind == "PNG" else data
        if header.kind == "HEIF":
            register_heif(name)
        with Image.open(io.BytesIO(data), formats=[header.kind]) as opened:
            # JPEG can decode at 1/2, 1/4 or 1/8: the smallest that is no smaller than ``size``.
            opened.draft("RGB", (size, size))
            if opened.width * opened.height > allowed.pixels:
                raise too_large(name, f"{opened.width} × {opened.height}", allowed.pixels)
            if header.kind in ANIMATED:
                go_to_still(opened, allowed.pixels)
            return finish(_loaded(opened, data, header, size))
    except (MediaError, MemoryError):
        raise
    except Exception as error:  # damaged bytes make a decoder raise anything
        raise _unreadable(name, data, error) from error


def _loaded(opened: Image.Image, data: bytes, header: Header, size: int) -> Image.Image:
    try:
        opened.load()
    except OSError:
        mended = None
        if header.kind == "JPEG" and not header.kept:
            mended = load_without_end(data, size)
        if mended is None:
            raise
        return mended
    return opened


def register_heif(name: str) -> None:
    """Register the optional HEIC decoder with Pillow.

    Raises:
        MediaError: it is not installed.
    """
    try:
        import pillow_heif  # noqa: PLC0415 - of an extra
    except ImportError:
        raise MediaError(
            name,
            expected="an image that this installation can read",
            found="a HEIC image",
            remedy="run: pip install 'cl2cm[heic]'",
        ) from None
    pillow_heif.register_heif_opener(thumbnails=False)


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
    return MediaError(name, expected=expected, found=found, remedy="make the image smaller")


def _too_costly(name: str, expected: str, found: str) -> MediaError:
    remedy = "save the image anew, or skip it (--skip-bad)"
    return MediaError(name, expected=expected, found=found, remedy=remedy)


def _unreadable(name: str, data: bytes, error: Exception) -> MediaError:
    expected = "a whole image"
    if not data:
        found = "an empty file"
    elif isinstance(error, UnidentifiedImageError) and not kind_of(data):
        expected, found = f"an image of a supported format ({', '.join(FORMATS)})", describe(data)
    elif isinstance(error, UnidentifiedImageError):
        found = f"a damaged {kind_of(data)} header"
    else:
        found = f"a damaged or unsupported one ({error})"
    return MediaError(name, expected=expected, found=found, remedy=REPLACE)


# --- pixels ----------------------------------------------------------------------------------


def square(image: Image.Image, preprocess: Preprocess) -> Pixels:
    """Scale the shorter side and cut out the centre, or stretch the image to the square."""
    size = (preprocess.size, preprocess.size)
    if not preprocess.stretch:
        image = _centre(image, *(min(side, _LONGEST * min(image.size)) for side in image.size))
        width, height = image.size
        short, wanted = min(image.size), preprocess.shorter_side
        size = (wanted * width // short, wanted * height // short)
    if image.size != size:
        filter_ = Image.Resampling[preprocess.resample.upper()]
        image = image.resize(size, filter_, reducing_gap=3.0)
    return np.array(_centre(image, preprocess.size, preprocess.size))


def _centre(image: Image.Image, width: int, height: int) -> Image.Image:
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
