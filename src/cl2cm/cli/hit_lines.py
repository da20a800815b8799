"""Hits as lines for people."""

import math
from collections.abc import Sequence
from dataclasses import fields
from difflib import get_close_matches

from cl2cm.index import Index
from cl2cm.progress import plain
from cl2cm.search.batch import BatchAnswer
from cl2cm.search.query import Query
from cl2cm.search.result import SearchResult


def hit_lines(result: SearchResult) -> list[str]:
    """Give a line for each hit: score, match, id, path, and which part of a film."""
    lines = []
    for hit, match, folded in zip(result.hits, result.matches, result.folded, strict=True):
        part = "" if hit.start is None else f"  {hit.start:g} s"
        more = f"  and {len(folded)} like it" if folded else ""
        names = f"{_name(hit.id)}  {_name(hit.path)}"
        worth = "" if math.isnan(match) else f"{hit.score:6.3f} {100 * match:4.0f} %  "
        lines.append(f"{worth}{names}{part}{more}")
    return lines


def none_found(query: Query, index: Index) -> str:
    """Say why a search found nothing, and what to change."""
    among = query.filter
    if not among:
        return f"nothing found: {query.offset} hits were skipped; ask with a lower --offset"
    said = ", ".join(
        f"--{key.name.replace('_', '-')} {getattr(among, key.name)}"
        for key in fields(among)
        if getattr(among, key.name) is not None
    )
    text = f"nothing found: no item{' after those skipped' * bool(query.offset)} fits {said}"
    if among.folder is None:
        return text
    folders = index.folders()
    if among.folder.strip("/") in folders or not folders:
        return f"{text}; the index has no folders" if not folders else text
    shown = get_close_matches(among.folder.strip("/"), folders, n=3, cutoff=0.5) or folders[:5]
    more = ", ..." if len(folders) > len(shown) else ""
    return f"{text}; folders of the index: {', '.join(shown)}{more}"


def answer_lines(answers: Sequence[BatchAnswer]) -> list[str]:
    """Give a line for each query: its id, its text, and the ids of its hits."""
    return [
        f"{asked.id}\t{asked.text}\t{' '.join(_name(hit.id) for hit in hits)}"
        for asked, hits, _ in answers
    ]


def _name(name: str) -> str:
    """A name with nothing in it that steers a terminal or looks like a further column."""
    return plain(name).replace("\t", "\\t")
