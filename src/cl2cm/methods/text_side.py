"""A multilingual text side for an off-the-shelf model, whose image side stays as it is.

The teacher is the model's own text side: captions in its language, and their translations, go to
its vectors of the captions (Carlsson et al.: "Cross-lingual and Multilingual CLIP", LREC 2022).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from cl2cm.losses.distillation import relation, relational_distillation, text_regression
from cl2cm.methods.base import Losses, Method, Setup, Stage
from cl2cm.model.settings import require
from cl2cm.types import Batch


@dataclass(frozen=True, slots=True)
class TextSideConfig:
    """The weights of the losses."""

    text_only: bool = False  # learn from texts alone: no image or video is read
    match: float = 1.0  # weight of Eq. 8 with the image side; without effect for text_only
    regression: float = 4.0  # weight of the squared distances from the model's own text vectors
    relation: float = 1.0  # weight of Eq. 10 on (S, T), with the relations of those vectors
    tau: float = 0.1  # temperature of the relations, tau_t and tau_s of Eq. 9

    def __post_init__(self) -> None:
        for key in ("match", "regression", "relation"):
            value = getattr(self, key)
            require(f"text_side.{key}", value >= 0, "0 or more", value)
        require("text_side.tau", self.tau > 0, "more than 0", self.tau)


class NewTextSide(Method):
    """match * (Eq. 8) + regression * (|z_S - g|^2 + |z_T - g|^2) + relation * L_rel(S, T).

    g is the off-the-shelf model's own vector of the source caption.
    """

    name = "text-side"
    keeps_vision = True
    learns_goals = True
    sections: ClassVar = {"text_side": TextSideConfig}

    def __init__(self, setup: Setup, text_side: TextSideConfig) -> None:
        super().__init__(setup)
        self.settings = text_side
        self.student.vision.requires_grad_(requires_grad=False)

    @classmethod
    def reads_media(cls, settings: dict[str, Any]) -> bool:
        """Whether images and videos are looked at; not for ``text_only``."""
        return not settings["text_side"].text_only

    def stages(self) -> list[Stage]:
        """One, which ends with its last epoch: the new language may have no validation captions."""
        return [Stage("text side", self.epochs, (self.student,), self.loss, keep="last")]

    def loss(self, batch: Batch) -> Losses:
        """The loss of a batch; see the class."""
        settings = self.settings
        source = self.student.encode_text(batch.source)
        target = self.student.encode_text(batch.target)
        assert self.goals is not None, "the loop sets them"  # noqa: S101
        goal = self.goals[batch.source_texts.to(self.goals.device)].to(source.sentence)
        regression = text_regression(source.sentence, goal) + text_regression(target.sentence, goal)
        related = relational_distillation(
            relation(goal, goal, tau=settings.tau),
            relation(source.sentence, target.sentence, tau=settings.tau),
        )
        losses = {"regression": regression.detach(), "relation": related.detach()}
        losses["loss"] = settings.regression * regression + settings.relation * related
        if settings.text_only or settings.match == 0:
            return losses
        with torch.no_grad():
            vision = self.student.encode_frames(batch.vision)
        matched = self.match_loss(batch, vision, source, target)
        losses["loss"] = losses["loss"] + settings.match * matched.pop("loss")
        return losses | matched
