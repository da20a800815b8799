"""Shared by the transport solvers: initial values and final plans.

A batch of masked problems is posed once: padding is recognised by its zero marginal, gets a log
kernel of −inf, and so can never receive mass. The potentials of Eq. 3 are kept in units of
epsilon: x = f / epsilon and y = g / epsilon, and a plan is

    P_ij = a_i b_j exp(x_i + y_j - C_ij / epsilon).

The entropy of Eq. 3 is thus taken relative to the product a bᵀ. In the balanced case that is the
same plan; in the unbalanced one it keeps the mass independent of the number of tokens.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor


class Transport(NamedTuple):
    """Plans of a batch of transport problems (Eq. 3), without gradient.

    Attributes:
        plan: [B, n, m], non-negative, exactly zero wherever a marginal is zero.
        cost: [B], <P, C> of Eq. 4.
        error: [B], L1 distance between the plan's marginals and those that the optimum has: a and
            b if balanced, a exp(-f / rho) and b exp(-g / rho) if unbalanced.
        converged: bool [B], True if the solver's stopping rule was met.
        iterations: the most iterations that any pair of the batch needed.
    """

    plan: Tensor
    cost: Tensor
    error: Tensor
    converged: Tensor
    iterations: int


class Problem(NamedTuple):
    """A batch of transport problems in float32 or float64.

    Attributes:
        kernel: [B, n, m], log of a_i b_j exp(-C_ij / epsilon); −inf on padding.
        cost: [B, n, m], zero on padding.
        a: [B, n], zero on padding.
        b: [B, m], zero on padding.
    """

    kernel: Tensor
    cost: Tensor
    a: Tensor
    b: Tensor

    def take(self, rows: Tensor) -> "Problem":
        """Return the problems chosen by an index or a boolean mask [B]."""
        return Problem(*(value[rows] for value in self))

    def double(self, epsilon: float) -> "Problem":
        """Return the same problems in float64; the kernel is made anew, so that it gains digits."""
        return _problem(self.cost.double(), self.a.double(), self.b.double(), epsilon)


def pose(cost: Tensor, a: Tensor, b: Tensor, epsilon: float) -> Problem:
    """Pose a batch of problems; a pair with an empty side loses the mass of the other, too.

    Args:
        cost: [B, n, m]; values where a marginal is zero are ignored, even NaN.
        a: [B, n], non-negative row marginals, zero on padding.
        b: [B, m], non-negative column marginals, zero on padding.
        epsilon: the unit of the potentials, above 0.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    if cost.dim() != 3 or a.shape != cost.shape[:2] or b.shape != cost.shape[::2]:
        raise ValueError(
            f"expected cost [B, n, m], a [B, n], b [B, m]; found {tuple(cost.shape)}, "
            f"{tuple(a.shape)}, {tuple(b.shape)}"
        )
    dtype = torch.promote_types(cost.dtype, torch.float32)
    cost, a, b = (value.detach().to(dtype) for value in (cost, a, b))
    whole = (a.sum(1, keepdim=True) > 0) & (b.sum(1, keepdim=True) > 0)
    return _problem(cost, a.where(whole, 0), b.where(whole, 0), epsilon)


def _problem(cost: Tensor, a: Tensor, b: Tensor, epsilon: float) -> Problem:
    cost = cost.masked_fill(~((a > 0)[:, :, None] & (b > 0)[:, None, :]), 0)
    kernel = (a.log()[:, :, None] + b.log()[:, None, :]).sub_(cost / epsilon)
    return Problem(kernel, cost, a, b)


def finish(
    plan: Tensor, cost: Tensor, error: Tensor, converged: Tensor, iterations: int
) -> Transport:
    """Add the transport cost of Eq. 4 to a batch of plans."""
    return Transport(plan, (plan * cost).sum((1, 2)), error, converged, iterations)


def log_sum(values: Tensor, dim: int) -> Tensor:
    """Return log-sum-exp along ``dim`` of values [B, n, m]; zero, not −inf, where all is −inf."""
    total = values.logsumexp(dim)
    return total.masked_fill(total == -math.inf, 0)


@contextmanager
def exact(like: Tensor) -> Iterator[None]:
    """Without gradient and without autocast: half precision has too few digits for a plan."""
    with torch.no_grad(), torch.autocast(like.device.type, enabled=False):
        yield
