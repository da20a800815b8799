"""An image's pixels in one form: RGB or RGBA, 8 bits of each colour, sRGB.

Index, thumbnail and upload go through here, so that what is shown is what was encoded.
"""

import io

import numpy as np
from PIL import Image, ImageCms

_PROFILE = 2**22  # bytes of a colour profile
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC


def is_deep(image: Image.Image) -> bool:
    """Whether an image is grey of more than 8 bits, or of floating point."""
    return image.mode == "F" or image.mode.startswith("I")


def standard(image: Image.Image) -> Image.Image:
    """Return an image as RGB, or RGBA where it may be transparent; 8 bits of each colour."""
    if is_deep(image):
        return _eight_bits(image).convert("RGB")
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of more bits, or of floating point, as 0 to 255.

    Numbers within 16 bits keep their upper 8; floating-point numbers within 0 to 1 and 0 to 255 are
    taken as such. All others are stretched from the smallest (zero, if none is below) to the
    largest.
    """
    stored = np.asarray(image)
    if stored.dtype == np.uint16:
        return Image.fromarray((stored >> 8).astype(np.uint8))
    grey = stored.astype(np.float32)  # a copy; of large images there is memory for few
    np.nan_to_num(grey, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = min(0.0, float(grey.min())), float(grey.max())
    if image.mode == "F" and low == 0 and high <= 255:
        grey *= 255 if high <= 1 else 1
        np.round(grey, out=grey)
    elif low == 0 and high < 2**16:
        grey /= 256
    else:
        grey -= low
        grey *= 255 / (high - low)
    return Image.fromarray(grey.astype(np.uint8))


def opaque(image: Image.Image) -> Image.Image:
    """Return an image as RGB, white where transparent; with few copies in memory at a time."""
    image = standard(image)
    if image.mode == "RGB":
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def in_srgb(image: Image.Image, profile: object) -> Image.Image:
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
