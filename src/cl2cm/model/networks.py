"""The two networks of the method page: cross-lingual (teacher) and cross-modal (student).

Both use the same text side: backbone states [B, T, D_b] -> projection to D -> a light transformer
-> masked mean -> unit sentence vector, and unit token vectors. The vision side projects frame
features [B, F, D_v], passes videos through a temporal transformer (the identity at F = 1), and
takes the masked mean. All that is beside the linear projection starts at zero, so that
training starts from what the backbone already knows.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl2cm.model.adapter import LanguageAdapter
from cl2cm.model.settings import NetworkConfig, require
from cl2cm.model.transformer import IdentityTransformer
from cl2cm.model.whitening import Whitening
from cl2cm.types import Encoded, Frames, Tokens


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the valid positions: values [B, T, D], mask bool [B, T] -> [B, D]."""
    weights = mask.unsqueeze(-1).to(values.dtype)
    return (values * weights).sum(1) / weights.sum(1).clamp(min=1)


class Head(nn.Module):
    """Backbone features to the shared space, for either side.

    Layer norm and a linear map for every position; the transformer; the masked mean; and on the
    mean a two-layer map that is added to it and starts at zero. The last is our choice: it costs
    one position instead of T, and heads without it matched worse. A text head has an adapter for
    each language that was added later.
    """

    def __init__(
        self,
        width: int,
        dim: int,
        *,
        layers: int,
        heads: int,
        dropout: float,
        whiten: bool = False,
        adapters: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=not whiten)
        self.whitening = Whitening(width) if whiten else None
        self.linear = nn.Linear(width, dim)
        self.transformer = IdentityTransformer(dim, layers=layers, heads=heads, dropout=dropout)
        self.up = nn.Linear(dim, 2 * dim)
        self.down = nn.Linear(2 * dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.adapters = nn.ModuleList(
            LanguageAdapter(width, dim, inner, whiten=not whiten) for inner in adapters
        )
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def normal(self, values: Tensor) -> Tensor:
        """[B, T, D_in] -> [B, T, D_in], normalised and whitened."""
        normal: Tensor = self.norm(values)
        return normal if self.whitening is None else self.whitening(normal)

    def positions(self, values: Tensor) -> Tensor:
        """[B, T, D_in] -> [B, T, D], before the transformer."""
        projected: Tensor = self.linear(self.normal(values))
        return projected

    def pool(self, values: Tensor, mask: Tensor) -> Tensor:
        """[B, T, D], mask bool [B, T] -> unit vectors [B, D]."""
        return self.residual(masked_mean(values, mask))

    def residual(self, mean: Tensor) -> Tensor:
        """Map the mean [B, D] -> unit vectors [B, D]."""
        return F.normalize(self.unscaled(mean), dim=-1)

    def unscaled(self, mean: Tensor) -> Tensor:
        """Map the mean [B, D] -> vectors [B, D] before normalisation."""
        vectors: Tensor = mean + self.down(self.dropout(F.gelu(self.up(mean))))
        return vectors


class Pooled(NamedTuple):
    """Masked means over a text's positions, from which its vector is computed.

    states: [B, D_b], of states after a layer norm without scale, whitened if the head whitens;
    mean: [B, D], of transformed positions.
    """

    states: Tensor
    mean: Tensor


class TextHead(Head):
    """Text side of either network, on backbone states."""

    def pooled(self, states: Tensor, mask: Tensor) -> tuple[Pooled, Tensor]:
        """Map states [B, T, D_b] -> their means, and transformed positions [B, T, D]."""
        normal = self.normal(states)
        tokens = self.transformer(self.linear(normal), mask)
        return Pooled(self.of_adapters(states, normal, mask), masked_mean(tokens, mask)), tokens

    def of_adapters(self, states: Tensor, normal: Tensor, mask: Tensor) -> Tensor:
        """Return what adapters see of states [B, T, D_b] and `normal` of them -> [B, D_b]."""
        plain = self.whitening is not None or not self.adapters
        seen = normal if plain else F.layer_norm(states, self.norm.normalized_shape)
        return masked_mean(seen, mask)

    def of_means(self, means: Tensor) -> Pooled:
        """Pool means [B, D_b] of states that went through a layer norm without its scale.

        Without transformer layers all is linear from the layer norm's scale to the mean, so the
        mean may be taken first: the same vectors, T times cheaper.
        """
        if self.whitening is not None:
            normal = means = self.whitening(means)
        else:
            normal = means * self.norm.weight + self.norm.bias
        return Pooled(means, self.linear(normal))

    def sentence(self, pooled: Pooled, *, adapters: int | None = None) -> Tensor:
        """Return unit vectors [B, D], with the first so many adapters (None: all)."""
        vectors = self.unscaled(pooled.mean)
        for adapter in self.adapters[:adapters]:
            vectors = vectors + adapter(pooled.states)
        return F.normalize(vectors, dim=-1)

    def forward(self, states: Tensor, mask: Tensor, content: Tensor) -> Encoded:
        """Return states [B, T, D_b] -> Encoded; ``content`` is the mask without special tokens."""
        pooled, tokens = self.pooled(states, mask)
        return Encoded(
            sentence=self.sentence(pooled),
            tokens=F.normalize(tokens, dim=-1),
            mask=content,
            salience=tokens.norm(dim=-1) * content,
        )


class VisionHead(Head):
    """Vision side of the cross-modal network; an image, one frame, skips the transformer."""

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Map frames [B, F, D_v], mask bool [B, F] -> unit vectors [B, D]."""
        values = self.positions(frames)
        films = mask.sum(1) > 1
        if bool(films.any()):
            moved = self.transformer(values[films], mask[films])
            values = values.index_put((films.nonzero().squeeze(1),), moved.to(values.dtype))
        return self.pool(values, mask)


class MeanOfFrames(nn.Module):
    """The vision side of a model that needs no head: the mean of its frames' unit vectors."""

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Map frames [B, F, D], mask bool [B, F] -> unit vectors [B, D]."""
        return F.normalize(masked_mean(F.normalize(frames, dim=-1), mask), dim=-1)


In = TypeVar("In", Tokens, Frames)
Out = TypeVar("Out", Encoded, Tensor)


class OverRows(Protocol):
    """How the rows of a batch are encoded, at once or divided; the result is the same."""

    def __call__(self, network: nn.Module, encode: Callable[[In], Out], rows: In) -> Out:
        """Return the encoding of all rows."""
        ...


def at_once(network: nn.Module, encode: Callable[[Any], Any], rows: Any) -> Any:  # noqa: ANN401, ARG001
    """Encode all rows at once."""
    return encode(rows)


class TextNetwork(nn.Module):
    """The text side that both networks share: a head on a backbone.

    Args:
        head: text head.
        backbone: turns ids into states; None if the tokens are frozen states already.

    Attributes:
        over_rows: how the rows of a batch are encoded; a training may divide them.
    """

    def __init__(self, head: TextHead, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.text = head
        self.backbone = backbone
        self.over_rows: OverRows = at_once

    def encode_text(self, tokens: Tokens) -> Encoded:
        """Encode ids or states; see Tokens. Of means, the sentence vectors alone mean something."""
        return self.over_rows(self, self._encode_text, tokens)

    def _encode_text(self, tokens: Tokens) -> Encoded:
        if tokens.pooled:
            sentence = self.text.sentence(self.pooled(tokens))
            nothing = torch.zeros_like(tokens.mask)
            return Encoded(sentence, sentence[:, None], nothing, nothing.to(sentence.dtype))
        encoded: Encoded = self.text(self._states(tokens), tokens.mask, tokens.content)
        return encoded

    def pooled(self, tokens: Tokens) -> Pooled:
        """Return what the head's sentence vectors are computed from."""
        if tokens.pooled:
            return self.text.of_means(tokens.values.squeeze(1))
        return self.text.pooled(self._states(tokens), tokens.mask)[0]

    def _states(self, tokens: Tokens) -> Tensor:
        if self.backbone is None:
            return tokens.values
        states: Tensor = self.backbone(tokens.values, tokens.mask)
        return states


class CrossLingualNetwork(TextNetwork):
    """The teacher, which consists of a text side."""


class CrossModalNetwork(TextNetwork):
    """The student, which alone does the search: a text side and a vision side."""

    def __init__(
        self, head: TextHead, vision: nn.Module, backbone: nn.Module | None = None
    ) -> None:
        super().__init__(head, backbone)
        self.vision = vision

    def encode_frames(self, frames: Frames) -> Tensor:
        """Return the unit vectors [B, D] of frame features."""
        return self.over_rows(self, self._encode_frames, frames)

    def _encode_frames(self, frames: Frames) -> Tensor:
        vectors: Tensor = self.vision(frames.values, frames.mask)
        return vectors


def same_picture(pictures: Tensor) -> Tensor:
    """Return the pairs of rows that show one image: int64 [B] -> bool [B, B]."""
    return torch.eq(pictures[:, None], pictures[None, :])


AnyHead = TypeVar("AnyHead", TextHead, VisionHead)


def build_student(
    network: NetworkConfig, *, text_width: int, vision_width: int, backbone: nn.Module | None = None
) -> CrossModalNetwork:
    """Return a cross-modal network with fresh heads."""
    text = _head(TextHead, text_width, network)
    return CrossModalNetwork(text, build_vision_head(network, vision_width), backbone)


def build_teacher(
    network: NetworkConfig, *, text_width: int, backbone: nn.Module | None = None
) -> CrossLingualNetwork:
    """Return a cross-lingual network with a fresh head."""
    return CrossLingualNetwork(_head(TextHead, text_width, network), backbone)


def build_vision_head(network: NetworkConfig, width: int) -> VisionHead | MeanOfFrames:
    """Return a fresh head on frame features of width D_v, or none where the settings say so.

    Raises:
        ConfigError: features are the vectors, and have another width than these.
    """
    if not network.vision_head:
        require("network.dim", network.dim == width, f"{width}, as of the images", network.dim)
        return MeanOfFrames()
    return _head(VisionHead, width, network)


def _head(kind: type[AnyHead], width: int, network: NetworkConfig) -> AnyHead:
    is_text = kind is TextHead
    return kind(
        width,
        network.dim,
        layers=network.layers,
        heads=network.heads,
        dropout=network.dropout,
        whiten=is_text and network.whitening > 0,
        adapters=[network.adapter_width] * len(network.adapters) if is_text else (),
    )
