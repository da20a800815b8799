"""What an ONNX file may refer to: weights in files beside it, and nothing else.

A graph can keep its weights in other files, by any path; it can loop for ever; it can name
operators of a library. The library is never registered, so such a graph does not load; the rest is
refused here, before onnxruntime opens the file. The file is read as the plain records that Protocol
Buffers are made of, without the package ``onnx`` and without copying a weight.
"""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from cl2cm.encode.trust import is_bare
from cl2cm.errors import WeightsError

_LOOPS = {b"Loop", b"Scan"}  # no encoder needs them, and their number of steps has no bound
_AGAIN = "export the model again"
MAX_RECORDS = 2_000_000  # of a graph; large encoders have some ten thousand
MAX_DEPTH = 64
# Number of each field that may lead to a node or a tensor, by kind of message; a test compares
# this table with the schema of the package ``onnx``.
FIELDS: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}
_OPERATOR, _LOCATED, _KEY, _VALUE = 4, 14, 1, 2  # fields of NodeProto, TensorProto and the entry


class _Record(NamedTuple):
    """A field: its number, and its integer, or where its bytes are."""

    number: int
    integer: int
    start: int
    end: int


def check_graph(path: Path) -> list[Path]:
    """Check what a graph refers to, without reading its weights from other files.

    Returns:
        The files beside it that hold weights, sorted.

    Raises:
        WeightsError: it is damaged, refers to a file elsewhere, or has a loop.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            loops, locations, nodes = _references(data)
    except (ValueError, OSError, OverflowError) as error:
        raise WeightsError(
            str(path), expected="an ONNX graph", found=f"a damaged one ({error})", remedy=_AGAIN
        ) from error
    if loops:
        raise _refused(path, "a graph without loops", f"the operator {loops[0]}")
    files = {_beside(path, name) for name in locations}
    if not nodes:
        raise WeightsError(
            str(path), expected="an ONNX graph", found="a damaged one (no nodes)", remedy=_AGAIN
        )
    return sorted(files)


def _references(data: mmap.mmap) -> tuple[list[str], set[str], int]:
    """Return the looping operators, the names of files with weights, and the number of nodes."""
    loops: list[str] = []
    locations: set[str] = set()
    nodes = count = 0
    left = [("ModelProto", 0, len(data), 0)]
    while left:
        kind, start, end, depth = left.pop()
        if depth > MAX_DEPTH:
            raise ValueError("graphs too deep within each other")
        external = False
        names: list[str] = []
        for record in _records(data, start, end):
            count += 1
            if count > MAX_RECORDS:
                raise ValueError(f"more than {MAX_RECORDS:,} records")
            inner = FIELDS[kind].get(record.number)
            if inner == "StringStringEntryProto":
                external = True
                names += _location(data, record)
            elif inner is not None:
                nodes += inner == "NodeProto"
                left.append((inner, record.start, record.end, depth + 1))
            elif kind == "NodeProto" and record.number == _OPERATOR:
                operator = data[record.start : record.end]
                loops += [operator.decode()] if operator in _LOOPS else []
            elif kind == "TensorProto" and record.number == _LOCATED:
                external |= record.integer != 0
        if external:
            locations.add(names[0] if len(names) == 1 else "")
    return loops, locations, nodes


def _location(data: mmap.mmap, entry: _Record) -> list[str]:
    """Return the file that an entry of external data names, if it names one."""
    fields = list(_records(data, entry.start, entry.end))
    keys = [data[one.start : one.end] for one in fields if one.number == _KEY]
    values = [data[one.start : one.end] for one in fields if one.number == _VALUE]
    if b"location" not in keys:
        return []
    return [values[0].decode()] if len(keys) == len(values) == 1 else [""]


def _records(data: mmap.mmap, start: int, end: int) -> Iterator[_Record]:
    """Yield the fields of a message.

    Raises:
        ValueError: the bytes are no message.
    """
    at = start
    while at < end:
        tag, at = _integer(data, at, end)
        number, form = tag >> 3, tag & 7
        integer = size = 0
        if form == 0:
            integer, at = _integer(data, at, end)
        elif form == 2:
            size, at = _integer(data, at, end)
        elif form in (1, 5):
            size = 8 if form == 1 else 4
        else:
            raise ValueError(f"a record of form {form}")
        if not number or at + size > end:
            raise ValueError("a record that ends too late")
        yield _Record(number, integer, at, at + size)
        at += size


def _integer(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Read a number of 7 bits a byte; return it, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number that does not end")


def _beside(path: Path, name: str) -> Path:
    file = path.parent / name
    inside = is_bare(name) and file.resolve().parent == path.parent.resolve()
    if not inside or not file.is_file():
        raise _refused(path, "weights in a file beside it", f"the location {name[:80]!r}")
    return file


def _refused(path: Path, expected: str, found: str) -> WeightsError:
    return WeightsError(str(path), expected=expected, found=found, remedy=_AGAIN)
