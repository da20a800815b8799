"""An image's bytes to pixels: the only place where an image decoder is opened.

This runs in the processes of ``decoder_pool.py``, under their limits of time and memory. The header
is compared with the budget first. Orientation, transparency, colour model and depth are settled
here, in the same way for an index, a thumbnail and an image to search with.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
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
from cl2cm.media.image_mending import load_without_end, mend_png

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
_PROFILE = 2**22  # bytes of a colour profile
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_LONGEST = 3  # a longer strip is cut to this many squares before it is scaled


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How an image becomes a square: scale the shorter side, then cut out the centre.

    Attributes:
        size: side of the square, pixels.
        resize: shorter side before the cut, pixels, at least ``size``; None means ``size``.
        resample: filter, ``bicubic``, ``bilinear`` or ``lanczos``; all of them antialiased.
        stretch: scale both sides to ``size`` instead; nothing is cut off.
    """

    size: int
    resize: int | None = None
    resample: str = "bicubic"
    stretch: bool = False

    @property
    def shorter_side(self) -> int:
        """Shorter side before the cut, pixels."""
        return self.resize or self.size

    def to_json(self) -> dict[str, object]:
        """Return the fields for records and hashes: as they were before ``stretch`` existed."""
        fields = asdict(self)
        if not self.stretch:
            del fields["stretch"]
        return fields


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
        profile = opened.info.get("icc_profile")
        pixels = square(_opaque(opened), preprocess)
        return np.array(_in_srgb(Image.fromarray(pixels), profile)) if profile else pixels

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
    profile = image.info.get("icc_profile")
    if image.mode == "F" or image.mode.startswith("I"):
        ImageOps.exif_transpose(image, in_place=True)  # the rotation is lost with the depth
    small = image if image.mode == "L" else _standard(image)
    small.thumbnail((size, size))
    ImageOps.exif_transpose(small, in_place=True)
    small = _in_srgb(_standard(small), profile)
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
        _check(header, name, allowed)
        data = mend_png(data) if header.kind == "PNG" else data
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            # JPEG can decode at 1/2, 1/4 or 1/8: the smallest that is no smaller than ``size``.
            opened.draft("RGB", (size, size))
            if opened.width * opened.height > allowed.pixels:
                raise too_large(name, f"{opened.width} × {opened.height}", allowed.pixels)
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
            mended = load_without_end(data, FORMATS, size)
        if mended is None:
            raise
        return mended
    return opened


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


def _standard(image: Image.Image) -> Image.Image:
    """RGB, or RGBA where an image may be transparent; 8 bits of each colour."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _eight_bits(image).convert("RGB")
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of more bits, or of floating point, as 0 to 255.

    Numbers within 16 bits keep their upper 8; floating-point numbers within 0 to 1 and 0 to 255 are
    taken as such. All others are stretched from the smallest (zero, if none is below) to the
    largest.
    """
    grey = np.nan_to_num(np.asarray(image, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = min(0.0, float(grey.min())), float(grey.max())
    if image.mode == "F" and low == 0 and high <= 255:
        grey *= 255 if high <= 1 else 1
        np.round(grey, out=grey)
    elif low == 0 and high < 2**16:
        grey /= 256
    else:
        grey = (grey - low) * (255 / (high - low))
    return Image.fromarray(grey.astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    """RGB, white where transparent; few copies of a large image are in memory at a time."""
    image = _standard(image)
    if image.mode == "RGB":
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _in_srgb(image: Image.Image, profile: object) -> Image.Image:
    """Convert the colours of a small RGB or RGBA image from its profile to sRGB.

    What has no profile, a damaged one or another colour model's, is taken as sRGB.
    """
    if not isinstance(profile, bytes) or len(profile) > _PROFILE or profile[16:20] != b"RGB ":
        return image
    try:
        stored = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(stored).lower():
            return image
        wanted = ImageCms.createProfile("sRGB")
        colours = ImageCms.profileToProfile(image.convert("RGB"), stored, wanted, _INTENT)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    if colours is not None and image.mode == "RGBA":
        colours.putalpha(image.getchannel("A"))
    return colours or image


def square(image: Image.Image, preprocess: Preprocess) -> Pixels:
    """Scale the shorter side and cut out the centre, or stretch the image to the square."""
    if preprocess.stretch:
        return _stretched(image, preprocess)
    image = _centre(image, *(min(side, _LONGEST * min(image.size)) for side in image.size))
    short = min(image.size)
    if short != preprocess.shorter_side:
        width, height = (preprocess.shorter_side * side // short for side in image.size)
        filter_ = Image.Resampling[preprocess.resample.upper()]
        image = image.resize((width, height), filter_, reducing_gap=3.0)
    return np.array(_centre(image, preprocess.size, preprocess.size))


def _stretched(image: Image.Image, preprocess: Preprocess) -> Pixels:
    size = (preprocess.size, preprocess.size)
    if image.size != size:
        filter_ = Image.Resampling[preprocess.resample.upper()]
        image = image.resize(size, filter_, reducing_gap=3.0)
    return np.array(image)


def _centre(image: Image.Image, width: int, height: int) -> Image.Image:
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
