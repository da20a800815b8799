"""The answer to a query, and its form in JSON."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cl2cm.search.hits import hits_html
from cl2cm.search.language import identify
from cl2cm.search.query import Query
from cl2cm.types import Hit


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer to a query.

    Attributes:
        request: as it was searched.
        hits: best first.
        matches: what each hit's score is worth, 0 to 1; see match.py.
        folded: near-duplicates of each hit that it stands for, where they were to be folded.
        more: whether there are further hits.
        encode_ms: milliseconds to encode the query.
        search_ms: milliseconds to find the hits.
        total: number of hits on all pages, where it is known: not while near-duplicates are folded
            nor where more than 1,000 hits match at least ``min_match``.
    """

    request: Query
    hits: tuple[Hit, ...]
    matches: tuple[float, ...]
    folded: tuple[tuple[Hit, ...], ...]
    more: bool
    encode_ms: float
    search_ms: float
    total: int | None = None

    @property
    def query(self) -> str:
        """The query as a person would type it."""
        return str(self.request)

    @property
    def language(self) -> str | None:
        """Language of the query's text, where it is clear; looked at only if asked for."""
        return identify(self.request.text) if self.request.text else None

    def _repr_html_(self) -> str:
        return hits_html(self.hits)

    def to_json(self) -> dict[str, Any]:
        """Return the object that ``cl2cm search --json`` and the service answer with."""
        rows = zip(self.hits, self.matches, self.folded, strict=True)
        return {
            "query": self.query,
            "language": self.language,
            "hits": [_hit_json(hit, match, folded) for hit, match, folded in rows],
            "offset": self.request.offset,
            "more": self.more,
            "total": self.total,
            "ms": {"encode": round(self.encode_ms, 3), "search": round(self.search_ms, 3)},
        }


def _hit_json(hit: Hit, match: float, folded: Sequence[Hit]) -> dict[str, Any]:
    listed = math.isnan(match)  # found by its name or date: JSON has no NaN
    value: dict[str, Any] = {"id": hit.id, "score": None if listed else hit.score}
    value |= {"path": hit.path, "start": hit.start, "end": hit.end}
    value["match"] = None if listed else round(match, 4)
    return value | ({"folded": [other.id for other in folded]} if folded else {})
