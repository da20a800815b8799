"""A pre-norm residual sublayer, x + f(LayerNorm(x)), as a post-norm model of Transformers.

sentence-transformers runs models of Transformers one after the other, but knows no pre-norm layers
on top of an encoder, and a post-norm ``XLMModel`` normalises every sum. Two facts make it exact:

- Beside a large constant, layer normalisation only multiplies by a constant: with ±C in two more
  places, the variance of a state is determined by C, up to (|x| / C)². An offset that it subtracts
  from every place is read at a place that is otherwise empty.
- gelu(z) − gelu(−z) = z, so a feed-forward layer can subtract what it is given.

The first layer removes the constant, so that its norm is the wanted one, and the second computes f
and puts the constant back. ``WeightedLayerPooling`` adds the state before the first layer, which
has x, to the state after the second, which has f. The places are X (x or its norm), F (f) and the
rest: S (empty) and K (the constant).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

LARGE = 1000.0  # how much larger the constant is than what is beside it


class Map(NamedTuple):
    """A linear map of tokens: weight [out, in] and bias [out], in float64."""

    weight: Tensor
    bias: Tensor

    def after(self, other: "Map") -> "Map":
        """Return this map applied to the result of another."""
        return Map(self.weight @ other.weight, self.weight @ other.bias + self.bias)


class Sublayer(NamedTuple):
    """A sublayer as a model.

    enter: from x to what the model is given; leave: from the mean of its first and last states to
    x + f; config and tensors: of an
    ``XLMModel`` without positions; width: of its states.
    """

    enter: Map
    leave: Map
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    width: int


def attention(layer: nn.TransformerEncoderLayer, scales: tuple[float, float]) -> Sublayer:
    """Return the self-attention of a layer.

    Args:
        layer: pre-norm, with GELU.
        scales: the largest root mean squares of x and of f beside the norm of x.
    """
    made = _Model(layer, layer.norm1, scales)
    inner, dim, x = layer.self_attn, made.dim, made.x
    weights, biases = inner.in_proj_weight.double(), inner.in_proj_bias.double()
    for name, weight, bias in zip("qkv", weights.chunk(3), biases.chunk(3), strict=True):
        read = made.of_norm(weight, bias)
        made.put(f"attentions.1.{name}_lin", rows=slice(0, dim), columns=x, values=read)
    out = Map(inner.out_proj.weight.double(), inner.out_proj.bias.double())
    made.put("attentions.1.out_lin", rows=made.f, columns=slice(0, dim), values=out)
    made.subtract_norm()
    return made.sublayer()


def feed_forward(layer: nn.TransformerEncoderLayer, scales: tuple[float, float]) -> Sublayer:
    """Return the feed-forward part of a layer; see `attention`."""
    made = _Model(layer, layer.norm2, scales)
    up, down, beside = layer.linear1, layer.linear2, made.beside[1]
    first = made.subtract_norm()
    hidden = slice(first, first + up.out_features)
    read = made.of_norm(up.weight.double() * beside, up.bias.double(), affine=beside)
    made.put("ffns.1.lin1", rows=hidden, columns=made.x, values=read)
    lin1 = made.tensors["ffns.1.lin1.weight"]
    lin1[hidden, made.empty] = -read.weight.sum(1)
    out = Map(down.weight.double() / beside, down.bias.double() / beside)
    made.put("ffns.1.lin2", rows=made.f, columns=hidden, values=out)
    return made.sublayer()


class _Model:
    """The tensors of a sublayer's model, in float64, with what all sublayers have in common."""

    def __init__(
        self, layer: nn.TransformerEncoderLayer, norm: nn.LayerNorm, scales: tuple[float, float]
    ) -> None:
        self.norm, self.dim = norm, layer.self_attn.embed_dim
        heads = layer.self_attn.num_heads
        head = self.dim // heads
        more = -(-3 // head)  # heads that make room for three places
        self.width, self.heads = (2 * heads + more) * head, 2 * heads + more
        self.x, self.f = slice(0, self.dim), slice(self.dim, 2 * self.dim)
        self.empty, self.constant = 2 * self.dim, [2 * self.dim + 1, 2 * self.dim + 2]
        self.beside = tuple(LARGE * max(scale, 1e-3) for scale in scales)
        self.constants = [one * (self.width / 2) ** 0.5 for one in self.beside]
        self.eps = norm.eps * self.dim / (self.width * self.beside[0] ** 2)
        self.tensors = _zeros(self.width)
        self._remove_constant()
        bias = self.tensors["attentions.1.out_lin.bias"]
        bias[self.constant] = torch.tensor([1.0, -1.0]).double() * self.constants[1]

    def put(self, name: str, *, rows: slice, columns: slice, values: Map) -> None:
        self.tensors[f"{name}.weight"][rows, columns] = values.weight
        self.tensors[f"{name}.bias"][rows] = values.bias

    def of_norm(self, weight: Tensor, bias: Tensor, *, affine: float = 1.0) -> Map:
        """Return a map of LayerNorm(x) as a map of x without mean, of unit variance."""
        scale, shift = self.norm.weight.double(), self.norm.bias.double()
        return Map(weight * scale, bias + weight @ shift / affine)

    def subtract_norm(self) -> int:
        """Let the second layer take away what it was given in X; returns the hidden units used."""
        what = torch.zeros(self.dim, self.width).double()
        what[:, self.x] = torch.eye(self.dim)
        what[:, self.empty] = -1
        to = torch.zeros(self.width, self.dim).double()
        to[self.x] = torch.eye(self.dim)
        return self._subtract(1, what, to)

    def sublayer(self) -> Sublayer:
        count = self.dim
        enter = torch.zeros(self.width, count).double()
        enter[self.x] = torch.eye(count)
        bias = torch.zeros(self.width).double()
        bias[self.constant] = torch.tensor([1.0, -1.0]).double() * self.constants[0]
        leave = torch.zeros(count, self.width).double()
        leave[:, self.x] = torch.eye(count) * 2 * self.beside[0]
        leave[:, self.f] = torch.eye(count) * 2 * self.beside[1]
        leave[:, self.empty] = -2 * (self.beside[0] + self.beside[1])
        nothing = torch.zeros(count).double()
        tensors = {name: value.float().contiguous() for name, value in self.tensors.items()}
        return Sublayer(Map(enter, bias), Map(leave, nothing), self._config(), tensors, self.width)

    def _config(self) -> dict[str, Any]:
        return {
            "architectures": ["XLMModel"],
            "model_type": "xlm",
            "emb_dim": self.width,
            "n_heads": self.heads,
            "n_layers": 2,
            "vocab_size": 2,
            "pad_token_id": 0,
            "layer_norm_eps": self.eps,
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "gelu_activation": True,
            "use_lang_emb": False,
            "output_hidden_states": True,
        }

    def _remove_constant(self) -> None:
        """Let the first layer leave x without its mean, and nothing else."""
        rest = [i for i in range(self.dim, self.width) if i not in self.constant]
        what = torch.zeros(4, self.width).double()
        what[0, self.x] = 1 / self.dim
        what[1, self.empty] = 1
        what[2, self.constant[0]] = what[3, self.constant[1]] = 1
        to = torch.zeros(self.width, 4).double()
        to[self.x, 0] = 1
        to[rest, 1] = 1
        to[self.constant[0], 2] = to[self.constant[1], 3] = 1
        self._subtract(0, what, to)
        self.tensors["layer_norm2.0.weight"][:] = (self.dim / self.width) ** 0.5

    def _subtract(self, layer: int, what: Tensor, to: Tensor) -> int:
        """Subtract linear functions of the state, by gelu(z) - gelu(-z) = z."""
        count = len(what)
        lin1, lin2 = (self.tensors[f"ffns.{layer}.lin{i}.weight"] for i in (1, 2))
        lin1[:count], lin1[count : 2 * count] = what, -what
        lin2[:, :count], lin2[:, count : 2 * count] = -to, to
        return 2 * count


def _zeros(width: int) -> dict[str, Tensor]:
    """Return the tensors of a model of two layers that changes nothing but norms."""
    shapes: dict[str, tuple[int, ...]] = {"embeddings.weight": (2, width)}
    for layer in range(2):
        linear = {f"attentions.{layer}.{name}_lin": (width, width) for name in ("q", "k", "v")}
        linear[f"attentions.{layer}.out_lin"] = (width, width)
        linear[f"ffns.{layer}.lin1"] = (4 * width, width)
        linear[f"ffns.{layer}.lin2"] = (width, 4 * width)
        for name, shape in linear.items():
            shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    norms = ["layer_norm_emb", *(f"layer_norm{i}.{layer}" for i in (1, 2) for layer in range(2))]
    tensors = {name: torch.zeros(shape).double() for name, shape in shapes.items()}
    for name in norms:
        tensors |= {f"{name}.weight": torch.ones(width).double()}
        tensors |= {f"{name}.bias": torch.zeros(width).double()}
    return tensors
