"""Rows of a user's own table of captions: CSV and its relatives, JSON, JSON Lines.

An invalid row is yielded as an error, so that the caller can list all of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cl2cm.data.readers.columns import Columns, find_columns, missing
from cl2cm.data.readers.csv_files import DELIMITERS, open_table
from cl2cm.data.readers.json_files import Record, read_json, read_json_lines
from cl2cm.data.readers.reading import bad_line
from cl2cm.errors import DatasetError
from cl2cm.media.kinds import kind_by_name
from cl2cm.text import is_blank

JSON = (".json", ".jsonl")
TABLES = (".csv", ".tsv", *JSON)


class Line(NamedTuple):
    """The values of one row of a table.

    captions: language (empty: none said) → captions, blank ones among them only where all are;
    language, split, id: empty if the table says none; unread: columns that are not read.
    """

    place: str
    file: str
    captions: Mapping[str, Sequence[str]]
    language: str
    split: str
    id: str
    unread: Sequence[str]


def read_table(path: Path, chosen: Mapping[str, str]) -> Iterator[Line | DatasetError]:
    """Yield the rows of a table, and an error for each invalid row.

    Args:
        path: of the table; its format goes by its ending, any but ``.json`` and ``.jsonl`` is one
            of cells.
        chosen: role → column, by the user.

    Raises:
        DatasetError: the file cannot be read, or has no columns of files and captions.
    """
    return _of_objects(path, chosen) if path.suffix in JSON else _of_cells(path, chosen)


def is_table(path: Path) -> bool:
    """Return whether the first line of a text names columns of files and captions."""
    try:
        header = open_table(path, _fits({}, str(path))).header
        return _fits({}, str(path))(header)
    except DatasetError:
        return False


def _fits(chosen: Mapping[str, str], place: str) -> Callable[[Sequence[str]], bool]:
    def fits(names: Sequence[str]) -> bool:
        try:
            return missing(names, find_columns(names, chosen, place)) is None
        except DatasetError:
            return False

    return fits


def _of_cells(path: Path, chosen: Mapping[str, str]) -> Iterator[Line | DatasetError]:
    order = ("\t", *DELIMITERS[:3]) if path.suffix == ".tsv" else DELIMITERS

    def is_row(cells: Sequence[str]) -> bool:
        return any(kind_by_name(cell.strip()) for cell in cells)

    header, rows = open_table(path, _fits(chosen, f"{path}:1"), order, is_row)
    columns = find_columns(header, chosen, f"{path}:1")
    if (fault := missing(header, columns)) is not None:
        remedy = "name them with --columns file=NAME,caption=NAME"
        raise bad_line(path, 1, "a column of files and one of captions", fault, remedy)
    for number, row in rows:
        if len(row) == len(header):
            yield _line(f"{path}:{number}", dict(zip(header, row, strict=True)), columns)
        else:
            yield bad_line(path, number, f"{len(header)} columns", f"{len(row)}", "correct it")


def _line(place: str, cells: Mapping[str, str], columns: Columns) -> Line | DatasetError:
    file = cells[columns.file or ""]
    if is_blank(file):
        return DatasetError(place, expected="a file", found="a blank one", remedy="correct it")
    captions = {name: [cells[name]] for name in columns.captions}
    language, split, name = (cells[name] if name else "" for name in columns[2:5])
    texts = by_language(captions, columns)
    return Line(place, file, texts, language, split, name, columns.unread)


def by_language(
    captions: Mapping[str, Sequence[str]], columns: Columns
) -> dict[str, Sequence[str]]:
    """Return the captions of a row by language, without blank ones if there are others."""
    found: dict[str, list[str]] = {}
    for name, texts in captions.items():
        found.setdefault(columns.captions[name], []).extend(texts)
    one_each = all(len(texts) <= 1 for texts in captions.values()) and len(captions) > 1
    if not one_each:
        return dict(found)
    full: dict[str, Sequence[str]] = {
        language: kept
        for language, texts in found.items()
        if (kept := [text for text in texts if not is_blank(text)])
    }
    return full or {next(iter(found)): [""]}


# --- JSON ------------------------------------------------------------------------------------


def _of_objects(path: Path, chosen: Mapping[str, str]) -> Iterator[Line | DatasetError]:
    known: dict[tuple[str, ...], Columns] = {}
    records = read_json(path).items() if path.suffix == ".json" else read_json_lines(path)
    for record in records:
        try:
            yield _object(record, chosen, known)
        except DatasetError as error:
            yield error


def _object(
    record: Record, chosen: Mapping[str, str], known: dict[tuple[str, ...], Columns]
) -> Line:
    fields = dict(record.fields())
    place = f"{record.file}: {record.path}" if record.path else record.file
    names = tuple(fields)
    if names not in known:
        here = {role: name for role, name in chosen.items() if role in {"file", "caption"}}
        here |= {role: name for role, name in chosen.items() if name in fields}
        known[names] = find_columns(names, here, place)
    columns = known[names]
    if columns.file is None or not columns.captions:
        record.get("file" if columns.file is None else "caption")  # it says that there is none
    captions = {name: texts_of(fields[name]) for name in columns.captions}
    language, split = (_optional(fields.get(name or "")) for name in columns[2:4])
    name = optional_id(fields.get(columns.id or ""))
    file = fields[columns.file or ""].text()
    texts = by_language(captions, columns)
    return Line(place, file, texts, language, split, name, columns.unread)


def texts_of(record: Record) -> list[str]:
    """Return captions of a value: a text, a list of texts, or null for none; blank ones among them.

    Raises:
        DatasetError: it is something else, or an empty list.
    """
    value = record.value
    if value is None:
        return [""]
    if isinstance(value, list) and value:
        return [text for item in record.items() for text in texts_of(item)]
    if isinstance(value, str) and is_blank(value):
        return [""]
    return list(record.texts()) if isinstance(value, list) else [record.text()]


def _optional(record: Record | None) -> str:
    return "" if record is None or record.value in (None, "") else record.text()


def optional_id(record: Record | None) -> str:
    """Return an id, which may be an integer; empty if there is none."""
    if record is not None and type(record.value) is int:
        return str(record.value)
    return _optional(record)
