"""EfficientNet-Lite as an ONNX graph, built node by node from a PyTorch state dict.

It is the vision backbone of "Two networks" of the method page: pixels uint8 [N, H, W, 3] in RGB go
in, pooled features float32 [N, 1280] come out. Normalisation is part of the graph, (pixel - 127) /
128; batch norms are folded into their convolutions; padding is TensorFlow's "same", which puts
the odd pixel after. (M. Tan and Q. V. Le, "EfficientNet", ICML 2019; the Lite family leaves out
squeeze-and-excitation, uses ReLU6, and does not scale stem and head.)
"""

import json
import math
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cl2cm.errors import WeightsError
from cl2cm.types import Floats

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 17, 8
MEAN, STD = 127.0, 128.0  # of pixels in 0 … 255
_BN_EPS = 1e-3
_STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage


class Variant(NamedTuple):
    """A member of the family.

    Attributes:
        size: side of its images, pixels.
        repeats: blocks of each stage.
    """

    size: int
    repeats: tuple[int, ...]


VARIANTS = {
    "efficientnet-lite0": Variant(224, (1, 2, 2, 3, 3, 4, 1)),
    "efficientnet-lite2": Variant(260, (1, 3, 3, 4, 4, 5, 1)),
}
State = Mapping[str, Floats]


def write_efficientnet(folder: Path, weights: bytes, variant: Variant, name: str) -> None:
    """Write ``model.onnx`` and ``preprocess.json``.

    Args:
        folder: an empty folder.
        weights: a PyTorch file with a state dict, whose hash has been checked.
        variant: which member of the family.
        name: what the file is called in messages.

    Raises:
        WeightsError: it is damaged, or another model's.
    """
    model = build_graph(read_state(weights, name), variant, name)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    preprocess = {"size": variant.size, "resize": variant.size, "resample": "bicubic"}
    text = json.dumps(preprocess, indent=2, sort_keys=True) + "\n"
    (folder / "preprocess.json").write_text(text, encoding="utf-8")


def describe_input(variant: Variant) -> dict[str, Any]:
    """Return the preprocessing in words and numbers, for the record."""
    side = variant.size
    return {
        "pixels": f"uint8 [N, {side}, {side}, 3], red green blue, rows from the top",
        "resize": f"shorter side to {side}, bicubic, then the {side} x {side} in the centre",
        "transparency": "on white",
        "normalisation": f"(pixel - {MEAN:g}) / {STD:g}, in the graph",
        "features": "float32 [N, 1280], mean over the last layer's positions",
    }


def read_state(weights: bytes, name: str) -> dict[str, Floats]:
    """Return the float32 arrays of a PyTorch state dict; only tensors are read.

    Raises:
        WeightsError: it is damaged.
    """
    import torch  # noqa: PLC0415 — heavy

    try:
        state = torch.load(BytesIO(weights), map_location="cpu", weights_only=True)
        return {key: value.float().numpy() for key, value in state.items()}
    except Exception as error:  # torch raises whatever its readers raise
        raise WeightsError(
            name, expected="a state dict", found="a damaged file", remedy="fetch it again"
        ) from error


def build_graph(state: State, variant: Variant, name: str) -> "onnx.ModelProto":
    """Return the graph pixels → features.

    Args:
        state: weights, by their names in the state dict.
        variant: which member of the family.
        name: what the weights are called in messages.

    Raises:
        WeightsError: weights are missing, or have another shape.
    """
    builder = _Builder(state, variant.size)
    try:
        builder.input()
        builder.conv("_conv_stem", "_bn0", stride=2)
        _add_blocks(builder, variant)
        builder.conv("_conv_head", "_bn1")
        return builder.finish(name)
    except (KeyError, ValueError, IndexError) as error:
        raise WeightsError(
            name,
            expected="the weights of an EfficientNet-Lite",
            found=f"other weights ({str(error)[:80]})",
            remedy="fetch them again",
        ) from error


def _add_blocks(builder: "_Builder", variant: Variant) -> None:
    strides = [
        stride if first == 0 else 1
        for stride, repeats in zip(_STRIDES, variant.repeats, strict=True)
        for first in range(repeats)
    ]
    for number, stride in enumerate(strides):
        prefix = f"_blocks.{number}."
        before, channels = builder.value, builder.channels
        if f"{prefix}_expand_conv.weight" in builder.state:
            builder.conv(f"{prefix}_expand_conv", f"{prefix}_bn0")
        builder.conv(f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride=stride, depthwise=True)
        builder.conv(f"{prefix}_project_conv", f"{prefix}_bn2", relu=False)
        if stride == 1 and builder.channels == channels:
            builder.add("Add", [builder.value, before])


class _Builder:
    """A chain of nodes; ``value`` is the name of its last output."""

    def __init__(self, state: State, size: int) -> None:
        self.state = state
        self.size = size
        self.side = size  # of the current value, pixels
        self.channels = 3
        self.value = "pixels"
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: Floats) -> str:
        from onnx import numpy_helper  # noqa: PLC0415 — only to convert

        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: object) -> None:
        from onnx import helper  # noqa: PLC0415

        self.value = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [self.value], **attributes))

    def input(self) -> None:
        """Bytes to normalised channels."""
        self.add("Cast", [self.value], to=1)
        self.add("Sub", [self.value, self.constant("mean", np.array(MEAN, np.float32))])
        self.add("Div", [self.value, self.constant("std", np.array(STD, np.float32))])
        self.add("Transpose", [self.value], perm=[0, 3, 1, 2])
        self.constant("zero", np.array(0, np.float32))
        self.constant("six", np.array(6, np.float32))

    def conv(
        self, name: str, norm: str, *, stride: int = 1, depthwise: bool = False, relu: bool = True
    ) -> None:
        """A convolution without bias, its batch norm, and ReLU6."""
        weight, bias = self.fold(name, norm)
        outputs, inputs, kernel, _ = weight.shape
        groups = outputs if depthwise else 1
        if inputs * groups != self.channels:
            raise ValueError(f"{name}: {inputs * groups} channels, not {self.channels}")
        self.add(
            "Conv",
            [self.value, self.constant(f"{name}.weight", weight), self.constant(norm, bias)],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=self.pads(kernel, stride),
            group=groups,
        )
        self.channels, self.side = outputs, math.ceil(self.side / stride)
        if relu:
            self.add("Clip", [self.value, "zero", "six"])

    def fold(self, name: str, norm: str) -> tuple[Floats, Floats]:
        """Return the weight and bias of the convolution and its batch norm in one."""
        scale, shift, mean, variance = (
            self.state[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = scale / np.sqrt(variance + _BN_EPS)
        weight = self.state[f"{name}.weight"] * factor[:, None, None, None]
        return weight.astype(np.float32), (shift - mean * factor).astype(np.float32)

    def pads(self, kernel: int, stride: int) -> list[int]:
        """Return zeros before and after each axis, so that ceil(side / stride) places come out."""
        total = max((math.ceil(self.side / stride) - 1) * stride + kernel - self.side, 0)
        return [total // 2, total // 2, total - total // 2, total - total // 2]

    def finish(self, name: str) -> "onnx.ModelProto":
        """Return the mean over the positions, and the graph as a whole."""
        from onnx import TensorProto, checker, helper  # noqa: PLC0415

        self.add("GlobalAveragePool", [self.value])
        self.add("Flatten", [self.value], "features", axis=1)
        shape = ["N", self.size, self.size, 3]
        graph = helper.make_graph(
            self.nodes,
            "efficientnet-lite",
            [helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape)],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", self.channels])],
            self.constants,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="cl2cm",
            doc_string=name,
        )
        checker.check_model(model)
        return model
