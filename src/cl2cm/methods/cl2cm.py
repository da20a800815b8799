"""CL2CM: a cross-lingual teacher (Eq. 1 to 7) whose relations the student follows (Eq. 8 to 11)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl2cm.errors import ConfigError
from cl2cm.losses.contrastive import info_nce
from cl2cm.losses.distillation import (
    relation,
    relational_distillation,
    text_regression,
    word_relation,
)
from cl2cm.methods.base import EncodeAll, Losses, Method, Stage
from cl2cm.methods.word_level import Labels, word_level
from cl2cm.model.config import Config
from cl2cm.model.networks import CrossLingualNetwork, CrossModalNetwork, same_picture
from cl2cm.types import Batch, Encoded


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

    def __init__(
        self, config: Config, student: CrossModalNetwork, teacher: CrossLingualNetwork | None
    ) -> None:
        super().__init__(config, student, teacher)
        self.settings = config.teacher
        self.ot = config.transport
        self.transfer = config.transfer
        self.joint = config.teacher.schedule == "joint"
        self.relates = config.transfer.beta > 0 or config.transfer.source_target > 0
        trained = teacher is not None and teacher.backbone is not None
        if trained and self.settings.labels == "states":
            raise ConfigError(
                "teacher.labels",
                expected="'tokens' where the backbone is trained",
                found="'states'",
                remedy='change it, or set text.freeze = "all"',
            )
        self._fixed: Tensor | None = None  # the frozen teacher's sentence vectors [texts, D]

    @staticmethod
    def needs_teacher(config: Config) -> bool:
        """A teacher is trained unless nothing is transferred."""
        transfer = config.transfer
        warm = transfer.warm_start and config.teacher.schedule == "two-stage"
        return transfer.beta > 0 or transfer.source_target > 0 or warm

    def stages(self, config: Config) -> list[tuple[Stage, int]]:
        """Two stages, or one where the schedule is joint or there is no teacher."""
        last: tuple[Stage, int] = ("cross-modal", config.train.epochs)
        if self.teacher is None or self.joint:
            return [last]
        return [("cross-lingual", config.teacher.epochs), last]

    def trained(self, stage: Stage) -> list[nn.Module]:
        """The teacher in its own stage, both where the schedule is joint."""
        if stage == "cross-lingual":
            assert self.teacher is not None  # noqa: S101 - stages() gives this one with a teacher only
            return [self.teacher]
        both = self.teacher is not None and self.joint
        return [self.student, self.teacher] if both and self.teacher else [self.student]

    def words(self, stage: Stage) -> int | None:
        """For the word level: in the relations of all rows, or in Eq. 6."""
        if self.teacher is not None and self.transfer.word_relation > 0:
            return None
        teaches = stage == "cross-lingual" or (self.joint and self.teacher is not None)
        return (self.settings.word_pairs or None) if teaches and self.settings.alpha > 0 else 0

    def others(self, stage: Stage) -> bool:
        """For Eq. 1 between different captions of a picture."""
        teaches = stage == "cross-lingual" or (self.joint and self.teacher is not None)
        return teaches and self.settings.other_captions > 0

    def begin(self, stage: Stage, encode_all: EncodeAll) -> None:
        """Freeze the teacher for the second stage; its sentence vectors are computed once."""
        self._fixed = None
        if stage == "cross-modal" and self.relates and not self.joint and self.teacher is not None:
            device = next(self.student.parameters()).device
            self._fixed = encode_all(self.teacher).to(device)

    def end(self, stage: Stage) -> None:
        """Start the student's text side as the teacher's, where the settings ask for it."""
        if stage == "cross-lingual" and self.teacher is not None and self.transfer.warm_start:
            self.student.text.load_state_dict(self.teacher.text.state_dict())
            if self.student.backbone is not None and self.teacher.backbone is not None:
                self.student.backbone.load_state_dict(self.teacher.backbone.state_dict())

    def loss(self, batch: Batch, stage: Stage) -> Losses:
        """L_CL in the first stage, L_CM in the second, their sum where the schedule is joint."""
        if stage == "cross-lingual":
            return self.cross_lingual(batch)[0]
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
            word = word_level(*words, batch.languages, self.settings, self.ot, labels)
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
