"""Backends that find candidates quickly; hits are scored from the stored vectors.

So a hit has the same score, to the bit, whatever backend found it, and hits are in the order of
the exact search. What an approximate backend may do is miss a row.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from cl2cm.index.backends.base import Generation
from cl2cm.index.backends.exact import ExactBackend, ExactIndex
from cl2cm.index.backends.topk import rounding_error
from cl2cm.index.protocol import VectorIndex
from cl2cm.types import Floats, Ints, Item

FEW = 20_000  # rows that are as well compared one by one
_SPARE = 8  # candidates beyond those that are wanted


class CandidateFinder(Protocol):
    """A search that finds candidates."""

    @property
    def exact(self) -> bool:
        """Whether candidates are the best rows but for rounding in float32."""
        ...

    def find(self, queries: Floats, depth: int, among: Ints | None) -> Ints:
        """Return candidate rows int64 [Q, C] among the allowed ones; -1 fills missing ones."""
        ...

    def close(self) -> None:
        """Release resources."""
        ...


class CandidateBackend(ExactBackend):
    """Vectors and items in files, and beside them a finder of candidates, which a subclass has."""

    def write(self, generation: Generation, vectors: Floats, items: Sequence[Item]) -> None:
        """Write the vectors and items, then the finder's files; see `Backend.write`."""
        super().write(generation, vectors, items)
        self.write_finder(generation, ExactIndex.of(generation))

    def open_vectors(self, generation: Generation) -> VectorIndex:
        """Open the vectors and the finder."""
        stored = ExactIndex.of(generation, resident_bytes=0)  # they are seldom all compared
        return RescoredIndex(stored, self.open_finder(generation, stored))

    @abstractmethod
    def write_finder(self, generation: Generation, stored: ExactIndex) -> None:
        """Write the finder's files, each atomically.

        Args:
            generation: its files, or its location on a server.
            stored: the vectors, as they are stored.
        """

    @abstractmethod
    def open_finder(self, generation: Generation, stored: ExactIndex) -> CandidateFinder:
        """Open what `write_finder` wrote."""


class RescoredIndex:
    """Stored vectors, and a finder of candidates among them; see `VectorIndex`."""

    def __init__(self, stored: ExactIndex, finder: CandidateFinder) -> None:
        self._stored = stored
        self._finder = finder

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return self._stored.dim

    def __len__(self) -> int:
        """Return the number N of vectors."""
        return len(self._stored)

    def vectors(self, rows: Ints) -> Floats:
        """Return the stored vectors of some rows, float32 [K, D]."""
        return self._stored.vectors(rows)

    def close(self) -> None:
        """Close what is open."""
        self._finder.close()

    def search(self, queries: Floats, k: int, *, among: Ints | None = None) -> tuple[Floats, Ints]:
        """Return the best ``k`` rows for each query; see `VectorIndex.search`.

        Compared one by one are the rows of a filter that leaves few, all rows where a great part
        of them is wanted, and all rows for a query for which too few candidates were found.
        """
        queries = self._stored.checked(queries, k)
        count = len(self) if among is None else len(among)
        k = min(k, count)
        many = k > max(count // 20, min(count, FEW) // 4)
        if many or (among is not None and count <= max(FEW, len(self) // 20)):
            return self._stored.search(queries, max(k, 1), among=among)
        scores = np.empty((len(queries), k), np.float32)
        rows = np.empty((len(queries), k), np.int64)
        depth, waiting = min(k + _SPARE, count), np.arange(len(queries))
        while len(waiting) and depth < count:
            left = []
            found = self._finder.find(queries[waiting], depth, among)
            for at, candidates in zip(waiting, found, strict=True):
                best = self._best(queries[at], candidates[candidates >= 0], k)
                if best is None:
                    left.append(at)
                else:
                    scores[at], rows[at] = best
            waiting = np.array(left, np.int64)
            depth = 4 * depth if self._finder.exact else count
        if len(waiting):
            scores[waiting], rows[waiting] = self._stored.search(queries[waiting], k, among=among)
        return scores, rows

    def _best(self, query: Floats, rows: Ints, k: int) -> tuple[Floats, Ints] | None:
        """Return the best of some candidates; None where they are too few, or another might tie."""
        if len(rows) < k:
            return None
        scores = self._stored.scores(query, rows)
        order = np.lexsort((rows, -scores))
        if self._finder.exact and scores[order[k - 1]] - scores[order[-1]] <= 2 * rounding_error(
            query
        ):
            return None
        return scores[order[:k]], rows[order[:k]]
