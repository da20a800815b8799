"""Optimal transport between the words of two texts: the pseudo-labels of Eq. 2 and 3.

From token vectors to a cost (:func:`cost_matrix`), from masks or salience to marginals, and from
these to a plan (:func:`transport`), which is computed without gradient. The marginals implement the
masks: a token with zero mass receives no mass.
"""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from cl2cm.errors import ConfigError
from cl2cm.losses.ipot import ipot
from cl2cm.losses.plans import Transport
from cl2cm.losses.sinkhorn import sinkhorn

__all__ = [
    "Solver",
    "Transport",
    "centred",
    "cost_matrix",
    "ipot",
    "salience_marginals",
    "sinkhorn",
    "transport",
    "uniform_marginals",
]

Solver = Literal["sinkhorn", "ipot"]


def cost_matrix(x: Tensor, y: Tensor) -> Tensor:
    """Return the cost C_ij = 1 - sim(x_i, y_j) of Eq. 2; differentiable.

    Args:
        x: [..., n, D], unit vectors.
        y: [..., m, D], unit vectors.

    Returns:
        [..., n, m], in [0, 2] up to rounding.
    """
    return 1 - torch.einsum("...nd,...md->...nm", x, y)


def centred(tokens: Tensor, mask: Tensor, groups: Tensor | None = None) -> Tensor:
    """Return tokens with the mean of their group subtracted; differentiable.

    x_i -> unit(x_i - mean of all valid tokens of the group). Contextual token vectors share a
    large common direction, so that their cosines differ little; the rest tells words apart.

    Args:
        tokens: [B, n, D], unit vectors; anything on padding.
        mask: bool [B, n], True if valid.
        groups: int64 [B], rows of equal numbers are one group, a language, say; None: all are.

    Returns:
        [B, n, D], unit vectors, zero on padding and for tokens equal to the mean.
    """
    valid = tokens.masked_fill(~mask[:, :, None], 0)
    if groups is None:
        groups = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device)
    names, group = groups.unique(return_inverse=True)
    total = valid.new_zeros(len(names), tokens.shape[2]).index_add(0, group, valid.sum(1))
    count = valid.new_zeros(len(names)).index_add(0, group, mask.sum(1).to(valid.dtype))
    mean = total / count.clamp_min(1)[:, None]
    return F.normalize((valid - mean[group, None]).masked_fill(~mask[:, :, None], 0), dim=-1)


def uniform_marginals(mask: Tensor) -> Tensor:
    """Return equal mass on every valid token.

    Args:
        mask: bool [B, n], True if valid.

    Returns:
        float32 [B, n]; rows sum to 1, or to 0 where no token is valid.
    """
    return salience_marginals(torch.ones_like(mask, dtype=torch.float32), mask)


def salience_marginals(weights: Tensor, mask: Tensor) -> Tensor:
    """Return the mass in proportion to a token's salience; no gradient.

    Args:
        weights: [B, n], non-negative, such as token norms or inverse document frequencies;
            ignored outside of the mask.
        mask: bool [B, n], True if valid.

    Returns:
        [B, n] in the dtype of ``weights`` (at least float32); rows sum to 1, or to 0 where no
        token is valid. Where all weights are zero, every valid token counts alike.
    """
    dtype = torch.promote_types(weights.dtype, torch.float32)
    mass = weights.detach().to(dtype).masked_fill(~mask, 0)
    mass = mass.where(mass.sum(1, keepdim=True) > 0, mask.to(dtype))
    return mass / mass.sum(1, keepdim=True).clamp_min(torch.finfo(dtype).tiny)


def transport(
    cost: Tensor,
    a: Tensor,
    b: Tensor,
    *,
    solver: Solver = "sinkhorn",
    epsilon: float = 0.1,
    rho: float | None = None,
    beta: float = 0.5,
    max_iterations: int | None = None,
    tolerance: float | None = None,
) -> Transport:
    """Return the transport plans of a batch of pairs (Eq. 3), by the solver of that name.

    Args:
        cost: [B, n, m].
        a: [B, n], zero on padding.
        b: [B, m], zero on padding.
        solver: ``sinkhorn`` (entropic; :func:`sinkhorn`) or ``ipot`` (proximal; :func:`ipot`).
        epsilon: of sinkhorn, strength of the entropy.
        rho: of sinkhorn, strength of the marginals; None for balanced.
        beta: of ipot, strength of the proximal term.
        max_iterations: None for the solver's own.
        tolerance: on the marginal error (L1); None for the solver's own.

    Raises:
        ConfigError: the solver is unknown, rho is given to ipot, or a strength is not above 0.
        ValueError: the shapes do not match.
    """
    limits: dict[str, float] = {}
    if max_iterations is not None:
        limits["max_iterations"] = max_iterations
    if tolerance is not None:
        limits["tolerance"] = tolerance
    if solver == "sinkhorn":
        return sinkhorn(cost, a, b, epsilon=epsilon, rho=rho, **limits)  # type: ignore[arg-type]
    if solver != "ipot":
        raise ConfigError(
            "solver",
            expected=" or ".join(get_args(Solver)),
            found=repr(solver),
            remedy="choose one of these",
        )
    if rho is not None:
        raise ConfigError(
            "rho",
            expected="none with solver ipot, which is balanced",
            found=str(rho),
            remedy="leave rho out, or choose solver sinkhorn",
        )
    return ipot(cost, a, b, beta=beta, **limits)  # type: ignore[arg-type]
