"""The two sides of a run as ONNX graphs, with projection, pooling and normalisation inside.

Both are traced by torch's exporter. A vision backbone that is ONNX already is joined to the graph
of its head. Layers that would be traced with the shapes of the example in them are written out
here; they compute the same ("Two networks" of the method page).
"""

import contextlib
import io
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl2cm.encode.clip.text import TextSide
from cl2cm.encode.vision import OnnxVision
from cl2cm.encode.vision_hf import HuggingFaceVision
from cl2cm.errors import EncoderError
from cl2cm.export.joining import join, read_backbone
from cl2cm.export.runtime import OUTPUT
from cl2cm.model.networks import Head, MeanOfFrames, Pooled, VisionHead, masked_mean
from cl2cm.model.retrieval import RetrievalModel

OPSET = 17
TEXT_INPUTS, VISION_INPUTS = ("ids", "mask"), ("frames", "mask")


def text_graph(model: RetrievalModel, *, dim: int = 0) -> Any:  # noqa: ANN401 - onnx has no types
    """Return the graph ids int64 [B, T], mask bool [B, T] → unit vectors float32 [B, D].

    Args:
        model: the run.
        dim: D; 0: as wide as the model's.
    """
    backbone: Any = model.backbone
    off_the_shelf = isinstance(backbone, TextSide)
    one = backbone.ids(["a"])[0] if off_the_shelf else backbone.tokenize(["a"])[0]
    ids = torch.tensor([[*one] * 2] * 2)
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, ids.shape[1] // 2 :] = False
    axes = {"ids": {0: "B", 1: "T"}, "mask": {0: "B", 1: "T"}, OUTPUT: {0: "B"}}
    side = _OffTheShelf(backbone) if off_the_shelf else _TextSide(model)
    return _trace(_Prefix(side, dim).eval(), (ids, mask), TEXT_INPUTS, axes)


def vision_graph(model: RetrievalModel, *, dim: int = 0) -> Any:  # noqa: ANN401
    """Return the graph frames [B, F, …], mask bool [B, F] → unit vectors float32 [B, D].

    Frames are pixels uint8 [B, F, size, size, 3]; of a run on stored features they are those
    features, float32 [B, F, D_v].

    Args:
        model: the run.
        dim: D; 0: as wide as the model's.

    Raises:
        EncoderError: the vision backbone cannot be put into a graph.
    """
    known = model.student.vision
    side = known if isinstance(known, MeanOfFrames) else _VisionSide(known)
    head = _Prefix(side, dim).eval()
    mask = torch.tensor([[True, True], [True, False]])
    axes = {"frames": {0: "B", 1: "F"}, "mask": {0: "B", 1: "F"}, OUTPUT: {0: "B"}}
    vision = model.vision
    if isinstance(vision, HuggingFaceVision):
        size = vision.preprocess.size
        frames = torch.zeros(2, 2, size, size, 3, dtype=torch.uint8)
        return _trace(_WithBackbone(vision, head).eval(), (frames, mask), VISION_INPUTS, axes)
    features = torch.linspace(-1, 1, 4 * vision.width).reshape(2, 2, vision.width)
    if not isinstance(vision, OnnxVision):  # stored features
        return _trace(head, (features, mask), VISION_INPUTS, axes)
    backbone = read_backbone(vision.folder / "model.onnx", OPSET)
    opset = next(one.version for one in backbone.opset_import if one.domain in ("", "ai.onnx"))
    return join(backbone, _trace(head, (features, mask), VISION_INPUTS, axes, opset=opset))


def _trace(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    names: tuple[str, ...],
    axes: dict[str, dict[int, str]],
    *,
    opset: int = OPSET,
) -> Any:  # noqa: ANN401
    import onnx  # noqa: PLC0415 - heavy

    file = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # about constants in the trace; the parity test finds them
        try:
            torch.onnx.export(
                module,
                inputs,
                file,  # type: ignore[arg-type]
                input_names=list(names),
                output_names=[OUTPUT],
                dynamic_axes=axes,
                opset_version=opset,
                dynamo=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:  # it prints the graph, too
            raise EncoderError(
                "export",
                expected="a model whose operations ONNX has",
                found=str(error).splitlines()[0][:120],
                remedy="choose another checkpoint, such as one of a fixed size in place of NaFlex",
            ) from None
    return onnx.ModelProto.FromString(file.getvalue())


# --- the networks, so that they can be traced ------------------------------------------------


class _Prefix(nn.Module):
    """The first numbers of a side's vectors, as unit vectors."""

    def __init__(self, side: nn.Module, dim: int) -> None:
        super().__init__()
        self.side, self.dim = side, dim

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        vectors: Tensor = self.side(values, mask)
        return F.normalize(vectors[:, : self.dim], dim=-1) if self.dim else vectors


class _TextSide(nn.Module):
    def __init__(self, model: RetrievalModel) -> None:
        super().__init__()
        self.backbone = model.backbone.model
        self.head = model.student.text
        self.layers = _layers(self.head)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        found = self.backbone(input_ids=ids, attention_mask=mask.to(torch.int64))
        states = found.last_hidden_state
        normal = self.head.normal(states)
        tokens = self.head.linear(normal)
        for layer in self.layers:
            tokens = layer(tokens, mask)
        seen = self.head.of_adapters(states, normal, mask)
        pooled = Pooled(seen, masked_mean(tokens, mask))
        return self.head.sentence(pooled)


class _OffTheShelf(nn.Module):
    """The text side of an off-the-shelf model, with the padding that some have."""

    def __init__(self, text: TextSide) -> None:
        super().__init__()
        self.text = text

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        if self.text.contract.fixed:
            ids = self._padded(ids, mask)
            mask = torch.ones_like(ids, dtype=torch.bool)
        return F.normalize(self.text.model(ids, mask), dim=-1)

    def _padded(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return ids [B, T] as [B, longest], each text at the side that it is on."""
        text, longest = self.text, self.text.contract.max_tokens
        lengths = mask.to(torch.int64).sum(1, keepdim=True)
        places = torch.arange(longest)[None] - (
            longest - lengths if text.pads_left else 0 * lengths
        )
        last = torch.full_like(lengths, ids.shape[1] - 1)
        found = ids.gather(1, torch.minimum(places.clamp(min=0), last))
        return torch.where((places >= 0) & (places < lengths), found, text.special.pad)


class _VisionSide(nn.Module):
    """The vision head without a branch: videos and images take both ways, and one is kept."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        assert isinstance(head, VisionHead)  # noqa: S101 - as runs have it
        self.head = head
        self.layers = _layers(head)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        values = moved = self.head.positions(frames)
        for layer in self.layers:
            moved = layer(moved, mask)
        film = (mask.to(torch.int64).sum(1) > 1)[:, None, None]
        return self.head.pool(torch.where(film, moved, values), mask)


class _WithBackbone(nn.Module):
    def __init__(self, vision: HuggingFaceVision, head: nn.Module) -> None:
        super().__init__()
        self.vision, self.model, self.head = vision, vision.model, head

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        features = self.vision.features(frames.flatten(0, 1))
        return self.head(features.reshape(frames.shape[0], frames.shape[1], -1), mask)  # type: ignore[no-any-return]


def _layers(head: Head) -> nn.ModuleList:
    return nn.ModuleList(_Layer(layer) for layer in head.transformer.layers)


class _Layer(nn.Module):
    """A pre-norm ``nn.TransformerEncoderLayer`` in plain operations, for any B and T."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        if not isinstance(layer, nn.TransformerEncoderLayer) or not layer.norm_first:
            raise EncoderError(
                "export",
                expected="pre-norm transformer layers",
                found=type(layer).__name__,
                remedy="export a run of this version",
            )
        self.layer = layer
        self.heads = layer.self_attn.num_heads

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        layer, attention = self.layer, self.layer.self_attn
        packed = F.linear(layer.norm1(values), attention.in_proj_weight, attention.in_proj_bias)
        rows, places = values.shape[0], values.shape[1]
        width = attention.embed_dim
        # [B, T, 3 D] -> [3, B, heads, T, D / heads]
        split = packed.reshape(rows, places, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-1, -2) * (width // self.heads) ** -0.5
        scores = scores.masked_fill(~mask[:, None, None, :], torch.finfo(torch.float32).min)
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(rows, places, width)
        values = values + attention.out_proj(mixed)
        return values + layer.linear2(F.gelu(layer.linear1(layer.norm2(values))))  # type: ignore[no-any-return]
