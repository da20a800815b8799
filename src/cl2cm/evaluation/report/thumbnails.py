"""Small copies of images and of videos' frames for the page, as data URLs.

Files are opened below the folders that the user named and nowhere else, and decoded in the decoder
processes; a page holds what these drew, never the bytes of a file.
"""

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cl2cm.errors import CL2CMError
from cl2cm.media.decoder_pool import decoders
from cl2cm.media.images import BUDGET, FILE_LIMIT, redraw_image, usual_limits
from cl2cm.media.video_reading import still_of
from cl2cm.storage import open_confined
from cl2cm.types import Example

ELSEWHERE = "no file below the folders that may be shown"
SIDE = 128  # pixels of the longer side


class Thumbnail(NamedTuple):
    """A small copy as a data URL, or why there is none."""

    url: str = ""
    missing: str = ""


class Thumbnails:
    """Draws each item once.

    Args:
        examples: the items.
        roots: folders with files that may be shown.
    """

    def __init__(self, examples: Sequence[Example], roots: Sequence[Path]) -> None:
        self._examples = {example.id: example for example in examples}
        self._roots = list(roots)
        self._drawn: dict[str, Thumbnail] = {}

    def of(self, item: str) -> Thumbnail:
        """Return the thumbnail of an item."""
        if item not in self._drawn:
            self._drawn[item] = self._draw(self._examples.get(item))
        return self._drawn[item]

    def _draw(self, example: Example | None) -> Thumbnail:
        media = None if example is None else example.media
        if media is None:
            return Thumbnail(missing="no file, only features")
        try:
            with open_confined(media.path, self._roots) as file:
                if media.is_video:
                    held = Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
                    path = held if held.exists() else media.path
                    part = media.start, media.end
                    drawn = still_of(path, media.path.name, part, SIDE, decoders(), BUDGET)
                else:
                    drawn = redraw_image(
                        file.read(FILE_LIMIT),
                        media.path.name,
                        SIDE,
                        pool=decoders(),
                        budget=BUDGET,
                        allowed=usual_limits(),
                    )
        except FileNotFoundError:
            return Thumbnail(missing=ELSEWHERE)
        except CL2CMError as error:
            return Thumbnail(missing=error.found)
        content, kind = drawn
        if kind not in ("image/jpeg", "image/png"):
            return Thumbnail(missing="not drawn")
        return Thumbnail(f"data:{kind};base64,{base64.b64encode(content).decode()}")
