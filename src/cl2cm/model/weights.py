"""The weights of a network, read and written whole; a weight that is not finite is an error."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cl2cm.errors import NumberError
from cl2cm.model.run_folder import damaged
from cl2cm.storage import atomic_path


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's weights, whole or not at all.

    Raises:
        NumberError: a weight is not finite.
        StorageError: the disk is full or closed.
    """
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    if name := _not_finite(state):
        raise NumberError(
            f"{path}: {name}",
            expected="finite weights",
            found="NaN or infinity",
            remedy="train again with a lower train.lr",
        )
    with atomic_path(path) as partial:
        save_file(state, partial)


def load_weights(network: nn.Module, path: Path, *, prefix: str = "") -> None:
    """Read a network's weights; names, after their ``prefix``, and shapes must be the same.

    Raises:
        CheckpointError: the file is damaged or another network's.
    """
    try:
        state: dict[str, Tensor] = load_file(path)
        state = {
            name.removeprefix(prefix): tensor
            for name, tensor in state.items()
            if name.startswith(prefix)
        }
        network.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError, MemoryError) as error:
        reason = (str(error).splitlines() or ["too large"])[0]
        raise damaged(path, f"weights that do not fit ({reason})") from None
    if name := _not_finite(state):
        raise damaged(path, f"NaN or infinity in {name}", expected="finite weights")


def _not_finite(state: Mapping[str, Tensor]) -> str:
    """Name of the first tensor that is not finite; "" where all are."""
    bad = (name for name, tensor in state.items() if not bool(tensor.isfinite().all()))
    return next(bad, "")
