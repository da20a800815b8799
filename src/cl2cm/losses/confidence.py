"""Confidence of a batch's pairs by optimal transport: the weights of the rival DCOT.

Wang, Wang, Luo, Dong, Wang, Han, Wang, Wang: "Dual-view Curricular Optimal Transport for
Cross-lingual Cross-modal Retrieval", IEEE TIP 2024, arXiv 2309.05451. From its abstract we have
that the confidence of a pair is quantified by transport from a cross-lingual and a cross-modal
view, and that a curriculum models the costs of transport according to the learning stage of the
two views. The formulas are our choice; the full text was not at hand.

A batch is transported onto its translations. Where T_i says what S_i and V_i say, row i sends its
mass to column i; where T_i is mistranslated, another column is cheaper, or another row wants it.
"""

import torch
from torch import Tensor

from cl2cm.errors import ConfigError
from cl2cm.losses.plans import exact
from cl2cm.losses.transport import transport

FORBIDDEN = 100.0  # how many epsilons dearer than any true cost a pair of one image is


def pair_confidence(
    cost: Tensor,
    *,
    positives: Tensor | None = None,
    epsilon: float = 0.05,
    rho: float | None = None,
    max_iterations: int = 50,
    tolerance: float = 1e-3,
) -> Tensor:
    """Return the share of its mass that each pair of a batch keeps in the transport plan.

    c_i = P_ii / a_i, P the plan of Eq. 3 with uniform a and b over the batch. Other rows of the
    same image are not evidence of noise: nothing may flow between those (we choose), as they are
    no negatives of each other in :func:`~cl2cm.losses.contrastive.info_nce`.

    Balanced, a pair is judged by its alternatives alone: one bad translation, far from everything,
    keeps its mass for want of a taker; several share theirs. Unbalanced, a pair that nobody else
    wants keeps exp(-C_ii / (2 rho + epsilon)) of what it would keep at no cost.

    Args:
        cost: [B, B], in [0, 2]; row i and column i are a pair.
        positives: bool [B, B], True if row and column show one image; the diagonal is
            ignored.
        epsilon: strength of the entropy, above 0, in units of the cost.
        rho: strength of the marginals, above 0, in units of the cost; None for balanced.
        max_iterations: of Sinkhorn's iteration.
        tolerance: on the marginal error (L1).

    Returns:
        [B], in [0, 1], without gradient, in the dtype of ``cost`` (at least float32); 1 for a
        batch of one image, about 1 / B where all costs are alike (both if balanced).

    Raises:
        ConfigError: epsilon or rho is not above 0.
        ValueError: cost is not [B, B].
    """
    size = len(cost)
    if cost.shape != (size, size):
        raise ValueError(f"expected a cost [B, B]; found {tuple(cost.shape)}")
    with exact(cost):
        cost = cost.to(torch.promote_types(cost.dtype, torch.float32))
        if positives is not None:
            other = positives & ~torch.eye(size, dtype=torch.bool, device=cost.device)
            cost = cost.masked_fill(other, 2 + FORBIDDEN * epsilon)
        mass = torch.full((1, size), 1 / size, dtype=cost.dtype, device=cost.device)
        plan = transport(
            cost[None],
            mass,
            mass,
            epsilon=epsilon,
            rho=rho,
            max_iterations=max_iterations,
            tolerance=tolerance,
        ).plan[0]
        return (plan.diagonal() * size).clamp(0, 1)


def dual_view_cost(lingual: Tensor, modal: Tensor, share: float) -> Tensor:
    """Return the cost of the two views together: (1 - share) C(S, T) + share C(V, T) (we choose).

    Both views have the translations as their columns, and one plan must answer both.

    Args:
        lingual: [B, B], cost of Eq. 2 between source and target sentence vectors.
        modal: [B, B], the same between vision and target vectors.
        share: of the cross-modal view, in [0, 1].

    Raises:
        ConfigError: the share is not in [0, 1].
        ValueError: the shapes differ.
    """
    _require_share("share", share)
    if lingual.shape != modal.shape:
        raise ValueError(
            f"expected two costs of equal shape; found {tuple(lingual.shape)}, {tuple(modal.shape)}"
        )
    return (1 - share) * lingual + share * modal


def curriculum(progress: float, *, ramp: float = 0.5) -> float:
    """Return how far the curriculum is: min(1, progress / ramp) (we choose).

    Args:
        progress: share of the steps that are done, in [0, 1].
        ramp: share of the steps after which it is complete, in [0, 1]; 0: at once.

    Returns:
        In [0, 1], rising with progress.

    Raises:
        ConfigError: one of the two is not in [0, 1].
    """
    _require_share("progress", progress)
    _require_share("ramp", ramp)
    return 1.0 if progress >= ramp else progress / ramp


def pair_weights(confidence: Tensor, trust: float) -> Tensor:
    """Return the weight of each pair: w_i = 1 - trust + trust · c_i (we choose).

    Without trust in the confidences all pairs weigh the same; with full trust each weighs as much
    as its confidence. Only ratios count in the loss, so confidences that are all low, as those of
    an untrained network, change little until trust is nearly full.

    Args:
        confidence: [B], in [0, 1].
        trust: in [0, 1].

    Returns:
        [B], in [0, 1].

    Raises:
        ConfigError: trust is not in [0, 1].
    """
    _require_share("trust", trust)
    return 1 - trust + trust * confidence


def _require_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(name, expected="0 to 1", found=str(value), remedy="choose another")
