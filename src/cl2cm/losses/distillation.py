"""Relational distillation, the cross-lingual knowledge transfer: Eq. 9 and 10.

The losses detach the teacher's side themselves, so that no method can train a teacher by mistake.
"""

import torch
from torch import Tensor

from cl2cm.losses.checks import require_positive, require_tau
from cl2cm.losses.plans import exact
from cl2cm.losses.sinkhorn import sinkhorn
from cl2cm.losses.transport import uniform_marginals


def relation(x: Tensor, y: Tensor, *, tau: float | Tensor) -> Tensor:
    """Return the relation sim(x_i, y_j) / tau of every row with every row (Eq. 9); differentiable.

    Args:
        x: [B, D], unit vectors.
        y: [B, D], unit vectors.
        tau: temperature, above 0; a tensor if it is learned.

    Returns:
        [B, B] logits.

    Raises:
        ConfigError: tau is not above 0.
    """
    require_tau("tau", tau)
    return x @ y.T / tau


def relational_distillation(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the divergence of the student's relation from the teacher's (Eq. 10).

    L_rel = 1/2 [ KL(softmax_row R_CL || softmax_row R_CM)
                + KL(softmax_col R_CL || softmax_col R_CM) ], each averaged over the batch.

    Args:
        teacher: [B, B] logits R_CL, divided by their temperature; gets no gradient. −inf takes an
            entry out.
        student: [B, B] logits R_CM, likewise; −inf only where the teacher has it, too.

    Returns:
        Scalar, 0 or above, 0 where the softmaxes agree. In nats.

    Raises:
        ValueError: the shapes differ or are not square.
    """
    if teacher.shape != student.shape or teacher.dim() != 2 or len(set(teacher.shape)) != 1:
        raise ValueError(
            f"expected two relations [B, B]; found {tuple(teacher.shape)}, {tuple(student.shape)}"
        )
    teacher = teacher.detach()
    return (_divergence(teacher, student) + _divergence(teacher.T, student.T)) / 2


def _divergence(teacher: Tensor, student: Tensor) -> Tensor:
    log_p, log_q = teacher.log_softmax(1), student.log_softmax(1)
    out = log_p == -torch.inf  # 0 log 0 = 0
    difference = log_p.masked_fill(out, 0) - log_q.masked_fill(out, 0)
    return (log_p.exp() * difference).sum(1).mean()


def text_regression(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared distance to the teacher's text vectors: mean_i |x_i - y_i|^2.

    Args:
        student: [B, D].
        teacher: [B, D], without gradient.

    Returns:
        Scalar; between unit vectors 0 to 4.

    Raises:
        ValueError: the shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"expected equal shapes; found {student.shape}, {teacher.shape}")
    return (student - teacher.detach()).square().sum(1).mean()


def word_relation(
    source_tokens: Tensor,
    target_tokens: Tensor,
    source_mask: Tensor,
    target_mask: Tensor,
    *,
    source_marginals: Tensor | None = None,
    target_marginals: Tensor | None = None,
    epsilon: float = 0.1,
    max_iterations: int = 100,
    tolerance: float = 1e-4,
    budget: int = 1 << 20,
) -> Tensor:
    """Return the negative transport cost of all pairs (S_i, T_j), the word-level relation of Eq. 9.

    Transport is balanced: unbalanced, a pair with nothing in common would be the cheapest. The
    caller divides by a temperature and adds it to the sentence-level relation, or distils it on
    its own. It is the teacher's, and so without gradient.

    Args:
        source_tokens: [B, n, D], unit vectors.
        target_tokens: [B, m, D], unit vectors.
        source_mask: bool [B, n], True if valid.
        target_mask: bool [B, m], True if valid.
        source_marginals: [B, n], instead of uniform ones; zero on padding.
        target_marginals: [B, m], likewise.
        epsilon: strength of the entropy, above 0.
        max_iterations: of Sinkhorn's iteration.
        tolerance: on the marginal error (L1); 1e-4 is ample for a cost.
        budget: cost entries held at a time: bounds the memory.

    Returns:
        float32 [B, B], in [-2, 0]; -1, as of unrelated words, where a text has no valid token.

    Raises:
        ConfigError: epsilon or budget is not above 0.
    """
    require_positive("budget", budget)
    a = uniform_marginals(source_mask) if source_marginals is None else source_marginals
    b = uniform_marginals(target_mask) if target_marginals is None else target_marginals
    wide, high = _blocks(source_tokens, target_tokens, budget)
    with exact(source_tokens):
        costs = source_tokens.new_empty(len(a), len(b), dtype=torch.float32)
        for i in range(0, len(a), high):
            for j in range(0, len(b), wide):
                rows, columns = slice(i, i + high), slice(j, j + wide)
                p, q = a[rows], b[columns]
                sim = torch.einsum(
                    "ind,jmd->ijnm", source_tokens[rows].float(), target_tokens[columns].float()
                )
                solved = sinkhorn(
                    1 - sim.flatten(0, 1),
                    p.repeat_interleave(len(q), 0),
                    q.repeat(len(p), 1),
                    epsilon=epsilon,
                    max_iterations=max_iterations,
                    tolerance=tolerance,
                    newton_steps=0,
                )
                costs[rows, columns] = solved.cost.view(len(p), len(q))
        empty = (a.sum(1) == 0)[:, None] | (b.sum(1) == 0)[None, :]
        return -costs.masked_fill(empty, 1)


def _blocks(source_tokens: Tensor, target_tokens: Tensor, budget: int) -> tuple[int, int]:
    """Return how many targets and how many sources to take at a time."""
    entries = source_tokens.shape[1] * target_tokens.shape[1]
    wide = min(len(target_tokens), max(1, budget // entries))
    return wide, max(1, budget // (entries * wide))
