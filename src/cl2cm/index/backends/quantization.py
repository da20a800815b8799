"""How vectors are stored: as float32, as float16, or as int8 with a scale for each vector.

int8 halves float16 once more: a vector is 127ths of its greatest component, and the four bytes of
that scale, float32, end its row. Whatever the format, the *stored value* of a component is a
float32 number, and scores are defined by stored values; what the format rounded away is gone.
"""

import io
import os
from pathlib import Path
from typing import IO, Literal, get_args

import numpy as np
import numpy.typing as npt

from cl2cm.errors import VectorIndexError
from cl2cm.storage import open_confined
from cl2cm.types import Floats

DType = Literal["float16", "float32", "int8"]
Matrix = npt.NDArray[np.float16] | Floats | npt.NDArray[np.int8]

DTYPES: tuple[str, ...] = get_args(DType)
EXPONENT_GAP = np.float32(2.0**112)  # 2 ** (127 - 15), the two formats' difference of bias

_CODES = {"float16": "<f2", "float32": "<f4", "int8": "<i1"}  # little-endian on every machine
_SIGN_AND_VALUE = np.int32(-0x70002000)  # 0x8FFFE000: the sign, and 15 bits from bit 13 on
_SCALE_BYTES = 4
_CHUNK_ROWS = 4096
_UNIT_TOLERANCE = 1e-2  # of vectors that are given
_STORED_TOLERANCE = {"float16": 0.02, "float32": 0.02, "int8": 0.25}  # int8 rounds a vector with
# one large component so far


def width(matrix: Matrix) -> int:
    """Return D, of a stored matrix."""
    return int(matrix.shape[1]) - (_SCALE_BYTES if matrix.dtype == np.int8 else 0)


def decoded(rows: Matrix) -> Floats:
    """Return the stored values, float32 [K, D], of some rows of a stored matrix."""
    if rows.dtype != np.int8:
        return rows.astype(np.float32)
    values: Floats = rows[:, :-_SCALE_BYTES] * _scales(rows)
    return values


def widen(rows: Matrix, out: Floats) -> np.float32:
    """Write stored values into ``out``, divided by the number that is returned.

    numpy converts float16 one value at a time, slower than a search itself. But the bits of a half
    equal the bits of a float shifted by 13, except for the width of the exponent: so sign-extend,
    shift, and clear the three copies of the sign that lie in the wider exponent.
    """
    if rows.dtype == np.float16:
        bits = out.view(np.int32)
        np.copyto(bits, rows.view(np.int16))
        np.left_shift(bits, 13, out=bits)
        np.bitwise_and(bits, _SIGN_AND_VALUE, out=bits)
        return EXPONENT_GAP
    if rows.dtype == np.int8:
        np.copyto(out, rows[:, :-_SCALE_BYTES])
        np.multiply(out, _scales(rows), out=out)
    else:
        np.copyto(out, rows)
    return np.float32(1.0)


def write_matrix(file: IO[bytes], vectors: Floats, dtype: DType) -> None:
    """Write unit vectors float32 [N, D] in numpy's format.

    Raises:
        VectorIndexError: a vector is not finite or not of unit length.
    """
    file.write(_header(len(vectors), vectors.shape[1], dtype))
    for first in range(0, len(vectors), _CHUNK_ROWS):
        chunk = vectors[first : first + _CHUNK_ROWS]
        check_unit(chunk, first)
        file.write(_encoded(chunk, dtype))


def map_matrix(path: Path, count: int, dim: int, dtype: str) -> Matrix:
    """Memory-map what `write_matrix` wrote.

    Raises:
        VectorIndexError: the file is damaged, or holds something else.
    """
    header = _header(count, dim, dtype) if dtype in DTYPES else b"\0"
    row = _row(dim, dtype if dtype in DTYPES else "float32")
    size = len(header) + count * row[0] * row[1].itemsize
    with open_confined(path, [path.parent]) as file:
        if file.read(len(header)) == header and os.fstat(file.fileno()).st_size == size:
            # the file, not its name: what was checked is what is mapped
            return np.memmap(file, row[1], "r", len(header), (count, row[0]))
    raise VectorIndexError(
        str(path),
        expected=f"{count} vectors of width {dim} in {dtype}, in numpy's format",
        found="something else, or a damaged file",
        remedy="build the index again",
    )


def check_stored(matrix: Matrix, name: str) -> None:
    """Refuse a stored matrix with a row that is not finite or not of unit length.

    One such row would be above all others, or turn every score into a NaN.

    Raises:
        VectorIndexError: it has one.
    """
    buffer = np.empty((min(len(matrix), _CHUNK_ROWS), width(matrix)), np.float32)
    for first in range(0, len(matrix), _CHUNK_ROWS):
        rows = matrix[first : first + _CHUNK_ROWS]
        values = buffer[: len(rows)]
        with np.errstate(all="ignore"):
            np.multiply(values, widen(rows, values), out=values)
            lengths = np.sqrt(np.vecdot(values, values))
        wrong = np.flatnonzero(~(np.abs(lengths - 1) <= _STORED_TOLERANCE[matrix.dtype.name]))
        if len(wrong):
            raise VectorIndexError(
                f"{name}: vector {first + int(wrong[0])}",
                expected="finite numbers and unit length",
                found=_length(lengths[wrong[0]]),
                remedy="build the index again",
            )


def _length(length: np.float32) -> str:
    return f"length {length:.4g}" if np.isfinite(length) else "NaN or infinity"


def check_dtype(dtype: str) -> None:
    """Refuse an unknown format.

    Raises:
        VectorIndexError: it is one.
    """
    if dtype not in DTYPES:
        raise VectorIndexError(
            f"dtype {dtype!r}",
            expected=" or ".join(DTYPES),
            found=dtype,
            remedy="choose one of them",
        )


def _scales(rows: Matrix) -> Floats:
    """Scale float32 [K, 1] of each row of int8."""
    scales: Floats = np.ascontiguousarray(rows[:, -_SCALE_BYTES:]).view("<f4")
    return scales


def _encoded(chunk: Floats, dtype: str) -> bytes:
    if dtype != "int8":
        return np.ascontiguousarray(chunk, _CODES[dtype]).tobytes()
    scales = (np.abs(chunk).max(axis=1, keepdims=True) / np.float32(127)).astype("<f4")
    codes = np.rint(chunk / scales).clip(-127, 127).astype(np.int8)
    return np.hstack([codes, scales.view(np.int8)]).tobytes()


def _row(dim: int, dtype: str) -> tuple[int, np.dtype[np.generic]]:
    """Return how many numbers a row has, and of which kind."""
    return dim + (_SCALE_BYTES if dtype == "int8" else 0), np.dtype(_CODES[dtype])


def _header(count: int, dim: int, dtype: str) -> bytes:
    """Return the start of an ``.npy`` file; comparing it spares parsing what a stranger wrote."""
    file = io.BytesIO()
    columns, kind = _row(dim, dtype)
    array = {"descr": kind.str, "fortran_order": False, "shape": (count, columns)}
    np.lib.format.write_array_header_2_0(file, array)
    return file.getvalue()


def check_vectors(vectors: Floats, name: str) -> None:
    """Refuse values that are not a matrix of vectors.

    Raises:
        VectorIndexError: it is none.
    """
    if vectors.ndim != 2 or not vectors.size:
        raise VectorIndexError(
            name,
            expected="at least one vector, as a matrix [N, D]",
            found=f"the shape {list(vectors.shape)}",
            remedy="index a folder that holds images",
        )


def is_unit(vector: Floats) -> bool:
    """Return whether a vector float32 [D] is finite and of unit length."""
    return bool(abs(float(np.linalg.norm(vector)) - 1) <= _UNIT_TOLERANCE)


def check_unit(vectors: Floats, first: int = 0) -> None:
    """Refuse vectors, the first of which has the number ``first``.

    Raises:
        VectorIndexError: one is not finite or not of unit length.
    """
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= _UNIT_TOLERANCE))
    if len(wrong):
        raise VectorIndexError(
            f"vector {first + int(wrong[0])}",
            expected="finite numbers and unit length",
            found=_length(lengths[wrong[0]]),
            remedy="check the model that encoded it",
        )
