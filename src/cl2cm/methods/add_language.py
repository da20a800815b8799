"""One more language for a finished run: the text side learns it, the vision side stays as it is.

The teacher is the run's own text side, frozen (Reimers, Gurevych: "Making Monolingual Sentence
Embeddings Multilingual using Knowledge Distillation", EMNLP 2020). A translation in the new
language goes to the teacher's vector of its source caption, and what the teacher knows already,
source captions and translations in earlier languages, stays at the teacher's vector of itself.
"""

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from cl2cm.losses.distillation import relation, relational_distillation, text_regression
from cl2cm.methods.base import EncodeAll, Losses, Method, Setup, Stage
from cl2cm.model.networks import TextNetwork
from cl2cm.model.settings import require
from cl2cm.types import Batch, Encoded


@dataclass(frozen=True, slots=True)
class AddLanguageConfig:
    """The language to add, and the weights of the losses."""

    language: str = ""  # the new language; all other languages of the run are protected
    text_only: bool = False  # learn from texts only: no image or video is read
    share: float = 0.5  # share of the captions that are shown with the new language
    match: float = 1.0  # weight of Eq. 8 with the frozen vision side; no effect with text_only
    regression: float = 4.0  # weight of the squared distance for the new language
    replay: float = 4.0  # weight of the squared distance for languages that the run knows
    relation: float = 1.0  # weight of Eq. 10 on (S, T), with the teacher's relations
    tau: float = 0.1  # temperature of the relations, tau_t and tau_s of Eq. 9

    def __post_init__(self) -> None:
        require("add_language.share", 0 < self.share <= 1, "more than 0, to 1", self.share)
        for key in ("match", "regression", "replay", "relation"):
            value = getattr(self, key)
            require(f"add_language.{key}", value >= 0, "0 or more", value)
        require("add_language.tau", self.tau > 0, "more than 0", self.tau)


class AddLanguage(Method):
    """match * (Eq. 8) + w_T |z_T - g_T|^2 + replay |z_S - g_S|^2 + relation * L_rel(S, T).

    g_S is the teacher's vector of the source caption. g_T is the same vector for the new language,
    and the teacher's vector of the translation itself for an earlier one; w_T is ``regression``
    for the new language, ``replay`` for an earlier one.
    """

    name = "add-language"
    keeps_vision = True
    sections: ClassVar = {"add_language": AddLanguageConfig}

    def __init__(self, setup: Setup, add_language: AddLanguageConfig) -> None:
        super().__init__(setup)
        self.settings = add_language
        student = setup.student
        student.vision.requires_grad_(requires_grad=False)
        self.before = TextNetwork(
            copy.deepcopy(student.text), copy.deepcopy(student.backbone)
        ).requires_grad_(requires_grad=False)
        self._fixed: Tensor | None = None  # the teacher's vectors of all texts [texts, D]

    @classmethod
    def reads_media(cls, settings: dict[str, Any]) -> bool:
        """Return whether images and videos are looked at; not for ``text_only``."""
        return not settings["add_language"].text_only

    @classmethod
    def favoured(cls, settings: dict[str, Any]) -> tuple[str, float] | None:
        """Return the new language, and its share of the captions."""
        own: AddLanguageConfig = settings["add_language"]
        return (own.language, own.share) if own.language else None

    def train(self, mode: bool = True) -> Self:
        """Set the mode, but keep the vision side and the teacher in evaluation mode."""
        super().train(mode)
        self.student.vision.eval()
        self.before.eval()
        return self

    def stages(self) -> list[Stage]:
        """Return one stage, whose last epoch is kept: validation captions may be missing."""
        return [
            Stage(
                "new language",
                self.epochs,
                (self.student,),
                self.loss,
                begin=self.fix_goals,
                keep="last",
            )
        ]

    def fix_goals(self, encode_all: EncodeAll) -> None:
        """Compute the teacher's vectors of all texts, once."""
        device = next(self.student.parameters()).device
        self._fixed = encode_all(self.before).to(device)

    def loss(self, batch: Batch) -> Losses:
        """Return the loss of a batch; see the class."""
        source = self.student.encode_text(batch.source)
        target = self.student.encode_text(batch.target)
        settings = self.settings
        new = self.is_new(batch, source.sentence)
        goal_source, goal_target = self.goals(batch, new)
        weights = torch.where(new, settings.regression, settings.replay).sqrt()[:, None]
        distance = text_regression(weights * target.sentence, weights * goal_target)
        drift = text_regression(source.sentence, goal_source)
        related = relational_distillation(
            relation(goal_source, goal_target, tau=settings.tau),
            relation(source.sentence, target.sentence, tau=settings.tau),
        )
        parts = {"regression": distance, "drift": drift, "relation": related}
        loss = distance + settings.replay * drift + settings.relation * related
        losses = {"loss": loss} | {name: part.detach() for name, part in parts.items()}
        if settings.text_only or settings.match == 0:
            return losses
        matched = self.matched(batch, source, target)
        losses["loss"] = losses["loss"] + settings.match * matched.pop("loss")
        return losses | matched

    def matched(self, batch: Batch, source: Encoded, target: Encoded) -> Losses:
        """Return Eq. 8 with the frozen vision side."""
        with torch.no_grad():
            vision = self.student.encode_frames(batch.vision)
        return self.match_loss(batch, vision, source, target)

    def is_new(self, batch: Batch, like: Tensor) -> Tensor:
        """Return which rows are in the new language, bool [B], on the device of a tensor."""
        new = [language == self.settings.language for language in batch.languages]
        return torch.tensor(new, device=like.device)

    @torch.no_grad()
    def goals(self, batch: Batch, new: Tensor) -> tuple[Tensor, Tensor]:
        """Return the teacher's vectors [B, D] that source captions and translations go to."""
        if self._fixed is None:
            source = self.before.encode_text(batch.source).sentence
            target = self.before.encode_text(batch.target).sentence
        else:
            source, target = self._fixed[batch.source_texts], self._fixed[batch.target_texts]
        return source, torch.where(new[:, None], source, target)
