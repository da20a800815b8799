import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch.testing import assert_close

from cl2cm.errors import ConfigError
from cl2cm.losses import sinkhorn as sinkhorn_module
from cl2cm.losses.transport import (
    centred,
    cost_matrix,
    ipot,
    salience_marginals,
    sinkhorn,
    transport,
    uniform_marginals,
)

SOLVERS = [
    pytest.param(sinkhorn, id="balanced"),
    pytest.param(lambda *p: sinkhorn(*p, epsilon=0.01), id="small epsilon"),
    pytest.param(lambda *p: sinkhorn(*p, rho=0.5), id="unbalanced"),
    pytest.param(lambda *p: sinkhorn(*p, epsilon=0.01, rho=0.5), id="unbalanced, small epsilon"),
    pytest.param(lambda *p: ipot(*p, max_iterations=50), id="ipot"),
]


def assert_optimal(cost, a, b, plan, *, epsilon):
    """Optimality itself: the marginals, and log P + C / epsilon = x_i + y_j where P is felt."""
    np.testing.assert_allclose(plan.sum(1), a, atol=1e-6)
    np.testing.assert_allclose(plan.sum(0), b, atol=1e-6)
    # every 2 by 2 minor of exp(log P + C / epsilon) vanishes: seen through its large entries
    logs = np.log(np.maximum(plan, 1e-300)) + cost / epsilon
    i, j = np.unravel_index(plan.argmax(), plan.shape)
    minors = logs + logs[i, j] - logs[i, :][None, :] - logs[:, j][:, None]
    felt = (plan > 1e-6) & (plan[i, :][None, :] > 1e-6) & (plan[:, j][:, None] > 1e-6)
    np.testing.assert_allclose(minors[felt], 0, atol=2e-3)


@pytest.mark.parametrize(("epsilon", "atol"), [(0.1, 1e-5), (0.01, 1e-4)])
@pytest.mark.parametrize("salience", [False, True])
def test_sinkhorn_equals_pot_on_masked_problems(problems, valid, epsilon, atol, salience):
    cost, a, b = problems(100, seed=1 + salience, salience=salience)
    found = sinkhorn(cost, a, b, epsilon=epsilon)
    assert found.converged.all()
    assert found.plan.dtype == torch.float32
    # the log domain is needless in float64, but dear at the thousands of iterations of 0.01
    method = "sinkhorn_log" if epsilon == 0.1 else "sinkhorn"
    compared = 0
    for index in range(len(cost)):
        (c, plan), p, q = valid(cost[index], a[index], b[index], found.plan[index])
        assert_optimal(c, p, q, plan, epsilon=epsilon)
        expected, log = ot.sinkhorn(
            p, q, c, epsilon, method=method, numItermax=4000, stopThr=1e-10, log=True, warn=False
        )
        if log["err"][-1] <= 1e-10:  # the oracle, too, must have converged
            np.testing.assert_allclose(plan, expected, rtol=0, atol=atol)
            compared += 1
    assert compared >= 80


@pytest.mark.parametrize("salience", [False, True])
@pytest.mark.parametrize(("epsilon", "rho"), [(0.1, 1.0), (0.1, 0.1), (0.02, 0.3), (0.01, 1.0)])
def test_unbalanced_equals_pot(problems, valid, epsilon, rho, salience):
    cost, a, b = problems(12, seed=3, most=16, salience=salience)
    found = sinkhorn(cost, a, b, epsilon=epsilon, rho=rho)
    assert found.converged.all()
    for index in range(len(cost)):
        (c, plan), p, q = valid(cost[index], a[index], b[index], found.plan[index])
        expected = ot.unbalanced.sinkhorn_unbalanced(
            p, q, c, epsilon, rho, reg_type="kl", numItermax=20000, stopThr=1e-12
        )
        np.testing.assert_allclose(plan, expected, rtol=0, atol=1e-5)


def test_unbalanced_tends_to_balanced_and_to_nothing(problems):
    cost, a, b = problems(6, seed=4)
    balanced = sinkhorn(cost, a, b).plan
    assert_close(sinkhorn(cost, a, b, rho=1e5).plan, balanced, atol=1e-5, rtol=0)
    assert sinkhorn(cost + 1, a, b, rho=0.01).plan.sum() < 0.2 * balanced.sum()


def test_unbalanced_leaves_a_word_without_counterpart_unmatched():
    cost = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]])
    a, b = torch.full((1, 3), 1 / 3), torch.full((1, 2), 1 / 2)
    mass = sinkhorn(cost, a, b, epsilon=0.02, rho=0.1).plan.sum(2)[0]
    assert mass[2] < 0.01 * mass[0]


def test_sinkhorn_by_hand():
    # P = [[p, q], [q, p]] with p + q = 1/2 and p / q = exp(1 / epsilon)
    cost = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    half = torch.full((1, 2), 0.5)
    q = 0.5 / (1 + math.exp(2.0))
    found = sinkhorn(cost, half, half, epsilon=0.5)
    assert_close(found.plan, torch.tensor([[[0.5 - q, q], [q, 0.5 - q]]]))
    assert_close(found.cost, torch.tensor([2 * q]))


@pytest.mark.parametrize("epsilon", [1e-2, 1e-3, 1e-4])
def test_small_epsilon_tends_to_the_hungarian_assignment(epsilon):
    cost = 2 * torch.rand(20, 12, 12, generator=torch.Generator().manual_seed(5))
    side = torch.full((20, 12), 1 / 12)
    found = sinkhorn(cost, side, side, epsilon=epsilon, newton_steps=200)
    assert torch.isfinite(found.plan).all()
    for index in range(20):
        best = cost[index].numpy()[linear_sum_assignment(cost[index])].mean()
        assert best - 1e-5 <= found.cost[index] <= best + epsilon * math.log(144)


def test_ipot_reaches_the_exact_optimum(problems, valid):
    cost, a, b = problems(30, seed=6, salience=True)
    found = ipot(cost, a, b, beta=0.5, max_iterations=6000)
    assert found.converged.all()
    for index in range(len(cost)):
        (c,), p, q = valid(cost[index], a[index], b[index])
        assert found.cost[index].item() == pytest.approx(ot.emd2(p, q, c), abs=3e-4)


def test_ipot_equals_its_loop(problems, valid):
    cost, a, b = problems(6, seed=7, most=9, salience=True)
    found = ipot(cost, a, b, beta=0.3, inner=2, max_iterations=25, tolerance=0)
    assert found.iterations == 25
    for index in range(len(cost)):
        (c, plan), p, q = valid(cost[index], a[index], b[index], found.plan[index])
        expected, sigma = np.outer(p, q), np.ones(len(q))
        for _ in range(25):
            kernel = np.exp(-c / 0.3) * expected
            for _ in range(2):
                delta = p / (kernel @ sigma)
                sigma = q / (kernel.T @ delta)
            expected = delta[:, None] * kernel * sigma[None, :]
        np.testing.assert_allclose(plan, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("solve", SOLVERS)
def test_a_plan_does_not_depend_on_its_batch_mates(problems, solve):
    cost, a, b = problems(24, seed=8)
    whole = solve(cost, a, b)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    assert_close(solve(cost[order], a[order], b[order]).plan, whole.plan[order], atol=1e-6, rtol=0)
    for index in range(0, 24, 5):
        one = slice(index, index + 1)
        alone = solve(cost[one], a[one], b[one]).plan
        assert_close(alone, whole.plan[one], atol=1e-6, rtol=0)


@settings(max_examples=10, deadline=None)
@given(extra=st.tuples(st.integers(0, 9), st.integers(0, 9)), seed=st.integers(0, 99))
@pytest.mark.parametrize("solve", SOLVERS)
def test_padding_changes_nothing_and_gets_nothing(solve, extra, seed):
    g = torch.Generator().manual_seed(seed)
    cost = 2 * torch.rand(3, 7, 5, generator=g)
    a, b = torch.rand(3, 7, generator=g).softmax(1), torch.rand(3, 5, generator=g).softmax(1)
    padded = torch.full((3, 7 + extra[0], 5 + extra[1]), math.nan)
    padded[:, :7, :5] = cost
    wide_a = torch.nn.functional.pad(a, (0, extra[0]))
    wide_b = torch.nn.functional.pad(b, (0, extra[1]))
    plan, found = solve(cost, a, b).plan, solve(padded, wide_a, wide_b)
    assert_close(found.plan[:, :7, :5], plan, atol=2e-6, rtol=0)
    assert found.plan[:, 7:].count_nonzero() == found.plan[:, :, 5:].count_nonzero() == 0
    assert torch.isfinite(found.cost).all()


@pytest.mark.parametrize("solve", SOLVERS[:4])
def test_transposing_transposes_the_plan(problems, solve):
    cost, a, b = problems(8, seed=9)
    turned = solve(cost.mT, b, a).plan.mT
    assert_close(turned, solve(cost, a, b).plan, atol=2e-6, rtol=0)


@pytest.mark.parametrize("solve", SOLVERS)
def test_zero_weights_inside_a_text_get_nothing(problems, solve):
    cost, a, b = problems(8, seed=10, salience=True)
    a[:, 0], b[:, 1] = 0, 0
    a, b = a / a.sum(1, keepdim=True), b / b.sum(1, keepdim=True)
    found = solve(cost, a, b)
    assert found.plan[:, 0].count_nonzero() == found.plan[:, :, 1].count_nonzero() == 0
    assert torch.isfinite(found.plan).all()


@pytest.mark.parametrize("solve", SOLVERS)
def test_an_empty_text_has_a_zero_plan(problems, solve):
    cost, a, b = problems(4, seed=11)
    a[1], b[2] = 0, 0
    a[3], b[3] = 0, 0
    found = solve(cost, a, b)
    assert found.plan[1:].count_nonzero() == 0
    assert found.converged[1:].all()
    assert_close(found.cost[1:], torch.zeros(3))
    assert_close(found.error[1:], torch.zeros(3))
    assert found.plan[0].sum() > 0.1


@pytest.mark.parametrize("solve", SOLVERS)
def test_no_gradient_and_the_reported_values(problems, solve):
    cost, a, b = problems(5, seed=12)
    found = solve(cost.requires_grad_(), a, b)
    assert not found.plan.requires_grad
    assert not found.cost.requires_grad
    assert_close(found.cost, (found.plan * cost.detach()).sum((1, 2)))
    assert (found.plan >= 0).all()


def test_error_is_the_marginal_error(problems):
    cost, a, b = problems(10, seed=13)
    found = sinkhorn(cost, a, b, epsilon=0.02, max_iterations=7, tolerance=0)
    gap = (found.plan.sum(2) - a).abs().sum(1) + (found.plan.sum(1) - b).abs().sum(1)
    assert_close(found.error, gap, atol=1e-5, rtol=1e-4)
    assert found.iterations == 7
    assert not found.converged.any()


def test_scaling_newton_and_the_log_domain_agree(problems, monkeypatch):
    cost, a, b = problems(12, seed=14, salience=True)
    for rho in (None, 0.3):
        newton_only = sinkhorn(cost, a, b, epsilon=0.05, rho=rho, max_iterations=0)
        scaled = sinkhorn(
            cost, a, b, epsilon=0.05, rho=rho, max_iterations=5000, newton_steps=0, tolerance=3e-6
        )
        with monkeypatch.context() as patch:
            patch.setattr(sinkhorn_module, "BROKEN", -1.0)  # repair every stretch
            logs = sinkhorn(cost, a, b, epsilon=0.05, rho=rho, max_iterations=500)
        for found in (scaled, logs):
            assert found.converged.all()
            assert_close(found.plan, newton_only.plan, atol=5e-5, rtol=0)


@pytest.mark.parametrize(("stride", "broken"), [(10, -1.0), (1, 3.0)])
def test_fixed_iterations_in_the_log_domain_are_those_of_scaling(
    problems, monkeypatch, stride, broken
):
    cost, a, b = problems(12, seed=15)
    scaled = sinkhorn(cost, a, b, epsilon=0.01, max_iterations=40, tolerance=0)
    monkeypatch.setattr(sinkhorn_module, "STRIDE", stride)
    monkeypatch.setattr(sinkhorn_module, "BROKEN", broken)
    logs = sinkhorn(cost, a, b, epsilon=0.01, max_iterations=40, tolerance=0)
    assert_close(scaled.plan, logs.plan, atol=2e-5, rtol=0)


def test_extreme_salience_at_a_tiny_epsilon_is_repaired():
    g = torch.Generator().manual_seed(16)
    cost = 2 * torch.rand(8, 10, 10, generator=g)
    a = torch.logspace(-30, 0, 10).expand(8, 10)
    a = a / a.sum(1, keepdim=True)
    found = sinkhorn(cost, a, a.flip(1), epsilon=0.001)
    assert torch.isfinite(found.plan).all()
    assert_close(found.plan.sum(2), a, atol=1e-5, rtol=0)
    assert_close(found.plan.sum(1), a.flip(1), atol=1e-5, rtol=0)


def test_autocast_does_not_reach_the_solver(problems):
    cost, a, b = problems(4, seed=17)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = sinkhorn(cost, a, b)
    assert inside.converged.all()
    assert_close(inside.plan, sinkhorn(cost, a, b).plan, atol=1e-7, rtol=0)


def test_half_precision_costs_are_solved_in_float32(problems):
    cost, a, b = problems(4, seed=18)
    found = sinkhorn(cost.bfloat16(), a, b)
    assert found.plan.dtype == torch.float32
    assert_close(found.plan, sinkhorn(cost.bfloat16().float(), a, b).plan)


def test_marginals():
    mask = torch.tensor([[True, True, False], [False, False, False], [True, True, True]])
    weights = torch.tensor([[1.0, 3.0, math.inf], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    third = [1 / 3] * 3
    assert_close(uniform_marginals(mask), torch.tensor([[0.5, 0.5, 0], [0, 0, 0], third]))
    expected = torch.tensor([[0.25, 0.75, 0], [0, 0, 0], third])
    assert_close(salience_marginals(weights, mask), expected)


def test_cost_matrix_by_hand():
    x, y = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    assert_close(cost_matrix(x, y), torch.tensor([[[0.0, 1.0, 2.0]]]))


def texts(seed, rows=5, width=4):
    """Unit vectors with a large common direction, NaN on padding, and a mask."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(rows, 6, width, generator=generator) + 3
    mask = torch.arange(6) < torch.randint(2, 7, (rows, 1), generator=generator)
    tokens = torch.nn.functional.normalize(tokens, dim=-1)
    return tokens.masked_fill(~mask[:, :, None], math.nan), mask


def centred_by_loops(tokens, mask, groups):
    result = torch.zeros_like(tokens)
    for row in range(len(tokens)):
        same = [
            tokens[other, j]
            for other in range(len(tokens))
            for j in range(tokens.shape[1])
            if groups[other] == groups[row] and mask[other, j]
        ]
        for j in range(tokens.shape[1]):
            if mask[row, j]:
                rest = tokens[row, j] - sum(same) / len(same)
                result[row, j] = rest / rest.norm()
    return result


@given(seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_centred_is_what_loops_give(seed):
    tokens, mask = texts(seed)
    groups = torch.tensor([7, 2, 7, 2, 2])
    found = centred(tokens, mask, groups)
    assert_close(found, centred_by_loops(tokens, mask, groups.tolist()), atol=1e-4, rtol=0)
    order = torch.tensor([3, 0, 4, 2, 1])
    assert_close(centred(tokens[order], mask[order], groups[order]), found[order])
    longer = torch.nn.functional.pad(tokens, (0, 0, 0, 3), value=math.inf)
    assert_close(centred(longer, torch.nn.functional.pad(mask, (0, 3)), groups)[:, :6], found)
    assert_close(centred(tokens, mask), centred(tokens, mask, torch.full((5,), 3)))


def test_centred_by_hand():
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8], [9.0, 9.0]]])
    mask = torch.tensor([[True, True], [True, False]])
    half = 0.5**0.5
    apart = centred(tokens, mask, torch.tensor([0, 1]))  # one token alone has nothing of its own
    assert_close(apart, torch.tensor([[[half, -half], [-half, half]], [[0.0, 0.0], [0.0, 0.0]]]))
    nothing = centred(tokens, torch.zeros_like(mask))
    assert_close(nothing, torch.zeros(2, 2, 2))


def test_centred_passes_gradient_but_not_from_padding():
    tokens, mask = texts(3)
    tokens.requires_grad_()
    centred(tokens, mask)[:, 0, 0].sum().backward()
    assert tokens.grad[mask].abs().sum() > 0
    assert tokens.grad[~mask].abs().sum() == 0


def test_transport_chooses_the_solver(problems):
    cost, a, b = problems(3, seed=19)
    assert_close(transport(cost, a, b, epsilon=0.2).plan, sinkhorn(cost, a, b, epsilon=0.2).plan)
    chosen = transport(cost, a, b, solver="ipot", beta=0.7, max_iterations=30, tolerance=1e-3)
    assert_close(chosen.plan, ipot(cost, a, b, beta=0.7, max_iterations=30, tolerance=1e-3).plan)


@pytest.mark.parametrize(
    "bad",
    [
        {"epsilon": 0.0},
        {"epsilon": math.nan},
        {"rho": -1.0},
        {"solver": "simplex"},
        {"solver": "ipot", "rho": 1.0},
        {"solver": "ipot", "beta": 0.0},
    ],
)
def test_impossible_settings_are_refused(problems, bad):
    with pytest.raises(ConfigError, match="expected"):
        transport(*problems(1), **bad)


def test_mismatched_shapes_are_refused(problems):
    cost, a, b = problems(2)
    with pytest.raises(ValueError, match=r"\[B, n, m\]"):
        sinkhorn(cost, b[:, :3], a)
