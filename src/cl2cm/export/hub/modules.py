"""The text side of a run as modules of sentence-transformers.

The backbone is a Transformer. The head follows as Dense, LayerNorm, Pooling and Normalize; each of
its transformer layers is two more Transformers (``residual.py``). The two-layer map that is added
to the mean needs no sum: a Dense with GELU gives gelu(U m), gelu(m) and gelu(-m), and the next one
D gelu(U m) + m, since gelu(m) - gelu(-m) = m.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl2cm.export.hub.residual import Map, Sublayer, attention, feed_forward
from cl2cm.model.networks import Head
from cl2cm.storage import write_json

_KIND = "sentence_transformers.models."
_IDENTITY = "torch.nn.modules.linear.Identity"
_GELU = "torch.nn.modules.activation.GELU"
_TOKENS, _SENTENCE, _INPUTS = "token_embeddings", "sentence_embedding", "inputs_embeds"
_TOKENIZER: dict[str, Any] = {  # Transformers wants one of every model; this one is not asked
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"[PAD]": 0, "[UNK]": 1}, "unk_token": "[UNK]"},
}


class Modules:
    """The modules of a folder, in the order in which they are applied.

    The first, the backbone, is in the folder itself.
    """

    def __init__(self, folder: Path, *, max_tokens: int) -> None:
        self.folder, self.max_tokens = folder, max_tokens
        self.listed = [{"idx": 0, "name": "0", "path": "", "type": f"{_KIND}Transformer"}]

    def write_head(self, head: Head, states: Tensor, mask: Tensor, *, dim: int) -> None:
        """Write what follows the backbone.

        Args:
            head: of the text side.
            states: of the backbone for some texts, [B, T, D_b]; numbers are scaled by them.
            mask: bool [B, T].
            dim: width of the vectors; fewer than D: their first places.
        """
        width = head.linear.in_features
        self._dense(Map(torch.eye(width).double(), torch.zeros(width).double()), _TOKENS, _SENTENCE)
        norm = head.norm
        weight = norm.weight if norm.elementwise_affine else torch.ones(width)
        bias = norm.bias if norm.elementwise_affine else torch.zeros(width)
        self._add("LayerNorm", {"dimension": width}, {"norm.weight": weight, "norm.bias": bias})
        read, given = _positions(head), _SENTENCE
        for one in _sublayers(head, states, mask):
            self._dense(one.enter.after(read), given, _INPUTS)
            self._transformer(one)
            read, given = one.leave, _TOKENS
        self._dense(read, given, _TOKENS)
        self._pooled(head, dim)

    def finish(self) -> None:
        """Write the list of the modules."""
        text = json.dumps(self.listed, indent=2)
        (self.folder / "modules.json").write_text(f"{text}\n", encoding="utf-8")

    def _pooled(self, head: Head, dim: int) -> None:
        width = head.up.in_features
        self._add("Pooling", {"embedding_dimension": width, "pooling_mode": "mean"})
        same = torch.eye(width).double()
        up = torch.cat([head.up.weight.double(), same, -same])
        bias = torch.cat([head.up.bias.double(), torch.zeros(2 * width).double()])
        self._dense(Map(up, bias), _SENTENCE, _SENTENCE, activation=_GELU)
        down = torch.cat([head.down.weight.double(), same, -same], dim=1)
        self._dense(Map(down[:dim], head.down.bias.double()[:dim]), _SENTENCE, _SENTENCE)
        self._add("Normalize")

    def _dense(self, of: Map, given: str, made: str, *, activation: str = _IDENTITY) -> None:
        rows, columns = of.weight.shape
        settings = {
            "in_features": columns,
            "out_features": rows,
            "bias": True,
            "activation_function": activation,
            "module_input_name": given,
            "module_output_name": made,
        }
        self._add("Dense", settings, {"linear.weight": of.weight, "linear.bias": of.bias})

    def _transformer(self, one: Sublayer) -> None:
        config = {**one.config, "max_position_embeddings": self.max_tokens}
        positions = {"position_embeddings.weight": torch.zeros(self.max_tokens, one.width)}
        folder = self._add("Transformer", config, {**one.tensors, **positions})
        write_json(folder / "tokenizer.json", _TOKENIZER)
        about = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
        write_json(folder / "tokenizer_config.json", {**about, "unk_token": "[UNK]"})
        write_json(folder / "sentence_bert_config.json", {"max_seq_length": self.max_tokens})
        settings = {"embedding_dimension": one.width, "num_hidden_layers": 2, "layer_start": 0}
        weights = torch.tensor([1.0, 0.0, 1.0])
        self._add("WeightedLayerPooling", settings, {"layer_weights": weights})

    def _add(
        self,
        kind: str,
        settings: Mapping[str, Any] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> Path:
        from safetensors.torch import save_file  # noqa: PLC0415 - heavy

        number = len(self.listed)
        name = f"{number}_{kind}"
        folder = self.folder / name
        folder.mkdir()
        self.listed.append(
            {"idx": number, "name": str(number), "path": name, "type": f"{_KIND}{kind}"}
        )
        write_json(folder / "config.json", dict(settings or {}))
        if tensors:
            whole = {key: value.detach().float().contiguous() for key, value in tensors.items()}
            save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
        return folder


def _positions(head: Head) -> Map:
    """Return whitening and projection as one map."""
    made = Map(head.linear.weight.double(), head.linear.bias.double())
    if head.whitening is None:
        return made
    matrix = head.whitening.matrix.double().T
    return made.after(Map(matrix, -matrix @ head.whitening.mean.double()))


@torch.no_grad()
def _sublayers(head: Head, states: Tensor, mask: Tensor) -> list[Sublayer]:
    """Return the transformer layers of a head, scaled for the states of some texts."""
    tokens, made = head.positions(states), []
    for layer in head.transformer.layers:
        assert isinstance(layer, nn.TransformerEncoderLayer)  # noqa: S101 - as it was built
        normal = layer.norm1(tokens)
        moved = layer.self_attn(normal, normal, normal, key_padding_mask=~mask)[0]
        made.append(attention(layer, _scales(tokens, moved, mask)))
        tokens = tokens + moved
        moved = layer.linear2(F.gelu(layer.linear1(layer.norm2(tokens))))
        made.append(feed_forward(layer, _scales(tokens, moved, mask)))
        tokens = tokens + moved
    return made


def _scales(tokens: Tensor, moved: Tensor, mask: Tensor) -> tuple[float, float]:
    """Return the largest root mean squares of x and of f, which is beside the norm of x."""
    x, f = (float(one[mask].square().mean(-1).sqrt().max()) for one in (tokens, moved))
    return x, max(f, 1.0)
