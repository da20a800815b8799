"""What an ONNX file may refer to: weights in files beside it, and nothing else.

A graph can keep its weights in other files, by any path; it can loop for ever; its functions can
call each other until a few lines are a billion nodes; it can name operators of a library. The
library is never registered, so such a graph does not load; the rest is refused here, before
onnxruntime opens the file. What a graph may take as it runs is bounded in onnx_session.py.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cl2cm.encode.trust import is_bare
from cl2cm.errors import WeightsError

_LOOPS = {"Loop", "Scan"}  # no image model needs them, and their number of steps has no bound
MAX_NODES = 100_000  # with every function written out
_DEPTH = 50  # of functions in functions
_AGAIN = "export the model again, in one file"


def check_graph(path: Path) -> list[Path]:
    """Check what a graph refers to, without reading its weights from other files.

    Returns:
        The files beside it that hold weights, sorted.

    Raises:
        WeightsError: it is damaged, refers to a file elsewhere, or has a loop.
    """
    import onnx  # noqa: PLC0415 - heavy

    try:
        graph = onnx.ModelProto.FromString(path.read_bytes())
        if not graph.graph.node:
            raise ValueError("no nodes")
    except Exception as error:  # protobuf's own exceptions share no base
        first = (str(error).splitlines() or ["unreadable"])[0][:120]
        raise WeightsError(
            str(path), expected="an ONNX graph", found=f"a damaged one ({first})", remedy=_AGAIN
        ) from error
    if _size(graph) > MAX_NODES:
        raise _refused(path, f"at most {MAX_NODES:,} nodes", "functions that are many more")
    files: set[Path] = set()
    for message in _messages(graph):
        kind = message.DESCRIPTOR.name
        if kind == "NodeProto" and message.op_type in _LOOPS:
            raise _refused(path, "a graph without loops", f"the operator {message.op_type}")
        if kind == "TensorProto" and (message.external_data or message.data_location):
            files.add(_beside(path, message))
    return sorted(files)


def _size(model: Any) -> int:  # noqa: ANN401 - protobuf has no types
    """Nodes of a model with every function written out where it is called, as far as they matter.

    Functions that call themselves, or are called more deeply than any export does, are too many.
    """
    functions = {(one.domain, one.name): one for one in model.functions}
    known: dict[tuple[str, str], int] = {}

    def size(root: Any, depth: int) -> int:  # noqa: ANN401
        if depth > _DEPTH:
            return MAX_NODES + 1
        total = 0
        for message in _messages(root):
            if message.DESCRIPTOR.name != "NodeProto":
                continue
            called = (message.domain, message.op_type)
            if called in functions and called not in known:
                known[called] = MAX_NODES + 1  # while it is open: a call of itself
                known[called] = size(functions[called], depth + 1)
            total += 1 + known.get(called, 0)
        return min(total, MAX_NODES + 1)

    return size(model.graph, 0)


def _beside(path: Path, tensor: Any) -> Path:  # noqa: ANN401 - protobuf has no types
    names = [entry.value for entry in tensor.external_data if entry.key == "location"]
    name = names[0] if len(names) == 1 else ""
    file = path.parent / name
    inside = is_bare(name) and file.resolve().parent == path.parent.resolve()
    if not inside or not file.is_file():
        raise _refused(path, "weights in a file beside it", f"the location {name[:80]!r}")
    return file


def _messages(root: Any) -> Iterator[Any]:  # noqa: ANN401
    """Every message in a message, at any depth."""
    left = [root]
    while left:
        message = left.pop()
        yield message
        for field, value in message.ListFields():
            if field.message_type is not None:
                left += [value] if hasattr(value, "DESCRIPTOR") else value


def _refused(path: Path, expected: str, found: str) -> WeightsError:
    return WeightsError(str(path), expected=expected, found=found, remedy=_AGAIN)
