"""Tables as data sets ship them: comma or tab between columns, which the first line names."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from cl2cm.data.readers.reading import bad_line, numbered_lines


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a table with the number of their first line.

    Args:
        path: UTF-8, with tabs where it is called ``.tsv``, else with commas.
        columns: that it must have, and no value of which may be blank.

    Yields:
        Line, and column → value without the space around it.

    Raises:
        DatasetError: the file cannot be read, a column is missing, or a row does not fit.
    """
    lines = (text for _, text in numbered_lines(path))
    rows = csv.reader(lines, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
    header: list[str] | None = None
    number = 1
    try:
        for row in rows:
            if header is None:
                header = [name.lstrip("\ufeff").strip() for name in row]
                _check_header(path, header, columns)
            else:
                yield number, _named(path, number, header, row, columns)
            number = rows.line_num + 1
    except csv.Error as error:
        raise bad_line(path, number, "a row of the table", str(error)) from None


def _check_header(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    if missing := [name for name in columns if name not in header]:
        expected = f"the columns {', '.join(columns)}"
        raise bad_line(path, 1, expected, f"no {missing[0]!r} among {','.join(header)[:80]!r}")
    if twice := [name for name, count in Counter(header).items() if name and count > 1]:
        raise bad_line(path, 1, "columns of different names", f"{twice[0][:40]!r} twice")


def _named(
    path: Path, number: int, header: Sequence[str], row: Sequence[str], columns: Sequence[str]
) -> dict[str, str]:
    if len(row) != len(header):
        raise bad_line(path, number, f"{len(header)} columns", f"{len(row)}")
    values = {name: value.strip() for name, value in zip(header, row, strict=True)}
    for name in columns:
        if not values[name]:
            raise bad_line(path, number, f"a {name}", "a blank one")
    return values
