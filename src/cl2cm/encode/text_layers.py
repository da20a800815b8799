"""The layers of a text encoder: how many there are, dropping the later ones, the first ones.

ALBERT has groups of layers that share their weights, and runs through them several times.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from cl2cm.errors import EncoderError

_LAYERS = ("layer", "layers", "h", "blocks")  # what models call the list of their layers


def count_layers(name: str, model: nn.Module) -> int:
    """Return the number of layers that a text passes through."""
    if _groups(model) is not None:
        return int(_config(model).num_hidden_layers)
    return len(find_layers(name, model))


def keep_layers(name: str, model: nn.Module, count: int) -> None:
    """Drop the layers after the first ones.

    Raises:
        EncoderError: groups of shared layers would be divided otherwise.
    """
    groups = _groups(model)
    config = _config(model)
    if groups is None:
        del find_layers(name, model)[count:]
    elif len(groups) > 1 and count != config.num_hidden_layers:
        raise EncoderError(
            name,
            expected=f"all {config.num_hidden_layers} layers, in {len(groups)} groups that share "
            "their weights",
            found=f"layer = {count}",
            remedy="leave text.layer at -1",
        )
    config.num_hidden_layers = count


def first_layers(name: str, model: nn.Module, count: int) -> Sequence[nn.Module]:
    """Return the first layers, to freeze them.

    Raises:
        EncoderError: they share their weights with later ones.
    """
    groups = _groups(model)
    if groups is None:
        return list(find_layers(name, model))[:count]
    if count not in (0, _config(model).num_hidden_layers):
        raise EncoderError(
            name,
            expected="all, embeddings or none, since its layers share their weights",
            found=f"freeze = {count}",
            remedy="choose one of them for text.freeze",
        )
    return list(groups) if count else []


def _config(model: nn.Module) -> Any:  # noqa: ANN401 - Transformers has no types
    return model.config


def _groups(model: nn.Module) -> nn.ModuleList | None:
    """The groups of layers of an ALBERT; None for other models."""
    found = getattr(getattr(model, "encoder", None), "albert_layer_groups", None)
    return found if isinstance(found, nn.ModuleList) else None


def find_layers(name: str, model: nn.Module) -> nn.ModuleList:
    """The list of an encoder's layers.

    Raises:
        EncoderError: it has none.
    """
    count = getattr(model.config, "num_hidden_layers", None)
    for path, part in model.named_modules():
        named = path.rpartition(".")[2] in _LAYERS
        if named and isinstance(part, nn.ModuleList) and len(part) == count:
            return part
    raise EncoderError(
        name,
        expected="a text encoder with a list of layers",
        found=type(model).__name__,
        remedy="choose a model like BERT or XLM-R",
    )
