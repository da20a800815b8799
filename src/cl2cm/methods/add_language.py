"""One more language for a finished run: an adapter learns it, all else stays as it is.

The run's networks are frozen. Its text head gets an adapter (model/adapter.py) that adds a residual
to the vectors of texts in the new language. A translation in the new language goes to the run's
vector of its source caption (Reimers, Gurevych: "Making Monolingual Sentence Embeddings
Multilingual using Knowledge Distillation", EMNLP 2020), and the adapter's gate learns to be shut
for texts in the languages that the run knows already.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from cl2cm.errors import ConfigError
from cl2cm.losses.distillation import relation, relational_distillation, text_regression
from cl2cm.methods.base import Losses, Method, Setup, Stage, matching
from cl2cm.model.adapter import LanguageAdapter
from cl2cm.model.networks import same_picture
from cl2cm.model.settings import require
from cl2cm.types import Batch


@dataclass(frozen=True, slots=True)
class AddLanguageConfig:
    """What is added, and the weights of the losses."""

    language: str = ""  # the new language; every other language of the run is protected
    text_only: bool = False  # learn from texts alone: no image or video is read
    share: float = 0.5  # of the captions, how many are shown with the new language; the others
    # with one of the earlier languages
    match: float = 1.0  # weight of M(V, T) of Eq. 8 with the frozen vision side; without effect for
    # text_only
    regression: float = 4.0  # weight of the squared distance of the new language from its goals
    replay: float = 4.0  # weight of the squared distance of what is known already from its goals
    relation: float = 1.0  # weight of Eq. 10 on (S, T), with the run's relations
    gate: float = 1.0  # weight of the gate's cross-entropy
    tau: float = 0.1  # temperature of the relations, tau_t and tau_s of Eq. 9

    def __post_init__(self) -> None:
        require("add_language.share", 0 < self.share <= 1, "more than 0, to 1", self.share)
        for key in ("match", "regression", "replay", "relation", "gate"):
            value = getattr(self, key)
            require(f"add_language.{key}", value >= 0, "0 or more", value)
        require("add_language.tau", self.tau > 0, "more than 0", self.tau)


class AddLanguage(Method):
    """Sum of weighted losses of the adapter for the new language.

    match * M(V, T) of the new language (Eq. 8), w_T |z_T - g_T|^2 + replay |z_S - g_S|^2,
    relation * L_rel(S, T), and gate * the cross-entropy of the gate. g_S is the run's earlier
    vector of the source caption. g_T is the same vector for the new language, and the earlier
    vector of the translation itself for an earlier one; w_T is ``regression`` for the new language,
    ``replay`` for an earlier one.
    """

    name = "add-language"
    keeps_vision = True
    sections: ClassVar = {"add_language": AddLanguageConfig}

    def __init__(self, setup: Setup, add_language: AddLanguageConfig) -> None:
        super().__init__(setup)
        self.settings = add_language
        if setup.network.adapters[-1:] != (add_language.language,):
            raise ConfigError(
                "network.adapters",
                expected=f"the new language {add_language.language!r} at the end",
                found=repr(setup.network.adapters),
                remedy="use cl2cm add-language",
            )
        self.student.requires_grad_(requires_grad=False)
        self.adapter.requires_grad_(requires_grad=True)

    @property
    def adapter(self) -> LanguageAdapter:
        """The adapter of the new language, the only part that is trained."""
        last = self.student.text.adapters[-1]
        assert isinstance(last, LanguageAdapter)  # noqa: S101 - the head has no others
        return last

    @classmethod
    def reads_media(cls, settings: dict[str, Any]) -> bool:
        """Whether images and videos are looked at; not for ``text_only``."""
        return not settings["add_language"].text_only

    @classmethod
    def favoured(cls, settings: dict[str, Any]) -> tuple[str, float] | None:
        """The new language, and its share of the captions."""
        own: AddLanguageConfig = settings["add_language"]
        return (own.language, own.share) if own.language else None

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the adapter; the frozen parts stay in evaluation mode."""
        super().train(mode)
        self.student.eval()
        self.adapter.train(mode)
        return self

    def stages(self) -> list[Stage]:
        """One, which ends with its last epoch: the new language may have no validation captions."""
        trained = (self.student,)
        return [Stage("new language", self.epochs, trained, self.loss, keep="last")]

    def loss(self, batch: Batch) -> Losses:
        """The loss of a batch; see the class."""
        head, settings = self.student.text, self.settings
        with torch.no_grad():
            pooled = self.student.pooled(batch.source), self.student.pooled(batch.target)
            goal_source, kept = (head.sentence(one, adapters=-1) for one in pooled)
            new = self.is_new(batch, goal_source)
            goal_target = torch.where(new[:, None], goal_source, kept)
        source, target = map(head.sentence, pooled)
        trust = torch.ones_like(target[:, 0]) if batch.confidence is None else batch.confidence
        weights = torch.where(new, settings.regression * trust, settings.replay).sqrt()[:, None]
        related = relational_distillation(
            relation(goal_source, goal_target, tau=settings.tau),
            relation(source, target, tau=settings.tau),
        )
        parts = {
            "regression": text_regression(weights * target, weights * goal_target),
            "drift": text_regression(source, goal_source),
            "relation": related,
            "gate": self.gate_loss(torch.cat([one.states for one in pooled]), new),
        }
        loss = (
            parts["regression"]
            + settings.replay * parts["drift"]
            + settings.relation * parts["relation"]
            + settings.gate * parts["gate"]
        )
        if not settings.text_only and settings.match > 0:
            parts["match"] = self.matched(batch, target, new * trust)
            loss = loss + settings.match * parts["match"]
        return {"loss": loss} | {name: part.detach() for name, part in parts.items()}

    def gate_loss(self, states: Tensor, new: Tensor) -> Tensor:
        """Cross-entropy of the gate over sources and targets [2 B, D_b]; ``new``: bool [B]."""
        logits = self.adapter.logit(states)
        opened = torch.cat([torch.zeros_like(new), new]).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, opened)

    def matched(self, batch: Batch, target: Tensor, weights: Tensor) -> Tensor:
        """M(V, T) of Eq. 8 with the frozen vision side and weights [B] of the pairs."""
        with torch.no_grad():
            vision = self.student.encode_frames(batch.vision)
        same = same_picture(batch.pictures)
        return matching(vision, target, same, self.match, weights)

    def is_new(self, batch: Batch, like: Tensor) -> Tensor:
        """Which rows are in the new language, bool [B], on the device of a tensor."""
        new = [language == self.settings.language for language in batch.languages]
        return torch.tensor(new, device=like.device)
