"""Load open_clip checkpoints with Transformers, without open_clip or timm.

``open_clip_config.json`` gives the sizes, ``open_clip_model.safetensors`` the weights. The image
side is a plain vision transformer. The text side is CLIP's own, or an XLM-R or RoBERTa with pooling
and a projection (such as ``xlm-roberta-base-ViT-B-32``). What those settings do not cover (towers
of timm, ResNets, attentional pooling) is refused.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from cl2cm.encode.clip.layout import OPEN_CLIP_CONFIG, read_json
from cl2cm.encode.clip.weights import LAYERS, fill, number, read_weights

_VISION = {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size"}
_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
_TRAINING = {"patch_dropout", "output_tokens", "hf_model_pretrained", "hf_tokenizer_name"}
_HF_TEXT = {"hf_model_name", "hf_proj_type", "hf_pooler_type", "context_length", "proj"}
_IGNORED = {"vocab_size", "width", "heads", "layers"}  # of a text side whose sizes its weights have
_POOLING = {"mean_pooler": "mean", "cls_last_hidden_state_pooler": "cls", "max_pooler": "max"}
_PLAIN = ("class_embedding", "conv1.weight", "positional_embedding", "proj", "ln_", "transformer.")
_FILTERS = {"bicubic": 3, "bilinear": 2, "lanczos": 1}
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Tower(NamedTuple):
    """model: of Transformers, in evaluation mode; settings: of its image processor, or {}."""

    model: nn.Module
    settings: dict[str, Any]


class TextParts(NamedTuple):
    """A text side other than CLIP's: the weights of its transformer and projection.

    name: of the model that it was made from; pooling: mean, cls or max; context: tokens.
    """

    name: str
    weights: dict[str, Tensor]
    projection: list[Tensor]
    pooling: str
    context: int


def image_tower(folder: Path) -> Tower:
    """Load the image side.

    Raises:
        ValueError: another kind of tower, or weights that do not fit.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection  # noqa: PLC0415

    whole, sizes = _config(folder, "vision_cfg", _VISION)
    state = _state(folder)
    width, side = number(sizes, "width", 768), number(sizes, "image_size", 224)
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=int(width * float(sizes.get("mlp_ratio", 4.0))),
        num_hidden_layers=number(sizes, "layers", 12, most=LAYERS),
        num_attention_heads=width // number(sizes, "head_width", 64),
        image_size=side,
        patch_size=number(sizes, "patch_size", 16),
        projection_dim=number(whole, "embed_dim", 512),
        hidden_act=_activation(whole),
    )
    found = {n.removeprefix("visual."): t for n, t in state.items() if n.startswith("visual.")}
    if other := sorted(name for name in found if not name.startswith(_PLAIN)):
        raise ValueError(f"a tower with {other[0][:40]}")
    weights = {
        "vision_model.embeddings.class_embedding": found["class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": found["conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": found["positional_embedding"],
        "visual_projection.weight": found["proj"].T,
        **_named(found, "ln_pre", "vision_model.pre_layrnorm"),
        **_named(found, "ln_post", "vision_model.post_layernorm"),
        **_blocks(found, "vision_model.encoder.layers"),
    }
    return Tower(fill(CLIPVisionModelWithProjection, config, weights), _preprocessing(folder, side))


def text_tower(folder: Path) -> Tower | TextParts:
    """Load the text side; one other than CLIP's is returned as its parts.

    Raises:
        ValueError: another kind of tower, or weights that do not fit.
    """
    whole, sizes = _config(folder, "text_cfg", _TEXT)
    state = _state(folder)
    if any(name.startswith("text.") for name in state):
        state = {n.removeprefix("text."): t for n, t in state.items() if n.startswith("text.")}
    if sizes.get("hf_model_name"):
        return _hugging_face(sizes, state)
    return _own_text(whole, sizes, state)


def _own_text(whole: dict[str, Any], sizes: dict[str, Any], state: dict[str, Tensor]) -> Tower:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection  # noqa: PLC0415

    width = number(sizes, "width", 512)
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=int(width * float(sizes.get("mlp_ratio", 4.0))),
        num_hidden_layers=number(sizes, "layers", 12, most=LAYERS),
        num_attention_heads=number(sizes, "heads", 8),
        max_position_embeddings=number(sizes, "context_length", 77),
        vocab_size=number(sizes, "vocab_size", 49408),
        projection_dim=number(whole, "embed_dim", 512),
        hidden_act=_activation(whole),
        eos_token_id=2,  # pooled at the largest id, as open_clip does
        bos_token_id=0,
        pad_token_id=1,
    )
    weights = {
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "text_projection.weight": state["text_projection"].T,
        **_named(state, "ln_final", "text_model.final_layer_norm"),
        **_blocks(state, "text_model.encoder.layers"),
    }
    return Tower(fill(CLIPTextModelWithProjection, config, weights), {})


def _hugging_face(sizes: dict[str, Any], state: dict[str, Tensor]) -> TextParts:
    pooling = _POOLING.get(sizes.get("hf_pooler_type", "mean_pooler"), "")
    if not pooling:
        raise ValueError(f"the pooling {str(sizes.get('hf_pooler_type'))[:40]!r} of its text side")
    weights = {
        name.removeprefix("transformer."): tensor
        for name, tensor in state.items()
        if name.startswith("transformer.")
    }
    names = ("proj.weight",) if "proj.weight" in state else ("proj.0.weight", "proj.2.weight")
    projection = [state[name] for name in names if name in state]
    context = number(sizes, "context_length", 77)
    return TextParts(str(sizes["hf_model_name"]), weights, projection, pooling, context)


def _config(folder: Path, side: str, known: set[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the configuration of the model and of one side; unknown keys are refused."""
    whole = read_json(folder / OPEN_CLIP_CONFIG).get("model_cfg")
    sizes = whole.get(side) if isinstance(whole, dict) else None
    if not isinstance(whole, dict) or not isinstance(sizes, dict):
        raise ValueError(f"{OPEN_CLIP_CONFIG} without model_cfg.{side}")
    if sizes.get("hf_model_name"):
        known = _HF_TEXT | _IGNORED
    other = sorted(key for key, value in sizes.items() if value and key not in known | _TRAINING)
    if other or type(sizes.get("layers", 12)) is not int:
        raise ValueError(f"a tower with {other[0] if other else 'layers in stages'} ({side})")
    return whole, sizes


def _activation(whole: Mapping[str, Any]) -> str:
    return "quick_gelu" if whole.get("quick_gelu") else "gelu"


def _state(folder: Path) -> dict[str, Tensor]:
    return read_weights(
        folder, "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"
    )


def _preprocessing(folder: Path, side: int) -> dict[str, Any]:
    """Return the settings of an image processor, in the words of Transformers."""
    told = read_json(folder / OPEN_CLIP_CONFIG).get("preprocess_cfg") or {}
    mode = told.get("resize_mode", "shortest")
    square = {"height": side, "width": side}
    if mode not in ("shortest", "squash"):
        raise ValueError(f"resize_mode {str(mode)[:20]!r}")
    if told.get("size", side) not in (side, [side, side]):
        raise ValueError(f"images of size {told['size']}, for a tower of size {side}")
    return {
        "size": {"shortest_edge": side} if mode == "shortest" else square,
        "crop_size": square,
        "do_center_crop": mode == "shortest",
        "resample": _FILTERS.get(told.get("interpolation", "bicubic"), 0),
        "image_mean": list(told.get("mean", _MEAN)),
        "image_std": list(told.get("std", _STD)),
    }


def _named(state: Mapping[str, Tensor], name: str, new: str) -> dict[str, Tensor]:
    return {f"{new}.{part}": state[f"{name}.{part}"] for part in ("weight", "bias")}


def _blocks(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights of all layers under Transformers' names."""
    parts = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj"}
    parts |= {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    weights: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not name.startswith("transformer.resblocks."):
            continue
        number_, _, part = name.removeprefix("transformer.resblocks.").partition(".")
        layer, (stem, _, kind) = f"{prefix}.{number_}", part.rpartition(".")
        if part.startswith("attn.in_proj_"):
            for side, third in zip("qkv", tensor.chunk(3), strict=True):
                weights[f"{layer}.self_attn.{side}_proj.{part.rpartition('_')[2]}"] = third
        elif stem in parts:
            weights[f"{layer}.{parts[stem]}.{kind}"] = tensor
        else:
            raise ValueError(f"a tower with {part[:40]}")
    return weights
