import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize
from torch.testing import assert_close

from cl2cm.errors import ConfigError
from cl2cm.losses.confidence import curriculum, dual_view_cost, pair_confidence, pair_weights
from cl2cm.losses.transport import cost_matrix

SIZE = 7


def cost(seed=0, size=SIZE, noise=0.6):
    g = torch.Generator().manual_seed(seed)
    x = normalize(torch.randn(size, 6, generator=g, dtype=torch.float64), dim=-1)
    y = normalize(x + noise * torch.randn(size, 6, generator=g, dtype=torch.float64) / 2.5, dim=-1)
    return cost_matrix(x, y)


def pictures(size=SIZE):
    """Rows 0 and 2, and the last two, show one picture."""
    names = torch.arange(size)
    names[2], names[-1] = names[0], names[-2]
    return names[:, None] == names[None, :]


def in_loops(cost, positives, epsilon, rho, rounds=4000):
    """Plain scaling, with a kernel that is zero between rows of one picture."""
    size = len(cost)
    power = 1.0 if rho is None else rho / (rho + epsilon)
    kernel = [
        [
            0.0 if i != j and positives[i, j] else math.exp(-float(cost[i, j]) / epsilon) / size**2
            for j in range(size)
        ]
        for i in range(size)
    ]
    u, v = [1.0] * size, [1.0] * size
    for _ in range(rounds):
        for i in range(size):
            u[i] = (1 / size / sum(kernel[i][j] * v[j] for j in range(size))) ** power
        for j in range(size):
            v[j] = (1 / size / sum(kernel[i][j] * u[i] for i in range(size))) ** power
    return torch.tensor([u[i] * kernel[i][i] * v[i] * size for i in range(size)]).double()


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize(("epsilon", "rho"), [(0.1, None), (0.5, None), (0.1, 0.3)])
def test_equals_its_loop(epsilon, rho, marked):
    positives = pictures() if marked else torch.zeros(SIZE, SIZE, dtype=torch.bool)
    expected = in_loops(cost(), positives, epsilon, rho)
    found = pair_confidence(cost(), positives=positives, epsilon=epsilon, rho=rho, tolerance=1e-9)
    assert_close(found, expected, atol=1e-6, rtol=0)
    assert 0.05 < expected.min() < expected.max() < 1


def test_by_hand():
    # p / (1/2 - p) = exp(1 / epsilon) for costs of 0 on the diagonal and 1 elsewhere
    square = 1 - torch.eye(2)
    expected = torch.full((2,), 1 / (1 + math.exp(-1)))
    assert_close(pair_confidence(square, epsilon=1.0, tolerance=1e-6), expected)


def test_no_difference_is_no_confidence():
    assert_close(pair_confidence(torch.full((8, 8), 0.7)), torch.full((8,), 1 / 8))


def test_swapped_translations_are_found():
    x = normalize(torch.randn(20, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    y = x.clone()
    y[[3, 11]] = x[[11, 3]]
    found = pair_confidence(cost_matrix(x, y))
    bad = torch.zeros(20, dtype=torch.bool)
    bad[[3, 11]] = True
    assert found[bad].max() < 0.01
    assert found[~bad].min() > 0.9


def test_a_translation_of_nothing_is_found_by_relaxed_marginals_alone():
    x = torch.eye(9)[:8]
    y = x.clone()
    y[5] = torch.eye(9)[8]  # unlike every text
    balanced, relaxed = (pair_confidence(cost_matrix(x, y), rho=rho) for rho in (None, 0.1))
    assert balanced.min() > 0.9
    assert_close(relaxed[5] / relaxed[0], torch.tensor(math.exp(-1 / 0.25)), atol=2e-3, rtol=0)


def test_captions_of_one_picture_are_no_evidence_of_noise():
    x = torch.eye(6)
    x[4] = x[1]  # the same picture, and nearly the same caption
    positives = torch.eye(6, dtype=torch.bool)
    positives[1, 4] = positives[4, 1] = True
    found = pair_confidence(cost_matrix(x, x), positives=positives)
    assert_close(found, torch.ones(6), atol=1e-3, rtol=0)
    without = pair_confidence(cost_matrix(x, x))
    assert_close(without[[1, 4]], torch.full((2,), 0.5), atol=1e-3, rtol=0)
    # yet a bad translation beside a good one of the same picture is found
    y = x.clone()
    y[4], y[3] = x[3], x[4]
    assert pair_confidence(cost_matrix(x, y), positives=positives)[[3, 4]].max() < 0.6


@pytest.mark.parametrize("epsilon", [0.005, 0.05, 1.0])
def test_one_picture_is_certain(epsilon):
    everything = torch.ones(SIZE, SIZE, dtype=torch.bool)
    found = pair_confidence(cost().float(), positives=everything, epsilon=epsilon)
    assert_close(found, torch.ones(SIZE))
    assert_close(pair_confidence(cost(size=1), epsilon=epsilon), torch.ones(1).double())


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(SIZE)), seed=st.integers(0, 1000))
@pytest.mark.parametrize("rho", [None, 0.3])
def test_invariances(rho, order, seed):
    square, positives = cost(seed), pictures()
    expected = pair_confidence(square, positives=positives, rho=rho, tolerance=1e-8)
    moved = pair_confidence(
        square[order][:, order], positives=positives[order][:, order], rho=rho, tolerance=1e-8
    )
    assert_close(moved, expected[order], atol=1e-6, rtol=0)
    turned = pair_confidence(square.T, positives=positives.T, rho=rho, tolerance=1e-8)
    assert_close(turned, expected, atol=1e-6, rtol=0)
    if rho is None:  # balanced, a text that is dear for all columns alike loses nothing
        dearer = square + torch.linspace(0, 0.5, SIZE)[:, None]
        found = pair_confidence(dearer, positives=positives, tolerance=1e-8)
        assert_close(found, expected, atol=1e-6, rtol=0)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    epsilon=st.sampled_from([0.005, 0.05, 1.0]),
    rho=st.sampled_from([None, 0.01, 1.0]),
)
def test_range_without_gradient(seed, epsilon, rho):
    square = cost(seed).float().requires_grad_()
    found = pair_confidence(square, positives=pictures(), epsilon=epsilon, rho=rho)
    assert not found.requires_grad
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()


def test_half_precision_is_raised():
    square = cost().bfloat16()
    assert_close(pair_confidence(square), pair_confidence(square.float()))


def test_two_views():
    lingual, modal = cost(1), cost(2)
    assert_close(dual_view_cost(lingual, modal, 0.0), lingual)
    assert_close(dual_view_cost(lingual, modal, 1.0), modal)
    assert dual_view_cost(lingual, modal, 0.25)[2, 3].item() == pytest.approx(
        0.75 * lingual[2, 3].item() + 0.25 * modal[2, 3].item()
    )


def test_curriculum_by_hand():
    assert [curriculum(p, ramp=0.5) for p in (0.0, 0.1, 0.25, 0.5, 1.0)] == [0, 0.2, 0.5, 1, 1]
    assert curriculum(0.0, ramp=0.0) == 1
    assert curriculum(0.5, ramp=1.0) == 0.5


def test_weights_by_hand():
    confidence = torch.tensor([0.0, 0.5, 1.0])
    assert_close(pair_weights(confidence, 0.0), torch.ones(3))
    assert_close(pair_weights(confidence, 1.0), confidence)
    assert_close(pair_weights(confidence, 0.5), torch.tensor([0.5, 0.75, 1.0]))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"\[B, B\]"):
        pair_confidence(cost()[:4])
    with pytest.raises(ValueError, match="equal shape"):
        dual_view_cost(cost(), cost(size=5), 0.5)
    with pytest.raises(ConfigError, match="epsilon"):
        pair_confidence(cost(), epsilon=0.0)
    with pytest.raises(ConfigError, match="rho"):
        pair_confidence(cost(), rho=-1.0)
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ConfigError, match="share"):
            dual_view_cost(cost(), cost(), bad)
        with pytest.raises(ConfigError, match="progress"):
            curriculum(bad)
        with pytest.raises(ConfigError, match="ramp"):
            curriculum(0.5, ramp=bad)
        with pytest.raises(ConfigError, match="trust"):
            pair_weights(torch.ones(2), bad)
