"""Checks of the arguments of losses."""

import math

from torch import Tensor

from cl2cm.errors import ConfigError


def require_positive(name: str, value: float) -> None:
    """Check that a setting is a finite number above zero.

    Raises:
        ConfigError: it is not.
    """
    if not (value > 0 and math.isfinite(value)):
        raise ConfigError(
            name, expected="a finite number above 0", found=str(value), remedy="choose another"
        )


def require_tau(name: str, tau: float | Tensor) -> None:
    """Check that a temperature is above zero; a learned one, a tensor, is not checked."""
    if not isinstance(tau, Tensor):
        require_positive(name, tau)


def require_paired(x: Tensor, y: Tensor) -> None:
    """Check that both sides are [B, D], with matching rows.

    Raises:
        ValueError: the shapes differ or are not of two dimensions.
    """
    if x.dim() != 2 or x.shape != y.shape:
        raise ValueError(
            f"expected two tensors [B, D] of equal shape; found {tuple(x.shape)}, {tuple(y.shape)}"
        )
