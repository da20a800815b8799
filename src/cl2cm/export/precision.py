"""Smaller graphs: weights in half precision, or in 8 bits.

What is computed stays float32, and every row of a batch by itself: a text has the same vector
alone and in a batch. (onnxruntime's own dynamic quantisation scales the activations of a whole
batch by one number, so there the vector of a text would depend on its neighbours.)

In 8 bits a matrix is split along its input into blocks of 16, each with a scale of its own, and
multiplied by ``MatMulNBits``, which rounds the activations of each row in the same blocks. A table
of embeddings has a scale for each row.

Weights that were rounded to 4 bits before, as in the offline text backbone, are on a grid:
in each block of 32 they are multiples -8 to 7 of one number. They are kept exactly, in 4 bits, and
what is not on the grid, the head, stays as it is. Activations are not rounded then: that alone cost
up to 3 SumR in a language, and saved a third of the time.
"""

from typing import Any, Literal

import numpy as np

from cl2cm.export.grid import BLOCK as GRID
from cl2cm.export.grid import Grid, grid_of, packed

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
BLOCK = 16
_FLOAT, _INT8 = 1, 4  # how MatMulNBits computes: activations as they are, or rounded
SMALL = 4096  # numbers; smaller weights stay as they are


def at_precision(model: Any, precision: Precision) -> Any:  # noqa: ANN401 - onnx has no types
    """Return a copy of a graph with its large weights at another precision."""
    import onnx  # noqa: PLC0415 - heavy

    if precision == "fp32":
        return model
    made = onnx.ModelProto()
    made.CopyFrom(model)
    _Weights(made).lower(precision)
    onnx.checker.check_model(made)
    return made


class _Weights:
    """The constants of a graph, and the nodes that read them."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        self.model, self.graph = model, model.graph
        self.tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        self.readers: dict[str, list[Any]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.nodes: dict[int, list[Any]] = {}  # id of a node -> what takes its place
        self.added: list[Any] = []
        self.dropped: set[str] = set()

    def lower(self, precision: Precision) -> None:
        large = [
            tensor
            for tensor in self.graph.initializer
            if tensor.data_type == 1
            and len(tensor.dims) == 2
            and int(np.prod(tensor.dims)) >= SMALL
        ]
        tables = [tensor for tensor in large if self._all_read(tensor, "Gather", 0)]
        if precision == "fp16":
            for tensor in large:
                self._half(tensor, self.readers.get(tensor.name, []) if tensor in tables else [])
        else:
            self._rounded(
                tables, [tensor for tensor in large if self._all_read(tensor, "MatMul", 1)]
            )
        self._write()

    def _all_read(self, tensor: Any, kind: str, place: int) -> bool:  # noqa: ANN401
        """Whether a constant is an input of nodes of one kind alone, always at the same place."""
        readers = self.readers.get(tensor.name, [])
        return bool(readers) and all(
            n.op_type == kind and n.input[place] == tensor.name for n in readers
        )

    def _write(self) -> None:
        nodes = [new for node in self.graph.node for new in self.nodes.get(id(node), [node])]
        kept = [tensor for tensor in self.graph.initializer if tensor.name not in self.dropped]
        front = [node for node in self.added if hasattr(node, "op_type")]
        constants = [tensor for tensor in self.added if not hasattr(tensor, "op_type")]
        nodes, kept = _copies([*front, *nodes]), _copies([*kept, *constants])
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(nodes)
        self.graph.initializer.extend(kept)

    def _constant(self, name: str, values: Any) -> str:  # noqa: ANN401
        from onnx import numpy_helper  # noqa: PLC0415

        self.added.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _half(self, tensor: Any, tables: list[Any]) -> None:  # noqa: ANN401
        """Keep a weight as float16; a table is cast after rows are taken, others before use."""
        from onnx import helper, numpy_helper  # noqa: PLC0415

        values = numpy_helper.to_array(tensor)
        if np.abs(values).max() > np.finfo(np.float16).max:
            return
        half = self._constant(f"{tensor.name}_half", values.astype(np.float16))
        self.dropped.add(tensor.name)
        for node in tables:
            taken = f"{node.output[0]}_half"
            rows = helper.make_node("Gather", [half, node.input[1]], [taken], axis=0)
            self.nodes[id(node)] = [rows, helper.make_node("Cast", [taken], node.output, to=1)]
        if not tables:
            self.added.append(helper.make_node("Cast", [half], [tensor.name], to=1))

    def _table(self, tensor: Any, grid: Grid | None) -> None:  # noqa: ANN401
        """Keep a table [V, D] as int8, with a scale for each row, or for each block on a grid."""
        from onnx import helper, numpy_helper  # noqa: PLC0415

        values = numpy_helper.to_array(tensor)
        codes, scales = grid or rounded_rows(values)
        if grid is not None:
            scales = scales[:, :, None]
            width = self._constant(f"{tensor.name}_width", np.array([0, 0, values.shape[1]]))
        table = self._constant(f"{tensor.name}_int8", codes)
        factor = self._constant(f"{tensor.name}_scale", scales)
        self.dropped.add(tensor.name)
        for node in self.readers.get(tensor.name, []):
            out, rows = node.output[0], node.input[1]
            product = out if grid is None else f"{out}_blocks"  # [B, T, D / 32, 32]
            made = [
                helper.make_node("Gather", [table, rows], [f"{out}_int8"], axis=0),
                helper.make_node("Cast", [f"{out}_int8"], [f"{out}_float"], to=1),
                helper.make_node("Gather", [factor, rows], [f"{out}_scale"], axis=0),
                helper.make_node("Mul", [f"{out}_float", f"{out}_scale"], [product]),
            ]
            if grid is not None:
                made.append(helper.make_node("Reshape", [product, width], [out]))
            self.nodes[id(node)] = made

    def _rounded(self, tables: list[Any], matrices: list[Any]) -> None:
        """Keep what is on a grid exactly; where nothing is, round all tables and matrices."""
        from onnx import numpy_helper  # noqa: PLC0415

        arrays = [numpy_helper.to_array(tensor) for tensor in (*tables, *matrices)]
        grids = [grid_of(a) for a in arrays[: len(tables)]]
        grids += [grid_of(a.T) for a in arrays[len(tables) :]]
        rounds = not any(grid is not None for grid in grids)
        for at, tensor in enumerate((*tables, *matrices)):
            if grids[at] is not None or rounds:
                lower = self._table if at < len(tables) else self._matrix
                lower(tensor, grids[at])

    def _matrix(self, tensor: Any, grid: Grid | None) -> None:  # noqa: ANN401
        """Multiply by a matrix [K, N] of blocks, of 4 bits on a grid, else of 8."""
        from onnx import helper, numpy_helper  # noqa: PLC0415

        values = numpy_helper.to_array(tensor)
        depth, width = values.shape
        codes, scales = blocks(values) if grid is None else packed(grid)
        inputs = [
            self._constant(f"{tensor.name}_blocks", codes),
            self._constant(f"{tensor.name}_scales", scales),
        ]
        self.dropped.add(tensor.name)
        for node in self.readers.get(tensor.name, []):
            product = helper.make_node(
                "MatMulNBits",
                [node.input[0], *inputs],
                node.output,
                domain="com.microsoft",
                K=depth,
                N=width,
                bits=8 if grid is None else 4,
                block_size=BLOCK if grid is None else GRID,
                accuracy_level=_INT8 if grid is None else _FLOAT,
            )
            self.nodes[id(node)] = [product]
        if all(one.domain != "com.microsoft" for one in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def rounded_rows(table: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Round a table [V, D] to int8, with scales float32 [V, 1]."""
    scales = np.maximum(np.abs(table).max(1, keepdims=True), 1e-12) / 127
    return np.rint(table / scales).astype(np.int8), scales.astype(np.float32)


def blocks(matrix: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Round a matrix [K, N] in blocks along K.

    Returns:
        uint8 [N, K / 16, 16], in which 128 stands for zero, and the scales float32 [N, K / 16].
    """
    depth, width = matrix.shape
    count = -(-depth // BLOCK)
    padded = np.zeros((width, count * BLOCK), np.float32)
    padded[:, :depth] = matrix.T
    split = padded.reshape(width, count, BLOCK)
    scales = np.maximum(np.abs(split).max(2), 1e-12) / 127
    rounded = np.rint(split / scales[:, :, None]) + 128
    return rounded.astype(np.uint8), scales.astype(np.float32)


def _copies(messages: list[Any]) -> list[Any]:
    made = []
    for message in messages:
        copy = type(message)()
        copy.CopyFrom(message)
        made.append(copy)
    return made
