"""Rows that a filter lets through, kept for the pages of a result, which ask for the same."""

import threading

from cl2cm.index.filter import Filter, Order
from cl2cm.index.protocol import Items
from cl2cm.types import Ints

_KEPT = 8  # filters


class Selections:
    """The rows of the last filters; safe to share between threads.

    Args:
        items: of an index, which do not change while it is open.
    """

    def __init__(self, items: Items) -> None:
        self._items = items
        self._rows: dict[tuple[Filter | None, Order | None], Ints] = {}
        self._lock = threading.Lock()

    def matching(self, filter_: Filter | None, order: Order | None = None) -> Ints:
        """Return the rows int64 of the items that a filter lets through; None: all.

        Args:
            filter_: None: all.
            order: by the date of the file, ``newest`` or ``oldest`` first; None: rising.
        """
        key = (filter_, order)
        with self._lock:
            if key in self._rows:
                return self._rows[key]
        rows = self._items.matching(filter_ or Filter(), order)
        with self._lock:
            while len(self._rows) >= _KEPT:
                self._rows.pop(next(iter(self._rows)))
            self._rows[key] = rows
        return rows
