"""Check that an ONNX file refers only to weight files in its folder.

A graph can keep its weights in other files, by any path; it can loop for ever; its functions can
call each other until a few lines are a billion nodes; it can name operators of a library. The
library is never registered, so such a graph does not load; the rest is refused here, before
onnxruntime opens the file. The file is read as the plain records that Protocol
Buffers are made of, without the package ``onnx`` and without copying a weight. What a graph may
take as it runs is bounded in onnx_session.py.
"""

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cl2cm.encode.trust import is_bare
from cl2cm.errors import WeightsError

_LOOPS = {b"Loop", b"Scan"}  # no encoder needs them, and their number of steps has no bound
_AGAIN = "export the model again"
MAX_RECORDS = 2_000_000  # of a graph; large encoders have some ten thousand
MAX_DEPTH = 64
MAX_NODES = 100_000  # with every function written out
_CALLS = 50  # of functions in functions
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
# Fields of NodeProto, FunctionProto, TensorProto and its entries.
_OPERATOR, _DOMAIN, _NAME, _NAME_DOMAIN, _LOCATED, _KEY, _VALUE = 4, 7, 1, 10, 14, 1, 2


_Called = tuple[bytes, bytes]  # domain and name of an operator or function


@dataclass(slots=True)
class _Contents:
    """What a file refers to: loops, files, and the operators of the graph and of each function."""

    loops: list[str] = field(default_factory=list)
    locations: set[str] = field(default_factory=set)
    calls: dict[_Called | None, list[_Called]] = field(default_factory=dict)
    records: int = 0


class _Message(NamedTuple):
    """A message, where it is, how deep, and the function that it is a part of, if any."""

    kind: str
    start: int
    end: int
    depth: int
    owner: _Called | None


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
            found = _read(data)
    except (ValueError, OSError, OverflowError) as error:
        raise WeightsError(
            str(path), expected="an ONNX graph", found=f"a damaged one ({error})", remedy=_AGAIN
        ) from error
    if _size(found.calls) > MAX_NODES:
        raise _refused(path, f"at most {MAX_NODES:,} nodes", "functions that are many more")
    if found.loops:
        raise _refused(path, "a graph without loops", f"the operator {found.loops[0]}")
    files = {_beside(path, name) for name in found.locations}
    if not found.calls.get(None):
        raise WeightsError(
            str(path), expected="an ONNX graph", found="a damaged one (no nodes)", remedy=_AGAIN
        )
    return sorted(files)


def _read(data: mmap.mmap) -> _Contents:
    """Return what a file refers to."""
    found = _Contents()
    left = [_Message("ModelProto", 0, len(data), 0, None)]
    while left:
        message = left.pop()
        if message.depth > MAX_DEPTH:
            raise ValueError("graphs too deep within each other")
        left += _inner(data, message, found)
    return found


def _inner(data: mmap.mmap, message: _Message, found: _Contents) -> list[_Message]:
    """Note what a message refers to, and return the messages in it."""
    kind, start, end, depth, owner = message
    if kind == "FunctionProto":
        owner = _called(data, start, end, _NAME_DOMAIN, _NAME)
    elif kind == "NodeProto":
        called = _called(data, start, end, _DOMAIN, _OPERATOR)
        found.calls.setdefault(owner, []).append(called)
    external, names, inner = False, list[str](), list[_Message]()
    for record in _records(data, start, end):
        found.records += 1
        if found.records > MAX_RECORDS:
            raise ValueError(f"more than {MAX_RECORDS:,} records")
        leads_to = FIELDS[kind].get(record.number)
        if leads_to == "StringStringEntryProto":
            external = True
            names += _location(data, record)
        elif leads_to is not None:
            inner.append(_Message(leads_to, record.start, record.end, depth + 1, owner))
        elif kind == "NodeProto" and record.number == _OPERATOR:
            operator = data[record.start : record.end]
            found.loops += [operator.decode()] if operator in _LOOPS else []
        elif kind == "TensorProto" and record.number == _LOCATED:
            external |= record.integer != 0
    if external:
        found.locations.add(names[0] if len(names) == 1 else "")
    return inner


def _called(data: mmap.mmap, start: int, end: int, domain: int, name: int) -> _Called:
    """Return domain and name of a node's operator, or of a function; the last of each counts."""
    texts = {
        record.number: data[record.start : record.end]
        for record in _records(data, start, end)
        if record.number in (domain, name)
    }
    return texts.get(domain, b""), texts.get(name, b"")


def _size(calls: Mapping[_Called | None, list[_Called]]) -> int:
    """Nodes of a graph with every function written out where it is called, as far as they matter.

    Functions that call themselves, or are called more deeply than any export does, are too many.
    """
    known: dict[_Called, int] = {}

    def size(owner: _Called | None, depth: int) -> int:
        if depth > _CALLS:
            return MAX_NODES + 1
        total = 0
        for called in calls.get(owner, []):
            if called in calls and called not in known:
                known[called] = MAX_NODES + 1  # while it is open: a call of itself
                known[called] = size(called, depth + 1)
            total += 1 + known.get(called, 0)
        return min(total, MAX_NODES + 1)

    return size(None, 0)


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
        ValueError: the bytes are not a message.
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
