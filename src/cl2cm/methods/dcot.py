"""DCOT: translate-train that trusts a translation as far as transport confirms it, a rival.

Wang, Wang, Luo, Dong, Wang, Han, Wang, Wang: "Dual-view Curricular Optimal Transport for
Cross-lingual Cross-modal Retrieval", IEEE TIP 2024, arXiv 2309.05451. What is the publication's
and what our choice is said in losses/confidence.py.
"""

import torch
from torch import Tensor

from cl2cm.losses.confidence import curriculum, dual_view_cost, pair_confidence, pair_weights
from cl2cm.losses.transport import cost_matrix
from cl2cm.methods.base import Losses, Method, Stage, matching
from cl2cm.model.config import Config
from cl2cm.model.networks import CrossLingualNetwork, CrossModalNetwork, same_picture
from cl2cm.types import Batch


class Dcot(Method):
    """M(V, S) + M(V, T), the pairs of the latter weighted by their confidence.

    The curriculum is ours: it starts from the cross-lingual view, which a multilingual backbone
    makes reliable first, with all weights equal. While the steps go on to ``dcot.ramp``, the
    cross-modal view's share of the cost rises to ``dcot.modal``, and the part of a weight that is
    confidence to ``dcot.strength``; with 0 for the latter this is translate-train.
    """

    name = "dcot"

    def __init__(
        self, config: Config, student: CrossModalNetwork, teacher: CrossLingualNetwork | None
    ) -> None:
        super().__init__(config, student, teacher)
        self.settings = config.dcot

    def loss(self, batch: Batch, stage: Stage) -> Losses:
        """The weighted loss, with the mean and the lowest confidence of the batch for the log."""
        del stage
        vision, source, target = self.encode(batch)
        same = same_picture(batch.pictures)
        confidence, weights = self.confidence(vision, source.sentence, target.sentence, same)
        on_source = matching(vision, source.sentence, same, self.match)
        on_target = matching(vision, target.sentence, same, self.match, weights)
        return {
            "loss": on_source + on_target,
            "match_source": on_source.detach(),
            "match_target": on_target.detach(),
            "confidence": confidence.mean(),
            "confidence_min": confidence.min(),
        }

    @torch.no_grad()
    def confidence(
        self, vision: Tensor, source: Tensor, target: Tensor, same: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Confidence and weight [B] of each (V, T), from unit vectors [B, D]."""
        stage = curriculum(self.progress, ramp=self.settings.ramp)
        cost = dual_view_cost(
            cost_matrix(source, target), cost_matrix(vision, target), stage * self.settings.modal
        )
        confidence = pair_confidence(
            cost, positives=same, epsilon=self.settings.epsilon, rho=self.settings.rho or None
        )
        return confidence, pair_weights(confidence, stage * self.settings.strength)
