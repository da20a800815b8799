"""Device, memory, optimiser and learning rate of the loop."""

import ctypes
import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from cl2cm.errors import ConfigError
from cl2cm.model.settings import TrainConfig


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Precision of float32 matrix products inside: ``float32``, or ``bfloat16`` where possible."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if name == "bfloat16" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def choose_device(name: str) -> torch.device:
    """Return the device of a setting; ``auto`` takes CUDA if there is one.

    Raises:
        ConfigError: it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda") or (
        device.type == "cuda" and not torch.cuda.is_available()
    ):
        there = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise ConfigError(
            "train.device", expected=f"one of {there}", found=repr(name), remedy="use 'auto'"
        )
    return device


def return_freed_memory() -> None:
    """Let the C library give freed blocks of 1 MiB and more back to the system, on Linux.

    glibc otherwise keeps blocks of up to 32 MiB, and a training in chunks of all sizes then
    occupies two to three times what it uses. Page faults make it slightly slower.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, 1 << 20)


_M_MMAP_THRESHOLD = -3  # of malloc.h


def learning_rate(step: int, steps: int, warmup: float) -> float:
    """Return the factor of the peak rate at a step: linear warm-up, then a cosine to zero."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def make_optimizer(networks: Iterable[nn.Module], train: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW; no decay on vectors, and a rate of its own for the text backbone."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for network in networks:
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                rate = train.backbone_lr if name.startswith("backbone.") else train.lr
                decay = train.weight_decay if parameter.ndim > 1 else 0.0
                groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "peak": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ]
    )
