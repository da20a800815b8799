import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize
from torch.testing import assert_close

from cl2cm.errors import ConfigError
from cl2cm.losses.contrastive import triplet_hardest
from cl2cm.losses.distillation import relation, relational_distillation
from cl2cm.losses.noise_robust import (
    deception,
    discrimination,
    feature_distance,
    reverse_gradient,
    soft_targets,
)

B, D = 6, 8


def wave(rows, columns, step, phase=0.0):
    """Numbers that no random generator has a part in."""
    at = torch.arange(rows * columns, dtype=torch.float64) * step + phase
    return at.sin().reshape(rows, columns)


def unit(step, phase):
    return normalize(wave(B, D, step, phase), dim=1)


def near(base, step, phase):
    return normalize(base + 0.8 * wave(B, D, step, phase), dim=1)


VISION = unit(1.7, 0.0)
SOURCE = near(VISION, 2.3, 0.5)
TARGET = near(VISION, 3.1, 1.0)
FUSED = near(TARGET, 0.9, 2.0)
BACK = near(SOURCE, 5.3, 0.2)

# From running the public implementation, HuiGuanLab/nrccr at
# 5628a90f80f712f3f5fe785d8edbcd17319306db, on the tensors above (float64; its feature loss is
# computed in float32): TripletLoss with max_violation, DtlLoss, dtl_feat, and Adversarial of the
# kind GAN with two outputs.
PUBLISHED = {
    "triplet_source": 1.124166010,  # summed over the batch
    "triplet_source_mean": 0.187361002,
    "triplet_target": 0.314470055,
    "triplet_target_mean": 0.052411676,
    "cycle": 1.788519176,
    "soft": 0.821241471,
    "soft_gradient_target": 1.043234118,  # norms
    "soft_gradient_vision": 2.078029129,
    "feature": 0.014141564,
    "feature_gradient": 0.012137050,  # norm, on either side
    "feature_far": 1.097382426,  # of 9 times the fused features
    "real": 0.781893701,  # of the linear discriminator
    "fake": 0.901295943,
    "generator": 0.886391959,  # before it is scaled
    "generator_gradient": 0.508890352,
    "real_mlp": 0.675341064,  # of its discriminator of three layers
    "fake_mlp": 0.710257038,
    "generator_mlp": 0.676498693,
}


def equals_published(found, name):
    assert found.item() == pytest.approx(PUBLISHED[name], rel=1e-6, abs=2e-9)


def linear(features):
    """The linear discriminator of the published values."""
    return features @ (2 * wave(2, D, 1.3)).T + torch.tensor([0.3, -0.4], dtype=torch.float64)


def mlp(features):
    """The discriminator of three layers of the published values."""
    shapes = [(256, D), (256,), (128, 256), (128,), (2, 128), (2,)]
    weights = [
        0.5 * (torch.arange(math.prod(shape), dtype=torch.float64) * (1.1 + i)).sin().reshape(shape)
        for i, shape in enumerate(shapes)
    ]
    for layer in range(3):
        features = features @ weights[2 * layer].T + weights[2 * layer + 1]
        features = features.tanh() if layer < 2 else features
    return features


@pytest.mark.parametrize(("name", "text"), [("source", SOURCE), ("target", TARGET)])
def test_the_published_triplet_is_ours_times_the_batch(name, text):
    ours = triplet_hardest(VISION, text, margin=0.2)
    equals_published(ours * B, f"triplet_{name}")
    equals_published(ours, f"triplet_{name}_mean")
    assert_close(triplet_hardest(text, VISION, margin=0.2), ours)


def test_the_published_cycle_is_a_triplet_of_source_and_back_translation():
    equals_published(triplet_hardest(SOURCE, BACK, margin=0.2) * B, "cycle")


def test_published_soft_targets():
    fused, target, vision = (x.clone().requires_grad_() for x in (FUSED, TARGET, VISION))
    found = soft_targets(fused, target, vision)
    found.backward()
    equals_published(found, "soft")
    equals_published(target.grad.norm(), "soft_gradient_target")
    equals_published(vision.grad.norm(), "soft_gradient_vision")
    assert fused.grad is None


def test_published_features():
    fused, target = (x.clone().requires_grad_() for x in (FUSED, TARGET))
    found = feature_distance(fused, target)
    found.backward()
    equals_published(found, "feature")
    equals_published(fused.grad.norm(), "feature_gradient")
    equals_published(target.grad.norm(), "feature_gradient")
    equals_published(feature_distance(9 * FUSED, TARGET), "feature_far")


@pytest.mark.parametrize(("kind", "tell"), [("", linear), ("_mlp", mlp)])
def test_published_adversarial_game(kind, tell):
    both = (PUBLISHED[f"real{kind}"] + PUBLISHED[f"fake{kind}"]) / 2
    assert float(discrimination(tell(SOURCE), tell(TARGET))) == pytest.approx(both, rel=1e-6)
    equals_published(deception(tell(SOURCE)), f"real{kind}")
    equals_published(deception(-tell(TARGET)), f"fake{kind}")
    equals_published(deception(tell(TARGET)), f"generator{kind}")


def test_published_gradient_of_the_deception():
    target = TARGET.clone().requires_grad_()
    deception(linear(target)).backward()
    equals_published(target.grad.norm(), "generator_gradient")


def soft_targets_in_loops(teacher, student, vision, tau):
    total, size = 0.0, len(vision)
    for by_text in (True, False):
        for i in range(size):
            pairs = [(i, j) if by_text else (j, i) for j in range(size)]  # (text, vision)
            ps = [math.exp(float(teacher[t] @ vision[v]) / tau) for t, v in pairs]
            qs = [math.exp(float(student[t] @ vision[v]) / tau) for t, v in pairs]
            for p, q in zip(ps, qs, strict=True):
                total -= p / sum(ps) * math.log(q / sum(qs)) / size
    return total / 2


def vectors(seed=0, size=5, count=3):
    g = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(count, size, 4, generator=g, dtype=torch.float64), dim=-1).unbind()


@pytest.mark.parametrize("tau", [0.07, 0.5])
def test_soft_targets_equal_their_loop(tau):
    found = soft_targets(*vectors(), tau=tau)
    assert found.item() == pytest.approx(soft_targets_in_loops(*vectors(), tau))


def test_soft_targets_by_hand():
    # the teacher prefers the first picture by 3 : 1 for both texts, the student nothing; by
    # columns the teacher cannot tell its texts apart
    vision = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    tau = 1 / math.log(3)
    teacher, student = torch.tensor([[1.0, 0.0]] * 2), torch.zeros(2, 2)
    assert soft_targets(teacher, student, vision, tau=tau).item() == pytest.approx(math.log(2))
    swapped = soft_targets(student, teacher, vision, tau=tau)  # rows: CE of (½, ½) with (¾, ¼)
    rows = -0.5 * math.log(0.75) - 0.5 * math.log(0.25)
    assert swapped.item() == pytest.approx((rows + math.log(2)) / 2)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(5)), seed=st.integers(0, 1000))
def test_soft_targets_are_the_divergence_and_the_entropy(order, seed):
    teacher, student, vision = vectors(seed)
    found = soft_targets(teacher, student, vision, tau=0.3)
    logits = [relation(text, vision, tau=0.3) for text in (teacher, student)]
    entropy = soft_targets(teacher, teacher, vision, tau=0.3)
    assert_close(found, relational_distillation(*logits) + entropy)
    assert found >= entropy >= 0
    moved = soft_targets(teacher[order], student[order], vision[order], tau=0.3)
    assert_close(moved, found)


def test_the_soft_targets_have_a_right_gradient():
    teacher, student, vision = (x.requires_grad_() for x in vectors())
    assert torch.autograd.gradcheck(lambda z, v: soft_targets(teacher, z, v), (student, vision))


def test_features_equal_their_loop_and_one_by_hand():
    teacher, student, _ = (6 * x for x in vectors(1))
    total = 0.0
    for d in (teacher - student).flatten().tolist():
        total += d * d / 3 if abs(d) < 1.5 else abs(d) - 0.75
    found = feature_distance(teacher, student, beta=1.5)
    assert found.item() == pytest.approx(total / teacher.numel())
    hand = feature_distance(torch.tensor([[0.0, 5.0]]), torch.tensor([[2.0, 0.0]]), beta=4.0)
    assert hand.item() == pytest.approx((4 / 8 + 3) / 2)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(5)), seed=st.integers(0, 1000))
def test_features_of_unit_vectors_measure_their_similarity(order, seed):
    teacher, student, _ = vectors(seed)
    found = feature_distance(teacher, student)
    assert_close(found, (1 - (teacher * student).sum(1)).mean() / (4 * 4.0))
    assert_close(feature_distance(student[order], teacher[order]), found)


def test_the_game_equals_its_loop():
    source, target = torch.tensor([[1.0], [-2.0]]), torch.tensor([[0.5], [3.0]])

    def probability(x):
        return 1 / (1 + math.exp(-x))

    real = -sum(math.log(probability(x)) for x in source.flatten().tolist()) / 2
    fake = -sum(math.log(1 - probability(x)) for x in target.flatten().tolist()) / 2
    fooled = -sum(math.log(probability(x)) for x in target.flatten().tolist()) / 2
    assert discrimination(source, target).item() == pytest.approx((real + fake) / 2)
    assert deception(target).item() == pytest.approx(fooled)


def test_who_cannot_tell_and_who_is_too_sure():
    nothing = torch.zeros(3, 1)
    assert discrimination(nothing, nothing).item() == pytest.approx(math.log(2))
    assert deception(nothing).item() == pytest.approx(math.log(2))
    assert discrimination(nothing + 500, nothing - 500).item() == 0
    assert deception(nothing - 500).item() == pytest.approx(500)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_the_gradient_is_reversed(scale):
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    same = reverse_gradient(x, scale)
    (same * torch.tensor([3.0, 5.0])).sum().backward()
    assert_close(same, x)
    assert_close(x.grad, -scale * torch.tensor([3.0, 5.0]))
    with torch.no_grad():
        assert_close(reverse_gradient(x), x)


def test_one_reversed_loss_is_a_game():
    # the weight climbs down the loss while the features climb up
    x, weight = torch.tensor([[0.4]], requires_grad=True), torch.tensor(1.5, requires_grad=True)
    deception(reverse_gradient(x, 0.1) * weight).backward()
    push = 1 / (1 + math.exp(0.6))
    assert weight.grad.item() == pytest.approx(-0.4 * push)
    assert x.grad.item() == pytest.approx(0.1 * 1.5 * push)


def test_bad_settings_and_shapes_are_refused():
    x, y, z = vectors()
    with pytest.raises(ConfigError, match="tau"):
        soft_targets(x, y, z, tau=0.0)
    with pytest.raises(ConfigError, match="beta"):
        feature_distance(x, y, beta=0.0)
    with pytest.raises(ValueError, match=r"\[B, D\]"):
        soft_targets(x, y, z[:4])
    with pytest.raises(ValueError, match=r"\[B, D\]"):
        soft_targets(x[:4], y, z)
    with pytest.raises(ValueError, match=r"\[B, D\]"):
        feature_distance(x, y[:4])
