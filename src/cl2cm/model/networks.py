"""The two networks of the method page: cross-lingual (teacher) and cross-modal (student).

Both use the same text side: backbone states [B, T, D_b] -> projection to D -> a light transformer
-> masked mean -> unit sentence vector, and unit token vectors. The vision side projects frame
features [B, F, D_v], passes videos through a temporal transformer (the identity at F = 1), and
takes the masked mean. All that is beside the linear projection starts at zero, so that
training starts from what the backbone already knows.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl2cm.errors import NumberError
from cl2cm.model.settings import NetworkConfig
from cl2cm.types import Encoded, Frames, Tokens


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the valid positions: values [B, T, D], mask bool [B, T] -> [B, D]."""
    weights = mask.unsqueeze(-1).to(values.dtype)
    return (values * weights).sum(1) / weights.sum(1).clamp(min=1)


class IdentityTransformer(nn.Module):
    """Pre-norm transformer layers on [B, T, D] whose residual branches start at zero."""

    def __init__(self, dim: int, *, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim,
                heads,
                dim_feedforward=dim,
                dropout=dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(layers)
        )
        for name, parameter in self.named_parameters():
            if "out_proj" in name or "linear2" in name:
                nn.init.zeros_(parameter)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Map values [B, T, D] and mask bool [B, T] -> [B, T, D]."""
        for layer in self.layers:
            values = layer(values, src_key_padding_mask=~mask)
        return values


class Whitening(nn.Module):
    """A fixed map x -> (x - mean) W that whitens its inputs; initially the identity.

    Sentence encoders keep all texts in a narrow cone. A head that starts there spends its first
    epochs, and its capacity to overfit, on getting out of it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.matrix: Tensor
        self.fixed = False  # fitted to the texts of an earlier training
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("matrix", torch.eye(width))

    @torch.no_grad()
    def fit(self, values: Tensor, *, ridge: float) -> None:
        """Take mean and covariance of values [N, width], N > 1.

        W is the symmetric (C + ridge · mean eigenvalue · I)^(-1/2), in float64: the ridge keeps
        directions that hardly vary from being blown up.

        Raises:
            NumberError: the values do not vary, or are not finite.
        """
        exact = values.double()
        covariance = torch.cov(exact.T) if len(exact) > 1 else torch.zeros(0)
        if not covariance.numel() or not float(covariance.diagonal().sum()) > 0:  # NaN, too
            raise NumberError(
                "network.whitening",
                expected="texts whose states differ",
                found=f"{len(exact)} texts whose states are all the same, or not finite",
                remedy="set network.whitening to 0, or check the texts and the text encoder",
            )
        eigenvalues, vectors = torch.linalg.eigh(covariance)
        scale = (eigenvalues.clamp(min=0) + ridge * eigenvalues.mean()).rsqrt()
        self.mean.copy_(exact.mean(0))
        self.matrix.copy_(vectors * scale @ vectors.T)

    def forward(self, values: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        whitened: Tensor = (values - self.mean) @ self.matrix
        return whitened


class Head(nn.Module):
    """Backbone features to the shared space, for either side.

    Layer norm and a linear map for every position; the transformer; the masked mean; and on the
    mean a two-layer map that is added to it and starts at zero. The last is our choice: it costs
    one position instead of T, and heads without it matched worse.
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
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=not whiten)
        self.whitening = Whitening(width) if whiten else None
        self.linear = nn.Linear(width, dim)
        self.transformer = IdentityTransformer(dim, layers=layers, heads=heads, dropout=dropout)
        self.up = nn.Linear(dim, 2 * dim)
        self.down = nn.Linear(2 * dim, dim)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def positions(self, values: Tensor) -> Tensor:
        """[B, T, D_in] -> [B, T, D], before the transformer."""
        normal = self.norm(values)
        if self.whitening is not None:
            normal = self.whitening(normal)
        projected: Tensor = self.linear(normal)
        return projected

    def of_means(self, means: Tensor) -> Tensor:
        """Return the unit vectors [B, D] from the means [B, D_in] of normalised positions.

        Without transformer layers all is linear from the layer norm's scale to the mean, so the
        mean may be taken first: the same vectors, T times cheaper.
        """
        if self.whitening is not None:
            normal = self.whitening(means)
        else:
            normal = means * self.norm.weight + self.norm.bias
        return self.residual(self.linear(normal))

    def pool(self, values: Tensor, mask: Tensor) -> Tensor:
        """[B, T, D], mask bool [B, T] -> unit vectors [B, D]."""
        return self.residual(masked_mean(values, mask))

    def residual(self, mean: Tensor) -> Tensor:
        """Map the mean [B, D] -> unit vectors [B, D]."""
        return F.normalize(mean + self.down(self.dropout(F.gelu(self.up(mean)))), dim=-1)


class TextHead(Head):
    """Text side of either network, on backbone states."""

    def forward(self, states: Tensor, mask: Tensor, content: Tensor) -> Encoded:
        """Return states [B, T, D_b] -> Encoded; ``content`` is the mask without special tokens."""
        tokens = self.transformer(self.positions(states), mask)
        return Encoded(
            sentence=self.pool(tokens, mask),
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
            sentence = self.text.of_means(tokens.values.squeeze(1))
            nothing = torch.zeros_like(tokens.mask)
            return Encoded(sentence, sentence[:, None], nothing, nothing.to(sentence.dtype))
        states = tokens.values
        if self.backbone is not None:
            states = self.backbone(tokens.values, tokens.mask)
        encoded: Encoded = self.text(states, tokens.mask, tokens.content)
        return encoded


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


def build_vision_head(network: NetworkConfig, width: int) -> VisionHead:
    """Return a fresh head on frame features of width D_v."""
    return _head(VisionHead, width, network)


def _head(kind: type[AnyHead], width: int, network: NetworkConfig) -> AnyHead:
    return kind(
        width,
        network.dim,
        layers=network.layers,
        heads=network.heads,
        dropout=network.dropout,
        whiten=kind is TextHead and network.whitening > 0,
    )
