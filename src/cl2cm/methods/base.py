"""What a method is: networks, stages in which they are trained, and a loss for each.

The loop in ``training/loop.py`` knows nothing more of a method than this.
"""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from cl2cm.losses.contrastive import info_nce, triplet_hardest
from cl2cm.model.config import Config
from cl2cm.model.networks import CrossLingualNetwork, CrossModalNetwork, same_picture
from cl2cm.model.settings import MatchConfig
from cl2cm.types import Batch, Encoded

Stage = Literal["cross-lingual", "cross-modal", "distillation"]
Targets = Literal["translations", "captions", "none"]
Losses = dict[str, Tensor]  # "loss" is what is minimised; the others are for the log
EncodeAll = Callable[[CrossLingualNetwork], Tensor]  # unit vectors [texts, D] of all training texts


class Method(nn.Module):
    """Base of all methods: the cross-modal network and Eq. 8.

    Attributes:
        name: as it stands in a configuration.
        targets: what the targets of training are: machine translations of the source captions,
            human captions in the target languages, or none.
        student: the network that does the search.
        teacher: the cross-lingual network, where the method has one.
        progress: share of the stage's steps that are done, 0 to 1; the loop sets it.
    """

    name = ""
    targets: Targets = "translations"

    def __init__(
        self, config: Config, student: CrossModalNetwork, teacher: CrossLingualNetwork | None
    ) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher if self.needs_teacher(config) else None
        self.match = config.match
        self.progress = 0.0

    @staticmethod
    def needs_teacher(config: Config) -> bool:
        """Whether the method trains a cross-lingual network under these settings."""
        del config
        return False

    def stages(self, config: Config) -> list[tuple[Stage, int]]:
        """The stages in order, each with its number of epochs."""
        return [("cross-modal", config.train.epochs)]

    def trained(self, stage: Stage) -> list[nn.Module]:
        """The networks whose weights a stage changes."""
        del stage
        return [self.student]

    def words(self, stage: Stage) -> int | None:
        """Rows of a batch whose tokens a stage's loss looks at; None: all."""
        del stage
        return 0

    def others(self, stage: Stage) -> bool:
        """Whether a stage's loss looks at translations of other captions of a picture."""
        del stage
        return False

    def after_step(self) -> None:
        """Called after every step of the optimiser."""

    def begin(self, stage: Stage, encode_all: EncodeAll) -> None:
        """Called when a stage starts or is resumed, to compute what stays fixed in it."""

    def end(self, stage: Stage) -> None:
        """Called when a stage has ended with its best weights, before the state is saved."""

    def loss(self, batch: Batch, stage: Stage) -> Losses:
        """The loss of a batch, with its parts for the log."""
        del stage
        vision, source, target = self.encode(batch)
        return self.match_loss(batch, vision, source, target)

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


def matching(x: Tensor, y: Tensor, same: Tensor, match: MatchConfig) -> Tensor:
    """M of Eq. 8 between unit vectors [B, D]; pairs of one picture are no negatives."""
    if match.loss == "triplet":
        return triplet_hardest(x, y, margin=match.margin, positives=same)
    return info_nce(x, y, tau=match.tau, label_smoothing=match.smoothing, positives=same)
