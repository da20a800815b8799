"""Hits that are cut or reordered as a whole: a smallest match, and the order by date."""

from collections.abc import Sequence


import numpy as np

from cl2cm.index import Index, Order
from cl2cm.types import Hit, Ints

MOST = 1000  # hits that are looked at


def by_date(index: Index, groups: Sequence[list[Hit]], order: Order) -> list[list[Hit]]:
    """Return groups by the date of the file of their best hit; those without a date come last."""
    items = index.items([index.row_of(group[0].id) for group in groups])
    sign = -1 if order == "newest" else 1
    dates = [item.modified for item in items]
    keys = [(date is None, sign * (date or 0.0), number) for number, date in enumerate(dates)]
    return [groups[number] for *_, number in sorted(keys)]


def listed(index: Index, rows: Sequence[int]) -> list[Hit]:
    """Return items as hits without a score."""
    return [index.hit(item, float("nan")) for item in index.items(rows)]


def count(index: Index, rows: Ints, but: str | None) -> int:
    """Return the number of rows, without that of one item."""
    found = but is not None and bool(np.isin(index.row_of(but), rows))
    return len(rows) - found
