"""Which items may be hits, by what is true of their files in any language; before ranking."""

import datetime
import re
import string
from dataclasses import dataclass, fields
from typing import Literal, cast

from cl2cm.errors import QueryError
from cl2cm.index.records import STORED_KINDS
from cl2cm.text import spellings
from cl2cm.types import Kind

_EPOCH = datetime.date(1970, 1, 1).toordinal()
Media = Literal["image", "video", "picture", "film"]  # the last two are older names
Order = Literal["newest", "oldest"]

_NAMES: dict[str, Kind] = {"picture": "image", "film": "video"}
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_ORDERS: dict[Order | None, str] = {
    None: "row",
    "newest": "modified IS NULL, modified DESC, row",
    "oldest": "modified IS NULL, modified, row",
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that all have to hold; None leaves one out.

    Attributes:
        folder: items in this folder or below it, by their ids: ``holidays/2024``.
        media: ``image`` or ``video``; ``picture`` and ``film``, the older names, mean the same.
        since: images taken on this day or later, ``2024-01-31``, in local time: as the camera says
            (EXIF ``DateTimeOriginal``), or else by the last change of the file.
        until: images taken on this day or earlier.
        min_bytes: size of the file, at least.
        max_bytes: size of the file, at most.
        name: items whose id (the path below the indexed folder) contains this text, in capitals or
            not: ``beach`` finds ``2024/Beach/1.jpg`` and ``beach-ball.png``.

    Raises:
        QueryError: a value that cannot be.

    Example:
        >>> import cl2cm
        >>> videos = cl2cm.Filter(media="video", since="2024-01-31")
        >>> cl2cm.open("index").search(cl2cm.Query("red square", filter=videos))
        []
    """

    folder: str | None = None
    media: Media | None = None
    since: str | None = None
    until: str | None = None
    min_bytes: int | None = None
    max_bytes: int | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.media not in (None, *STORED_KINDS, *_NAMES):
            raise _bad("media", "'image' or 'video'", self.media)
        for name in ("since", "until"):
            _day(name, getattr(self, name))
        for name in ("min_bytes", "max_bytes"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 2**63:
                raise _bad(name, "0 to 2 ** 63 - 1 bytes", value)
        if self.folder is not None and not _is_text(self.folder):
            raise _bad("folder", "the name of a folder", self.folder)
        if self.name is not None and not _is_text(self.name):
            raise _bad("name", "a part of the name of a file or folder", self.name)

    def __bool__(self) -> bool:
        """Return whether there is any condition."""
        return any(getattr(self, field.name) is not None for field in fields(self))

    def where(self) -> tuple[str, list[str | float]]:
        """Return SQL over the columns of an item store, and its values."""
        terms: list[tuple[str, list[str | float]]] = []
        if self.folder is not None and (folder := self.folder.strip("/")):
            names = spellings(folder)  # as stored: composed, or as a Mac wrote it
            # "0" follows "/": all names that start with FOLDER/
            one = "folder = ? OR (folder >= ? AND folder < ?)"
            values: list[str | float] = [
                value for name in names for value in (name, f"{name}/", f"{name}0")
            ]
            terms.append((f"({' OR '.join([one] * len(names))})", values))
        if self.media is not None:
            terms.append(("media = ?", [STORED_KINDS[media_kind(self.media)]]))
        if (since := _day("since", self.since)) is not None:
            terms.append(("modified >= ?", [since]))
        if (until := _day("until", self.until, days=1)) is not None:
            terms.append(("modified < ?", [until]))
        if self.min_bytes is not None:
            terms.append(("bytes >= ?", [self.min_bytes]))
        if self.max_bytes is not None:
            terms.append(("bytes <= ?", [self.max_bytes]))
        if self.name is not None and (name := self.name.strip()):
            patterns = _patterns(name)
            like = " OR ".join(["lower(id) LIKE ? ESCAPE '!'"] * len(patterns))
            terms.append((f"({like})", list(patterns)))
        text = " AND ".join(term for term, _ in terms) or "TRUE"
        return text, [value for _, values in terms for value in values]


def media_kind(media: Media) -> Kind:
    """Return the kind that a filter value names: ``film`` is an older name of ``video``."""
    return cast("Kind", _NAMES.get(media, media))


def order_by(order: Order | None) -> str:
    """Return the SQL order of rows: by row, or by the file's date; files without one come last."""
    return _ORDERS[order]


def _patterns(name: str) -> list[str]:
    """Return LIKE patterns that find a part of a name in small letters, whatever its capitals.

    SQLite's ``lower`` and ``LIKE`` know the capitals of ASCII alone, so the others are spelt out.
    """
    cases = (name, name.lower(), name.upper(), name.title(), name.capitalize())
    forms = dict.fromkeys(form for case in cases for form in spellings(case))
    small = dict.fromkeys(form.translate(_ASCII_LOWER) for form in forms)
    return ["%" + re.sub("([!%_])", r"!\1", form) + "%" for form in small]


def _is_text(value: str) -> bool:
    """Return whether it can be in an id."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in value


def _day(name: str, text: str | None, days: int = 0) -> float | None:
    """Return the time at which a day, or one some days later, begins in local time."""
    if text is None:
        return None
    try:
        day = datetime.date.fromisoformat(text)
    except (ValueError, TypeError):
        raise _bad(name, "a day such as 2024-01-31", text) from None
    try:
        begin = datetime.datetime.combine(day + datetime.timedelta(days), datetime.time())
        return begin.timestamp()
    except (OverflowError, OSError, ValueError):  # the first or last year of the calendar
        return 86_400.0 * (day.toordinal() + days - _EPOCH)


def _bad(name: str, expected: str, found: object) -> QueryError:
    remedy = "correct it, or leave it out to search everything"
    return QueryError(f"filter {name}", expected=expected, found=repr(found), remedy=remedy)
