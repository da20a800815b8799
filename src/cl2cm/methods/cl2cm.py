"""CL2CM: a cross-lingual teacher (Eq. 1 to 7) whose relations the student follows (Eq. 8 to 11)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cl2cm.errors import ConfigError
from cl2cm.losses.contrastive import info_nce
from cl2cm.losses.distillation import (
    relation,
    relational_distillation,
    text_regression,
    word_relation,
)
from cl2cm.methods.base import EncodeAll, Losses, Method, Setup, Stage
from cl2cm.methods.word_level import Labels, TransportConfig, word_level
from cl2cm.model.networks import same_picture
from cl2cm.model.settings import require
from cl2cm.types import Batch, Encoded


@dataclass(frozen=True, slots=True)
class TeacherConfig:
    """The cross-lingual network's losses (Eq. 1 to 7) and schedule."""

    schedule: Literal["two-stage", "joint"] = "two-stage"
    epochs: int = 10  # of the first stage of two-stage
    alpha: float = 0.1  # weight of the word level in Eq. 7
    other_captions: float = 0.0  # weight of Eq. 1 between a caption and translations of any caption
    # of the same picture
    tau: float = 0.05  # temperature of Eq. 1
    tau_word: float = 0.1  # temperature of Eq. 5
    transport_cost: bool = True  # L_ot in Eq. 6
    alignment: bool = True  # L_align in Eq. 6
    word_pairs: int = 0  # pairs of a batch that Eq. 6 looks at; 0: all
    labels: Literal["tokens", "states"] = "tokens"  # whose cosines make the plan of Eq. 6: the
    # network's tokens, or the frozen backbone's states, which do not change while it learns
    mutual: bool = False  # Eq. 6 looks only at pairs that are the largest of their row and column
    apart: float = 0.0  # share of L_align that sees tokens less their text's mean token, 0 to 1

    def __post_init__(self) -> None:
        require("teacher.epochs", self.epochs >= 1, "1 or more", self.epochs)
        for key in ("alpha", "other_captions"):
            require(f"teacher.{key}", getattr(self, key) >= 0, "0 or more", getattr(self, key))
        require(
            "teacher.alpha",
            self.alpha == 0 or self.transport_cost or self.alignment,
            "0 where neither teacher.transport_cost nor teacher.alignment is wanted",
            self.alpha,
        )
        require("teacher.tau", self.tau > 0, "more than 0", self.tau)
        require("teacher.apart", 0 <= self.apart <= 1, "0 to 1", self.apart)
        require("teacher.word_pairs", self.word_pairs >= 0, "0 or more", self.word_pairs)
        require("teacher.tau_word", self.tau_word > 0, "more than 0", self.tau_word)


@dataclass(frozen=True, slots=True)
class TransferConfig:
    """Relational distillation (Eq. 9 to 11)."""

    beta: float = 1.0  # weight of L_rel in Eq. 11
    tau_teacher: float = 0.1  # tau_t of Eq. 9
    tau_student: float = 0.1  # tau_s of Eq. 9
    source_target: float = 0.0  # weight of the same loss on the student's (S, T) relation
    regression: float = 0.0  # weight of the squared distance of z_T from the student's own z_S
    decay: float = 0.99  # self-distill: of the moving average whose relations are followed
    warm_start: bool = False  # two-stage: the student's text side starts as the teacher's
    word_relation: float = 0.0  # share of the word-level relation in R_CL, 0 to 1

    def __post_init__(self) -> None:
        require("transfer.beta", self.beta >= 0, "0 or more", self.beta)
        require("transfer.tau_teacher", self.tau_teacher > 0, "more than 0", self.tau_teacher)
        require("transfer.tau_student", self.tau_student > 0, "more than 0", self.tau_student)
        require("transfer.decay", 0 <= self.decay < 1, "at least 0, below 1", self.decay)
        for key in ("source_target", "regression"):
            require(f"transfer.{key}", getattr(self, key) >= 0, "0 or more", getattr(self, key))
        require(
            "transfer.word_relation", 0 <= self.word_relation <= 1, "0 to 1", self.word_relation
        )


class CL2CM(Method):
    """The method of this project.

    Ablations are settings: ``teacher.alpha = 0`` drops L_word, ``transfer.beta = 0`` drops
    L_rel (and with it the teacher, unless the student starts from it),
    ``teacher.transport_cost`` and ``teacher.alignment`` choose the parts of L_word,
    ``transport.rho`` unbalanced transport, ``teacher.schedule`` the schedule,
    ``transfer.source_target`` the same loss on the student's (S, T) relation,
    ``transfer.regression`` the distance of z_T from z_S, which needs no teacher.
    """

    name = "cl2cm"
    sections: ClassVar = {
        "teacher": TeacherConfig,
        "transport": TransportConfig,
        "transfer": TransferConfig,
    }

    def __init__(
        self,
        setup: Setup,
        teacher: TeacherConfig,
        transport: TransportConfig,
        transfer: TransferConfig,
    ) -> None:
        super().__init__(setup)
        self.settings = teacher
        self.ot = transport
        self.transfer = transfer
        self.initialised = setup.initialised
        self.joint = teacher.schedule == "joint"
        self.relates = transfer.beta > 0 or transfer.source_target > 0
        if self.relates or (transfer.warm_start and not self.joint):
            self.teacher = setup.new_teacher()
        trained = self.teacher is not None and self.teacher.backbone is not None
        if trained and teacher.labels == "states":
            raise ConfigError(
                "teacher.labels",
                expected="'tokens' where the backbone is trained",
                found="'states'",
                remedy='change it, or set text.freeze = "all"',
            )
        self._fixed: Tensor | None = None  # the frozen teacher's sentence vectors [texts, D]

    def stages(self) -> list[Stage]:
        """Two stages, or one where the schedule is joint or there is no teacher."""
        teacher, epochs = self.teacher, self.epochs
        if teacher is None:
            return [Stage("cross-modal", epochs, (self.student,), self.loss)]
        related = self.transfer.word_relation > 0  # the relations of all rows look at words
        words = None if related else self.words_of_teacher
        others = self.settings.other_captions > 0
        if self.joint:
            both = (self.student, teacher)
            return [Stage("cross-modal", epochs, both, self.loss, words=words, others=others)]
        first = Stage(
            "cross-lingual",
            self.settings.epochs,
            (teacher,),
            self.cross_lingual_loss,
            words=words,
            others=others,
            end=self.start_student,
        )
        second = Stage(
            "cross-modal",
            epochs,
            (self.student,),
            self.loss,
            words=None if related else 0,
            begin=self.fix_teacher,
        )
        return [first, second]

    @property
    def words_of_teacher(self) -> int | None:
        """Rows of a batch whose tokens Eq. 6 looks at; None: all."""
        return (self.settings.word_pairs or None) if self.settings.alpha > 0 else 0

    def fix_teacher(self, encode_all: EncodeAll) -> None:
        """Compute the sentence vectors of the frozen teacher, once for the whole stage."""
        if self.relates and self.teacher is not None:
            device = next(self.student.parameters()).device
            self._fixed = encode_all(self.teacher).to(device)

    def start_student(self) -> None:
        """Start the student's text side as the teacher's, where the settings ask for it.

        One that started from a finished run keeps its weights.
        """
        if self.teacher is not None and self.transfer.warm_start and not self.initialised:
            self.student.text.load_state_dict(self.teacher.text.state_dict())
            if self.student.backbone is not None and self.teacher.backbone is not None:
                self.student.backbone.load_state_dict(self.teacher.backbone.state_dict())

    def cross_lingual_loss(self, batch: Batch) -> Losses:
        """L_CL, of the teacher alone."""
        return self.cross_lingual(batch)[0]

    def loss(self, batch: Batch) -> Losses:
        """L_CM, and where the schedule is joint L_CL added to it."""
        vision, source, target = self.encode(batch)
        losses = self.match_loss(batch, vision, source, target)
        if self.transfer.regression > 0:
            distance = text_regression(target.sentence, source.sentence)
            losses["loss"] = losses["loss"] + self.transfer.regression * distance
            losses["regression"] = distance.detach()
        if not self.relates:
            return losses
        teacher_loss: Losses = {}
        if self.joint:
            teacher_loss, relations = self.cross_lingual(batch)
        else:
            relations = self.frozen_relation(batch)
        student_tau = self.transfer.tau_student
        rel = relational_distillation(relations, relation(vision, target.sentence, tau=student_tau))
        losses["relation"] = rel.detach()
        losses["loss"] = losses["loss"] + self.transfer.beta * rel
        if self.transfer.source_target > 0:
            text = relational_distillation(
                relations, relation(source.sentence, target.sentence, tau=student_tau)
            )
            losses["loss"] = losses["loss"] + self.transfer.source_target * text
        if teacher_loss:
            losses["loss"] = losses["loss"] + teacher_loss.pop("loss")
        return losses | teacher_loss

    def cross_lingual(self, batch: Batch) -> tuple[Losses, Tensor]:
        """L_CL (Eq. 1 to 7) of a batch, and the relation R_CL [B, B] (Eq. 9)."""
        assert self.teacher is not None  # noqa: S101 - callers have checked
        source, target = (
            self.teacher.encode_text(batch.source),
            self.teacher.encode_text(batch.target),
        )
        sentence = self.sentence_level(batch, source.sentence, target.sentence)
        losses = {"loss": sentence, "sentence": sentence.detach()}
        if batch.other is not None:
            other = self.teacher.encode_text(batch.other).sentence
            others = self.sentence_level(batch, source.sentence, other)
            losses["loss"] = losses["loss"] + self.settings.other_captions * others
            losses["others"] = others.detach()
        if self.settings.alpha > 0:
            words = self._words(batch, source, target)
            labels = self._labels(batch)
            settings = self.settings
            word = word_level(
                *words,
                batch.languages,
                self.ot,
                labels,
                tau_word=settings.tau_word,
                transport_cost=settings.transport_cost,
                alignment=settings.alignment,
                mutual=settings.mutual,
                apart=settings.apart,
            )
            losses["loss"] = losses["loss"] + self.settings.alpha * word
            losses["word"] = word.detach()
        return losses, self.relation_of(source, target)

    def sentence_level(self, batch: Batch, source: Tensor, target: Tensor) -> Tensor:
        """L_sent (Eq. 1); our choice, texts of one picture are no negatives of each other."""
        same = same_picture(batch.pictures)
        return info_nce(source, target, tau=self.settings.tau, positives=same)

    def _words(self, batch: Batch, source: Encoded, target: Encoded) -> tuple[Encoded, Encoded]:
        """Tokens of the pairs that the word level looks at: the first ones of a shuffled batch."""
        assert self.teacher is not None  # noqa: S101 - callers have checked
        if batch.words is not None:
            first, second = (self.teacher.encode_text(tokens) for tokens in batch.words)
            return first, second
        rows = slice(self.settings.word_pairs or None)
        return Encoded(*(t[rows] for t in source)), Encoded(*(t[rows] for t in target))

    def _labels(self, batch: Batch) -> Labels | None:
        """The backbone's states of the same tokens, where the plan is made of them."""
        if self.settings.labels == "tokens":
            return None
        rows = slice(self.settings.word_pairs or None)
        first, second = batch.words or (batch.source, batch.target)
        return F.normalize(first.values[rows], dim=-1), F.normalize(second.values[rows], dim=-1)

    @torch.no_grad()
    def frozen_relation(self, batch: Batch) -> Tensor:
        """R_CL of the frozen teacher (Eq. 9)."""
        assert self.teacher is not None  # noqa: S101 - callers have checked
        if self._fixed is None or self.transfer.word_relation > 0:
            return self.relation_of(
                self.teacher.encode_text(batch.source), self.teacher.encode_text(batch.target)
            )
        return relation(
            self._fixed[batch.source_texts],
            self._fixed[batch.target_texts],
            tau=self.transfer.tau_teacher,
        )

    @torch.no_grad()
    def relation_of(self, source: Encoded, target: Encoded) -> Tensor:
        """Eq. 9 [B, B]; a share of it may come from the word level."""
        sentence = relation(source.sentence, target.sentence, tau=self.transfer.tau_teacher)
        share = self.transfer.word_relation
        if share == 0:
            return sentence
        word = word_relation(source.tokens, target.tokens, source.mask, target.mask)
        return (1 - share) * sentence + share * word / self.transfer.tau_teacher
