"""What a folder of sentence-transformers computes, by its files and without that package."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cl2cm.encode.pretrained import LOADING
from cl2cm.encode.text_loading import loading
from cl2cm.errors import ExportError
from cl2cm.model.networks import masked_mean
from cl2cm.types import Floats

EXACT = 1e-4  # largest difference of a component
_AT_ONCE = 32


@torch.no_grad()
def encode(folder: Path, texts: Sequence[str]) -> Floats:
    """Return the unit vectors float32 [N, D] that the modules of a folder give.

    Texts get the default prompt first, as sentence-transformers does.
    """
    with loading(str(folder), folder, "text side"):
        tokenizer, modules = _opened(folder)
    about = json.loads((folder / "config_sentence_transformers.json").read_text("utf-8"))
    prompt = about["prompts"].get(about["default_prompt_name"], "")
    parts = []
    for at in range(0, len(texts), _AT_ONCE):
        whole = [prompt + text for text in texts[at : at + _AT_ONCE]]
        features = dict(tokenizer(whole, padding=True, truncation=True, return_tensors="pt"))
        for module in modules:
            module.apply(features)
        parts.append(features["sentence_embedding"])
    vectors: Floats = torch.cat(parts).numpy()
    return vectors


def _opened(folder: Path) -> tuple[Any, list["_Module"]]:
    from transformers import AutoTokenizer  # noqa: PLC0415 - heavy

    listed = json.loads((folder / "modules.json").read_text("utf-8"))
    modules = [_Module(folder / one["path"], one["type"].rpartition(".")[2]) for one in listed]
    return AutoTokenizer.from_pretrained(str(folder), **LOADING), modules


def check(found: Floats, wanted: Floats, folder: str) -> float:
    """Return the largest difference to the run's vectors.

    Raises:
        ExportError: it is too large.
    """
    difference = float(abs(found - wanted).max())
    if not difference <= EXACT:
        raise ExportError(
            f"{folder}: vectors of texts",
            expected=f"the vectors of the run, to {EXACT:g}",
            found=f"a difference of {difference:.2g}",
            remedy="report it with the run's config.toml; nothing was exported",
        )
    return difference


class _Module:
    """One module, applied to the features by name."""

    def __init__(self, folder: Path, kind: str) -> None:
        from safetensors.torch import load_file  # noqa: PLC0415 - heavy
        from transformers import AutoModel  # noqa: PLC0415

        self.kind = kind
        self.settings: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        weights = folder / "model.safetensors"
        if kind == "Transformer":
            self.model = AutoModel.from_pretrained(str(folder), **LOADING).eval()
        else:
            self.tensors = load_file(weights) if weights.exists() else {}

    def apply(self, features: dict[str, Any]) -> None:
        values: Any = features.get("sentence_embedding")
        if self.kind == "Transformer":
            keys = ("input_ids", "attention_mask", "inputs_embeds")
            made = self.model(**{key: features[key] for key in keys if key in features})
            features["token_embeddings"] = made.last_hidden_state
            if self.settings.get("output_hidden_states"):
                features["all_layer_embeddings"] = made.hidden_states
        elif self.kind == "Dense":
            features[self.settings["module_output_name"]] = self._dense(features)
        elif self.kind == "LayerNorm":
            shape = (self.settings["dimension"],)
            tensors = self.tensors
            weight, bias = tensors["norm.weight"], tensors["norm.bias"]
            features["sentence_embedding"] = F.layer_norm(values, shape, weight, bias)
        elif self.kind == "WeightedLayerPooling":
            weights = self.tensors["layer_weights"]
            states = torch.stack(features["all_layer_embeddings"])
            mixed = torch.tensordot(weights / weights.sum(), states, dims=1)
            features["token_embeddings"] = mixed
        elif self.kind == "Pooling":
            mask = features["attention_mask"].bool()
            features["sentence_embedding"] = masked_mean(features["token_embeddings"], mask)
        else:
            features["sentence_embedding"] = F.normalize(values, dim=-1)

    def _dense(self, features: dict[str, Any]) -> Tensor:
        made = F.linear(
            features[self.settings["module_input_name"]],
            self.tensors["linear.weight"],
            self.tensors["linear.bias"],
        )
        return F.gelu(made) if self.settings["activation_function"].endswith("GELU") else made
