"""What a method is: networks, the stages in which they are trained, and a loss for each.

The training loop knows nothing more of a method than this. See docs/extending.md for a method in a
package of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from cl2cm.losses.contrastive import info_nce, triplet_hardest
from cl2cm.model.networks import (
    CrossLingualNetwork,
    CrossModalNetwork,
    TextNetwork,
    same_picture,
)
from cl2cm.model.settings import MatchConfig, NetworkConfig
from cl2cm.types import Batch, Encoded

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
    """

    student: CrossModalNetwork
    new_teacher: Callable[[], CrossLingualNetwork]
    match: MatchConfig
    network: NetworkConfig
    epochs: int
    initialised: bool = False


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
        begin: called when the stage starts or is resumed, to compute what stays fixed in it.
        end: called when the stage has ended with its best weights, before the state is saved.
    """

    name: str
    epochs: int
    trained: tuple[nn.Module, ...]
    loss: Callable[[Batch], Losses]
    words: int | None = 0
    others: bool = False
    begin: Callable[[EncodeAll], None] = lambda _: None
    end: Callable[[], None] = lambda: None

    @property
    def validated(self) -> TextNetwork:
        """The network whose validation SumR chooses the best epoch."""
        network = self.trained[0]
        assert isinstance(network, TextNetwork)  # noqa: S101 - build_method has checked it
        return network


class Method(nn.Module):
    """Base of all methods: the cross-modal network and Eq. 8.

    A subclass with settings names their sections in ``sections``, and its ``__init__`` takes the
    setup and, by the section's name, an instance of each class.

    Attributes:
        name: as it stands in a configuration.
        targets: what the targets of training are: machine translations of the source captions,
            human captions in the target languages, or none.
        translates_queries: whether queries are translated into the source language before search.
        sections: section of the configuration -> frozen dataclass of its settings, which checks
            its values; every field has a default.
        student: the network that does the search.
        teacher: the cross-lingual network, where the method trains one; saved with the run.
        progress: share of the stage's steps that are done, 0 to 1; the loop sets it.
    """

    name: ClassVar[str] = ""
    targets: ClassVar[Targets] = "translations"
    translates_queries: ClassVar[bool] = False
    sections: ClassVar[Mapping[str, type[Any]]] = {}

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.student = setup.student
        self.teacher: CrossLingualNetwork | None = None
        self.match = setup.match
        self.epochs = setup.epochs
        self.progress = 0.0

    def stages(self) -> list[Stage]:
        """The stages in order; here one, which trains the student."""
        return [Stage("cross-modal", self.epochs, (self.student,), self.loss)]

    def loss(self, batch: Batch) -> Losses:
        """The loss of a batch in the stage that trains the student, with its parts for the log."""
        return self.match_loss(batch, *self.encode(batch))

    def after_step(self) -> None:
        """Called after every step of the optimiser."""

    def encode(self, batch: Batch) -> tuple[Tensor, Encoded, Encoded]:
        """The student's vision [B, D], source and target."""
        return (
            self.student.encode_frames(batch.vision),
            self.student.encode_text(batch.source),
            self.student.encode_text(batch.target),
        )

    def match_loss(self, batch: Batch, vision: Tensor, source: Encoded, target: Encoded) -> Losses:
        """Eq. 8: M(V, S) + M(V, T)."""
        same = same_picture(batch.pictures)
        on_source = matching(vision, source.sentence, same, self.match)
        on_target = matching(vision, target.sentence, same, self.match)
        return {
            "loss": on_source + on_target,
            "match_source": on_source.detach(),
            "match_target": on_target.detach(),
        }


def matching(
    x: Tensor, y: Tensor, same: Tensor, match: MatchConfig, weights: Tensor | None = None
) -> Tensor:
    """M of Eq. 8 between unit vectors [B, D], the pairs weighted by [B] where weights are given.

    Args:
        x: one side.
        y: the other.
        same: bool [B, B], True where both rows show one image: such pairs are no negatives.
        match: which loss, and its settings.
        weights: see ``info_nce``.
    """
    if match.loss == "triplet":
        return triplet_hardest(x, y, margin=match.margin, positives=same, weights=weights)
    return info_nce(
        x, y, tau=match.tau, label_smoothing=match.smoothing, positives=same, weights=weights
    )
