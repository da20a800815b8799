"""Smaller graphs: weights in half precision, or in 8 bits.

What is computed stays float32, and every row of a batch by itself: a text has the same vector
alone and in a batch. (onnxruntime's own dynamic quantisation scales the activations of a whole
batch by one number, so there the vector of a text would depend on its neighbours.)

In 8 bits a matrix is split along its input into blocks of 32, each with a scale of its own, and
multiplied by ``MatMulNBits``, which rounds the activations of each row in the same blocks. A table
of embeddings has a scale for each row.
"""

from typing import Any, Literal

import numpy as np

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
BLOCK = 32
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
        for name, tensor in list(self.tensors.items()):
            size = int(np.prod(tensor.dims))
            if tensor.data_type != 1 or len(tensor.dims) != 2 or size < SMALL:
                continue
            readers = self.readers.get(name, [])
            table = all(node.op_type == "Gather" and node.input[0] == name for node in readers)
            matrix = all(node.op_type == "MatMul" and node.input[1] == name for node in readers)
            if precision == "fp16":
                self._half(tensor, readers if table else [])
            elif table:
                self._table(tensor, readers)
            elif matrix:
                self._matrix(tensor, readers)
        self._write()

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

    def _table(self, tensor: Any, readers: list[Any]) -> None:  # noqa: ANN401
        """Keep a table as int8, with a scale for each row."""
        from onnx import helper, numpy_helper  # noqa: PLC0415

        values = numpy_helper.to_array(tensor)
        scales = np.maximum(np.abs(values).max(1, keepdims=True), 1e-12) / 127
        rounded = self._constant(f"{tensor.name}_int8", np.rint(values / scales).astype(np.int8))
        factor = self._constant(f"{tensor.name}_scale", scales.astype(np.float32))
        self.dropped.add(tensor.name)
        for node in readers:
            out, rows = node.output[0], node.input[1]
            self.nodes[id(node)] = [
                helper.make_node("Gather", [rounded, rows], [f"{out}_int8"], axis=0),
                helper.make_node("Cast", [f"{out}_int8"], [f"{out}_float"], to=1),
                helper.make_node("Gather", [factor, rows], [f"{out}_scale"], axis=0),
                helper.make_node("Mul", [f"{out}_float", f"{out}_scale"], [out]),
            ]

    def _matrix(self, tensor: Any, readers: list[Any]) -> None:  # noqa: ANN401
        """Multiply by a matrix [K, N] of 8-bit blocks."""
        from onnx import helper, numpy_helper  # noqa: PLC0415

        values = numpy_helper.to_array(tensor)
        depth, width = values.shape
        packed, scales = blocks(values)
        inputs = [
            self._constant(f"{tensor.name}_blocks", packed),
            self._constant(f"{tensor.name}_scales", scales),
        ]
        self.dropped.add(tensor.name)
        for node in readers:
            product = helper.make_node(
                "MatMulNBits",
                [node.input[0], *inputs],
                node.output,
                domain="com.microsoft",
                K=depth,
                N=width,
                bits=8,
                block_size=BLOCK,
                accuracy_level=4,
            )
            self.nodes[id(node)] = [product]
        if all(one.domain != "com.microsoft" for one in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def blocks(matrix: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Round a matrix [K, N] in blocks along K.

    Returns:
        uint8 [N, K / 32, 32], in which 128 stands for zero, and the scales float32 [N, K / 32].
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
