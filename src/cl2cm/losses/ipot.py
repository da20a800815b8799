"""Optimal transport by inexact proximal points, batched and masked (Eq. 3 as epsilon → 0).

Each outer step solves, with a few scalings, a transport problem whose entropy is measured from
the last plan instead of from a bᵀ:

    P' = argmin_{P in U(a, b)} <P, C> + beta KL(P | P_last),

so that the plans tend to an unregularised optimum at a beta that need not be small (Xie, Wang,
Wang, Zha: "A Fast Proximal Point Method for Computing Exact Wasserstein Distance", UAI 2019).
The log of the plan is kept, which cannot underflow.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cl2cm.losses.checks import require_positive
from cl2cm.losses.plans import Problem, Transport, exact, finish, log_sum, pose

STRIDE = 10  # outer steps between two looks at the error


def ipot(
    cost: Tensor,
    a: Tensor,
    b: Tensor,
    *,
    beta: float = 0.5,
    max_iterations: int = 200,
    inner: int = 1,
    tolerance: float = 1e-5,
) -> Transport:
    """Solve a batch of balanced transport problems, without entropy in the end.

    Args:
        cost: [B, n, m], in [0, 2] for unit vectors.
        a: [B, n], non-negative; zero on padding; of the same sum as b.
        b: [B, m], likewise.
        beta: strength of the proximal term, above 0, in units of the cost. After t steps a plan
            is about as hard as an entropic one at epsilon = beta / t.
        max_iterations: of outer steps.
        inner: scalings of rows and columns in an outer step.
        tolerance: stop when the marginal error is at most this and the cost has changed by no
            more since the last look, ten steps before; 0 runs exactly ``max_iterations``.

    Returns:
        Plans without gradient, in the dtype of ``cost`` (at least float32). A pair with an empty
        side has a zero plan and counts as converged.

    Raises:
        ConfigError: beta or inner is not above 0.
        ValueError: the shapes do not fit each other.
    """
    require_positive("beta", beta)
    require_positive("inner", inner)
    with exact(cost):
        problem = pose(cost, a, b, beta)
        plan = torch.zeros_like(problem.cost)
        error = problem.a.new_full((len(plan),), math.inf)
        converged = torch.zeros_like(error, dtype=torch.bool)
        state, done = _start(problem, beta), 0
        while done < max_iterations and len(state.rows):
            stride = min(STRIDE, max_iterations - done)
            state, found, gap, change = _advance(state, stride, inner)
            done += stride
            settled = (gap <= tolerance) & (beta * change <= tolerance)
            closed = settled & (tolerance > 0) | (done == max_iterations)
            rows = state.rows[closed]
            plan[rows], error[rows], converged[rows] = found[closed], gap[closed], settled[closed]
            state = _State(*(value[~closed] for value in state))
        return finish(plan, problem.cost, error, converged, done)


class _State(NamedTuple):
    """The pairs still open: their place in the batch, the log of their plan, and their terms."""

    rows: Tensor  # int64 [b]
    logs: Tensor  # [b, n, m]
    cost: Tensor  # [b, n, m], divided by beta
    a: Tensor  # [b, n]
    log_a: Tensor  # [b, n], zero on padding
    log_b: Tensor  # [b, m], zero on padding
    y: Tensor  # [b, m], log of the last step's scaling of the columns
    value: Tensor  # [b], <P, C / beta> at the last look


def _start(problem: Problem, beta: float) -> _State:
    cost = problem.cost / beta
    log_a, log_b = (side.log().where(side > 0, 0) for side in (problem.a, problem.b))
    rows = torch.arange(len(cost), device=cost.device)
    logs = problem.kernel + cost  # of a bᵀ
    value = (logs.exp() * cost).sum((1, 2))
    return _State(rows, logs, cost, problem.a, log_a, log_b, torch.zeros_like(log_b), value)


def _advance(state: _State, steps: int, inner: int) -> tuple[_State, Tensor, Tensor, Tensor]:
    """The state some outer steps later, its plans, their marginal errors and change in value."""
    logs, y = state.logs, state.y
    for _ in range(steps):
        logs = logs - state.cost
        for _ in range(inner):  # from the last step's scaling: this is what makes one enough
            x = state.log_a - log_sum(logs + y[:, None, :], 2)
            y = state.log_b - log_sum(logs + x[:, :, None], 1)
        logs = logs + x[:, :, None] + y[:, None, :]
    plan = logs.exp()
    value = (plan * state.cost).sum((1, 2))
    gap = (plan.sum(2) - state.a).abs().sum(1)
    return state._replace(logs=logs, y=y, value=value), plan, gap, (value - state.value).abs()
