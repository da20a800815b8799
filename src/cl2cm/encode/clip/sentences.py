"""Text sides made of a multilingual transformer, pooled and projected into a CLIP space.

Two layouts: Multilingual-CLIP (XLM-R or LaBSE, mean pooling, one linear map) and
sentence-transformers (Transformer, Pooling, Dense, Normalize). Neither package is needed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cl2cm.encode.clip.layout import Layout, Module, read_json
from cl2cm.encode.clip.open_clip import TextParts
from cl2cm.encode.clip.weights import LAYERS, fill, read_weights
from cl2cm.encode.text_loading import load_model

_HEAD_WIDTH = 64  # of BERT and XLM-R in every size
_EVEN_OLDER = {  # Pooling of sentence-transformers before it had one key for all
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
_ACTIVATIONS = {"Identity": nn.Identity, "Tanh": nn.Tanh, "GELU": nn.GELU, "ReLU": nn.ReLU}


class PooledText(nn.Module):
    """A transformer, a pooling over its tokens, and projections: token ids to one vector."""

    def __init__(self, transformer: nn.Module, pooling: str, after: nn.Module) -> None:
        super().__init__()
        self.transformer, self.pooling, self.after = transformer, pooling, after

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Map ids int64 [B, T] and mask bool [B, T] -> [B, D]."""
        states = self.transformer(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        vectors: Tensor = self.after(_pool(states, mask, self.pooling))
        return vectors


def _pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    if pooling == "cls":
        return states[:, 0]
    if pooling == "max":
        return states.masked_fill(~mask[..., None], -torch.inf).amax(1)
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


class Sentences(NamedTuple):
    """A text side and how it is fed.

    model: ids and mask to vectors; max_tokens: longest text; lower_case, prefix: before tokens.
    """

    model: nn.Module
    max_tokens: int
    lower_case: bool = False
    prefix: str = ""


# --- Multilingual-CLIP and open_clip ---------------------------------------------------------


def multilingual_clip(folder: Path) -> Sentences:
    """Load a text side in the layout of Multilingual-CLIP.

    Raises:
        ValueError: another base model, or weights that do not fit.
    """
    state = read_weights(folder, "model.safetensors")
    config = read_json(folder / "config.json")
    weights = {
        name.removeprefix("transformer."): tensor
        for name, tensor in state.items()
        if name.startswith("transformer.")
    }
    model, longest = _from_shapes(str(config["modelBase"]), weights)
    linear = _linear(state["LinearTransformation.weight"], state["LinearTransformation.bias"])
    return Sentences(PooledText(model, "mean", linear).eval(), longest)


def of_open_clip(parts: TextParts) -> Sentences:
    """Make the text side of an open_clip model with a transformer of Hugging Face's."""
    model, longest = _from_shapes(parts.name, parts.weights)
    maps = [_linear(weight) for weight in parts.projection]
    after = nn.Sequential(maps[0], nn.GELU(), maps[1]) if len(maps) == 2 else nn.Sequential(*maps)
    return Sentences(PooledText(model, parts.pooling, after).eval(), min(parts.context, longest))


def _from_shapes(base: str, weights: Mapping[str, Tensor]) -> tuple[nn.Module, int]:
    """Return a transformer of the family of ``base`` in its sizes, and its longest text.

    Such checkpoints name the model that they were made from and do not hold its configuration,
    and nothing is fetched for it.
    """
    from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel  # noqa: PLC0415

    weights = {n: t for n, t in weights.items() if n.split(".")[0] != "pooler"}
    weights.pop("embeddings.position_ids", None)
    words, width = weights["embeddings.word_embeddings.weight"].shape
    positions = weights["embeddings.position_embeddings.weight"].shape[0]
    layers = {name.split(".")[2] for name in weights if name.startswith("encoder.layer.")}
    if width % _HEAD_WIDTH or not 1 <= len(layers) <= LAYERS:
        raise ValueError(f"a transformer of width {width} with {len(layers)} layers")
    sizes: dict[str, Any] = {
        "vocab_size": words,
        "hidden_size": width,
        "num_hidden_layers": len(layers),
        "num_attention_heads": width // _HEAD_WIDTH,
        "intermediate_size": weights["encoder.layer.0.intermediate.dense.weight"].shape[0],
        "max_position_embeddings": positions,
        "type_vocab_size": weights["embeddings.token_type_embeddings.weight"].shape[0],
    }
    name = base.lower()
    if "roberta" in name:
        config: Any = XLMRobertaConfig(
            **sizes, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0, eos_token_id=2
        )
        model = fill(_without_pooler(XLMRobertaModel), config, weights)
        return model, positions - 2  # positions are counted from the padding id
    if ("bert" in name or "labse" in name) and "distil" not in name:
        model = fill(_without_pooler(BertModel), BertConfig(**sizes), weights)
        return model, positions
    raise ValueError(f"the base model {base[:60]!r}; known are XLM-R, RoBERTa, BERT and LaBSE")


def _without_pooler(kind: Any) -> Any:  # noqa: ANN401
    return lambda config: kind(config, add_pooling_layer=False)


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return layer.requires_grad_(False)


# --- sentence-transformers -------------------------------------------------------------------


def sentence_transformer(name: str, layout: Layout) -> Sentences:
    """Load a text side in the layout of sentence-transformers.

    Raises:
        ValueError: a module that we do not know, or weights that do not fit.
    """
    first, *others = layout.modules
    if first.kind != "Transformer":
        raise ValueError(f"the module {first.kind[:40]} in the first place")
    transformer = load_model(name, first.folder).requires_grad_(False)
    poolings = [_pooling(module) for module in others if module.kind == "Pooling"]
    after = [_after(module) for module in others if module.kind != "Pooling"]
    if len(poolings) != 1 or others[0].kind != "Pooling":
        raise ValueError("modules other than Transformer, Pooling, Dense and Normalize")
    about = read_json(first.folder / "sentence_bert_config.json")
    longest = _longest(transformer)
    told = about.get("max_seq_length")
    return Sentences(
        PooledText(transformer, poolings[0], nn.Sequential(*after)).eval(),
        min(told, longest) if type(told) is int and told > 2 else longest,
        bool(about.get("do_lower_case", False)),
        _prompt(layout.folder),
    )


def _longest(model: nn.Module) -> int:
    """Return the tokens for which a transformer has positions."""
    config: Any = model.config
    positions = getattr(config, "max_position_embeddings", None) or 512
    table: Any = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    unused = table.padding_idx + 1 if getattr(table, "padding_idx", None) is not None else 0
    return int(positions) - unused


def _pooling(module: Module) -> str:
    settings = read_json(module.folder / "config.json")
    told = settings.get("pooling_mode")
    if told is None:
        on = sorted(k for k, v in settings.items() if k.startswith("pooling_mode_") and v is True)
        told = _EVEN_OLDER.get(on[0], on[0]) if len(on) == 1 else on
    if told not in ("mean", "cls", "max"):
        raise ValueError(f"the pooling {str(told)[:60]!r}")
    return str(told)


def _after(module: Module) -> nn.Module:
    if module.kind == "Normalize":
        return nn.Identity()  # vectors are normalised once, at the end
    if module.kind != "Dense":
        raise ValueError(f"the module {module.kind[:40]}")
    settings = read_json(module.folder / "config.json")
    named = str(settings.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = _ACTIVATIONS.get(named.rpartition(".")[2])
    if activation is None:
        raise ValueError(f"the activation {named[:60]!r} of a Dense module")
    state = read_weights(module.folder, "model.safetensors")
    return nn.Sequential(_linear(state["linear.weight"], state.get("linear.bias")), activation())


def _prompt(folder: Path) -> str:
    """Return what is put before a query: the prompt by default, or the one for queries."""
    settings = read_json(folder / "config_sentence_transformers.json")
    prompts = settings.get("prompts")
    if not isinstance(prompts, dict):
        return ""
    found = prompts.get(settings.get("default_prompt_name") or "query", "")
    return found if isinstance(found, str) and len(found) <= 1000 else ""


def width_of(layout: Layout) -> int | None:
    """Return the width of the vectors of a text side, if its settings contain it."""
    dense = [module for module in layout.modules if module.kind == "Dense"]
    if layout.modules:
        last = (
            dense[-1].folder / "config.json" if dense else layout.modules[0].folder / "config.json"
        )
        settings = read_json(last)
        found = settings.get("out_features" if dense else "hidden_size", settings.get("dim"))
    else:
        found = read_json(layout.folder / "config.json").get("numDims")
    return found if type(found) is int else None
