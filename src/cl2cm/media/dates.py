"""The time when an image was taken (EXIF ``DateTimeOriginal``).

The files are read in the decoder processes, as for decoding. The time is the camera's own, without
a time zone: the day on which somebody took the image where they were.
"""

import datetime
import io
from pathlib import Path

from PIL import Image

from cl2cm.errors import MediaError
from cl2cm.media.decoder_pool import Budget, decoders
from cl2cm.media.image_decoding import register_heif
from cl2cm.media.image_header import kind_of
from cl2cm.media.images import read_image

_BUDGET = Budget(cpu=10, wall=60, memory=2**30)
_HEAD = 2**18  # bytes of a JPEG or TIFF in which a camera writes this
_MARKS = (b"Exif", b"eXIf", b"EXIF", b"Raw profile type exif")
_EXIF, _ORIGINAL = 0x8769, 0x9003  # tags: the group of the camera's fields, and the field
_FORM = "%Y:%m:%d %H:%M:%S"


def date_taken(path: Path) -> datetime.datetime | None:
    """Return when an image was taken, in local time; None if unknown.

    Args:
        path: an image.
    """
    try:
        data = read_image(path)
        if kind_of(data) == "JPEG":
            data = data[:_HEAD]
        if kind_of(data) != "TIFF" and not any(mark in data for mark in _MARKS):
            return None
        answer = decoders().ask("taken", str(path), _BUDGET, {}, data)
    except MediaError:
        return None
    return parse_date(answer.head["taken"])


def parse_date(text: str) -> datetime.datetime | None:
    """Return the date that a camera wrote; None for one that cannot be, such as all zeros."""
    try:
        return datetime.datetime.strptime(text.strip("\0 "), _FORM)
    except ValueError:
        return None


def read_taken(data: bytes, name: str) -> str:
    """Return the field ``DateTimeOriginal`` of an image, as it is; empty if there is none.

    Runs in a decoder process.
    """
    kind = kind_of(data)
    if kind == "HEIF":
        register_heif(name)
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as opened:
            found = opened.getexif().get_ifd(_EXIF).get(_ORIGINAL, "")
    except MemoryError:
        raise
    except Exception:  # metadata of strangers; a broken date is not a date
        return ""
    return found if isinstance(found, str) else ""
