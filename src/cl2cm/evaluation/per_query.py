"""Results per query: its text, its relevant items, and their ranks.

One line a query, as JSON (``.jsonl``) or as a table (``.csv``):

    query       its name, as in the files for trec_eval
    language    of the captions
    direction   text_to_vision or vision_to_text
    item        id of the item that the caption describes, or that asks
    caption     the text that asks; none where an item asks
    rank        of the first relevant item, from 1
    ranks       of all relevant items
    relevant    their names
    top         names of the first items of the list
    scores      of those

Items are named by their id, captions by LANGUAGE-NUMBER. A cell of a table that has several values
is a list in JSON.
"""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cl2cm.evaluation.ranked_lists import DIRECTIONS, Direction, Measured, rankings
from cl2cm.evaluation.trec import trec_ids
from cl2cm.storage import atomic_file, check_ending

ENDINGS = (".jsonl", ".csv")
TOP = 10  # items of a list that are named
COLUMNS = (
    *("query", "language", "direction", "item", "caption", "rank"),
    *("ranks", "relevant", "top", "scores"),
)
LISTS = ("ranks", "relevant", "top", "scores")


class PerQueryWriter:
    """Writes the file, one language after the other; it appears at the end.

    Args:
        path: ``.jsonl`` or ``.csv``.
        top: items of each list that are named; 0: all.

    Raises:
        ConfigError: it has another ending.
    """

    def __init__(self, path: Path, *, top: int = TOP) -> None:
        check_ending("--per-query", path, ENDINGS)
        self._table = path.suffix == ".csv"
        self._top = top
        self._opened = atomic_file(path)

    def __enter__(self) -> Self:
        self._file = self._opened.__enter__()
        if self._table:
            self._row(COLUMNS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.__exit__(kind, error, trace)

    def write(self, measured: Measured) -> None:
        """Add a language."""
        for direction in DIRECTIONS:
            for line in per_query(measured, direction, top=self._top):
                if self._table:
                    self._row(
                        json.dumps(value, ensure_ascii=False) if key in LISTS else value
                        for key, value in line.items()
                    )
                else:
                    self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def _row(self, cells: Any) -> None:  # noqa: ANN401 - whatever a cell holds
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerow(cells)
        self._file.write(text.getvalue().encode())


def per_query(
    measured: Measured, direction: Direction, *, top: int = TOP
) -> Iterator[dict[str, Any]]:
    """Return what is known of each query in one direction, by column."""
    language, asked, *_ = measured
    queries, names = trec_ids(measured, direction)
    by_text = direction == "text_to_vision"
    if by_text:  # an item by its own id, whatever characters it has
        names = [example.id for example in asked.gallery]
    for found in rankings(measured, direction):
        row = found.query
        yield {
            "query": queries[row],
            "language": language,
            "direction": direction,
            "item": asked.gallery[int(asked.rows[row]) if by_text else row].id,
            "caption": asked.texts[row] if by_text else None,
            "rank": int(found.ranks[0]),
            "ranks": found.ranks.tolist(),
            "relevant": [names[item] for item in found.relevant.tolist()],
            "top": [names[item] for item in found.order[: top or None].tolist()],
            "scores": [round(score, 6) for score in found.scores[: top or None].tolist()],
        }
