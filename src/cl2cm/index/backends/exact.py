"""Exact search in a memory-mapped matrix, with numpy alone.

A score is defined without reference to how it is computed: the dot product of the stored values
and the query, summed in float64 and rounded once to float32. So a hit's score is the same bits
whether it was found alone or in a batch, in one chunk or in many, on one core or on sixteen, and
equal images tie exactly and come in the order of their rows.

BLAS in float32 finds the candidates, every row within its rounding error of the best ``k``, and
only those few are scored in float64, from the stored values (quantization.py). Scores of int8, too,
are exact for the stored values, about 0.002 from scores of float16. A matrix is widened to float32
chunk by chunk, the cores sharing the chunks of a single query among them; from the
second search on a copy is kept where there is room for it, which halves the time.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from cl2cm.errors import VectorIndexError
from cl2cm.index.backends.base import Backend, Generation
from cl2cm.index.backends.machine import cores
from cl2cm.index.backends.quantization import (
    DTYPES,
    DType,
    Matrix,
    check_dtype,
    check_stored,
    check_vectors,
    decoded,
    map_matrix,
    widen,
    width,
    write_matrix,
)
from cl2cm.index.backends.topk import (
    CHUNK_ROWS,
    TopK,
    checked_queries,
    exact_scores,
    products,
)
from cl2cm.index.backends.wide_copy import WideCopy, copy_of_file
from cl2cm.index.items import ItemStore
from cl2cm.index.protocol import Items, VectorIndex
from cl2cm.storage import atomic_file
from cl2cm.types import Floats, Ints, Item

__all__ = ["CHUNK_ROWS", "DType", "ExactBackend", "ExactIndex"]

_QUERY_BLOCK = 256  # queries multiplied at once
_OFFERED = 2**16  # scores looked at once, after the widening of many chunks
_SCORES = 2**22  # scores held at once, where nothing else limits them


class ExactBackend(Backend):
    """Vectors in a memory-mapped file and items in SQLite; every row is compared."""

    name: ClassVar[str] = "exact"
    parted: ClassVar[bool] = True

    def write(self, generation: Generation, vectors: Floats, items: Sequence[Item]) -> None:
        """Write the vectors and the items; see `Backend.write`."""
        ExactIndex.write(generation.files["vectors"], vectors, generation.dtype)
        ItemStore.write(generation.files["items"], items, generation.states)

    def open(self, generation: Generation) -> tuple[VectorIndex, Items]:
        """Open the vectors and the items; see `Backend.open`."""
        vectors = self.open_vectors(generation)
        try:
            return vectors, ItemStore(generation.files["items"])
        except BaseException:
            vectors.close()
            raise

    def open_vectors(self, generation: Generation) -> VectorIndex:
        """Open the vectors alone."""
        return ExactIndex.of(generation)


class ExactIndex:
    """A matrix of unit vectors, searched by comparing each query with every row.

    Args:
        matrix: float16 or float32 [N, D], or int8 as quantization.py has it, in memory or
            memory-mapped; rows of unit length.
        name: what an error calls it.
        chunk_rows: rows widened and multiplied at once.
        resident_bytes: up to this size a float32 copy is kept; 0 keeps none. None: an eighth of
            the memory that this process may have, for all copies of it.
        copy: a copy of the same matrix, where it is shared.
    """

    def __init__(
        self,
        matrix: Matrix,
        *,
        name: str = "index",
        chunk_rows: int = CHUNK_ROWS,
        resident_bytes: int | None = None,
        copy: WideCopy | None = None,
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
        self._copy = copy or WideCopy(_wide_bytes(matrix), resident_bytes)
        self._blocks = 0  # of queries, that were searched for
        wide = matrix.dtype == np.float32
        self._resident: Floats | None = cast("Floats", matrix) if wide else None

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
    def open(
        cls,
        path: Path,
        count: int,
        dim: int,
        dtype: str,
        *,
        resident_bytes: int | None = None,
        trusted: bool = False,
    ) -> "ExactIndex":
        """Memory-map ``count`` vectors of width ``dim``; ``trusted`` ones are not looked at.

        Raises:
            VectorIndexError: the file is damaged, or holds something else, or a vector that is not
                finite or not of unit length.
        """
        matrix = map_matrix(path, count, dim, dtype)
        if not trusted:
            check_stored(matrix, str(path))
        copy = copy_of_file(path, _wide_bytes(matrix)) if resident_bytes is None else None
        return cls(matrix, name=str(path), resident_bytes=resident_bytes, copy=copy)

    @classmethod
    def of(cls, generation: Generation, *, resident_bytes: int | None = None) -> "ExactIndex":
        """Open a generation's vectors."""
        trusted = generation.ours and "vectors" in generation.hashes  # compared by `Index.open`
        how: dict[str, Any] = {"resident_bytes": resident_bytes, "trusted": trusted}
        shape = generation.count, generation.dim
        return cls.open(generation.files["vectors"], *shape, generation.dtype, **how)

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return width(self._matrix)

    @property
    def dtype(self) -> str:
        """How the vectors are stored: ``float16``, ``float32`` or ``int8``."""
        return self._matrix.dtype.name

    def __len__(self) -> int:
        """Return the number N of vectors."""
        return len(self._matrix)

    def vectors(self, rows: Ints) -> Floats:
        """Return the stored vectors of some rows, float32 [K, D]."""
        return decoded(self._matrix[rows])

    def search(self, queries: Floats, k: int, *, among: Ints | None = None) -> tuple[Floats, Ints]:
        """Return the best ``k`` rows for each query: scores float32 and rows int64, both [Q, K].

        See `VectorIndex.search`. Memory beyond the matrix is bounded: a chunk in float32 and
        its scores for at most 256 queries.
        """
        queries = self.checked(queries, k)
        k = min(k, len(self) if among is None else len(among))
        scores = np.empty((len(queries), k), np.float32)
        rows = np.empty((len(queries), k), np.int64)
        for start in range(0, len(queries), _QUERY_BLOCK):
            block = queries[start : start + _QUERY_BLOCK]
            self._blocks += 1
            best = [TopK(query, k, self._matrix, among) for query in block]
            if k == 0:
                break
            for first, approximate in self._approximate(block, among):
                for one, row in zip(best, approximate, strict=True):
                    one.offer(row, first)
            for at, one in enumerate(best, start):
                scores[at], rows[at] = one.scores, one.rows
        return scores, rows

    def scores(self, query: Floats, rows: Ints) -> Floats:
        """Return the scores float32 [K] of some rows for a query float32 [D]; as `search` does."""
        return exact_scores(self._matrix, rows, query.astype(np.float64))

    def close(self) -> None:
        """Do nothing: the file is closed when it is read no more."""

    def checked(self, queries: Floats, k: int) -> Floats:
        """Return queries as float32, contiguous; see `checked_queries`."""
        return checked_queries(queries, k, self.dim)

    def _approximate(self, block: Floats, among: Ints | None) -> Iterator[tuple[int, Floats]]:
        """Yield the first row of a chunk, and scores float32 [Q, C] of queries with its rows.

        With ``among``, rows are counted among those.
        """
        if among is None:
            yield from self._of_all(block)
        elif 2 * len(among) < len(self):
            for first, chunk, scale in self._chunks_among(among):
                yield first, products(block * scale, chunk)
        else:  # most rows: cheaper compared where they are than copied out
            for first, scores in self._of_all(block):
                end = first + scores.shape[1]
                low, high = np.searchsorted(among, (first, end))
                some = high - low < scores.shape[1]
                yield low, scores[:, among[low:high] - first] if some else scores

    def _of_all(self, block: Floats) -> Iterator[tuple[int, Floats]]:
        """As `_approximate`, of all rows."""
        if len(block) == 1 and self._kept() is None:
            yield from self._shared(block)
            return
        for first, chunk, scale in self._chunks(len(block)):
            yield first, products(block * scale, chunk)

    def _shared(self, query: Floats) -> Iterator[tuple[int, Floats]]:
        """As `_approximate`, of one query [1, D], with a share of the chunks for each core."""
        chunks = -(-len(self) // self._chunk_rows)
        shares = max(1, min(cores(), chunks // 2))
        bounds = [chunks * share // shares * self._chunk_rows for share in range(shares + 1)]

        def score(share: int) -> Floats:
            chunks = self._widened(self._chunk_rows, *bounds[share : share + 2])
            return np.hstack([products(query * scale, chunk) for _, chunk, scale in chunks])

        with ThreadPoolExecutor(shares) as pool:  # numpy lets go of the interpreter's lock
            for start, scores in zip(bounds, pool.map(score, range(shares)), strict=False):
                for first in range(0, scores.shape[1], _OFFERED):
                    yield start + first, scores[:, first : first + _OFFERED]

    def _chunks(self, queries: int) -> Iterator[tuple[int, Floats, np.float32]]:
        """Yield the first row of a chunk, its float32 values, and what to scale queries by."""
        matrix = self._kept()
        if matrix is not None:
            rows = max(self._chunk_rows, _SCORES // queries)  # nothing to widen: only scores
            for first in range(0, len(matrix), rows):
                yield first, matrix[first : first + rows], np.float32(1.0)
            return
        yield from self._widened(4 * self._chunk_rows, 0, len(self))  # few waits for BLAS's threads

    def _widened(self, rows: int, start: int, end: int) -> Iterator[tuple[int, Floats, np.float32]]:
        """As `_chunks`, from a row to another; a chunk holds until the next is asked for."""
        buffer = np.empty((min(rows, len(self)), self.dim), np.float32)
        for first in range(start, min(end, len(self)), rows):
            part = self._matrix[first : first + rows]
            values = buffer[: len(part)]
            yield first, values, widen(part, values)

    def _chunks_among(self, among: Ints) -> Iterator[tuple[int, Floats, np.float32]]:
        """As `_chunks`, of some rows: the first of a chunk counts among them."""
        matrix = self._matrix if self._resident is None else self._resident
        for first in range(0, len(among), self._chunk_rows):
            part = matrix[among[first : first + self._chunk_rows]]
            yield first, decoded(part), np.float32(1.0)

    def _kept(self) -> Floats | None:
        """Return the matrix in float32 if it is so, or worth keeping so and not just being made."""
        if self._resident is None and self._blocks > 1:
            self._resident = self._copy.get(self._widen_all)
        return self._resident

    def _widen_all(self) -> Floats:
        whole = np.empty((len(self), self.dim), np.float32)
        for first in range(0, len(whole), self._chunk_rows):
            part = whole[first : first + self._chunk_rows]
            scale = widen(self._matrix[first : first + self._chunk_rows], part)
            np.multiply(part, scale, out=part)
        return whole


def _wide_bytes(matrix: Matrix) -> int:
    return len(matrix) * width(matrix) * 4
