"""Noise-robust learning: the losses of the rival NRCCR in addition to Eq. 8.

Wang, Dong, Liang, Zhang, Cai, Wang: "Cross-Lingual Cross-Modal Retrieval with Noise-Robust
Learning", ACM MM 2022, arXiv 2208.12526. A fused vector of source and target text teaches the
target text by its similarities with vision (soft targets) and by itself (features); a discriminator
of languages is to be deceived. The cycle with the back-translation is the matching loss of
:mod:`cl2cm.losses.contrastive` between S and its round trip.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from cl2cm.losses.checks import require_paired, require_positive, require_tau


def soft_targets(
    teacher: Tensor, student: Tensor, vision: Tensor, *, tau: float | Tensor = 0.07
) -> Tensor:
    """Return the cross-entropy of the student's V–T similarities against the teacher's.

    1/2 [ mean_i CE(softmax_j sim(t_i, v_j)/tau, softmax_j sim(z_i, v_j)/tau)
        + mean_j CE(softmax_i sim(t_i, v_j)/tau, softmax_i sim(z_i, v_j)/tau) ],

    t the teacher, z the student: the KL divergence of Eq. 10 plus the entropy of the targets. The
    teacher's text gets no gradient; vision does, from the targets, too, as in the publication.

    Args:
        teacher: [B, D], unit vectors of the fused text.
        student: [B, D], unit vectors of the target text.
        vision: [B, D], unit vectors.
        tau: temperature of both sides, above 0; 0.07 is the published one.

    Returns:
        Scalar, at least the entropy of the targets, which is 0 or above. In nats.

    Raises:
        ConfigError: tau is not above 0.
        ValueError: the shapes differ.
    """
    require_tau("tau", tau)
    require_paired(teacher, student)
    require_paired(student, vision)
    targets = teacher.detach() @ vision.T / tau
    logits = student @ vision.T / tau
    return (_cross_entropy(targets, logits) + _cross_entropy(targets.T, logits.T)) / 2


def _cross_entropy(targets: Tensor, logits: Tensor) -> Tensor:
    return -(targets.softmax(1) * logits.log_softmax(1)).sum(1).mean()


def feature_distance(teacher: Tensor, student: Tensor, *, beta: float = 4.0) -> Tensor:
    """Return the smooth L1 distance of features, averaged over all B D differences d.

    d² / (2 beta) where |d| < beta, otherwise |d| - beta/2. Both sides get a gradient, as in the
    publication. Between unit vectors |d| is at most 2, so that at the published beta the loss is
    mean_i (1 - sim(t_i, z_i)) / (D beta): small, and smaller the wider the space.

    Args:
        teacher: [B, D].
        student: [B, D].
        beta: where the square passes into the line, above 0; 4 is the published one.

    Returns:
        Scalar, 0 or above.

    Raises:
        ConfigError: beta is not above 0.
        ValueError: the shapes differ.
    """
    require_positive("beta", beta)
    require_paired(teacher, student)
    return F.smooth_l1_loss(student, teacher, beta=beta)


def discrimination(source: Tensor, target: Tensor) -> Tensor:
    """Return the loss of a language discriminator: 1/2 [ BCE(source, 1) + BCE(target, 0) ].

    Args:
        source: [B, ...], logits "this is the source language" of source texts.
        target: [B, ...], logits of target texts.

    Returns:
        Scalar, 0 or above; log 2 for one that cannot tell. In nats.
    """
    return (F.softplus(-source).mean() + F.softplus(target).mean()) / 2


def deception(target: Tensor) -> Tensor:
    """Return the loss of the text encoder for a fixed discriminator: BCE(target, 1).

    Args:
        target: [B, ...], logits "this is the source language" of target texts.

    Returns:
        Scalar, 0 or above, large where the discriminator recognises the target. In nats.
    """
    return F.softplus(-target).mean()


def reverse_gradient(x: Tensor, scale: float = 1.0) -> Tensor:
    """Return the same values, with a gradient times -scale: minimiser and maximiser in one loss.

    Ganin, Lempitsky: "Unsupervised Domain Adaptation by Backpropagation", ICML 2015.

    Args:
        x: any shape.
        scale: strength of the reversed gradient; 0 cuts it off.
    """
    same = x.view_as(x)
    if same.requires_grad:
        same.register_hook(lambda gradient: torch.mul(gradient, -scale))
    return same
