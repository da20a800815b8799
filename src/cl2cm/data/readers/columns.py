"""Find the columns of a table: by common names, or by names that the user gives.

A column of captions may be numbered (``caption_0`` … ``caption_4``) or end in a language
(``caption_de``). ``--columns file=photo,caption=beschreibung`` names columns that are called
otherwise.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cl2cm.data.readers.own_data import is_language
from cl2cm.errors import ConfigError, DatasetError

ROLES = ("file", "caption", "language", "split", "id")
_FILES = (
    *("file", "filepath", "file_path", "filename", "file_name", "path"),
    *("image", "image_path", "image_file", "image_name", "image_filename", "img", "img_path"),
    *("video", "video_path", "video_file", "video_name", "video_filename"),
)
_PLAIN = {"language": ("language", "lang"), "split": ("split",), "id": ("id",)}
# Words for captions, best first: of a table that has several, only the columns of the first one.
_WORDS = ("caption", "text", "sentence", "title", "description", "comment", "alt_text")
_CAPTION = re.compile(
    rf"(?P<word>{'|'.join(_WORDS)})s?(_?\d{{1,3}})?(_(?P<language>.+?))?(_\d{{1,3}})?",
    re.IGNORECASE,
)
_NUMBERING = {"id", "no", "nr"}  # codes of languages that also mean a number


class Columns(NamedTuple):
    """The columns of a table.

    file: names of images and videos, None if the table has none; captions: column → language
    (empty: none said); language, split, id: None if there is none; unread: all others.
    """

    file: str | None
    captions: Mapping[str, str]
    language: str | None
    split: str | None
    id: str | None
    unread: tuple[str, ...]


def find_columns(
    names: Sequence[str], chosen: Mapping[str, str], place: str, *, files: bool = True
) -> Columns:
    """Return which columns of a table to read.

    Args:
        names: of all columns.
        chosen: role → column, by the user; see `parse_columns`.
        place: of the table, for messages.
        files: whether the table names files.

    Raises:
        DatasetError: a chosen column is not there, or two could be the one of files.
    """
    for role, name in chosen.items():
        if name not in names:
            expected = f"a column {name!r} for {role}"
            raise _error(place, expected, _shown(names), "correct --columns")
    free = [name for name in names if name not in chosen.values()]
    file = chosen.get("file") or (_file(free, place) if files else None)
    captions = {chosen["caption"]: ""} if "caption" in chosen else _captions(free)
    plain = {
        role: chosen.get(role) or next((n for n in free if _key(n) in known), None)
        for role, known in _PLAIN.items()
    }
    read = {file, *captions, *plain.values()}
    unread = tuple(name for name in names if name and name not in read)
    return Columns(file, captions, plain["language"], plain["split"], plain["id"], unread)


def parse_columns(text: str) -> dict[str, str]:
    """Return role → column of an option such as ``file=photo,caption=beschreibung``.

    Raises:
        ConfigError: it is of another form, or names a role that there is not.
    """
    chosen: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        role, _, name = (side.strip() for side in part.partition("="))
        if role not in ROLES or not name or role in chosen:
            raise ConfigError(
                "--columns",
                expected=f"ROLE=COLUMN, once for each role among {', '.join(ROLES)}",
                found=repr(part),
                remedy="write for example --columns file=photo,caption=beschreibung",
            )
        chosen[role] = name
    return chosen


def missing(names: Sequence[str], columns: Columns) -> str | None:
    """Return what is wrong with a table without files or captions; None if it has both."""
    if columns.file is None:
        return f"no column of files (such as {', '.join(_FILES[:5])}) among {_shown(names)}"
    if not columns.captions:
        return f"no column of captions (such as {', '.join(_WORDS[:4])}) among {_shown(names)}"
    return None


def _key(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _file(names: Sequence[str], place: str) -> str | None:
    found = {_key(name): name for name in names if _key(name) in _FILES}
    if "file" in found or len(found) < 2:
        return found.get("file") or next(iter(found.values()), None)
    remedy = "choose with --columns file=NAME"
    raise _error(place, "one column of files", _shown(list(found.values())), remedy)


def _captions(names: Sequence[str]) -> dict[str, str]:
    found: dict[str, dict[str, str]] = {}
    for name in names:
        match = _CAPTION.fullmatch(re.sub(r"\s+", "_", name.strip()))
        if match is not None and (language := _language(match["language"])) is not None:
            found.setdefault(match["word"].lower(), {})[name] = language
    best: dict[str, str] = next((found[word] for word in _WORDS if word in found), {})
    spoken = {language for language in best.values() if language}
    if spoken <= _NUMBERING and len(spoken) < 2:  # caption_id beside caption is a number
        best = {name: code for name, code in best.items() if not code}
    return best


def _language(written: str | None) -> str | None:
    """Return the language that the name of a column ends in: empty for none, None for no code."""
    if written is None:
        return ""
    return next((code for code in (written, written.lower()) if is_language(code)), None)


def _shown(names: Iterable[str]) -> str:
    return repr(",".join(names)[:80])


def _error(place: str, expected: str, found: str, remedy: str) -> DatasetError:
    return DatasetError(place, expected=expected, found=found, remedy=remedy)
