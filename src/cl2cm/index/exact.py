"""Exact search in a memory-mapped matrix, with numpy alone.

A score is defined without reference to how it is computed: the dot product of the stored values
and the query, summed in float64 and rounded once to float32. So a hit's score is the same bits
whether it was found alone or in a batch, in one chunk or in many, on one core or on sixteen, and
equal pictures tie exactly and come in the order of their rows.

BLAS in float32 finds the candidates, every row within its rounding error of the best ``k``, and
only those few are scored in float64. numpy converts float16 one value at a time, slower than the
search itself, so ``_widen`` does it with three vectorised integer operations; a matrix that fits
into ``resident_bytes`` is widened once, a larger one chunk by chunk in every search.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from cl2cm.errors import VectorIndexError
from cl2cm.storage import atomic_file
from cl2cm.types import Floats, Ints

DType = Literal["float16", "float32"]
Half = npt.NDArray[np.float16]
Matrix = Half | Floats

_CODES = {"float16": "<f2", "float32": "<f4"}  # little-endian on every machine
CHUNK_ROWS = 4096  # rows widened and multiplied at once
RESIDENT_BYTES = 256 * 2**20  # a float32 copy up to this size is kept in memory
_QUERY_BLOCK = 256  # queries multiplied at once
_SCORES = 2**22  # scores held at once, where nothing else limits them
_EXPONENT_GAP = np.float32(2.0**112)  # 2 ** (127 - 15), the two formats' difference of bias
_SIGN_AND_VALUE = np.int32(-0x70002000)  # 0x8FFFE000: the sign, and 15 bits from bit 13 on
_UNIT_TOLERANCE = 1e-2


class ExactIndex:
    """A matrix of unit vectors, searched by comparing each query with every row.

    Args:
        matrix: float16 or float32 [N, D], in memory or memory-mapped; rows of unit length.
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
        if matrix.ndim != 2 or not matrix.size or matrix.dtype.name not in get_args(DType):
            raise VectorIndexError(
                name,
                expected="a matrix [N, D] of float16 or float32, N and D at least 1",
                found=f"{list(matrix.shape)} of {matrix.dtype.name}",
                remedy="build the index again",
            )
        self._matrix = matrix
        self._name = name
        self._chunk_rows = chunk_rows
        self._keep = matrix.size * 4 <= resident_bytes  # once widened, at the first search
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
        if dtype not in get_args(DType):
            raise VectorIndexError(
                f"dtype {dtype!r}",
                expected=" or ".join(get_args(DType)),
                found=dtype,
                remedy="choose one of them",
            )
        if vectors.ndim != 2 or not vectors.size:
            raise VectorIndexError(
                path.parent.name,
                expected="at least one vector, as a matrix [N, D]",
                found=f"the shape {list(vectors.shape)}",
                remedy="index a folder that holds pictures",
            )
        with atomic_file(path) as file:
            file.write(_header(vectors.shape, dtype))
            for first in range(0, len(vectors), CHUNK_ROWS):
                chunk = vectors[first : first + CHUNK_ROWS]
                _check_unit(chunk, first)
                file.write(np.ascontiguousarray(chunk, _CODES[dtype]).tobytes())

    @classmethod
    def open(cls, path: Path, count: int, dim: int, dtype: str) -> "ExactIndex":
        """Memory-map the file that `write` made of ``count`` vectors of width ``dim``.

        Raises:
            VectorIndexError: the file is damaged, or holds something else.
        """
        header = _header((count, dim), dtype) if dtype in get_args(DType) else b"\0"
        size = len(header) + count * dim * np.dtype(_CODES.get(dtype, "<f4")).itemsize
        with path.open("rb") as file:
            same = file.read(len(header)) == header and path.stat().st_size == size
        if not same:
            raise VectorIndexError(
                str(path),
                expected=f"{count} vectors of width {dim} in {dtype}, in numpy's format",
                found="something else, or a damaged file",
                remedy="build the index again",
            )
        matrix = np.memmap(path, _CODES[dtype], "r", len(header), (count, dim))
        return cls(matrix, name=str(path))

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return int(self._matrix.shape[1])

    @property
    def dtype(self) -> str:
        """How the vectors are stored: ``float16`` or ``float32``."""
        return self._matrix.dtype.name

    def __len__(self) -> int:
        """Number N of vectors."""
        return len(self._matrix)

    def vectors(self, rows: Ints) -> Floats:
        """Give the stored vectors of some rows, float32 [K, D]."""
        return self._matrix[rows].astype(np.float32)

    def search(self, queries: Floats, k: int) -> tuple[Floats, Ints]:
        """Give the best ``k`` rows for each query: scores float32 and rows int64, both [Q, K].

        See `VectorIndex.search`. Memory beyond the matrix is bounded: a chunk in float32 and
        its scores for at most 256 queries.
        """
        queries = self._checked(queries, k)
        k = min(k, len(self))
        scores = np.empty((len(queries), k), np.float32)
        rows = np.empty((len(queries), k), np.int64)
        for start in range(0, len(queries), _QUERY_BLOCK):
            block = queries[start : start + _QUERY_BLOCK]
            best = [_Best(query, k, self._matrix) for query in block]
            for first, chunk, scale in self._chunks(len(block)):
                approximate = _products(block * scale, chunk)
                for one, row in zip(best, approximate, strict=True):
                    one.offer(row, first)
            for at, one in enumerate(best, start):
                scores[at], rows[at] = one.scores, one.rows
        return scores, rows

    def _checked(self, queries: Floats, k: int) -> Floats:
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
            half = self._matrix[first : first + rows]
            yield first, _widen(half, buffer[: len(half)]), _EXPONENT_GAP

    def _ready(self) -> Floats | None:
        """Give the matrix in float32 if it is so, or small enough to be kept so."""
        if self._resident is None and self._keep:
            whole = np.empty(self._matrix.shape, np.float32)
            for first in range(0, len(whole), self._chunk_rows):
                part = whole[first : first + self._chunk_rows]
                _widen(self._matrix[first : first + self._chunk_rows], part)
                np.multiply(part, _EXPONENT_GAP, out=part)
            self._resident = whole
        return self._resident


class _Best:
    """The best ``k`` rows so far for one query."""

    def __init__(self, query: Floats, k: int, matrix: Matrix) -> None:
        self._query = query.astype(np.float64)
        self._k = k
        self._matrix = matrix
        # |fl(q·v) - q·v| <= D u |q| |v|, u = 2**-24; twice that, and the rounding of the score
        self._error = float(np.linalg.norm(self._query)) * (len(query) + 4) * 2.0**-23
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
        # summed along each row by itself: the result does not depend on its neighbours
        exact = (self._matrix[rows].astype(np.float64) * self._query).sum(axis=1)
        scores = np.concatenate([self.scores, exact.astype(np.float32)])
        rows = np.concatenate([self.rows, rows])
        order = np.lexsort((rows, -scores))[: self._k]
        self.scores, self.rows = scores[order], rows[order]


def _header(shape: tuple[int, ...], dtype: str) -> bytes:
    """Give the start of an ``.npy`` file; comparing it spares parsing what a stranger wrote."""
    file = io.BytesIO()
    array = {"descr": _CODES[dtype], "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(file, array)
    return file.getvalue()


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


def _widen(half: Matrix, out: Floats) -> Floats:
    """Write finite float16 values into ``out`` as float32, divided by 2**112, exactly.

    The bits of a half are those of a float shifted by 13, but for the width of the exponent:
    sign-extend, shift, and clear the three copies of the sign that lie in the wider exponent.
    """
    bits = out.view(np.int32)
    np.copyto(bits, half.view(np.int16))
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, _SIGN_AND_VALUE, out=bits)
    return out


def _check_unit(vectors: Floats, first: int) -> None:
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= _UNIT_TOLERANCE))
    if len(wrong):
        length = lengths[wrong[0]]
        what = f"length {length:.4g}" if np.isfinite(length) else "a NaN or an infinity"
        raise VectorIndexError(
            f"vector {first + int(wrong[0])}",
            expected="finite numbers and unit length",
            found=what,
            remedy="check the model that encoded it",
        )
