"""Pages of hits that need the full list: listed by name, cut by match, or sorted by date."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cl2cm.index import Index, Order
from cl2cm.search.folding import fold, unfolded
from cl2cm.search.match import FITS
from cl2cm.search.query import Query
from cl2cm.types import Hit

MOST = 1000  # hits that are looked at


class HitPage(NamedTuple):
    """A page of hits.

    groups: the hits, each with the near-duplicates that it stands for; more: whether further ones
    follow; total: the number on all pages, None if it is not known.
    """

    groups: list[list[Hit]]
    more: bool
    total: int | None


def listed(index: Index, query: Query) -> HitPage:
    """Return the items of a filter, without scores, in the order of the index or by date."""
    rows = index.matching(query.filter, query.sort)
    last = query.offset + query.k
    items = index.items([int(row) for row in rows[query.offset : last]])
    hits = [index.hit(item, math.nan) for item in items]
    return HitPage(unfolded(hits), len(rows) > last, len(rows))


def gathered(
    index: Index,
    query: Query,
    hits: Sequence[Hit],
    matches_of: Callable[[Sequence[Hit]], Sequence[float]],
) -> HitPage:
    """Return a page of the best hits with a sufficient match, in the requested order."""
    itself = query.like if isinstance(query.like, str) else None
    kept = [hit for hit in hits if hit.id != itself][:MOST]
    least = FITS if query.sort and query.min_match is None else query.min_match or 0.0
    good = [hit for hit, match in zip(kept, matches_of(kept), strict=True) if match >= least]
    groups = unfolded(good)
    if query.fold and good:
        groups = fold(good, index.vectors([index.row_of(hit.id) for hit in good]))
    if query.sort:
        groups = _by_date(index, groups, query.sort)
    last = query.offset + query.k
    total = len(groups) if len(good) < MOST else None
    return HitPage(groups[query.offset : last], len(groups) > last, total)


def _by_date(index: Index, groups: Sequence[list[Hit]], order: Order) -> list[list[Hit]]:
    """Return groups by the date of the file of their best hit; those without a date come last."""
    items = index.items([index.row_of(group[0].id) for group in groups])
    sign = -1 if order == "newest" else 1
    dates = [item.modified for item in items]
    keys = [(date is None, sign * (date or 0.0), number) for number, date in enumerate(dates)]
    return [groups[number] for *_, number in sorted(keys)]


def total(index: Index, query: Query) -> int | None:
    """Return the number of possible hits; None if folding reduces it."""
    if query.fold:
        return None
    rows = index.matching(query.filter) if query.filter else None
    count = len(index) if rows is None else len(rows)
    if not isinstance(query.like, str):
        return count
    row = index.row_of(query.like)
    return count - int(rows is None or bool(np.isin(row, rows)))
