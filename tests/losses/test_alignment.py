import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize, pad
from torch.testing import assert_close

from cl2cm.errors import ConfigError
from cl2cm.losses.alignment import mutual_pairs, transport_cost, word_alignment
from cl2cm.losses.transport import cost_matrix, transport, uniform_marginals


def texts(seed=0, size=3, n=5, m=4, *, rho=None):
    """Tokens of both sides, their plan and masks; the last pair has an empty target."""
    g = torch.Generator().manual_seed(seed)
    x = normalize(torch.randn(size, n, 6, generator=g, dtype=torch.float64), dim=-1)
    y = normalize(torch.randn(size, m, 6, generator=g, dtype=torch.float64), dim=-1)
    source = torch.arange(n) < torch.randint(1, n + 1, (size, 1), generator=g)
    target = torch.arange(m) < torch.randint(1, m + 1, (size, 1), generator=g)
    target[-1] = False
    a, b = uniform_marginals(source).double(), uniform_marginals(target).double()
    plan = transport(cost_matrix(x, y), a, b, rho=rho).plan
    return x, y, plan, source, target


def alignment_in_loops(x, y, plan, source, target, tau, weighting):
    ot, align = 0.0, 0.0
    for k in range(len(x)):
        rows = [i for i in range(x.shape[1]) if source[k, i]]
        columns = [j for j in range(y.shape[1]) if target[k, j]]
        ot += sum(float(plan[k, i, j] * (1 - x[k, i] @ y[k, j])) for i in rows for j in columns)
        for one, other, turned in ((rows, columns, False), (columns, rows, True)):
            total = weights = 0.0
            for i in one:
                where = [(k, j, i) if turned else (k, i, j) for j in other]
                mass = sum(float(plan[w]) for w in where)
                if mass == 0:
                    continue
                sims = [math.exp(float(x[w[0], w[1]] @ y[w[0], w[2]]) / tau) for w in where]
                weight = mass if weighting == "mass" else 1.0
                weights += weight
                for w, value in zip(where, sims, strict=True):
                    total -= weight * float(plan[w]) / mass * math.log(value / sum(sims))
            align += total / weights / 2 if weights else 0.0
    return ot / len(x), align / len(x)


@pytest.mark.parametrize("rho", [None, 0.2])
@pytest.mark.parametrize("weighting", ["tokens", "mass"])
def test_equals_its_loop(rho, weighting):
    batch = texts(rho=rho)
    found = word_alignment(*batch, tau_w=0.3, weighting=weighting)
    ot, align = alignment_in_loops(*batch, 0.3, weighting)
    assert found.ot.item() == pytest.approx(ot)
    assert found.align.item() == pytest.approx(align)
    assert_close(found.ot, transport_cost(*batch[:3]).mean())


def test_by_hand():
    tokens, mask = torch.eye(2)[None], torch.ones(1, 2, dtype=torch.bool)
    found = word_alignment(tokens, tokens, torch.eye(2)[None] / 2, mask, mask, tau_w=1.0)
    assert found.ot.item() == 0
    assert found.align.item() == pytest.approx(math.log(1 + math.exp(-1)))
    crossed = word_alignment(tokens, tokens, torch.eye(2).flip(0)[None] / 2, mask, mask, tau_w=1.0)
    assert crossed.ot.item() == 1
    assert crossed.align.item() == pytest.approx(math.log(1 + math.e))


def test_mass_and_tokens_weigh_alike_under_uniform_balanced_transport():
    batch = texts(1)
    by_tokens = word_alignment(*batch, weighting="tokens").align
    assert_close(word_alignment(*batch, weighting="mass").align, by_tokens, rtol=1e-5, atol=1e-6)


def test_an_unmatched_word_weighs_nothing_by_mass():
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    plan = torch.tensor([[[0.5, 0.0], [0.0, 1e-9]]])
    one = word_alignment(tokens, tokens, plan, mask, mask, tau_w=1.0, weighting="mass").align
    assert one.item() == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), wide=st.integers(0, 4), high=st.integers(0, 4))
def test_padding_order_and_sides_do_not_matter(seed, wide, high):
    x, y, plan, source, target = texts(seed)
    expected = word_alignment(x, y, plan, source, target)
    padded = word_alignment(
        pad(x, (0, 0, 0, high), value=3.0),  # padding may hold anything
        pad(y, (0, 0, 0, wide), value=-3.0),
        pad(plan, (0, wide, 0, high)),
        pad(source, (0, high)),
        pad(target, (0, wide)),
    )
    assert_close(padded, expected)
    assert_close(word_alignment(y, x, plan.mT, target, source), expected)
    order = torch.tensor([2, 0, 1])
    moved = word_alignment(*(value[order] for value in (x, y, plan, source, target)))
    assert_close(moved, expected)


def test_gradients_reach_the_tokens_but_not_the_plan_nor_the_padding():
    x, y, plan, source, target = texts(2)
    x, y, plan = x.requires_grad_(), y.requires_grad_(), plan.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *p: tuple(word_alignment(*p, plan.detach(), source, target)), (x, y)
    )
    sum(word_alignment(x, y, plan, source, target)).backward()
    assert plan.grad is None
    assert x.grad[~source].count_nonzero() == y.grad[~target].count_nonzero() == 0
    assert x.grad[source][0].count_nonzero() > 0


def test_nothing_but_padding_costs_nothing():
    x, y, plan, source, target = texts()
    x, y = x.requires_grad_(), y.requires_grad_()
    nothing = torch.zeros_like(source), torch.zeros_like(target)
    found = word_alignment(x, y, torch.zeros_like(plan), *nothing)
    sum(found).backward()
    assert found.ot.item() == found.align.item() == 0
    assert_close(x.grad, torch.zeros_like(x))


def test_bad_temperature_is_refused():
    with pytest.raises(ConfigError, match="tau_w"):
        word_alignment(*texts(), tau_w=-1.0)


def test_mutual_pairs_by_hand():
    plan = torch.tensor([[[0.3, 0.1, 0.0], [0.2, 0.05, 0.0], [0.0, 0.25, 0.0]]])
    kept = torch.tensor([[[0.3, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.25, 0.0]]])
    assert_close(mutual_pairs(plan), kept)
    assert_close(mutual_pairs(plan.mT), kept.mT)


@given(seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_mutual_pairs_are_what_loops_give(seed):
    plan = torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(seed))
    expected = torch.zeros_like(plan)
    for b in range(2):
        for i in range(4):
            for j in range(3):
                if plan[b, i, j] == max(*plan[b, i], *plan[b, :, j]):
                    expected[b, i, j] = plan[b, i, j]
    assert_close(mutual_pairs(plan), expected)
    assert_close(mutual_pairs(pad(plan, (0, 2, 0, 1)))[:, :4, :3], expected)
