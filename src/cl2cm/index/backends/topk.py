"""The best k rows for a query: float32 selects candidates, float64 scores those few."""

import numpy as np
import numpy.typing as npt

from cl2cm.errors import VectorIndexError
from cl2cm.index.backends.quantization import Matrix, decoded
from cl2cm.types import Floats, Ints

CHUNK_ROWS = 4096  # rows widened and multiplied at once


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
        """Add the best of a chunk's float32 scores [C]."""
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
    """Return how far a score, summed in float32 in any order, may be from the exact one.

    |fl(q·v) - q·v| <= D u |q| |v|, u = 2**-24; twice that, and the rounding of the score.
    """
    return float(np.linalg.norm(query.astype(np.float64))) * (len(query) + 4) * 2.0**-23


def exact_scores(matrix: Matrix, rows: Ints, query: npt.NDArray[np.float64]) -> Floats:
    """Return the scores float32 [K] of rows [K] for a query float64 [D].

    Each row is summed separately, so a score does not depend on other rows.
    """
    products = decoded(matrix[rows]).astype(np.float64) * query
    scores: Floats = products.sum(axis=1).astype(np.float32)
    return scores


def products(queries: Floats, chunk: Floats) -> Floats:
    """Return the float32 scores [Q, C] of queries [Q, D] with a chunk of rows [C, D].

    For a single query and a small chunk BLAS would still wake its threads, and where another
    process has the cores each wait for them costs a time slice: 8 ms for 0.1 ms of work. So that
    product is taken row by row.
    """
    if len(queries) > 1:
        products: Floats = queries @ chunk.T
    elif len(chunk) > CHUNK_ROWS:
        products = (chunk @ queries[0])[None]
    else:
        products = np.vecdot(chunk, queries[0])[None]
    return products


def checked_queries(queries: Floats, k: int, dim: int) -> Floats:
    """Return query vectors as float32 [Q, D], contiguous.

    Raises:
        VectorIndexError: queries of another width, or not finite; k below 1.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise VectorIndexError(
            "query vectors",
            expected=f"the shape [Q, {dim}] of this index",
            found=f"{list(queries.shape)}",
            remedy="encode the queries with the model of the index",
        )
    if not np.isfinite(queries).all():
        raise VectorIndexError(
            "query vectors",
            expected="finite numbers",
            found="a NaN or an infinity",
            remedy="check the model that encoded them",
        )
    if k < 1:
        raise VectorIndexError(
            "k", expected="at least 1", found=str(k), remedy="ask for one hit or more"
        )
    return queries
