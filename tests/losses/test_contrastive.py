import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize
from torch.testing import assert_close

from cl2cm.errors import ConfigError
from cl2cm.losses.contrastive import info_nce, triplet_hardest


def pair(seed=0, size=6, width=5):
    g = torch.Generator().manual_seed(seed)
    x = normalize(torch.randn(size, width, generator=g, dtype=torch.float64), dim=-1)
    return x, normalize(torch.randn(size, width, generator=g, dtype=torch.float64), dim=-1)


def pictures(size):
    """Rows 0 and 2, and the last two, show the same picture."""
    names = torch.arange(size)
    names[2], names[-1] = names[0], names[-2]
    return names[:, None] == names[None, :]


def info_nce_in_loops(x, y, tau, smoothing, positives, weights=None):
    size, total = len(x), 0.0
    weights = [1.0] * size if weights is None else [float(w) for w in weights]
    for left, right, marked in ((x, y, positives), (y, x, positives.T)):
        for i in range(size):
            allowed = [j for j in range(size) if j == i or not marked[i, j]]
            logits = {j: float(left[i] @ right[j]) / tau for j in allowed}
            norm = math.log(sum(math.exp(value) for value in logits.values()))
            own = norm - logits[i]
            evenly = sum(norm - value for value in logits.values()) / len(allowed)
            total += weights[i] * ((1 - smoothing) * own + smoothing * evenly) / sum(weights)
    return total / 2


def triplet_in_loops(x, y, margin, positives, weights=None):
    size, total = len(x), 0.0
    weights = [1.0] * size if weights is None else [float(w) for w in weights]
    for i in range(size):
        own, across, back = float(x[i] @ y[i]), 0.0, 0.0
        for j in range(size):
            if j == i:
                continue
            if not positives[i, j]:
                across = max(across, margin + float(x[i] @ y[j]) - own)
            if not positives[j, i]:
                back = max(back, margin + float(x[j] @ y[i]) - own)
        total += weights[i] * (across + back) / sum(weights)
    return total


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("marked", [False, True])
def test_info_nce_equals_its_loop(smoothing, marked):
    x, y = pair()
    positives = pictures(6) if marked else torch.zeros(6, 6, dtype=torch.bool)
    found = info_nce(x, y, tau=0.2, label_smoothing=smoothing, positives=positives)
    assert found.item() == pytest.approx(info_nce_in_loops(x, y, 0.2, smoothing, positives))
    if not marked:
        plain = info_nce(x, y, tau=0.2, label_smoothing=smoothing)
        assert_close(found, plain)


def test_label_smoothing_is_that_of_torch():
    x, y = pair(1)
    logits, own = x @ y.T / 0.1, torch.arange(6)
    expected = sum(
        torch.nn.functional.cross_entropy(side, own, label_smoothing=0.3)
        for side in (logits, logits.T)
    )
    assert_close(info_nce(x, y, tau=0.1, label_smoothing=0.3), expected / 2)


@pytest.mark.parametrize("marked", [False, True])
def test_triplet_equals_its_loop(marked):
    x, y = pair(2)
    positives = pictures(6) if marked else torch.zeros(6, 6, dtype=torch.bool)
    found = triplet_hardest(x, y, margin=0.3, positives=positives)
    assert found.item() == pytest.approx(triplet_in_loops(x, y, 0.3, positives))


def test_weighted_losses_equal_their_loops():
    x, y = pair(3)
    marked, weights = pictures(6), torch.tensor([0.5, 0.0, 2.0, 1.0, 0.1, 0.3])
    found = info_nce(x, y, tau=0.2, label_smoothing=0.1, positives=marked, weights=weights)
    assert found.item() == pytest.approx(info_nce_in_loops(x, y, 0.2, 0.1, marked, weights))
    found = triplet_hardest(x, y, margin=0.3, positives=marked, weights=weights)
    assert found.item() == pytest.approx(triplet_in_loops(x, y, 0.3, marked, weights))


@pytest.mark.parametrize("loss", [info_nce, triplet_hardest])
def test_only_ratios_of_weights_count(loss):
    x, y = pair(4)
    weights = torch.tensor([0.5, 0.0, 2.0, 1.0, 0.1, 0.3], dtype=torch.float64)
    assert_close(loss(x, y, weights=weights * 7), loss(x, y, weights=weights))
    assert_close(loss(x, y, weights=torch.full((6,), 0.01)), loss(x, y))
    one = torch.eye(6, dtype=torch.float64)
    singly = torch.stack([loss(x, y, weights=row) for row in one])
    assert_close(singly.mean(), loss(x, y))
    assert loss(x, y, weights=torch.zeros(6)).item() == 0
    with pytest.raises(ValueError, match="weights"):
        loss(x, y, weights=weights[:5])
    with pytest.raises(ValueError, match="weights"):
        loss(x, y, weights=weights[:, None])


def test_by_hand():
    x = torch.eye(2)
    # logits [[1, 0], [0, 1]] / 1: each row's loss is log(1 + 1/e)
    assert info_nce(x, x, tau=1.0).item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert triplet_hardest(x, x).item() == 0
    # all alike: each direction pays the margin
    assert triplet_hardest(x[:1].repeat(3, 1), x[:1].repeat(3, 1)).item() == pytest.approx(0.4)


def test_negative_similarities_are_not_hidden_by_the_mask():
    # a mask that multiplies would put a 0 in place of the only negatives, which are at -0.8
    y = torch.tensor([[1.0, 0.0], [-0.8, 0.6]])
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert_close(triplet_hardest(x, y, margin=1.9), torch.tensor((0.1 + 0.1 + 0.0 + 0.3) / 2))


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(6)), seed=st.integers(0, 1000))
@pytest.mark.parametrize("loss", [info_nce, triplet_hardest])
def test_order_and_sides_do_not_matter(loss, order, seed):
    x, y = pair(seed)
    positives = pictures(6)
    expected = loss(x, y, positives=positives)
    moved = positives[order][:, order]
    assert_close(loss(x[order], y[order], positives=moved), expected)
    assert_close(loss(y, x, positives=positives.T), expected)


@pytest.mark.parametrize("loss", [info_nce, triplet_hardest])
@pytest.mark.parametrize("positives", [None, torch.ones(1, 1, dtype=torch.bool)])
def test_a_batch_of_one_costs_nothing(loss, positives):
    x, y = (side[:1].requires_grad_() for side in pair())
    value = loss(x, y, positives=positives)
    value.backward()
    assert value.item() == 0
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("loss", [info_nce, triplet_hardest])
def test_a_batch_of_one_picture_costs_nothing(loss):
    x, y = (side.requires_grad_() for side in pair())
    value = loss(x, y, positives=torch.ones(6, 6, dtype=torch.bool))
    value.backward()
    assert value.item() == 0
    assert_close(x.grad, torch.zeros_like(x))


def test_gradients():
    x, y = (side.requires_grad_() for side in pair())
    marked = pictures(6)
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *p: info_nce(p[0], p[1], tau=p[2], label_smoothing=0.1, positives=marked),
        (x, y, tau),
    )
    assert torch.autograd.gradcheck(lambda *p: triplet_hardest(*p, positives=marked), (x, y))


def test_bad_arguments_are_refused():
    x, y = pair()
    with pytest.raises(ConfigError, match="tau"):
        info_nce(x, y, tau=0.0)
    with pytest.raises(ConfigError, match="label_smoothing"):
        info_nce(x, y, label_smoothing=1.0)
    with pytest.raises(ConfigError, match="margin"):
        triplet_hardest(x, y, margin=-0.2)
    with pytest.raises(ValueError, match=r"\[B, D\]"):
        info_nce(x, y[:4])
