"""Print a benchmark as tables, and write its rows as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from cl2cm.evaluation.bench.report import TARGETS, UPPER
from cl2cm.text import one_line

_FORMULA = ("=", "+", "-", "@")  # a spreadsheet would compute what begins so


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as comma-separated values, with a header."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(rows[0])
    table.writerows([_cell(value) for value in row.values()] for row in rows)
    return text.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if not isinstance(value, str):
        return str(value)
    text = one_line(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def table_lines(result: Mapping[str, Any]) -> list[str]:
    """Return the tables of a benchmark for people: SumR, mean and deviation over seeds."""
    lines: list[str] = []
    tables = dict.fromkeys((row["regime"], row["table"] == "all") for row in result["summary"])
    for regime, multi in tables:
        lines += ["", f"{regime}: SumR, {'one model for all' if multi else 'one model a'} language"]
        lines[-1] += "s" if multi else ""
        lines += _table(result, regime, multi=multi)
    return lines


def _table(result: Mapping[str, Any], regime: str, *, multi: bool) -> list[str]:
    cells: dict[str, dict[str, str]] = {}
    for row in result["summary"]:
        own = row["table"] == "all" if multi else row["table"] == row["language"]
        if row["regime"] == regime and own:
            text = f"{row['mean']:.1f} ± {row['std']:.1f}"
            cells.setdefault(row["method"], {})[row["language"]] = text
    languages = list(dict.fromkeys(code for line in cells.values() for code in line))
    marks = _marks(result, regime, multi=multi)
    width = max(len(method) for method in cells) + 2
    extra = _extra_columns(result, regime) if multi else {}
    heads = [*languages, *(["gap closed", "MRV"] if extra else [])]
    lines = [" " * width + "".join(f"{head:>15}" for head in heads)]
    for method, line in cells.items():
        texts = [line.get(code, "–") + marks.get((method, code), " ") for code in languages]
        name = f"{method} *" if method == UPPER else method
        texts += extra.get(method, [])
        lines.append(f"{name:{width}}" + "".join(f"{text:>15}" for text in texts))
    if any(mark.strip() for mark in marks.values()):
        reference = next(test["a"] for test in result["tests"])
        lines.append(
            f"- worse than {reference}, + better: paired bootstrap over images and seeds, 95 %, "
            "Holm over languages"
        )
    if UPPER in cells:
        lines.append("* upper bound: trained on human captions in the target languages")
    return lines


def _extra_columns(result: Mapping[str, Any], regime: str) -> dict[str, list[str]]:
    """Return the share of the gap closed over the targets, and MRV, of each method."""
    closed = {
        row["method"]: f"{100 * row['closed']:.0f} %"
        for row in result["gap"]
        if row["regime"] == regime and row["language"] == TARGETS
    }
    return {
        row["method"]: [closed.get(row["method"], "–"), f"{row['MRV']:.0f}"]
        for row in result["mrv"]
        if row["regime"] == regime
    }


def _marks(result: Mapping[str, Any], regime: str, *, multi: bool) -> dict[tuple[str, str], str]:
    """Return which cells differ from the reference for certain."""
    marks = {}
    for test in result["tests"]:
        own = test["table"] == "all" if multi else test["table"] == test["language"]
        if test["regime"] != regime or not own or "ci95_corrected" not in test:
            continue
        low, high = test["ci95_corrected"]
        marks[test["b"], test["language"]] = "-" if low > 0 else "+" if high < 0 else " "
    return marks
