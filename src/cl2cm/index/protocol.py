"""The protocol of open backends: vector search, and lookup of items."""

from collections.abc import Sequence
from typing import Protocol

from cl2cm.index.filter import Filter, Order
from cl2cm.types import Floats, Ints, Item


class VectorIndex(Protocol):
    """Vectors [N, D] that can be searched.

    A score is the dot product of two unit vectors, in [-1, 1]. **Higher is better**, for every
    backend: one that works with distances turns them round.
    """

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        ...

    def __len__(self) -> int:
        """Return the number N of vectors."""
        ...

    def search(self, queries: Floats, k: int, *, among: Ints | None = None) -> tuple[Floats, Ints]:
        """Return the best ``k`` rows for each query.

        Args:
            queries: unit vectors, float32 [Q, D].
            k: hits wanted, at least 1; beyond N there are N.
            among: rows that may be hits, int64, rising; None: all.

        Returns:
            Scores float32 [Q, K], falling along a row, and rows int64 [Q, K]; of equal scores
            the lower row comes first. K = min(k, N), N the rows that
            may be hits.

        Raises:
            VectorIndexError: queries of another width, or not finite; k below 1.
        """
        ...

    def vectors(self, rows: Ints) -> Floats:
        """Return the stored vectors of some rows, float32 [K, D]."""
        ...

    def close(self) -> None:
        """Close what is open; no search is possible afterwards."""
        ...


class Items(Protocol):
    """The items of the vectors; lookup time does not depend on the size of the index."""

    def __len__(self) -> int:
        """Return the number of items."""
        ...

    def at(self, rows: Sequence[int]) -> list[Item]:
        """Return the items of some rows, in that order.

        Raises:
            VectorIndexError: a row that is not there.
        """
        ...

    def row_of(self, item_id: str) -> int:
        """Return the row of an id.

        Raises:
            VectorIndexError: no item has this id.
        """
        ...

    def matching(self, filter_: Filter, order: Order | None = None) -> Ints:
        """Return rows int64 of the items that a filter lets through, rising or in another order."""
        ...

    def folders(self) -> list[str]:
        """Return every folder that items are in, by their ids, in the order of names."""
        ...

    def close(self) -> None:
        """Close what is open; no look-up is possible afterwards."""
        ...
