"""Newton's method for entropic transport, for pairs that scaling has not solved (Eq. 3).

At a small epsilon Sinkhorn's iteration converges linearly with a rate near one. The dual, with
the column potential y eliminated (it has a closed form), is smooth and concave in x [n]:

    phi(x) = sum_i a_i h(x_i) + (1 + k) sum_j b_j h(y_j(x)),   h(t) = (1 - exp(-k t)) / k,

where k = epsilon / rho (k = 0 and h(t) = t if balanced). Its gradient is the row marginal's
error and its Hessian an n by n matrix, so a step costs little for texts of a few dozen tokens,
and the error falls quadratically. All in float64, whatever the precision of the input.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from cl2cm.losses.plans import Problem, log_sum

HALVINGS = 12  # of a step that does not ascend


class _Point(NamedTuple):
    """The dual at x: its value [B], the column potentials y [B, m], the plan and its error."""

    x: Tensor
    y: Tensor
    value: Tensor
    plan: Tensor
    gradient: Tensor
    error: Tensor


def newton(
    problem: Problem, x: Tensor, *, epsilon: float, ratio: float, steps: int, tolerance: float
) -> tuple[Tensor, Tensor, int]:
    """Finish a batch of problems.

    Args:
        problem: B problems; any precision.
        x: [B, n], row potentials in units of epsilon, to start from.
        epsilon: strength of the entropy, the one that the problem was posed with.
        ratio: epsilon / rho, 0 if balanced.
        steps: at most so many.
        tolerance: stop when every error is at most this.

    Returns:
        Plans [B, n, m] and errors [B] in the dtype of x, and the number of steps taken.
    """
    problem = problem.double(epsilon)
    point = _evaluate(problem, x.double(), ratio)
    taken = 0
    while taken < steps and (unfinished := point.error > tolerance).any():
        direction = _direction(problem, point, ratio).where(unfinished[:, None], 0)
        point = _ascend(problem, point, direction, ratio)
        taken += 1
    return point.plan.to(x.dtype), point.error.to(x.dtype), taken


def _evaluate(problem: Problem, x: Tensor, ratio: float) -> _Point:
    log_b = problem.b.log().where(problem.b > 0, 0)
    y = (log_b - log_sum(problem.kernel + x[:, :, None], 1)) / (1 + ratio)
    plan = (problem.kernel + x[:, :, None] + y[:, None, :]).exp()
    rows, columns = problem.a * _bend(x, ratio), problem.b * _bend(y, ratio)
    value = rows.sum(1) + (1 + ratio) * columns.sum(1)
    gradient = problem.a * (-ratio * x).exp() - plan.sum(2)
    return _Point(x, y, value, plan, gradient, gradient.abs().sum(1))


def _bend(t: Tensor, ratio: float) -> Tensor:
    return -torch.expm1(-ratio * t) / ratio if ratio else t


def _direction(problem: Problem, point: _Point, ratio: float) -> Tensor:
    columns = point.plan.sum(1) * (1 + ratio)
    rows = point.plan.sum(2) + ratio * problem.a * (-ratio * point.x).exp()
    share = point.plan / columns.where(columns > 0, 1)[:, None, :]
    hessian = torch.diag_embed(rows) - share @ point.plan.mT
    if not ratio:  # the balanced dual has a free constant: fix it
        hessian += problem.a[:, :, None] * problem.a[:, None, :]
    # The ridge fades with the error and tames directions that are flat to rounding; padding
    # gets a pivot of one.
    ridge = problem.a * (1e-3 * point.error[:, None] + 1e-12) + (problem.a == 0)
    factor, _ = torch.linalg.cholesky_ex(hessian + torch.diag_embed(ridge))
    return torch.cholesky_solve(point.gradient[:, :, None], factor)[:, :, 0]


def _ascend(problem: Problem, point: _Point, direction: Tensor, ratio: float) -> _Point:
    slope = (point.gradient * direction).sum(1)
    length = torch.ones_like(slope)
    slack = 1e-13 * (1 + point.value.abs())
    for _ in range(HALVINGS):
        trial = _evaluate(problem, point.x + length[:, None] * direction, ratio)
        accepted = trial.value >= point.value + 1e-4 * length * slope - slack
        if accepted.all():
            return trial
        length = length.where(accepted, length / 2)
    # where no step ascends, one of Sinkhorn's does
    log_a = problem.a.log().where(problem.a > 0, 0)
    scaled = (log_a - log_sum(problem.kernel + point.y[:, None, :], 2)) / (1 + ratio)
    return _evaluate(problem, trial.x.where(accepted[:, None], scaled), ratio)
