"""One's own pairs as a directory that Hugging Face ``datasets`` made with ``save_to_disk``.

Columns: one of images, of the type ``Image``; captions in ``caption``, ``text``, ``sentences`` or
the like (``columns.py``), a text or a list of texts, numbered (``caption_0``) or by language
(``caption_de``); and, where there are, ``language``, ``split`` and ``id``. The parts of a
``DatasetDict`` are its splits. An id is ``PART/ROW`` where none is given; rows of a split whose
images are equal, byte for byte, become one item of the first one's id: one row per caption.

Pictures are written as they are to ``pictures`` in the folder that is made. The extra ``datasets``
brings the package; nothing is fetched, and no code of the directory is run.
"""

import hashlib
import importlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cl2cm.data.readers.columns import Columns, find_columns
from cl2cm.data.readers.own_data import Gathering, Row, left_out
from cl2cm.data.readers.reading import DataSet, Options
from cl2cm.data.readers.unpacking import Unpacking, unpacking
from cl2cm.errors import DatasetError, MediaError, MissingExtraError
from cl2cm.media.decoder_pool import Budget, decoders
from cl2cm.media.image_header import describe, kind_of
from cl2cm.progress import track
from cl2cm.text import is_blank

_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif"}
_SUFFIXES |= {"BMP": ".bmp", "TIFF": ".tif"}
_BATCH = 64  # rows in memory
_NAME = re.compile(r"[\w.][\w.+-]*")
_JSON_BYTES = 2**26
_MEMORY = 2**32  # bytes to measure a table, beside its file, which is mapped

Cells = Mapping[str, Any]  # column → value of a row


class _Part:
    """One table, as one split.

    Args:
        place: directory and part, for messages.
        name: of the part; empty where it is the only one.
        table: a ``datasets.Dataset``.
        package: the package ``datasets``.
        chosen: role → column, by the user.
    """

    def __init__(
        self,
        place: str,
        name: str,
        table: Any,  # noqa: ANN401
        package: Any,  # noqa: ANN401
        chosen: Mapping[str, str],
    ) -> None:
        features = table.features
        pictures = [key for key, kind in features.items() if isinstance(kind, package.Image)]
        if "file" in chosen:
            pictures = [key for key in pictures if key == chosen["file"]]
        if len(pictures) != 1:
            found = ", ".join(pictures) or f"none among {', '.join(features)[:80]}"
            raise _error(place, "one column of the type Image", found)
        self.picture = pictures[0]
        others = [key for key in features if key != self.picture]
        named = {role: key for role, key in chosen.items() if role != "file"}
        self.columns = find_columns(others, named, place, files=False)
        if not self.columns.captions:
            raise _error(place, "a column caption or text", ", ".join(features)[:80])
        split = self.columns.split
        self.unread = [*self.columns.unread, *([split] if name and split else [])]
        self.place, self.name = place, name
        # Only what is read, as Arrow has it: the package would open files that other columns name.
        columns = [key for key in features if key not in self.unread]
        table = table.with_format(None).select_columns(columns)
        table = table.cast_column(self.picture, package.Image(decode=False))
        self.table = table.with_format("arrow")

    def rows(self) -> Iterator[tuple[int, Cells]]:
        """Rows with their numbers, from 0."""
        for start in range(0, len(self.table), _BATCH):
            batch = self.table[start : start + _BATCH].to_pylist()
            yield from enumerate(batch, start=start)


def read(source: Path, options: Options) -> DataSet:
    """Read a directory made by ``save_to_disk``.

    Raises:
        DatasetError: it is none, is damaged, or a row does not fit.
        MissingExtraError: the package ``datasets`` is not installed.
        StorageError: the disk is full, read-only or closed to us.
    """
    if not any((source / name).is_file() for name in ("dataset_dict.json", "state.json")):
        found = "no state.json in it" if source.is_dir() else "no such folder"
        raise _error(str(source), "a directory made by save_to_disk", found)
    parts = _load(source, options.columns)
    gathering = Gathering("huggingface", options)
    unread = dict.fromkeys(key for part in parts for key in part.unread)
    bare: list[str] = []
    rows = _Rows(gathering)
    total = sum(len(part.table) for part in parts)
    with unpacking(source, options) as files, track("reading rows", total) as advance:
        for part in parts:
            for number, cells in _whole(part):
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
    """Takes up rows; those of equal images in one split become one item.

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

    def add(
        self, part: _Part, place: str, name: str, cells: Cells, files: Unpacking | None
    ) -> bool:
        """Take up a row; False where it has no image or no caption.

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
                raise _error(place, "an id of one image", f"{name[:60]!r} again, as at {first}")
            suffix = _suffix(f"{place}: {part.picture}", data) if files is not None else ""
            media = None if files is None else files.write(name, suffix, [data])
            self._first[image] = name, media
        name, media = self._first[image]
        for key, captions in texts.items():
            language = columns.captions[key] or spoken
            self._gathering.add(Row(f"{place}: {key}", name, media, captions, language, split))
        return True


# --- tables ----------------------------------------------------------------------------------


def _load(source: Path, chosen: Mapping[str, str]) -> list[_Part]:
    package = _package()
    for path in _files(source):
        budget = Budget(cpu=600, wall=3600, memory=path.stat().st_size + _MEMORY)
        try:
            decoders().ask("arrow", str(path), budget, {"path": str(path)})
        except MediaError as error:
            raise _error(error.subject, error.expected, error.found) from None
    try:
        loaded = package.load_from_disk(str(source.resolve()))
        tables = loaded if isinstance(loaded, dict) else {"": loaded}
        for table in tables.values():
            table.data.validate(full=True)
    except Exception as error:  # a damaged file makes the package raise anything
        raise _damaged(str(source), error) from None
    return [
        _Part(str(source / name), name, table, package, chosen)
        for name, table in sorted(tables.items())
    ]


def _files(source: Path) -> Iterator[Path]:
    """The tables' files, which lie in the directory and nowhere else.

    Raises:
        DatasetError: a name leads out of it.
    """
    if "::" in str(source.resolve()):
        raise _error(str(source), "a path without '::'", "one that may name another place")
    folders = [source]
    if not all((source / name).is_file() for name in ("dataset_info.json", "state.json")):
        splits = _json(source / "dataset_dict.json").get("splits")
        folders = [source / _plain(source, name) for name in splits or ()]
    for folder in folders:
        for described in _json(folder / "state.json").get("_data_files") or ():
            named = described.get("filename") if isinstance(described, dict) else None
            path = folder / _plain(folder, named)
            if path.is_symlink() or not path.is_file():
                raise _error(str(path), "a file", "none, or a link")
            yield path


def _plain(folder: Path, name: object) -> str:
    if isinstance(name, str) and _NAME.fullmatch(name) and ".." not in name:
        return name
    raise _error(str(folder), "names of files in it", f"{name!r:.60}")


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _JSON_BYTES:
            raise ValueError(f"more than {_JSON_BYTES // 2**20} MB")
        value = json.loads(path.read_bytes())
        if isinstance(value, dict):
            return value
        raise ValueError("no object")
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(str(path), error) from None


def _whole(part: _Part) -> Iterator[tuple[int, Cells]]:
    rows = part.rows()
    while True:
        try:
            row = next(rows, None)
        except Exception as error:  # as above
            raise _damaged(part.place, error) from None
        if row is None:
            return
        yield row


def _package() -> Any:  # noqa: ANN401 - a module of an extra
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise MissingExtraError("datasets", "datasets") from error


# --- cells -----------------------------------------------------------------------------------


def _bytes(place: str, cell: object) -> bytes | None:
    if cell is None:
        return None
    data = cell.get("bytes") if isinstance(cell, dict) else None
    if isinstance(data, bytes) and data:
        return data
    raise _error(place, "the bytes of a picture", "a path or nothing: save it to disk again")


def _suffix(place: str, data: bytes) -> str:
    """The ending that an image's first bytes ask for; it is decoded when it is encoded."""
    kind = kind_of(data)
    if kind not in _SUFFIXES:
        found = f"a {kind} image" if kind else describe(data)
        raise _error(place, f"a picture ({', '.join(_SUFFIXES)})", found)
    return _SUFFIXES[kind]


def _captions(place: str, cell: object) -> tuple[str, ...]:
    texts: list[Any] = cell if isinstance(cell, list) else [cell]
    if any(text is not None and type(text) is not str for text in texts):
        raise _error(place, "a text or a list of texts", type(texts[0]).__name__)
    return tuple(text for text in texts if text is not None and not is_blank(text))


def _said(place: str, cells: Cells, key: str | None) -> str:
    value = None if key is None else cells[key]
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    raise _error(f"{place}: {key}", "a text", type(value).__name__)


def _id(place: str, cells: Cells, columns: Columns, instead: str) -> str:
    value = None if columns.id is None else cells[columns.id]
    if type(value) is int:
        return str(value)
    return _said(place, cells, columns.id) or instead


def _damaged(place: str, error: Exception) -> DatasetError:
    return _error(place, "a directory made by save_to_disk", f"a damaged one ({error})"[:200])


def _error(place: str, expected: str, found: str) -> DatasetError:
    return DatasetError(place, expected=expected, found=found, remedy="correct it")
