import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize, pad
from torch.testing import assert_close

from cl2cm.errors import ConfigError
from cl2cm.losses.distillation import relation, relational_distillation, word_relation
from cl2cm.losses.transport import cost_matrix, sinkhorn, uniform_marginals


def logits(seed=0, size=5):
    g = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(2, size, size, generator=g, dtype=torch.float64)).unbind()


def texts(seed=0, size=5, n=6, m=7):
    g = torch.Generator().manual_seed(seed)
    x = normalize(torch.randn(size, n, 8, generator=g), dim=-1)
    y = normalize(torch.randn(size, m, 8, generator=g), dim=-1)
    source = torch.arange(n) < torch.randint(1, n + 1, (size, 1), generator=g)
    target = torch.arange(m) < torch.randint(1, m + 1, (size, 1), generator=g)
    return x, y, source, target


def divergence_in_loops(teacher, student):
    total, size = 0.0, len(teacher)
    for p, q in ((teacher, student), (teacher.T, student.T)):
        for i in range(size):
            ps = [math.exp(float(value)) for value in p[i]]
            qs = [math.exp(float(value)) for value in q[i]]
            for one, other in zip(ps, qs, strict=True):
                share = one / sum(ps)
                if share > 0:
                    total += share * math.log(share / (other / sum(qs))) / size
    return total / 2


def test_relation_by_hand():
    x, y = torch.eye(2), torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    assert_close(relation(x, y, tau=0.5), torch.tensor([[1.2, 2.0], [1.6, 0.0]]))
    with pytest.raises(ConfigError, match="tau"):
        relation(x, y, tau=0.0)


def test_distillation_equals_its_loop():
    teacher, student = logits()
    found = relational_distillation(teacher, student)
    assert found.item() == pytest.approx(divergence_in_loops(teacher, student))


def test_distillation_by_hand():
    # teacher (3/4, 1/4) in every row and column, student (1/2, 1/2)
    teacher = torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert relational_distillation(teacher, torch.zeros(2, 2)).item() == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(5)), seed=st.integers(0, 1000), shift=st.floats(-5, 5))
def test_order_sides_and_shifts_do_not_matter(order, seed, shift):
    teacher, student = logits(seed)
    expected = relational_distillation(teacher, student)
    moved = relational_distillation(teacher[order][:, order], student[order][:, order])
    assert_close(moved, expected)
    assert_close(relational_distillation(teacher.T, student.T), expected)
    assert_close(relational_distillation(teacher + shift, student - shift), expected)
    assert_close(relational_distillation(teacher, teacher + shift), torch.zeros_like(expected))
    assert expected > 0


def test_the_teacher_gets_no_gradient_and_the_student_a_right_one():
    teacher, student = (side.requires_grad_() for side in logits())
    relational_distillation(teacher, student).backward()
    assert teacher.grad is None
    assert student.grad.count_nonzero() > 0
    student = student.detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda value: relational_distillation(teacher, value), student)


def test_entries_taken_out_count_for_nothing():
    teacher, student = logits()
    out = torch.zeros(5, 5, dtype=torch.bool)
    out[0, 2] = out[3, 1] = True
    teacher = teacher.masked_fill(out, -torch.inf)
    student = student.requires_grad_()
    found = relational_distillation(teacher, student.masked_fill(out, -torch.inf))
    found.backward()
    with_out = student.detach().masked_fill(out, -torch.inf)
    assert found.item() == pytest.approx(divergence_in_loops(teacher, with_out))
    assert torch.isfinite(student.grad).all()
    assert student.grad[out].count_nonzero() == 0


def test_a_batch_of_one_costs_nothing():
    student = torch.tensor([[2.0]], requires_grad=True)
    value = relational_distillation(torch.tensor([[5.0]]), student)
    value.backward()
    assert value.item() == student.grad.item() == 0


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\[B, B\]"):
        relational_distillation(torch.zeros(3, 3), torch.zeros(3, 4))


def test_word_relation_equals_its_loop():
    x, y, source, target = texts()
    found = word_relation(x, y, source, target, epsilon=0.2)
    a, b = uniform_marginals(source), uniform_marginals(target)
    for i in range(5):
        for j in range(5):
            solved = sinkhorn(
                cost_matrix(x[i, source[i]], y[j, target[j]])[None],
                a[i, source[i]][None],
                b[j, target[j]][None],
                epsilon=0.2,
            )
            assert found[i, j].item() == pytest.approx(-solved.cost.item(), abs=1e-4)


@pytest.mark.parametrize("budget", [1, 42, 100, 500])
def test_word_relation_in_pieces_is_the_whole(budget):
    batch = texts(1)
    whole = word_relation(*batch)
    assert_close(word_relation(*batch, budget=budget), whole, atol=1e-5, rtol=0)


def test_word_relation_padding_transposing_and_marginals():
    x, y, source, target = texts(2)
    whole = word_relation(x, y, source, target)
    padded = word_relation(pad(x, (0, 0, 0, 3), value=1.0), y, pad(source, (0, 3)), target)
    assert_close(padded, whole, atol=1e-5, rtol=0)
    turned = word_relation(y, x, target, source, tolerance=1e-6).T
    assert_close(turned, word_relation(x, y, source, target, tolerance=1e-6), atol=1e-5, rtol=0)
    first = torch.zeros_like(x[:, :, 0])
    first[:, 0] = 1
    by_first = word_relation(x, y[:, :1], source, target[:, :1], source_marginals=first)
    assert_close(by_first, x[:, 0] @ y[:, 0].T - 1, atol=1e-5, rtol=0)


def test_word_relation_has_no_gradient_and_an_empty_text_is_unrelated():
    x, y, source, target = texts(3)
    source[1], target[2] = False, False
    found = word_relation(x.requires_grad_(), y, source, target)
    assert not found.requires_grad
    assert_close(found[1], -torch.ones(5))
    assert_close(found[:, 2], -torch.ones(5))
    assert torch.isfinite(found).all()
