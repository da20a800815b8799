"""The cross-lingual network's lesson: its losses (Eq. 1 to 7), and the stage in which it learns."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from cl2cm.errors import ConfigError
from cl2cm.losses.contrastive import info_nce
from cl2cm.methods.base import Losses, Stage
from cl2cm.methods.word_level import Labels, TransportConfig, word_level
from cl2cm.model.networks import CrossLingualNetwork, same_picture
from cl2cm.model.settings import require
from cl2cm.types import Batch, Encoded, Pairing


@dataclass(frozen=True, slots=True)
class TeacherConfig:
    """The cross-lingual network's losses (Eq. 1 to 7) and schedule."""

    schedule: Literal["two-stage", "joint"] = "two-stage"  # two-stage: the teacher is trained
    # first; joint: together with the student
    epochs: int = 10  # epochs of the first stage
    alpha: float = 0.1  # weight of the word level in Eq. 7
    other_captions: float = 0.0  # weight of Eq. 1 between a caption and translations of other
    # captions of the image
    tau: float = 0.05  # temperature of Eq. 1
    tau_word: float = 0.1  # temperature of Eq. 5
    transport_cost: bool = True  # include L_ot in Eq. 6
    alignment: bool = True  # include L_align in Eq. 6
    word_pairs: int = 0  # pairs of a batch that Eq. 6 uses; 0: all
    labels: Literal["tokens", "states"] = "tokens"  # compute the plan from the network's tokens or
    # the frozen encoder's states
    mutual: bool = False  # use only entries of the plan that are the largest of their row and
    # column
    unit_mass: bool = False  # scale plans to mass 1, so that alpha means the same with every plan
    pairs: Pairing = "translations"  # training pairs: translations, shuffled ones (a placebo), or
    # two source captions
    apart: float = 0.0  # share of L_align on tokens minus the mean token of their text, 0 to 1

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


class CrossLingual:
    """L_CL of a teacher.

    Args:
        network: the teacher.
        settings: of its losses.
        transport: of the word level's plan.
    """

    def __init__(
        self, network: CrossLingualNetwork, settings: TeacherConfig, transport: TransportConfig
    ) -> None:
        if network.backbone is not None and settings.labels == "states":
            raise ConfigError(
                "teacher.labels",
                expected="'tokens' where the backbone is trained",
                found="'states'",
                remedy='change it, or set text.freeze = "all"',
            )
        self.network = network
        self.settings = settings
        self.transport = transport

    @property
    def words(self) -> int | None:
        """Rows of a batch whose tokens Eq. 6 looks at; None: all."""
        return (self.settings.word_pairs or None) if self.settings.alpha > 0 else 0

    def stage(self, end: Callable[[], None]) -> Stage:
        """Return the stage in which the teacher learns alone."""
        settings = self.settings
        return Stage(
            "cross-lingual",
            settings.epochs,
            (self.network,),
            self.loss,
            words=self.words,
            others=settings.other_captions > 0,
            pairs=settings.pairs,
            end=end,
        )

    def loss(self, batch: Batch) -> Losses:
        """Return L_CL (Eq. 1 to 7) of a batch."""
        settings = self.settings
        source = self.network.encode_text(batch.source)
        target = self.network.encode_text(batch.target)
        sentence = self._sentences(batch, source.sentence, target.sentence, batch.confidence)
        losses = {"loss": sentence, "sentence": sentence.detach()}
        if batch.other is not None:
            other = self.network.encode_text(batch.other).sentence
            others = self._sentences(batch, source.sentence, other, batch.other_confidence)
            losses["loss"] = losses["loss"] + settings.other_captions * others
            losses["others"] = others.detach()
        if settings.alpha > 0:
            words = self._words(batch, source, target)
            word = word_level(
                *words,
                batch.languages,
                self.transport,
                self._labels(batch),
                tau_word=settings.tau_word,
                transport_cost=settings.transport_cost,
                alignment=settings.alignment,
                mutual=settings.mutual,
                unit_mass=settings.unit_mass,
                apart=settings.apart,
            )
            losses["loss"] = losses["loss"] + settings.alpha * word
            losses["word"] = word.detach()
        return losses

    def _sentences(
        self, batch: Batch, source: Tensor, target: Tensor, confidence: Tensor | None
    ) -> Tensor:
        """Return L_sent (Eq. 1); our choice, texts of one image are not negatives of each other."""
        same, tau = same_picture(batch.pictures), self.settings.tau
        return info_nce(source, target, tau=tau, positives=same, weights=confidence)

    def _words(self, batch: Batch, source: Encoded, target: Encoded) -> tuple[Encoded, Encoded]:
        """Return the tokens of the pairs that Eq. 6 uses: the first ones of a shuffled batch."""
        if batch.words is not None:
            first, second = (self.network.encode_text(tokens) for tokens in batch.words)
            return first, second
        rows = slice(self.settings.word_pairs or None)
        return Encoded(*(t[rows] for t in source)), Encoded(*(t[rows] for t in target))

    def _labels(self, batch: Batch) -> Labels | None:
        """Return the backbone's states of the same tokens, where the plan is made of them."""
        if self.settings.labels == "tokens":
            return None
        rows = slice(self.settings.word_pairs or None)
        first, second = batch.words or (batch.source, batch.target)
        return F.normalize(first.values[rows], dim=-1), F.normalize(second.values[rows], dim=-1)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode for a while; each part then has its own mode again."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
