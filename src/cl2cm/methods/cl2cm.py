"""CL2CM: a cross-lingual teacher (Eq. 1 to 7) whose relations the student follows (Eq. 8 to 11)."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cl2cm.errors import ConfigError
from cl2cm.losses.distillation import (
    relation,
    relational_distillation,
    text_regression,
    word_relation,
)
from cl2cm.methods.base import EncodeAll, Losses, Method, Setup, Stage
from cl2cm.methods.teacher import CrossLingual, TeacherConfig, evaluating
from cl2cm.methods.word_level import TransportConfig
from cl2cm.model.settings import require
from cl2cm.types import Batch, Encoded

__all__ = ["CL2CM", "TeacherConfig", "TransferConfig"]


@dataclass(frozen=True, slots=True)
class TransferConfig:
    """Relational distillation (Eq. 9 to 11)."""

    beta: float = 1.0  # weight of L_rel in Eq. 11
    tau_teacher: float = 0.1  # tau_t of Eq. 9
    tau_student: float = 0.1  # tau_s of Eq. 9
    source_target: float = 0.0  # weight of the same loss on the student's (S, T) relation
    regression: float = 0.0  # weight of the squared distance between the student's z_T and z_S
    decay: float = 0.99  # self-distill: decay of the moving average that serves as the teacher
    warm_start: bool = False  # two-stage: initialise the student's text side from the teacher
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
        super().__init__(dataclasses.replace(setup, warm_start=None))  # its first stage is ours
        self.transfer = transfer
        self.joint = teacher.schedule == "joint"
        self.relates = transfer.beta > 0 or transfer.source_target > 0
        self.warm = transfer.warm_start or setup.warm_start is not None
        if self.joint:
            _check_joint(teacher, warm_start=setup.warm_start is not None)
        self.lesson: CrossLingual | None = None
        if self.relates or (self.warm and not self.joint):
            self.teacher = setup.new_teacher()
            self.lesson = CrossLingual(self.teacher, teacher, transport)
        self._fixed: Tensor | None = None  # the frozen teacher's sentence vectors [texts, D]

    def stages(self) -> list[Stage]:
        """Return two stages, or one where the schedule is joint or there is no teacher."""
        lesson, epochs = self.lesson, self.epochs
        if lesson is None:
            return [Stage("cross-modal", epochs, (self.student,), self.loss)]
        related = self.transfer.word_relation > 0  # the relations of all rows look at words
        words = None if related else lesson.words
        if self.joint:
            both = (self.student, lesson.network)
            others = lesson.settings.other_captions > 0
            return [Stage("cross-modal", epochs, both, self.loss, words=words, others=others)]
        first = lesson.stage(self.end_of_lesson)
        second = Stage(
            "cross-modal",
            epochs,
            (self.student,),
            self.loss,
            words=None if related else 0,
            begin=self.fix_teacher,
        )
        return [dataclasses.replace(first, words=words), second]

    def end_of_lesson(self) -> None:
        """Start the student's text side as the teacher's, where the settings ask for it."""
        if self.warm:
            self.start_student()

    def fix_teacher(self, encode_all: EncodeAll) -> None:
        """Compute the sentence vectors of the frozen teacher, once for the whole stage."""
        if self.relates and self.teacher is not None:
            device = next(self.student.parameters()).device
            self._fixed = encode_all(self.teacher).to(device)

    def loss(self, batch: Batch) -> Losses:
        """Return L_CM, and where the schedule is joint L_CL added to it."""
        vision, source, target = self.encode(batch)
        losses = self.match_loss(batch, vision, source, target)
        if self.transfer.regression > 0:
            distance = text_regression(target.sentence, source.sentence)
            losses["loss"] = losses["loss"] + self.transfer.regression * distance
            losses["regression"] = distance.detach()
        if not self.relates:
            return losses
        teacher_loss: Losses = {}
        if self.joint and self.lesson is not None:
            teacher_loss = self.lesson.loss(batch)
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

    @torch.no_grad()
    def frozen_relation(self, batch: Batch) -> Tensor:
        """Return R_CL of the teacher (Eq. 9), without dropout also where it is being trained."""
        assert self.teacher is not None  # noqa: S101 - callers have checked
        if self._fixed is None or self.transfer.word_relation > 0:
            with evaluating(self.teacher):
                source = self.teacher.encode_text(batch.source)
                target = self.teacher.encode_text(batch.target)
            return self.relation_of(source, target)
        return relation(
            self._fixed[batch.source_texts],
            self._fixed[batch.target_texts],
            tau=self.transfer.tau_teacher,
        )

    @torch.no_grad()
    def relation_of(self, source: Encoded, target: Encoded) -> Tensor:
        """Return Eq. 9 [B, B]; a share of it may come from the word level."""
        sentence = relation(source.sentence, target.sentence, tau=self.transfer.tau_teacher)
        share = self.transfer.word_relation
        if share == 0:
            return sentence
        word = word_relation(source.tokens, target.tokens, source.mask, target.mask)
        return (1 - share) * sentence + share * word / self.transfer.tau_teacher


def _check_joint(teacher: TeacherConfig, *, warm_start: bool) -> None:
    """Refuse what needs a stage of the teacher's own."""
    for key, found in (
        ("teacher.pairs", "" if teacher.pairs == "translations" else repr(teacher.pairs)),
        ("train.warm_start", "true" if warm_start else ""),
    ):
        if found:
            raise ConfigError(
                key,
                expected="teacher.schedule = 'two-stage', where the teacher learns first",
                found=f"{found} with 'joint'",
                remedy="change one of the two",
            )
