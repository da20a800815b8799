"""Accepted image and video inputs: paths, Pillow images, arrays and bytes."""

import io
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from cl2cm.errors import MediaError
from cl2cm.media.images import Pixels, Source
from cl2cm.types import Example, StrPath

Visual = StrPath | Example | bytes | Pixels | Image.Image
_PNG_MODES = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})


def sources(items: Iterable[Visual]) -> list[Source]:
    """Return the input of ``load_frames`` for each image or video of a list.

    Args:
        items: paths; examples; an image's bytes; pixels uint8 [H, W, 3]; images of Pillow.

    Raises:
        MediaError: one item instead of a list, or something that is not an image or video.
    """
    if isinstance(items, str | os.PathLike | bytes | Example | Image.Image):
        raise MediaError(
            "images and videos",
            expected="a list of them",
            found=f"a single one ({_short(items)})",
            remedy="put it into a list: [...]",
        )
    return [_source(item) for item in items]


def _source(item: Visual) -> Source:
    if isinstance(item, Example | bytes | np.ndarray):
        return item
    if isinstance(item, Image.Image):
        return _encoded(item)
    if isinstance(item, str | os.PathLike):
        return Path(item)
    raise MediaError(
        "images and videos",
        expected="paths, examples, bytes, arrays uint8 [H, W, 3] or images of Pillow",
        found=_short(item),
        remedy="give the paths of the files",
    )


def _encoded(image: Image.Image) -> bytes:
    """Return the image as PNG, so that it is decoded in the same way as a file."""
    upright = ImageOps.exif_transpose(image)
    file = io.BytesIO()
    plain = upright if upright.mode in _PNG_MODES else upright.convert("RGB")
    plain.save(file, "png", compress_level=1)
    return file.getvalue()


def _short(item: object) -> str:
    text = repr(item)
    return text if len(text) <= 60 else f"{text[:59]}…"
