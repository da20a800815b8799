"""Batch search: read queries from a file, and encode and search them in batches.

A file of queries is UTF-8, per query a line, with an id and a tab before it if it has an id of its
own. Queries are searched as they stand: a hyphen leaves nothing out.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cl2cm.errors import QueryError
from cl2cm.metrics import trec_name
from cl2cm.progress import Advance
from cl2cm.search.language import identify
from cl2cm.search.query import Query, check_numbers, checked
from cl2cm.search.searcher import Searcher
from cl2cm.storage import atomic_file
from cl2cm.types import Hit

AT_ONCE = 256


class BatchQuery(NamedTuple):
    """A query of a file: its id, by default the number of its line, and its text."""

    id: str
    text: str


class BatchAnswer(NamedTuple):
    """A query with its hits, best first, and what their scores are worth."""

    asked: BatchQuery
    hits: list[Hit]
    matches: list[float]

    def to_json(self) -> dict[str, Any]:
        """Return the object of one query of ``search --queries --json``."""
        rows = zip(self.hits, self.matches, strict=True)
        return {
            "id": self.asked.id,
            "query": self.asked.text,
            "language": identify(self.asked.text),
            "hits": [{"id": h.id, "score": h.score, "match": round(m, 4)} for h, m in rows],
        }


def read_queries(path: Path) -> list[BatchQuery]:
    """Read a file of queries; empty lines are passed over.

    Raises:
        QueryError: no such file, not UTF-8, no query in it, one that is too long, or an id twice.
    """
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        found = "another encoding" if isinstance(error, ValueError) else f"{error.strerror}".lower()
        remedy = "name a text file, a query a line"
        raise QueryError(
            str(path), expected="queries in UTF-8", found=found, remedy=remedy
        ) from error
    queries: dict[str, BatchQuery] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, tab, text = line.partition("\t")
        name, text = (name.strip(), text) if tab else (str(number), line)
        asked = BatchQuery(name, _checked(path, number, text))
        if asked.id in queries or trec_name(asked.id) != asked.id or not asked.id:
            raise QueryError(
                f"{path}:{number}",
                expected="a unique id without blanks and control characters before the tab",
                found=repr(asked.id),
                remedy="correct the line",
            )
        queries[asked.id] = asked
    if not queries:
        raise QueryError(str(path), expected="one query per line", found="none", remedy="add some")
    return list(queries.values())


def _checked(path: Path, number: int, text: str) -> str:
    try:
        return checked(Query(text)).text
    except QueryError as error:
        raise QueryError(
            f"{path}:{number}", expected=error.expected, found=error.found, remedy=error.remedy
        ) from error


def search_all(
    searcher: Searcher,
    queries: Sequence[BatchQuery],
    query: Query,
    *,
    progress: Advance | None = None,
) -> list[BatchAnswer]:
    """Search for every query.

    Args:
        searcher: to ask.
        queries: from ``read_queries``.
        query: gives k, the filter, and all else but the text.
        progress: called after each batch with the number of its queries.

    Raises:
        QueryError: a number of the query is out of its range.
    """
    check_numbers(query)
    answers = []
    for start in range(0, len(queries), AT_ONCE):
        part = queries[start : start + AT_ONCE]
        found = searcher.search_texts([asked.text for asked in part], query)
        answers += [BatchAnswer(a, *pair) for a, pair in zip(part, found, strict=True)]
        if progress:
            progress(len(part))
    return answers


def answers_json(answers: Sequence[BatchAnswer], begin: float) -> dict[str, Any]:
    """Return the object of ``search --queries --json``; ``begin`` by ``time.monotonic``."""
    seconds = max(time.monotonic() - begin, 1e-9)
    return {
        "queries": [answer.to_json() for answer in answers],
        "seconds": round(seconds, 3),
        "rate": round(len(answers) / seconds, 1),
    }


def write_trec(path: Path, answers: Sequence[BatchAnswer]) -> None:
    """Write a run in TREC's format: query, Q0, item, rank, score, tag; whole or not at all."""
    lines = [
        f"{asked.id} Q0 {trec_name(hit.id)} {rank} {hit.score:.6f} cl2cm\n"
        for asked, hits, _ in answers
        for rank, hit in enumerate(hits, start=1)
    ]
    with atomic_file(path) as file:
        file.write("".join(lines).encode())
