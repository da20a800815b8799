"""Which frame stands for an animated image, or for a video in a thumbnail.

Animations and videos often begin with a black or empty frame. The frame in the middle stands for
them; where it is of one colour, the next one that is not.
"""

import contextlib

import numpy as np
import numpy.typing as npt
from PIL import Image

from cl2cm.media.image_colours import opaque

ANIMATED = frozenset({"GIF", "WEBP", "PNG", "AVIF"})  # a TIFF or MPO has pages, not frames
_CELLS = 32  # a side of the small copy that is looked at
_FLAT = 12  # levels of 255 between the darkest and the brightest cell of a frame of one colour


def is_uniform(pixels: npt.NDArray[np.uint8]) -> bool:
    """Whether a frame uint8 [H, W, 3] is of one colour, but for noise and specks."""
    return _is_flat(Image.fromarray(pixels))


def _is_flat(image: Image.Image) -> bool:
    small = image.resize((_CELLS, _CELLS), Image.Resampling.BOX, reducing_gap=1.0)
    bands = small.getextrema()
    return all(high - low <= _FLAT for low, high in bands)  # type: ignore[misc]  # of RGB


def go_to_still(image: Image.Image, pixels: int) -> None:
    """Go to the frame of an animation that stands for it; an image of one frame stays as it is.

    Args:
        image: open, of a format in ``ANIMATED``.
        pixels: that may be decoded on the way; a longer animation is judged by its beginning.
    """
    most = max(1, pixels // max(1, image.width * image.height))  # frames that may be decoded
    count = getattr(image, "n_frames", 1)
    if count < 2:
        return
    middle = min(count // 2, most // 2)
    with contextlib.suppress(OSError, EOFError, ValueError, SyntaxError):  # damaged later on
        for number in range(middle, min(count, most)):
            image.seek(number)
            if not _is_flat(opaque(image.copy())):
                return
        for number in range(middle):
            image.seek(number)
            if not _is_flat(opaque(image.copy())):
                return
        image.seek(middle)
        image.load()
        return
    image.seek(0)
