"""Uploaded query images: checked, scaled down, encoded, and kept for a short time.

Uploaded images are untrusted. They are decoded with limits and re-encoded, and only the copy is
passed on. Only the vector and a thumbnail are kept, in memory, under a name that cannot be guessed.
"""

import secrets
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cl2cm.errors import QueryError
from cl2cm.serve.media import SIZES, shrink_upload
from cl2cm.types import Floats


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded query image: its unit vector, the model of the vector, and a PNG thumbnail."""

    vector: Floats
    model: str
    thumbnail: bytes
    media_type: str


class Uploads:
    """The last images that people searched with.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, Upload] = OrderedDict()

    def keep(self, upload: Upload) -> str:
        """Keep an image; returns its name."""
        name = secrets.token_urlsafe(12)
        self._kept[name] = upload
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return name

    def get(self, name: str, model: str) -> Upload:
        """Return an image that is still kept, encoded by the model ``model``.

        Raises:
            QueryError: it is not.
        """
        upload = self._kept.get(name)
        if upload is None or upload.model != model:
            raise QueryError(
                "picture",
                expected="one that was uploaded recently",
                found="one that has expired",
                remedy="give it again",
            )
        self._kept.move_to_end(name)
        return upload


@contextmanager
def drawn_anew(content: bytes) -> Iterator[Path]:
    """Return a file with a clean copy of an image, for as long as it is needed.

    Raises:
        MediaError: the bytes are not an image, or one of too many pixels.
    """
    copy, media_type = shrink_upload(content, SIZES[1], lossless=True)
    with tempfile.TemporaryDirectory(prefix="cl2cm-") as folder:
        path = Path(folder) / ("picture." + media_type.partition("/")[2])
        path.write_bytes(copy)
        yield path


def thumbnail(clean: Path) -> tuple[bytes, str]:
    """Return a thumbnail of the image that `drawn_anew` returned, and its MIME type."""
    return shrink_upload(clean.read_bytes(), SIZES[0])
