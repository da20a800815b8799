"""Tables of a report, as HTML for the page and as CSV and LaTeX for papers."""

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

from cl2cm.evaluation.report.svg import text_of
from cl2cm.text import one_line


class Number(NamedTuple):
    """A number, with its interval if it has one.

    Attributes:
        value: None where it is unknown.
        low: lower end of the interval.
        high: its upper end.
        digits: that are shown after the point; files have four, and whole numbers none.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    digits: int = 1


Cell = str | Number


class Table(NamedTuple):
    """A table.

    Attributes:
        name: of its files, without a suffix.
        caption: what it shows.
        columns: heads of the columns.
        rows: cells; a text or a number in each column.
    """

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


_FORMULA = ("=", "+", "-", "@")  # a spreadsheet would compute what begins so
_LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "→": r"$\rightarrow$",
    "–": "--",
}


def html_table(table: Table) -> str:
    """Return a table for the page; it scrolls by itself where it is wider than the screen.

    Each number stands in full precision in the ``value`` of its ``data`` element.
    """
    head = "".join(
        f'<th scope="col"{_kind(number)}>{text_of(column)}</th>'
        for column, number in zip(table.columns, _numeric(table), strict=True)
    )
    rows = "".join(f"<tr>{''.join(map(_html, row))}</tr>\n" for row in table.rows)
    return (
        f'<p class="caption" id="caption-{table.name}">{text_of(table.caption)}</p>'
        f'<div class="wide" tabindex="0" role="region" aria-labelledby="caption-{table.name}">'
        f'<table id="table-{table.name}" aria-labelledby="caption-{table.name}">'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>"
    )


def _kind(is_number: bool) -> str:
    return ' class="n"' if is_number else ""


def _numeric(table: Table) -> list[bool]:
    """Return which columns hold numbers alone."""
    columns = range(len(table.columns))
    return [all(not isinstance(row[place], str) for row in table.rows) for place in columns]


def _html(cell: Cell) -> str:
    if isinstance(cell, str):
        return f'<td dir="auto">{text_of(cell)}</td>'
    if cell.value is None:
        return '<td class="n">–</td>'
    text = f'<data value="{cell.value!r}">{cell.value:.{cell.digits}f}</data>'
    if cell.low is not None and cell.high is not None:
        ends = f"{cell.low:.{cell.digits}f} to {cell.high:.{cell.digits}f}"
        text += f' <span class="ci">{ends}</span>'
    return f'<td class="n">{text}</td>'


def csv_table(table: Table) -> str:
    """Return a table as comma-separated values; intervals have columns of their own."""
    intervals = _with_intervals(table)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads: list[str] = []
    for place, column in enumerate(table.columns):
        heads += [column, f"{column} low", f"{column} high"] if place in intervals else [column]
    writer.writerow(heads)
    for row in table.rows:
        cells: list[str] = []
        for place, cell in enumerate(row):
            if isinstance(cell, str):
                cells.append(_plain(cell))
                cells += ["", ""] if place in intervals else []
                continue
            shown = cell[:3] if place in intervals else cell[:1]
            digits = 4 if cell.digits else 0
            cells += ["" if value is None else f"{value:.{digits}f}" for value in shown]
        writer.writerow(cells)
    return text.getvalue()


def _with_intervals(table: Table) -> set[int]:
    return {
        place
        for row in table.rows
        for place, cell in enumerate(row)
        if isinstance(cell, Number) and cell.low is not None
    }


def _plain(text: str) -> str:
    text = one_line(text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def latex_table(table: Table) -> str:
    """Return a table for LaTeX, with the package booktabs."""
    columns = "".join("r" if is_number else "l" for is_number in _numeric(table))
    lines = [
        "\\begin{table}",
        f"\\caption{{{_latex(table.caption)}}}",
        f"\\label{{tab:{table.name}}}",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        " & ".join(_latex(column) for column in table.columns) + " \\\\",
        "\\midrule",
        *(" & ".join(map(_latex_cell, row)) + " \\\\" for row in table.rows),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return _latex(cell)
    if cell.value is None:
        return "--"
    text = f"{cell.value:.{cell.digits}f}"
    if cell.low is None or cell.high is None:
        return text
    return f"{text} [{cell.low:.{cell.digits}f}, {cell.high:.{cell.digits}f}]"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in one_line(text))
