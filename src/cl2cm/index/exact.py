"""Exact search in a memory-mapped matrix, with numpy alone.

A score is defined without reference to how it is computed: the dot product of the stored values
and the query, summed in float64 and rounded once to float32. So a hit's score is the same bits
whether it was found alone or in a batch, in one chunk or in many, on one core or on sixteen, and
equal pictures tie exactly and come in the order of their rows.

BLAS in float32 finds the candidates, every row within its rounding error of the best ``k``, and
only those few are scored in float64, from the stored values (codes.py): so it is with int8 too,
whose scores are exact for what is stored, within 1 % of those of float16. A matrix that fits into
``resident_bytes`` is widened to float32 once, a larger one chunk by chunk in every search.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from cl2cm.errors import VectorIndexError
from cl2cm.index.codes import (
    DTYPES,
    DType,
    Matrix,
    check_dtype,
    check_vectors,
    decoded,
    map_matrix,
    widen,
    width,
    write_matrix,
)
from cl2cm.storage import atomic_file
from cl2cm.types import Floats, Ints

__all__ = ["CHUNK_ROWS", "RESIDENT_BYTES", "DType", "ExactIndex"]

CHUNK_ROWS = 4096  # rows widened and multiplied at once
RESIDENT_BYTES = 256 * 2**20  # a float32 copy up to this size is kept in memory
_QUERY_BLOCK = 256  # queries multiplied at once
_SCORES = 2**22  # scores held at once, where nothing else limits them


class ExactIndex:
    """A matrix of unit vectors, searched by comparing each query with every row.

    Args:
        matrix: float16 or float32 [N, D], or int8 as codes.py has it, in memory or
            memory-mapped; rows of unit length.
        name: what an error calls it.
        chunk_rows: rows widened and multiplied at once.
        resident_bytes: up to this size a float32 copy is kept; 0 keeps none.
    """

    def __init__(
        self,
        matrix: Matrix,
        *,
        name: str = "index",
        chunk_rows: int = CHUNK_ROWS,
        resident_bytes: int = RESIDENT_BYTES,
    ) -> None:
        if matrix.ndim != 2 or not matrix.size or matrix.dtype.name not in DTYPES:
            raise VectorIndexError(
                name,
                expected=f"a matrix [N, D] of {' or '.join(DTYPES)}, N and D at least 1",
                found=f"{list(matrix.shape)} of {matrix.dtype.name}",
                remedy="build the index again",
            )
        self._matrix = matrix
        self._name = name
        self._chunk_rows = chunk_rows
        bytes_widened = len(matrix) * width(matrix) * 4
        self._keep = bytes_widened <= resident_bytes  # once widened, at the first search
        self._resident: Floats | None = None
        if matrix.dtype == np.float32:
            self._resident = cast("Floats", matrix)

    @classmethod
    def write(cls, path: Path, vectors: Floats, dtype: DType) -> None:
        """Write unit vectors float32 [N, D] as an ``.npy`` file, whole or not at all.

        Raises:
            VectorIndexError: no vectors, or one that is not finite or not of unit length.
            StorageError: the disk is full, read-only or closed to us.
        """
        check_dtype(dtype)
        check_vectors(vectors, path.parent.name)
        with atomic_file(path) as file:
            write_matrix(file, vectors, dtype)

    @classmethod
    def open(cls, path: Path, count: int, dim: int, dtype: str) -> "ExactIndex":
        """Memory-map the file that `write` made of ``count`` vectors of width ``dim``.

        Raises:
            VectorIndexError: the file is damaged, or holds something else.
        """
        return cls(map_matrix(path, count, dim, dtype), name=str(path))

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return width(self._matrix)

    @property
    def dtype(self) -> str:
        """How the vectors are stored: ``float16``, ``float32`` or ``int8``."""
        return self._matrix.dtype.name

    def __len__(self) -> int:
        """Number N of vectors."""
        return len(self._matrix)

    def vectors(self, rows: Ints) -> Floats:
        """Give the stored vectors of some rows, float32 [K, D]."""
        return decoded(self._matrix[rows])

    def search(self, queries: Floats, k: int, *, among: Ints | None = None) -> tuple[Floats, Ints]:
        """Give the best ``k`` rows for each query: scores float32 and rows int64, both [Q, K].

        See `VectorIndex.search`. Memory beyond the matrix is bounded: a chunk in float32 and
        its scores for at most 256 queries.
        """
        queries = self.checked(queries, k)
        k = min(k, len(self) if among is None else len(among))
        scores = np.empty((len(queries), k), np.float32)
        rows = np.empty((len(queries), k), np.int64)
        for start in range(0, len(queries), _QUERY_BLOCK):
            block = queries[start : start + _QUERY_BLOCK]
            best = [_Best(query, k, self._matrix, among) for query in block]
            if k == 0:
                break
            chunks = self._chunks(len(block)) if among is None else self._chunks_among(among)
            for first, chunk, scale in chunks:
                approximate = _products(block * scale, chunk)
                for one, row in zip(best, approximate, strict=True):
                    one.offer(row, first)
            for at, one in enumerate(best, start):
                scores[at], rows[at] = one.scores, one.rows
        return scores, rows

    def scores(self, query: Floats, rows: Ints) -> Floats:
        """Give the scores float32 [K] of some rows for a query float32 [D]; as `search` does."""
        return exact_scores(self._matrix, rows, query.astype(np.float64))

    def close(self) -> None:
        """Do nothing: the file is closed when it is read no more."""

    def checked(self, queries: Floats, k: int) -> Floats:
        """Give queries as float32, contiguous.

        Raises:
            VectorIndexError: queries of another width, or not finite; k below 1.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise VectorIndexError(
                "query vectors",
                expected=f"the shape [Q, {self.dim}] of this index",
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

    def _chunks(self, queries: int) -> Iterator[tuple[int, Floats, np.float32]]:
        """Yield the first row of a chunk, its float32 values, and what to scale queries by."""
        matrix = self._ready()
        if matrix is not None:
            rows = max(self._chunk_rows, _SCORES // queries)  # nothing to widen: only scores
            for first in range(0, len(matrix), rows):
                yield first, matrix[first : first + rows], np.float32(1.0)
            return
        rows = self._chunk_rows * (1 if queries == 1 else 4)  # fewer waits for BLAS's threads
        buffer = np.empty((min(rows, len(self)), self.dim), np.float32)
        for first in range(0, len(self), rows):
            part = self._matrix[first : first + rows]
            values = buffer[: len(part)]
            yield first, values, widen(part, values)

    def _chunks_among(self, among: Ints) -> Iterator[tuple[int, Floats, np.float32]]:
        """As `_chunks`, of some rows: the first of a chunk counts among them."""
        matrix = self._matrix if self._resident is None else self._resident
        for first in range(0, len(among), self._chunk_rows):
            part = matrix[among[first : first + self._chunk_rows]]
            yield first, decoded(part), np.float32(1.0)

    def _ready(self) -> Floats | None:
        """Give the matrix in float32 if it is so, or small enough to be kept so."""
        if self._resident is None and self._keep:
            whole = np.empty((len(self), self.dim), np.float32)
            for first in range(0, len(whole), self._chunk_rows):
                part = whole[first : first + self._chunk_rows]
                scale = widen(self._matrix[first : first + self._chunk_rows], part)
                np.multiply(part, scale, out=part)
            self._resident = whole
        return self._resident


class _Best:
    """The best ``k`` rows so far for one query."""

    def __init__(self, query: Floats, k: int, matrix: Matrix, among: Ints | None) -> None:
        self._query = query.astype(np.float64)
        self._among = among  # the rows that count, where not all do
        self._k = k
        self._matrix = matrix
        self._error = rounding(query)
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


def rounding(query: Floats) -> float:
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


def _products(queries: Floats, chunk: Floats) -> Floats:
    """Multiply [Q, D] with [C, D] to [Q, C].

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
