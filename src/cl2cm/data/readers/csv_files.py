"""Tables of data sets, with cells separated by commas, semicolons, tabs or vertical bars.

The first line names the columns. With commas and semicolons a cell may be quoted and hold line
breaks (RFC 4180). Tables with tabs and bars are written by hand as often as by a program, so a
quote there only counts where it encloses a whole cell: a caption may begin with one.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cl2cm.data.readers.reading import bad_line, numbered_lines

DELIMITERS = (",", ";", "|", "\t")
_LITERAL = "|\t"  # where a quote may be a part of the text
_LONGEST = 1000  # lines of one quoted cell
_LOOKED = 100  # times the table that all searches for the ends of quotes may look at
_FREE = 2**20  # characters that they may look at in any table


class Table(NamedTuple):
    """A table: the names of its columns, and rows with the number of their first line.

    Cells are without the space around them; a row may have more or fewer than the header.
    """

    header: list[str]
    rows: Iterator[tuple[int, list[str]]]


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a published table with the number of their first line.

    Args:
        path: UTF-8, with tabs where it is called ``.tsv``, else with commas.
        columns: that it must have, and no value of which may be blank.

    Yields:
        Line, and column → value without the space around it.

    Raises:
        DatasetError: the file cannot be read, a column is missing, or a row does not fit.
    """
    delimiter = "\t" if path.suffix == ".tsv" else ","
    header, rows = open_table(path, lambda _: True, (delimiter,))
    if missing := [name for name in columns if name not in header]:
        expected = f"the columns {', '.join(columns)}"
        raise bad_line(path, 1, expected, f"no {missing[0]!r} among {','.join(header)[:80]!r}")
    for number, row in rows:
        if len(row) != len(header):
            raise bad_line(path, number, f"{len(header)} columns", f"{len(row)}")
        values = dict(zip(header, row, strict=True))
        for name in columns:
            if not values[name]:
                raise bad_line(path, number, f"a {name}", "a blank one")
        yield number, values


def open_table(
    path: Path,
    fits: Callable[[Sequence[str]], bool],
    delimiters: Sequence[str] = DELIMITERS,
    is_key: Callable[[Sequence[str]], bool] = lambda _: False,
) -> Table:
    """Open a table, with the first delimiter whose header fits, else with the first of all.

    Args:
        path: UTF-8; a byte order mark is left out.
        fits: whether the columns of these names are enough.
        delimiters: to try.
        is_key: whether cells look like a row of its own; one that a quoted cell has swallowed is
            an error.

    Raises:
        DatasetError: the file cannot be read, or its header is not one.
    """
    lines = [text for _, text in numbered_lines(path)]
    text = "\n".join(lines).removeprefix("\ufeff")
    if "\n" not in text:
        text = text.replace("\r", "\n")  # as spreadsheets of old Macs end lines
    chosen = delimiters[0]
    for delimiter in delimiters:
        _, header = next(_records(path, text, delimiter, is_key), (1, [""]))
        if fits(header):
            chosen = delimiter
            break
    rows = _records(path, text, chosen, is_key)
    _, header = next(rows, (1, [""]))
    if twice := [name for name, count in Counter(header).items() if name and count > 1]:
        raise bad_line(path, 1, "columns of different names", f"{twice[0][:40]!r} twice")
    return Table(header, rows)


def _records(
    path: Path, text: str, delimiter: str, is_key: Callable[[Sequence[str]], bool]
) -> Iterator[tuple[int, list[str]]]:
    """Yield rows, the header first; blank lines are left out."""
    if delimiter in _LITERAL:
        rows = _literal(path, text.split("\n"), delimiter)
    else:
        rows = _quoted(path, text, delimiter, is_key)
    for number, cells in rows:
        if any(stripped := [cell.strip() for cell in cells]):
            yield number, stripped


def _quoted(
    path: Path, text: str, delimiter: str, is_key: Callable[[Sequence[str]], bool]
) -> Iterator[tuple[int, list[str]]]:
    lines = text.split("\n")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 1
    try:
        for row in rows:
            for inner in range(number, min(rows.line_num, len(lines))):
                cells = next(csv.reader([lines[inner]], delimiter=delimiter), [])
                if len(cells) >= len(row) > 1 and is_key(cells):
                    found = f"one that runs into line {inner + 1}"
                    raise bad_line(
                        path, number, "a quote that ends in its row", found,
                        'close it; a " that is text is written "" in a quoted cell',
                    )  # fmt: skip
            yield number, row
            number = rows.line_num + 1
    except csv.Error as error:
        raise bad_line(path, number, "a row of the table", str(error)) from None


def _literal(path: Path, lines: Sequence[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows whose quotes count only around whole cells, even over several lines."""
    width, number = 0, 0
    left = _FREE + _LOOKED * sum(map(len, lines))
    ends = re.compile(rf'"(?={re.escape(delimiter)}|\Z)')
    while number < len(lines):
        first = number
        cells, is_open = _split(lines[number], delimiter)
        plain = lines[number].split(delimiter)
        width = width or len(cells)
        if len(cells) != width == len(plain):
            cells = plain
        looked = len(lines[number])
        for last in range(first + 1, min(first + _LONGEST, len(lines)) if is_open else 0):
            looked += len(lines[last])
            left -= looked if (may_end := ends.search(lines[last])) else len(lines[last])
            if left < 0:
                expected = "quotes that end in their cell"
                raise bad_line(path, first + 1, expected, "many that do not", "remove them")
            if len(_split(lines[last], delimiter)[0]) == width:
                break  # a row of its own: the quote is text
            if not may_end:
                continue
            joined, still_open = _split("\n".join(lines[first : last + 1]), delimiter)
            if len(joined) == width and not still_open:
                cells, number = joined, last
                break
        yield first + 1, cells
        number += 1


def _split(line: str, delimiter: str) -> tuple[list[str], bool]:
    """Return cells of a line, and whether the last one begins with a quote that nothing closes."""
    sign = re.escape(delimiter)
    cell = re.compile(rf'"((?:[^"]|"")*)"(?={sign}|\Z)|([^{sign}]*)')
    cells: list[str] = []
    place, is_open = 0, False
    while place <= len(line):
        match = cell.match(line, place)
        assert match is not None, "the second form matches anything"  # noqa: S101
        quoted, plain = match.groups()
        cells.append(plain if quoted is None else quoted.replace('""', '"'))
        is_open = quoted is None and plain.startswith('"')
        place = match.end() + 1
    return cells, is_open
