"""Join a vision backbone that is an ONNX graph already to the graph of its head."""

from pathlib import Path
from typing import Any

from cl2cm.encode.onnx_files import check_graph
from cl2cm.export.runtime import OUTPUT


def read_backbone(path: Path, opset: int) -> Any:  # noqa: ANN401 - onnx has no types
    """Return the graph in a file and in those beside it, of at least a version of the operators."""
    import onnx  # noqa: PLC0415 - heavy

    check_graph(path)
    model = onnx.load(path)  # weights beside it are taken into the graph
    versions = {one.domain: one.version for one in model.opset_import}
    if versions.get("", versions.get("ai.onnx", 0)) < opset:
        model = onnx.version_converter.convert_version(model, opset)
    return model


def join(backbone: Any, head: Any) -> Any:  # noqa: ANN401
    """Put a backbone (pixels of frames → features) before the graph of its head."""
    from onnx import TensorProto, compose, helper  # noqa: PLC0415

    backbone, head = (
        compose.add_prefix(model, prefix) for model, prefix in ((backbone, "b/"), (head, "h/"))
    )
    size = [one.dim_value for one in backbone.graph.input[0].type.tensor_type.shape.dim[1:]]
    constants = _constants(size, _width_of(backbone.graph))
    graph = helper.make_graph(
        _nodes(backbone.graph, head.graph),
        "vision",
        [
            helper.make_tensor_value_info("frames", TensorProto.UINT8, ["B", "F", *size]),
            helper.make_tensor_value_info("mask", TensorProto.BOOL, ["B", "F"]),
        ],
        [
            helper.make_tensor_value_info(
                OUTPUT, TensorProto.FLOAT, ["B", _width_of(head.graph) or "D"]
            )
        ],
        [*backbone.graph.initializer, *head.graph.initializer, *constants],
    )
    imports = {one.domain: one for one in [*head.opset_import, *backbone.opset_import]}
    return helper.make_model(
        graph,
        opset_imports=list(imports.values()),
        ir_version=max(backbone.ir_version, head.ir_version),
        functions=[*backbone.functions, *head.functions],
        producer_name="cl2cm",
    )


def _nodes(backbone: Any, head: Any) -> list[Any]:  # noqa: ANN401
    """Return the nodes of both graphs, and those that make frames rows and rows frames."""
    from onnx import helper  # noqa: PLC0415

    return [
        helper.make_node("Reshape", ["frames", "flat"], ["b/pixels"]),
        *backbone.node,
        helper.make_node("Shape", ["frames"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "two"], ["rows"]),
        helper.make_node("Concat", ["rows", "width"], ["rows_width"], axis=0),
        helper.make_node("Reshape", ["b/features", "rows_width"], ["h/frames"]),
        helper.make_node("Identity", ["mask"], ["h/mask"]),
        *head.node,
        helper.make_node("Identity", [f"h/{OUTPUT}"], [OUTPUT]),
    ]


def _constants(size: list[int], width: int) -> list[Any]:
    """Return the shapes and places that `_nodes` names."""
    from onnx import TensorProto, helper  # noqa: PLC0415

    values = {"flat": [-1, *size], "width": [width], "two": [2], "zero": [0]}
    return [
        helper.make_tensor(name, TensorProto.INT64, [len(numbers)], numbers)
        for name, numbers in values.items()
    ]


def _width_of(graph: Any) -> int:  # noqa: ANN401
    """Return the width of a graph's output; 0 where it is not fixed."""
    return int(graph.output[0].type.tensor_type.shape.dim[-1].dim_value)
