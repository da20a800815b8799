"""The base class of methods: networks, training stages, and a loss for each stage.

The training loop knows nothing more of a method than this. See docs/extending.md for a method in a
package of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor, nn

from cl2cm.losses.contrastive import info_nce, triplet_hardest
from cl2cm.losses.prefixes import over_prefixes
from cl2cm.model.networks import (
    CrossLingualNetwork,
    CrossModalNetwork,
    TextNetwork,
    same_picture,
)
from cl2cm.model.settings import MatchConfig, NetworkConfig
from cl2cm.types import Batch, Encoded, Pairing

Targets = Literal["translations", "captions", "none"]
Losses = dict[str, Tensor]  # "loss" is what is minimised; the others are for the log
EncodeAll = Callable[[TextNetwork], Tensor]  # unit vectors [texts, D] of all training texts


@dataclass(frozen=True, slots=True)
class Setup:
    """What every method is built from.

    Attributes:
        student: a fresh cross-modal network.
        new_teacher: makes a fresh cross-lingual network of the same sizes, with a backbone of its
            own where the backbone is trained.
        match: the matching loss M of Eq. 8.
        network: sizes, for networks that the method adds.
        epochs: of a stage that trains the student (``train.epochs``).
        initialised: whether the student has the weights of a finished run (``--init-from``).
        warm_start: the lesson of the teacher whose text side the student starts as; None: the
            student starts fresh.
    """

    student: CrossModalNetwork
    new_teacher: Callable[[], CrossLingualNetwork]
    match: MatchConfig
    network: NetworkConfig
    epochs: int
    initialised: bool = False
    warm_start: "Callable[[CrossLingualNetwork], Lesson] | None" = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a training.

    Attributes:
        name: in the log and in ``provenance.json``; unique in a method.
        epochs: number of epochs.
        trained: the networks whose weights it changes, each an attribute of the method. The first
            is validated after every epoch: a cross-modal network by images, another by captions.
        loss: the loss of a batch, with its parts for the log.
        words: rows of a batch whose tokens the loss looks at; None: all; 0: sentences suffice.
        others: whether the loss looks at translations of other captions of an image.
        pairs: what stands as the target of each source caption.
        begin: called when the stage starts or is resumed, to compute what stays fixed in it.
        end: called when the stage has ended with its best weights, before the state is saved.
        keep: the epoch that the stage ends with: the best one by validation, or the last one.
    """

    name: str
    epochs: int
    trained: tuple[nn.Module, ...]
    loss: Callable[[Batch], Losses]
    words: int | None = 0
    others: bool = False
    pairs: Pairing = "translations"
    begin: Callable[[EncodeAll], None] = lambda _: None
    end: Callable[[], None] = lambda: None
    keep: Literal["best", "last"] = "best"

    @property
    def validated(self) -> TextNetwork:
        """The network whose validation SumR chooses the best epoch."""
        network = self.trained[0]
        assert isinstance(network, TextNetwork)  # noqa: S101 - build_method has checked it
        return network


class Lesson(Protocol):
    """How a teacher learns."""

    def stage(self, end: Callable[[], None]) -> Stage:
        """Return the stage in which it learns; ``end`` is called when it has learned."""
        ...


class Method(nn.Module):
    """Base of all methods: the cross-modal network and Eq. 8.

    A subclass with settings names their sections in ``sections``, and its ``__init__`` takes the
    setup and, by the section's name, an instance of each class.

    Attributes:
        name: as it is in a configuration.
        targets: what the targets of training are: machine translations of the source captions,
            human captions in the target languages, or none.
        translates_queries: whether queries are translated into the source language before search.
        keeps_vision: whether it starts from a finished run and leaves that run's vision side as it
            is, so that an index of the one opens with the other.
        learns_goals: whether it starts from an off-the-shelf model, whose text vectors are its
            ``goals``.
        sections: section of the configuration -> frozen dataclass of its settings, which checks
            its values; every field has a default.
        student: the network that does the search.
        teacher: the cross-lingual network, where the method trains one; saved with the run.
        goals: unit vectors [texts, D] by the off-the-shelf model that the training starts from,
            where it starts from one; the loop sets them.
        progress: share of the stage's steps that are done, 0 to 1; the loop sets it.
    """

    name: ClassVar[str] = ""
    targets: ClassVar[Targets] = "translations"
    translates_queries: ClassVar[bool] = False
    keeps_vision: ClassVar[bool] = False
    learns_goals: ClassVar[bool] = False
    sections: ClassVar[Mapping[str, type[Any]]] = {}

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.student = setup.student
        self.teacher: CrossLingualNetwork | None = None
        self.match = setup.match
        self.epochs = setup.epochs
        self.goals: Tensor | None = None
        self.progress = 0.0
        self.initialised = setup.initialised
        self._lesson: Lesson | None = None
        if setup.warm_start is not None:
            self.teacher = setup.new_teacher()
            self._lesson = setup.warm_start(self.teacher)

    def all_stages(self) -> list[Stage]:
        """Return the method's stages, after the teacher's stage of a warm start."""
        first = [] if self._lesson is None else [self._lesson.stage(self.start_student)]
        return [*first, *self.stages()]

    @classmethod
    def reads_media(cls, settings: dict[str, Any]) -> bool:  # noqa: ARG003 - for subclasses
        """Return whether images and videos are looked at, by the method's settings by section."""
        return True

    @classmethod
    def favoured(cls, settings: dict[str, Any]) -> tuple[str, float] | None:  # noqa: ARG003
        """Return a target language and its share of the captions; None: all languages are alike."""
        return None

    def stages(self) -> list[Stage]:
        """Return the stages in order; here one, which trains the student."""
        return [Stage("cross-modal", self.epochs, (self.student,), self.loss)]

    def loss(self, batch: Batch) -> Losses:
        """Return the student's loss of a batch, with its parts for the log."""
        return self.match_loss(batch, *self.encode(batch))

    def start_student(self) -> None:
        """Start the student's text side as the teacher's.

        One that started from a finished run keeps its weights.
        """
        if self.teacher is not None and not self.initialised:
            self.student.text.load_state_dict(self.teacher.text.state_dict())
            if self.student.backbone is not None and self.teacher.backbone is not None:
                self.student.backbone.load_state_dict(self.teacher.backbone.state_dict())
        self.student_started()

    def student_started(self) -> None:
        """Called when a warm start has given the student its weights, for copies of them."""

    def after_step(self) -> None:
        """Called after every step of the optimiser."""

    def encode(self, batch: Batch) -> tuple[Tensor, Encoded, Encoded]:
        """Return the student's vision [B, D], source and target."""
        return (
            self.student.encode_frames(batch.vision),
            self.student.encode_text(batch.source),
            self.student.encode_text(batch.target),
        )

    def match_loss(self, batch: Batch, vision: Tensor, source: Encoded, target: Encoded) -> Losses:
        """Return Eq. 8: M(V, S) + M(V, T), the latter times ``match.target``."""
        same = same_picture(batch.pictures)
        on_source = matching(vision, source.sentence, same, self.match)
        on_target = matching(vision, target.sentence, same, self.match, batch.confidence)
        return {
            "loss": on_source + self.match.target * on_target,
            "match_source": on_source.detach(),
            "match_target": on_target.detach(),
        }


def matching(
    x: Tensor, y: Tensor, same: Tensor, match: MatchConfig, weights: Tensor | None = None
) -> Tensor:
    """Return M of Eq. 8 between unit vectors [B, D], with optional weights [B] of the pairs.

    Args:
        x: one side.
        y: the other.
        same: bool [B, B], True where both rows show one image: such pairs are not negatives.
        match: which loss, and its settings.
        weights: see ``info_nce``.
    """

    def one_width(one: Tensor, other: Tensor) -> Tensor:
        if match.loss == "triplet":
            margin = match.margin
            return triplet_hardest(one, other, margin=margin, positives=same, weights=weights)
        tau, smoothing = match.tau, match.smoothing
        return info_nce(
            one, other, tau=tau, label_smoothing=smoothing, positives=same, weights=weights
        )

    return over_prefixes(one_width, x, y, smallest=match.smallest_dim)
