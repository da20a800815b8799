"""Items as the columns of a table: written, read back and checked, for SQLite and PostgreSQL."""

import json
import math
from collections.abc import Sequence
from typing import Any

from cl2cm.errors import VectorIndexError
from cl2cm.index.database import FIELD_LIMIT
from cl2cm.text import name_form
from cl2cm.types import Item, Kind

STORED_KINDS: dict[Kind, str] = {"image": "picture", "video": "film"}  # in the column media
_KINDS = {stored: kind for kind, stored in STORED_KINDS.items()}


def item_fields(item: Item) -> tuple[Any, ...]:
    """Return all columns of an item but the row, in the order of the table."""
    return (
        *(item.id, item.path, item.start, item.end, _captions(item)),
        *(STORED_KINDS[item.kind], item.bytes, item.modified, folder_of(item)),
    )


def _captions(item: Item) -> str:
    return json.dumps({k: list(v) for k, v in item.captions.items()}, ensure_ascii=False)


def parse_item(fields: Sequence[Any]) -> Item:
    """Return the item of a stored record: all its columns but the row and the folder.

    Raises:
        ValueError: a column holds what we never write.
    """
    id_, path, start, end, captions, media, size, modified = fields
    numbers = [number for number in (start, end, size, modified) if number is not None]
    if not (
        all(isinstance(text, str) for text in (id_, path, captions))
        and all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
        and media in _KINDS
    ):
        raise ValueError("an item of other types")
    return Item(id_, path, start, end, _parse_captions(captions), _KINDS[media], size, modified)


def _parse_captions(text: str) -> dict[str, tuple[str, ...]]:
    try:
        captions = json.loads(text)
    except RecursionError:
        raise ValueError("captions that are nested too deep") from None
    if not isinstance(captions, dict) or not all(
        isinstance(texts, list) and all(isinstance(one, str) for one in texts)
        for texts in captions.values()
    ):
        raise ValueError("captions of another form")
    for language, texts in captions.items():
        "".join([language, *texts]).encode()  # half a surrogate pair could not be shown
    return {language: tuple(texts) for language, texts in captions.items()}


def folder_of(item: Item) -> str:
    """Return the folder that an item is in, by its id, in the form that names are compared in."""
    return name_form(item.id.rpartition("/")[0])


def no_such_row(where: str, row: int, count: int) -> VectorIndexError:
    """Return the error for a missing row."""
    return VectorIndexError(
        where,
        expected=f"a row from 0 to {count - 1}",
        found=str(row),
        remedy="use a row that a search returned",
    )


def no_such_id(item_id: str) -> VectorIndexError:
    """Return the error for a missing id."""
    return VectorIndexError(
        f"item {item_id!r}",
        expected="an id of the index",
        found="no such id",
        remedy="use an id that a search returned",
    )


def check_items(items: Sequence[Item]) -> None:
    """Refuse items that cannot be stored.

    Raises:
        VectorIndexError: two items with one id, or text that is not valid Unicode.
    """
    rows: dict[str, int] = {}
    for row, item in enumerate(items):
        first = rows.setdefault(item.id, row)
        if first != row:
            raise VectorIndexError(
                f"item {item.id!r}",
                expected="a unique id for each item",
                found=f"the same id at {first} and {row}",
                remedy="give each item its own id",
            )
        try:
            size = len(f"{item.id}{item.path}{_captions(item)}".encode())
        except UnicodeEncodeError as error:
            raise VectorIndexError(
                f"item {row}",
                expected="an id, a path and captions in valid Unicode",
                found=ascii(error.object[error.start : error.end]),
                remedy="rename the file, or correct its captions",
            ) from error
        if size > FIELD_LIMIT // 2:
            raise VectorIndexError(
                f"item {item.id[:80]!r}",
                expected=f"captions of at most {FIELD_LIMIT // 2**21} MB",
                found=f"{size} bytes",
                remedy="shorten them",
            )
