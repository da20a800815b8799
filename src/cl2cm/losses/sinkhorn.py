"""Entropic optimal transport by Sinkhorn's iteration, batched and masked (Eq. 3).

Two domains, chosen pair by pair. Scalings u, v multiply a kernel that has the potentials
absorbed: two matrix-vector products an iteration and no exponential. Every few iterations the
scalings are looked at: those that have wandered are absorbed into the kernel; where one has
overflowed, that stretch is done again in the log domain, which cannot. So float32 is safe at any
epsilon for costs in [0, 2], at nearly the speed of the plain iteration. The kernel starts from
Kantorovich potentials (minima of the cost), which leave an entry of order one in each row and
column. Pairs that are still open after ``max_iterations`` are finished by Newton's method.

A pair leaves the batch as soon as its marginal error is small enough: its plan does not depend
on its batch-mates.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from cl2cm.losses.checks import require_positive
from cl2cm.losses.newton import newton
from cl2cm.losses.plans import Problem, Transport, exact, finish, log_sum, pose

STRIDE = 10  # iterations between two looks at the error
WANDER = 20.0  # largest |log| of a scaling that is left outside of the kernel
BROKEN = 30.0  # beyond this, the floor of the kernel could be felt


def sinkhorn(
    cost: Tensor,
    a: Tensor,
    b: Tensor,
    *,
    epsilon: float = 0.1,
    rho: float | None = None,
    max_iterations: int = 100,
    tolerance: float = 1e-6,
    newton_steps: int = 50,
) -> Transport:
    """Solve a batch of entropic transport problems.

    ``rho=None`` is balanced: min <P, C> + epsilon KL(P | a bᵀ) with marginals a and b. Otherwise
    the marginals are free at the price rho (KL(P 1 | a) + KL(Pᵀ 1 | b)): a word whose counterpart
    is dearer than about rho stays unmatched.

    Args:
        cost: [B, n, m], in [0, 2] for unit vectors.
        a: [B, n], non-negative; zero on padding. Balanced: the sums of a and b must be equal.
        b: [B, m], likewise.
        epsilon: strength of the entropy, above 0, in units of the cost. 0.1 gives soft plans in a
            few dozen iterations; 0.01 nearly hard ones.
        rho: strength of the marginals, above 0, in units of the cost; None for balanced.
        max_iterations: of scaling, rows and columns both.
        tolerance: stop when the marginal error (L1) is at most this; 0 runs exactly
            ``max_iterations`` and no Newton step.
        newton_steps: at most so many for pairs still open; 0 turns them off.

    Returns:
        Plans without gradient, in the dtype of ``cost`` (at least float32). A pair with an empty
        side has a zero plan and counts as converged.

    Raises:
        ConfigError: epsilon or rho is not above 0.
        ValueError: the shapes do not fit each other.
    """
    require_positive("epsilon", epsilon)
    if rho is not None:
        require_positive("rho", rho)
    ratio = 0.0 if rho is None else epsilon / rho
    with exact(cost):
        problem = pose(cost, a, b, epsilon)
        plan, error, x, iterations = _scale(problem, epsilon, ratio, max_iterations, tolerance)
        rows = torch.nonzero(~(error <= tolerance))[:, 0]
        if tolerance > 0 and newton_steps > 0 and len(rows):
            plan[rows], error[rows], steps = newton(
                problem.take(rows),
                x[rows],
                epsilon=epsilon,
                ratio=ratio,
                steps=newton_steps,
                tolerance=tolerance,
            )
            iterations += steps
        return finish(plan, problem.cost, error, error <= tolerance, iterations)


@dataclass(slots=True)
class _Scaling:
    """The pairs still open: their kernels, potentials absorbed in those, and scalings."""

    rows: Tensor  # int64 [b], place in the batch
    log_kernel: Tensor  # [b, n, m]
    a: Tensor  # [b, 1, n]
    b: Tensor  # [b, 1, m]
    x: Tensor  # [b, 1, n], absorbed
    y: Tensor  # [b, 1, m], absorbed
    kernel: Tensor  # [b, n, m], with x and y
    turned: Tensor  # [b, m, n], its transpose: both products then run along contiguous memory
    u: Tensor  # [b, 1, n]
    v: Tensor  # [b, 1, m]
    sums: Tensor  # [b, 1, n], kernel times v

    def keep(self, chosen: Tensor) -> None:
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name)[chosen])


def _start(problem: Problem, epsilon: float) -> _Scaling:
    no_row, no_column = (
        torch.zeros_like(side).masked_fill_(side == 0, math.inf) for side in (problem.a, problem.b)
    )
    height = (problem.cost / epsilon).add_(no_column[:, None, :])
    x = height.amin(2, keepdim=True)
    x.masked_fill_(x == math.inf, 0)
    y = height.sub_(x).add_(no_row[:, :, None]).amin(1, keepdim=True)
    y.masked_fill_(y == math.inf, 0)
    a, b = problem.a[:, None, :], problem.b[:, None, :]
    kernel = _kernel(problem.kernel, x.mT, y)
    u, v = (a > 0).to(a.dtype), (b > 0).to(b.dtype)
    return _Scaling(
        rows=torch.arange(len(x), device=x.device),
        log_kernel=problem.kernel,
        a=a,
        b=b,
        x=x.mT,
        y=y,
        kernel=kernel,
        turned=kernel.mT.contiguous(),
        u=u,
        v=v,
        sums=torch.bmm(v, kernel.mT),
    )


def _kernel(log_kernel: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the kernel [b, n, m] with potentials absorbed, kept above the slow subnormal numbers.

    Padding is raised from zero, too; it stays without effect, for u and v are zero there.
    """
    floor = math.log(torch.finfo(x.dtype).tiny) + 1
    return (log_kernel + x.mT).add_(y).clamp_min_(floor).exp_()


def _scale(
    problem: Problem, epsilon: float, ratio: float, max_iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Return the plans, errors and row potentials of the whole batch, and the iterations done."""
    plan = torch.zeros_like(problem.cost)
    error = problem.a.new_full((len(plan),), math.inf)
    x = torch.zeros_like(problem.a)
    state = _start(problem, epsilon)
    done = 0
    while done < max_iterations and len(state.rows):
        stride = min(STRIDE, max_iterations - done)
        _iterate(state, ratio, stride)
        done += stride
        found = _error(state, ratio)
        closed = (found <= tolerance) & (tolerance > 0) | (done == max_iterations)
        if closed.any():
            rows, u = state.rows[closed], state.u[closed]
            plan[rows] = state.kernel[closed] * u.mT * state.v[closed]
            x[rows] = (state.x[closed] + _log(u))[:, 0]
            error[rows] = found[closed]
            state.keep(~closed)
        if ratio:
            _centre(state, ratio)
    return plan, error, x, done


def _iterate(state: _Scaling, ratio: float, count: int) -> None:
    """Scale rows and columns ``count`` times, then absorb or repair where need be."""
    before = state.u, state.v
    tiny = torch.finfo(state.a.dtype).tiny
    power = 1 / (1 + ratio)
    # what the power does not carry of the potentials that the kernel has absorbed
    pull_u, pull_v = (state.x * (power - 1)).exp(), (state.y * (power - 1)).exp()
    for _ in range(count):
        state.u = state.a / state.sums.clamp_min_(tiny)
        if ratio:
            state.u.pow_(power).mul_(pull_u)
        state.v = state.b / torch.bmm(state.u, state.turned.mT).clamp_min_(tiny)
        if ratio:
            state.v.pow_(power).mul_(pull_v)
        state.sums = torch.bmm(state.v, state.kernel.mT)
    reach = torch.maximum(_reach(state.u, state.a), _reach(state.v, state.b))
    broken = torch.nonzero(~(reach < BROKEN))[:, 0]
    if len(broken):
        _repair(state, broken, before, power, count)
    wandered = torch.nonzero((reach >= WANDER) & (reach < BROKEN))[:, 0]
    if len(wandered):
        _absorb(state, wandered, _log(state.u[wandered]), _log(state.v[wandered]))


def _reach(scaling: Tensor, marginal: Tensor) -> Tensor:
    """Largest |log| of a scaling [b, 1, n] over the tokens with mass; [b], inf or NaN if lost."""
    return scaling.log().masked_fill_(marginal == 0, 0).abs_().amax((1, 2))


def _log(scaling: Tensor) -> Tensor:
    """Return the log of a scaling, zero where it is zero: on padding."""
    return scaling.log().masked_fill_(scaling == 0, 0)


def _absorb(state: _Scaling, which: Tensor, log_u: Tensor, log_v: Tensor) -> None:
    """Move scalings into the potentials, and make the kernels of these pairs anew."""
    x, y = state.x[which] + log_u, state.y[which] + log_v
    kernel = _kernel(state.log_kernel[which], x, y)
    v = (state.b[which] > 0).to(x.dtype)
    state.x[which], state.y[which] = x, y
    state.kernel[which], state.turned[which] = kernel, kernel.mT
    state.u[which], state.v[which] = (state.a[which] > 0).to(x.dtype), v
    state.sums[which] = torch.bmm(v, kernel.mT)


def _repair(
    state: _Scaling, which: Tensor, before: tuple[Tensor, Tensor], power: float, count: int
) -> None:
    """Do the last ``count`` iterations of these pairs again, in the log domain."""
    log_kernel, a, b = state.log_kernel[which], state.a[which], state.b[which]
    log_a, log_b = _log(a), _log(b)
    y = state.y[which] + _log(before[1][which])
    for _ in range(count):
        x = power * (log_a - log_sum(log_kernel + y, 2)[:, None, :])
        y = power * (log_b - log_sum(log_kernel + x.mT, 1)[:, None, :])
    _absorb(state, which, x - state.x[which], y - state.y[which])


def _error(state: _Scaling, ratio: float) -> Tensor:
    """Return the L1 error [b] of the row marginal; that of the columns is exact."""
    aim = state.a * (-ratio * (state.x + _log(state.u))).exp() if ratio else state.a
    return (state.u * state.sums - aim).abs().sum((1, 2))


def _centre(state: _Scaling, ratio: float) -> None:
    """Shift mass between the two potentials to the best split: the plan stays, the dual rises.

    Left to itself the unbalanced iteration finds this constant at the slow rate of 1 - ratio.
    """
    rows = (state.a * (-ratio * (state.x + _log(state.u))).exp()).sum((1, 2), keepdim=True)
    columns = (state.b * (-ratio * (state.y + _log(state.v))).exp()).sum((1, 2), keepdim=True)
    shift = (rows / columns).log().nan_to_num(0, 0, 0) / (2 * ratio)
    state.x, state.y = state.x + shift, state.y - shift
