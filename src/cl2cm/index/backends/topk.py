"""The best rows for a query: float32 finds which may be among them, float64 scores those few."""

import numpy as np
import numpy.typing as npt

from cl2cm.index.backends.quantization import Matrix, decoded
from cl2cm.types import Floats, Ints


class TopK:
    """The best ``k`` rows so far for one query.

    Args:
        query: float32 [D].
        k: hits wanted.
        matrix: the stored vectors.
        among: rows that count, where not all do; `offer` then counts among them.
    """

    def __init__(self, query: Floats, k: int, matrix: Matrix, among: Ints | None) -> None:
        self._query = query.astype(np.float64)
        self._among = among  # the rows that count, where not all do
        self._k = k
        self._matrix = matrix
        self._error = rounding_error(query)
        self.scores = np.empty(0, np.float32)
        self.rows = np.empty(0, np.int64)

    def offer(self, approximate: Floats, first: int) -> None:
        """Take from a chunk's float32 scores [C] what belongs to the best."""
        floor = self.scores[-1] - self._error if len(self.scores) == self._k else -np.inf
        rows = np.flatnonzero(approximate >= floor)
        if len(rows) > self._k:
            at = len(rows) - self._k
            floor = np.partition(approximate[rows], at)[at] - 2 * self._error
            rows = rows[approximate[rows] >= floor]
        if not len(rows):
            return
        rows += first
        if self._among is not None:
            rows = self._among[rows]
        scores = np.concatenate([self.scores, exact_scores(self._matrix, rows, self._query)])
        rows = np.concatenate([self.rows, rows])
        order = np.lexsort((rows, -scores))[: self._k]
        self.scores, self.rows = scores[order], rows[order]


def rounding_error(query: Floats) -> float:
    """How far a score for a query, summed in float32 in any order, may be from the exact one.

    |fl(q·v) - q·v| <= D u |q| |v|, u = 2**-24; twice that, and the rounding of the score.
    """
    return float(np.linalg.norm(query.astype(np.float64))) * (len(query) + 4) * 2.0**-23


def exact_scores(matrix: Matrix, rows: Ints, query: npt.NDArray[np.float64]) -> Floats:
    """Give the scores float32 [K] of rows [K] for a query float64 [D].

    Each row is summed by itself: a score does not depend on its neighbours.
    """
    products = decoded(matrix[rows]).astype(np.float64) * query
    scores: Floats = products.sum(axis=1).astype(np.float32)
    return scores
