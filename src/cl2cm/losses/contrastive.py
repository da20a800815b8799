"""Contrastive losses over a batch of pairs: Eq. 1 for sentences, M of Eq. 8 for images.

Row i of one side belongs to row i of the other; every other row is a negative, except those that
``positives`` marks as true pairs, too (captions of one image, for example): they are no
negatives of each other and are left out.
"""

import torch
from torch import Tensor

from cl2cm.losses.checks import require_paired, require_positive, require_tau


def info_nce(
    x: Tensor,
    y: Tensor,
    *,
    tau: float | Tensor = 0.05,
    label_smoothing: float = 0.0,
    positives: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Return InfoNCE (Eq. 1): 1/2 [CE(sim(x, y) / tau, diag) + CE(sim(y, x) / tau, diag)].

    Args:
        x: [B, D], unit vectors.
        y: [B, D], unit vectors.
        tau: temperature, above 0; a tensor if it is learned. 0.05 lets similarities between unit
            vectors spread the softmax.
        label_smoothing: share of the target, in [0, 1), that is spread evenly over the pair
            itself and its negatives.
        positives: bool [B, B], True at [i, j] where (x_i, y_j) is a true pair, too; the diagonal
            is ignored.
        weights: [B], non-negative: how much the loss of each pair counts; only their ratios
            matter. A pair of weight 0 is still a negative of the others.

    Returns:
        Scalar, 0 or above; 0 for a batch of one, and where all weights are 0.

    Raises:
        ConfigError: tau is not above 0 or label_smoothing not in [0, 1).
        ValueError: the shapes differ.
    """
    require_tau("tau", tau)
    require_positive("1 - label_smoothing", 1 - label_smoothing)
    require_paired(x, y)
    logits = x @ y.T / tau
    excluded = _other_positives(logits, positives)
    each = (
        _cross_entropy(logits, excluded, label_smoothing)
        + _cross_entropy(logits.T, excluded.T, label_smoothing)
    ) / 2
    return _mean(each, weights)


def triplet_hardest(
    x: Tensor,
    y: Tensor,
    *,
    margin: float = 0.2,
    positives: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the triplet loss with the hardest negative of the batch in each direction (Eq. 8).

    mean_i [ max_j (margin + sim(x_i, y_j) - s_i)_+ + max_j (margin + sim(x_j, y_i) - s_i)_+ ],
    j ≠ i, s_i = sim(x_i, y_i). Faghri, Fleet, Kiros, Fidler: "VSE++", BMVC 2018.

    Args:
        x: [B, D], unit vectors.
        y: [B, D], unit vectors.
        margin: by how much, in similarity, a true pair should lead; above 0. 0.2 is customary.
        positives: bool [B, B], as in :func:`info_nce`.
        weights: [B], as in :func:`info_nce`.

    Returns:
        Scalar, 0 or above; 0 for a batch of one, and where all weights are 0.

    Raises:
        ConfigError: margin is not above 0.
        ValueError: the shapes differ.
    """
    require_positive("margin", margin)
    require_paired(x, y)
    scores = x @ y.T
    own = scores.diagonal()
    excluded = _other_positives(scores, positives).logical_or(_eye(scores))
    negatives = scores.masked_fill(excluded, -torch.inf)
    forward = (margin + negatives.amax(1) - own).clamp_min(0)
    backward = (margin + negatives.amax(0) - own).clamp_min(0)
    return _mean(forward + backward, weights)


def _eye(square: Tensor) -> Tensor:
    return torch.eye(len(square), dtype=torch.bool, device=square.device)


def _other_positives(square: Tensor, positives: Tensor | None) -> Tensor:
    if positives is None:
        return torch.zeros_like(square, dtype=torch.bool)
    return positives & ~_eye(square)


def _cross_entropy(logits: Tensor, excluded: Tensor, smoothing: float) -> Tensor:
    """Return the cross-entropy [B] of rows [B, B] against the diagonal, over kept columns."""
    log_p = logits.masked_fill(excluded, -torch.inf).log_softmax(1)
    loss = -log_p.diagonal()
    if smoothing:
        evenly = -log_p.masked_fill(excluded, 0).sum(1) / (~excluded).sum(1)
        loss = (1 - smoothing) * loss + smoothing * evenly
    return loss


def _mean(each: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean of losses [B], weighted where weights [B] are given."""
    if weights is None:
        return each.mean()
    if weights.shape != each.shape:
        raise ValueError(f"expected weights {tuple(each.shape)}; found {tuple(weights.shape)}")
    return (weights * each).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
