"""Which items may be hits, by what is true of their files in any language; before ranking."""

import datetime
from dataclasses import dataclass, fields
from typing import Literal

from cl2cm.errors import QueryError
from cl2cm.text import spellings

_EPOCH = datetime.date(1970, 1, 1).toordinal()
Media = Literal["picture", "film"]


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that all have to hold; None leaves one out.

    Attributes:
        folder: items in this folder or below it, by their ids: ``holidays/2024``.
        media: ``picture`` or ``film``.
        since: images taken on this day or later, ``2024-01-31``, in local time: as the camera says
            (EXIF ``DateTimeOriginal``), or else by the last change of the file.
        until: images taken on this day or earlier.
        min_bytes: size of the file, at least.
        max_bytes: size of the file, at most.

    Raises:
        QueryError: a value that cannot be.

    Example:
        >>> import cl2cm
        >>> videos = cl2cm.Filter(media="film", since="2024-01-31")
        >>> cl2cm.open("index").search(cl2cm.Query("red square", filter=videos))
        []
    """

    folder: str | None = None
    media: Media | None = None
    since: str | None = None
    until: str | None = None
    min_bytes: int | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.media not in (None, "picture", "film"):
            raise _bad("media", "'picture' or 'film'", self.media)
        for name in ("since", "until"):
            _day(name, getattr(self, name))
        for name in ("min_bytes", "max_bytes"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 2**63:
                raise _bad(name, "0 to 2 ** 63 - 1 bytes", value)
        if self.folder is not None and not _is_text(self.folder):
            raise _bad("folder", "the name of a folder", self.folder)

    def __bool__(self) -> bool:
        """Whether there is any condition."""
        return any(getattr(self, field.name) is not None for field in fields(self))

    def where(self) -> tuple[str, list[str | float]]:
        """SQL over the columns of an item store, and its values."""
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
            terms.append(("media = ?", [self.media]))
        if (since := _day("since", self.since)) is not None:
            terms.append(("modified >= ?", [since]))
        if (until := _day("until", self.until, days=1)) is not None:
            terms.append(("modified < ?", [until]))
        if self.min_bytes is not None:
            terms.append(("bytes >= ?", [self.min_bytes]))
        if self.max_bytes is not None:
            terms.append(("bytes <= ?", [self.max_bytes]))
        text = " AND ".join(term for term, _ in terms) or "TRUE"
        return text, [value for _, values in terms for value in values]


def _is_text(value: str) -> bool:
    """Whether it can be in an id."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in value


def _day(name: str, text: str | None, days: int = 0) -> float | None:
    """Seconds of the epoch at which a day begins in local time, or another one so many days on."""
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
    return QueryError(f"filter {name}", expected=expected, found=repr(found), remedy="correct it")
