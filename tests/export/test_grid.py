"""Weights that were rounded before are found on their grid, and stay exact in a graph."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from cl2cm.export import precision
from cl2cm.export.grid import grid_of, packed

RNG = np.random.default_rng(0)


def on_grid(rows, depth):
    codes = RNG.integers(-8, 8, (rows, depth // 32, 32))
    codes[..., 0] = -8  # the number that is farthest from zero
    scales = (RNG.normal(size=(rows, depth // 32, 1)) + 3).astype(np.float16).astype(np.float32)
    return (codes * scales).astype(np.float32).reshape(rows, depth)


def test_the_grid_is_found_and_exact():
    rows = on_grid(5, 96)
    codes, scales = grid_of(rows)
    np.testing.assert_array_equal((codes * scales[..., None]).reshape(5, 96), rows)
    assert (codes.min(), codes.max()) == (-8, 7)


def test_blocks_of_zeros_and_of_either_sign_are_on_it():
    rows = np.concatenate([on_grid(2, 64), -on_grid(2, 64), np.zeros((1, 64), np.float32)])
    assert grid_of(rows) is not None


@pytest.mark.parametrize(
    "rows", [RNG.normal(size=(4, 64)).astype(np.float32), on_grid(4, 64)[:, :40]]
)
def test_other_weights_are_on_none(rows):
    assert grid_of(rows) is None


def test_packed_by_a_slow_loop():
    rows = on_grid(3, 64)
    codes, scales = packed(grid_of(rows))
    for row in range(3):
        for column in range(64):
            at = divmod(column, 32)
            pair = int(codes[row, at[0], at[1] // 2])
            code = (pair >> 4 if at[1] % 2 else pair & 15) - 8
            assert code * scales[row, at[0]] == rows[row, column]


def test_a_graph_keeps_them_exactly_and_the_rest_as_it_is(monkeypatch):
    monkeypatch.setattr(precision, "SMALL", 256)
    table, query, head = on_grid(40, 32), on_grid(64, 32).T, RNG.normal(size=(64, 8))
    names = {"table": table, "query": query, "head": head.astype(np.float32)}
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["taken"]),
            helper.make_node("MatMul", ["taken", "query"], ["states"], name="/layer/query/MatMul"),
            helper.make_node("MatMul", ["states", "head"], ["vectors"], name="/head/MatMul"),
        ],
        "small",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["B", "T"])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["B", "T", 8])],
        [numpy_helper.from_array(np.ascontiguousarray(v), n) for n, v in names.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    made = precision.at_precision(model, "int8")
    ids = RNG.integers(0, 40, (2, 5))
    found, wanted = (
        onnxruntime.InferenceSession(m.SerializeToString()).run(None, {"ids": ids})[0]
        for m in (made, model)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)
    assert [node.op_type for node in made.graph.node if "MatMul" in node.op_type] == [
        "MatMulNBits",
        "MatMul",
    ]
    onnx.checker.check_model(made)
