"""Reader for a user's directory that Hugging Face ``datasets`` wrote with ``save_to_disk``.

Columns: one of images, of the type ``Image``; captions in ``caption``, ``text``, ``sentences`` or
the like (``columns.py``), a text or a list of texts, numbered (``caption_0``) or by language
(``caption_de``); and, where there are, ``language``, ``split`` and ``id``. The parts of a
``DatasetDict`` are its splits. An id is ``PART/ROW`` where none is given; rows of a split whose
images are equal, byte for byte, become one item of the first one's id: one row per caption.

Images are written as they are to ``pictures`` in the folder that is made. ``huggingface_tables.py``
opens the tables.
"""

import hashlib
from pathlib import Path
from typing import Any

from cl2cm.data.readers.columns import Columns
from cl2cm.data.readers.huggingface_tables import Cells, Part, load_parts, misfit, whole_rows
from cl2cm.data.readers.own_data import Gathering, Row, left_out
from cl2cm.data.readers.reading import DataSet, Options
from cl2cm.data.readers.unpacking import Unpacking, unpacking
from cl2cm.errors import DatasetError
from cl2cm.media.image_header import describe, kind_of
from cl2cm.progress import track
from cl2cm.text import is_blank

_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif"}
_SUFFIXES |= {"BMP": ".bmp", "TIFF": ".tif"}


def read(source: Path, options: Options) -> DataSet:
    """Read a directory made by ``save_to_disk``.

    Raises:
        DatasetError: it is none, is damaged, or a row does not fit.
        MissingExtraError: the package ``datasets`` is not installed.
        StorageError: the disk is full, read-only or closed to us.
    """
    if not any((source / name).is_file() for name in ("dataset_dict.json", "state.json")):
        found = "no state.json in it" if source.is_dir() else "no such folder"
        raise misfit(str(source), "a directory made by save_to_disk", found)
    parts = load_parts(source, options.columns)
    gathering = Gathering("huggingface", options)
    unread = dict.fromkeys(key for part in parts for key in part.unread)
    bare: list[str] = []
    rows = _Rows(gathering)
    total = sum(len(part.table) for part in parts)
    with unpacking(source, options) as files, track("reading rows", total) as advance:
        for part in parts:
            for number, cells in whole_rows(part):
                place = f"{part.place}: row {number}"
                try:
                    name = _id(place, cells, part.columns, f"{part.name or 'row'}/{number}")
                    if not rows.add(part, place, name, cells, files):
                        bare.append(name)
                except DatasetError as error:
                    gathering.fault(error)
                advance(1)
        notes = left_out("columns that are not read", unread)
        notes += left_out("rows without a caption or without an image, left out", bare)
        if rows.merged:
            notes.append(
                f"{rows.merged:,} rows have the image of an earlier one of their split, byte for "
                "byte, and are captions of its item"
            )
        return gathering.dataset(notes)


class _Rows:
    """Takes up rows; rows with equal images in one split become one item.

    Args:
        gathering: gets them.

    Attributes:
        merged: number of rows whose image was there before.
    """

    def __init__(self, gathering: Gathering) -> None:
        self._gathering = gathering
        self._first: dict[tuple[str, bytes], tuple[str, Path | None]] = {}
        self._places: dict[str, str] = {}  # id → place of its image
        self.merged = 0

    def add(self, part: Part, place: str, name: str, cells: Cells, files: Unpacking | None) -> bool:
        """Add a row; return False if it has no image or no caption.

        Raises:
            DatasetError: it does not fit.
        """
        columns = part.columns
        data = _bytes(f"{place}: {part.picture}", cells[part.picture])
        texts = {
            key: captions
            for key in columns.captions
            if (captions := _captions(f"{place}: {key}", cells[key]))
        }
        if data is None or not texts:
            return False
        split = part.name or _said(place, cells, columns.split)
        spoken = _said(place, cells, columns.language)
        image = split, hashlib.sha256(data).digest()
        if image in self._first:
            self.merged += 1
        else:
            if (first := self._places.setdefault(name, place)) != place:
                raise misfit(place, "an id of one image", f"{name[:60]!r} again, as at {first}")
            suffix = _suffix(f"{place}: {part.picture}", data) if files is not None else ""
            media = None if files is None else files.write(name, suffix, [data])
            self._first[image] = name, media
        name, media = self._first[image]
        for key, captions in texts.items():
            language = columns.captions[key] or spoken
            self._gathering.add(Row(f"{place}: {key}", name, media, captions, language, split))
        return True


def _bytes(place: str, cell: object) -> bytes | None:
    if cell is None:
        return None
    data = cell.get("bytes") if isinstance(cell, dict) else None
    if isinstance(data, bytes) and data:
        return data
    raise misfit(place, "the bytes of an image", "a path or nothing: save it to disk again")


def _suffix(place: str, data: bytes) -> str:
    """Return the ending that an image's first bytes ask for; it is decoded when it is encoded."""
    kind = kind_of(data)
    if kind not in _SUFFIXES:
        found = f"a {kind} image" if kind else describe(data)
        raise misfit(place, f"an image ({', '.join(_SUFFIXES)})", found)
    return _SUFFIXES[kind]


def _captions(place: str, cell: object) -> tuple[str, ...]:
    texts: list[Any] = cell if isinstance(cell, list) else [cell]
    if any(text is not None and type(text) is not str for text in texts):
        raise misfit(place, "a text or a list of texts", type(texts[0]).__name__)
    return tuple(text for text in texts if text is not None and not is_blank(text))


def _said(place: str, cells: Cells, key: str | None) -> str:
    value = None if key is None else cells[key]
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    raise misfit(f"{place}: {key}", "a text", type(value).__name__)


def _id(place: str, cells: Cells, columns: Columns, instead: str) -> str:
    value = None if columns.id is None else cells[columns.id]
    if type(value) is int:
        return str(value)
    return _said(place, cells, columns.id) or instead
