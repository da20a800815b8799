"""DCOT, a rival: translate-train with translations weighted by transport confidence.

Wang, Wang, Luo, Dong, Wang, Han, Wang, Wang: "Dual-view Curricular Optimal Transport for
Cross-lingual Cross-modal Retrieval", IEEE TIP 2024, arXiv 2309.05451. What is the publication's
and what our choice is said in losses/confidence.py.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cl2cm.losses.confidence import curriculum, dual_view_cost, pair_confidence, pair_weights
from cl2cm.losses.transport import cost_matrix
from cl2cm.methods.base import Losses, Method, Setup, matching
from cl2cm.model.networks import same_picture
from cl2cm.model.settings import require
from cl2cm.types import Batch


@dataclass(frozen=True, slots=True)
class DcotConfig:
    """DCOT: how much a pair's confidence weighs its M(V, T), and from when on."""

    strength: float = 1.0  # final share of the confidence in a pair's weight; 0: none
    modal: float = 0.5  # final share of the cross-modal view in the cost; 0: texts only
    ramp: float = 0.5  # share of the steps until strength and modal are reached
    epsilon: float = 0.05  # entropy regularisation of Sinkhorn, in units of the cost (0 to 2)
    rho: float = 0.0  # strength of the relaxed marginals; 0: balanced

    def __post_init__(self) -> None:
        for key in ("strength", "modal"):
            value = getattr(self, key)
            require(f"dcot.{key}", 0 <= value <= 1, "0 to 1", value)
        require("dcot.ramp", 0 <= self.ramp <= 1, "0 (at once) to 1", self.ramp)
        require("dcot.epsilon", self.epsilon > 0, "more than 0", self.epsilon)
        require("dcot.rho", self.rho >= 0, "0 (balanced) or more", self.rho)


class Dcot(Method):
    """M(V, S) + M(V, T), the pairs of the latter weighted by their confidence.

    The curriculum is ours: it starts from the cross-lingual view, which a multilingual backbone
    makes reliable first, with all weights equal. While the steps continue to ``dcot.ramp``, the
    cross-modal view's share of the cost rises to ``dcot.modal``, and the part of a weight that is
    confidence to ``dcot.strength``; with 0 for the latter this is translate-train.
    """

    name = "dcot"
    sections: ClassVar = {"dcot": DcotConfig}

    def __init__(self, setup: Setup, dcot: DcotConfig) -> None:
        super().__init__(setup)
        self.settings = dcot

    def loss(self, batch: Batch) -> Losses:
        """Return the weighted loss, and the mean and lowest confidence for the log."""
        vision, source, target = self.encode(batch)
        same = same_picture(batch.pictures)
        confidence, weights = self.confidence(vision, source.sentence, target.sentence, same)
        if batch.confidence is not None:
            weights = weights * batch.confidence
        on_source = matching(vision, source.sentence, same, self.match)
        on_target = matching(vision, target.sentence, same, self.match, weights)
        return {
            "loss": on_source + self.match.target * on_target,
            "match_source": on_source.detach(),
            "match_target": on_target.detach(),
            "confidence": confidence.mean(),
            "confidence_min": confidence.min(),
        }

    @torch.no_grad()
    def confidence(
        self, vision: Tensor, source: Tensor, target: Tensor, same: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the confidence and weight [B] of each (V, T), from unit vectors [B, D]."""
        part = curriculum(self.progress, ramp=self.settings.ramp)
        cost = dual_view_cost(
            cost_matrix(source, target), cost_matrix(vision, target), part * self.settings.modal
        )
        confidence = pair_confidence(
            cost, positives=same, epsilon=self.settings.epsilon, rho=self.settings.rho or None
        )
        return confidence, pair_weights(confidence, part * self.settings.strength)
