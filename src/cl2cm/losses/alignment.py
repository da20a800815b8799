"""Word-level alignment under a transport plan: Eq. 4 to 6.

The plan is a pseudo-label and constant; gradients flow through the similarities only.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from cl2cm.losses.checks import require_tau
from cl2cm.losses.transport import cost_matrix

Weighting = Literal["tokens", "mass"]


class WordAlignment(NamedTuple):
    """The two parts of L_word (Eq. 6), scalars."""

    ot: Tensor  # Eq. 4
    align: Tensor  # Eq. 5


def transport_cost(source_tokens: Tensor, target_tokens: Tensor, plan: Tensor) -> Tensor:
    """Return the transport cost L_ot = <P, C> of each pair (Eq. 4), P constant.

    Args:
        source_tokens: [B, n, D], unit vectors; anything finite on padding.
        target_tokens: [B, m, D], likewise.
        plan: [B, n, m], zero on padding.

    Returns:
        [B], in [0, 2] for plans of mass 1.
    """
    return (plan.detach() * cost_matrix(source_tokens, target_tokens)).sum((1, 2))


def word_alignment(
    source_tokens: Tensor,
    target_tokens: Tensor,
    plan: Tensor,
    source_mask: Tensor,
    target_mask: Tensor,
    *,
    tau_w: float | Tensor = 0.1,
    weighting: Weighting = "tokens",
) -> WordAlignment:
    """Return the transport cost (Eq. 4) and agreement of the tokens' softmax with the plan (Eq. 5).

    L_align = 1/2 [ CE(softmax_j(sim / tau_w), P_row) + CE(softmax_i(sim / tau_w), P_col) ], where
    P_row and P_col are the plan, normalised along rows and columns. Both are averaged over the
    tokens that have mass, then over the batch; a pair without mass counts as zero.

    Args:
        source_tokens: [B, n, D], unit vectors; anything finite on padding.
        target_tokens: [B, m, D], likewise.
        plan: [B, n, m], zero on padding.
        source_mask: bool [B, n], True if valid.
        target_mask: bool [B, m], True if valid.
        tau_w: temperature of the words, above 0; a tensor if it is learned. 0.1 is near the
            softness of a plan at epsilon 0.1.
        weighting: how tokens are averaged. ``tokens``: alike, if they have any mass. ``mass``: by
            their mass in the plan, so that under unbalanced transport a word that stays unmatched
            does not count; under uniform balanced transport the two are the same.

    Raises:
        ConfigError: tau_w is not above 0.
    """
    require_tau("tau_w", tau_w)
    plan = plan.detach()
    sim = torch.einsum("bnd,bmd->bnm", source_tokens, target_tokens)
    valid = source_mask[:, :, None] & target_mask[:, None, :]
    rows = _agreement(sim / tau_w, plan, valid, weighting)
    columns = _agreement(sim.mT / tau_w, plan.mT, valid.mT, weighting)
    cost = (plan * (1 - sim)).sum((1, 2))
    return WordAlignment(ot=cost.mean(), align=(rows + columns).mean() / 2)


def mutual_pairs(plan: Tensor) -> Tensor:
    """Return the plan where an entry is the largest of its row and of its column, zero elsewhere.

    What is left of a pseudo-label are the pairs that both directions agree on; tokens without one
    have no mass and do not count in Eq. 5.

    Args:
        plan: [B, n, m], non-negative.
    """
    largest = (plan == plan.amax(1, keepdim=True)) & (plan == plan.amax(2, keepdim=True))
    return plan * largest


def _agreement(logits: Tensor, plan: Tensor, valid: Tensor, weighting: Weighting) -> Tensor:
    """Return the cross-entropy [B] of each row's softmax against the row of the plan, averaged."""
    logits = logits.masked_fill(~valid, -torch.inf)
    logits = logits.masked_fill(~valid.any(2, keepdim=True), 0)  # an empty row has no softmax
    log_p = logits.log_softmax(2).masked_fill(~valid, 0)
    mass = plan.sum(2)
    tiny = torch.finfo(plan.dtype).tiny
    entropy = -(plan * log_p).sum(2) / mass.clamp_min(tiny)
    weight = mass if weighting == "mass" else (mass > 0).to(mass.dtype)
    return (weight * entropy).sum(1) / weight.sum(1).clamp_min(tiny)
