"""Weights that are read without a class of Transformers to load them: names and shapes must fit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

MOST = 2**20  # of any size in a configuration; beyond it memory would be asked for in vain
LAYERS = 512  # at most


def read_weights(folder: Path, *names: str) -> dict[str, Tensor]:
    """Return the tensors of the first file that is there.

    Raises:
        ValueError: there is none; a file that would have to be unpickled is not looked at.
    """
    for name in names:
        path = folder / name
        if path.is_file():
            found: dict[str, Tensor] = load_file(path)
            return found
    raise ValueError(
        f"no {names[0]}; weights in a .bin or .pt file have to be converted to it first, "
        "see docs/models.md"
    )


def fill(kind: Any, config: Any, weights: Mapping[str, Tensor]) -> nn.Module:  # noqa: ANN401
    """Make a model of Transformers, in float32 and evaluation mode, with just these weights.

    Memory is taken for the weights that are there, not for those that the configuration claims.

    Raises:
        ValueError: names or shapes that do not fit.
    """
    with torch.device("meta"):
        model: nn.Module = kind(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wanted != found:
        name = min(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
        told = f"{wanted.get(name, 'none')} wanted, {found.get(name, 'none')} found"
        raise ValueError(f"weights that do not fit its configuration: {name} ({told})")
    state = {name: tensor.detach().float().contiguous() for name, tensor in weights.items()}
    model.load_state_dict(state, assign=True)
    _materialise(model)
    return model.eval().requires_grad_(False)


def _materialise(model: nn.Module) -> None:
    """Compute the buffers that are in no file: positions, and the type of all tokens."""
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.device.type != "meta":
                continue
            if name == "position_ids":
                module.register_buffer(name, torch.arange(buffer.shape[-1])[None], persistent=False)
            elif name == "token_type_ids":
                zeros = torch.zeros(buffer.shape, dtype=torch.int64)
                module.register_buffer(name, zeros, persistent=False)
            else:
                raise ValueError(f"a model with the buffer {name}")


def number(settings: Mapping[str, Any], key: str, default: int, *, most: int = MOST) -> int:
    """Return a size of a configuration.

    Raises:
        ValueError: it is no number, or none that a size can be.
    """
    value = settings.get(key, default)
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{key} = {str(value)[:40]!r}")
    return value
