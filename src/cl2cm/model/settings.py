"""The sections of a configuration: small frozen dataclasses, one per concern.

Each checks its own ranges, and says what was expected. Components receive these, never the whole
configuration.
"""

from dataclasses import dataclass
from typing import Literal

from cl2cm.errors import ConfigError
from cl2cm.types import Sampling

Freeze = Literal["all", "embeddings", "none"] | int


def _require(key: str, valid: bool, expected: str, found: object) -> None:
    if not valid:
        raise ConfigError(key, expected=expected, found=repr(found), remedy="change the setting")


@dataclass(frozen=True, slots=True)
class DataConfig:
    """What is learned from."""

    manifest: str = ""  # path of the manifest
    source: str = "en"  # language of the human captions
    languages: tuple[str, ...] = ()  # target languages; empty: all that train has translations in
    engines: tuple[str, ...] = ()  # translation engines; empty: all
    min_quality: float = 0.0  # leave out translations whose score in the manifest is lower
    quality_weighting: float = 0.0  # choose translations with chances that go as their score to
    # this power; 0: all alike
    features: str = ""  # folder for feature stores; empty: in the user's cache
    skip_bad: bool = False  # leave out broken lines and pictures, and list them

    def __post_init__(self) -> None:
        _require("data.source", bool(self.source), "a language code such as 'en'", self.source)
        _require(
            "data.languages",
            self.source not in self.languages,
            f"target languages other than the source {self.source!r}",
            self.languages,
        )
        quality = self.min_quality
        _require("data.min_quality", 0 <= quality <= 1, "0 to 1", quality)
        power = self.quality_weighting
        _require("data.quality_weighting", power >= 0, "0 or more", power)


@dataclass(frozen=True, slots=True)
class TextConfig:
    """The text backbone, and the tokenizer's contract with it."""

    encoder: str = "hf:multilingual-e5-small"
    layer: int = -1  # hidden states after this layer; -1: the last
    freeze: Freeze = (
        "all"  # what of the backbone stays as it is: all | embeddings | N layers | none
    )
    prefix: str = "query: "  # put before every text; E5 was trained with it
    max_tokens: int = 64
    lower_case: bool = False  # only for an uncased vocabulary

    def __post_init__(self) -> None:
        _require("text.max_tokens", 4 <= self.max_tokens <= 8192, "4 to 8192", self.max_tokens)
        _require("text.layer", self.layer == -1 or self.layer > 0, "-1, or 1 and more", self.layer)
        freeze = self.freeze
        _require(
            "text.freeze",
            freeze in ("all", "embeddings", "none") if isinstance(freeze, str) else freeze >= 0,
            "'all', 'embeddings', 'none' or a number of layers",
            freeze,
        )


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """The vision backbone, which is never trained, and the frames of films that it sees."""

    encoder: str = "onnx:efficientnet-lite2"
    sampling: Literal["uniform", "fps", "scenes"] = "uniform"  # frames evenly spread, so many a
    # second, or the middle of each shot
    frames: int = 16  # of a film or shot, for uniform
    fps: float = 2.0  # frames a second; for uniform the most, so that short films have fewer

    def __post_init__(self) -> None:
        _require("vision.frames", 1 <= self.frames <= 10_000, "1 to 10000", self.frames)
        _require("vision.fps", 0 < self.fps <= 1000, "more than 0, to 1000", self.fps)

    @property
    def films(self) -> Sampling:
        """How films are sampled."""
        return Sampling(self.sampling, self.frames, self.fps)


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """The heads on the backbones, the same for both networks."""

    dim: int = 512  # width of the shared space
    layers: int = 1  # transformer layers on the projected tokens
    heads: int = 8  # attention heads; must divide dim
    dropout: float = 0.1
    whitening: float = 0.0  # whiten the text states by the training texts' statistics, with this
    # ridge, as a share of the mean variance; 0: do not

    def __post_init__(self) -> None:
        _require("network.dim", 8 <= self.dim <= 8192, "8 to 8192", self.dim)
        _require("network.layers", 0 <= self.layers <= 24, "0 to 24", self.layers)
        _require(
            "network.heads",
            self.heads > 0 and self.dim % self.heads == 0,
            f"a divisor of network.dim = {self.dim}",
            self.heads,
        )
        _require("network.whitening", self.whitening >= 0, "0 or more", self.whitening)
        _require("network.dropout", 0 <= self.dropout < 1, "at least 0, below 1", self.dropout)


@dataclass(frozen=True, slots=True)
class MatchConfig:
    """The matching loss M of Eq. 8."""

    loss: Literal["infonce", "triplet"] = "infonce"
    tau: float = 0.05  # temperature of InfoNCE
    margin: float = 0.2  # margin of the triplet loss
    smoothing: float = 0.0  # label smoothing of InfoNCE

    def __post_init__(self) -> None:
        _require("match.tau", self.tau > 0, "more than 0", self.tau)
        _require("match.margin", self.margin > 0, "more than 0", self.margin)
        _require("match.smoothing", 0 <= self.smoothing < 1, "0 to below 1", self.smoothing)


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
        _require("teacher.epochs", self.epochs >= 1, "1 or more", self.epochs)
        for key in ("alpha", "other_captions"):
            _require(f"teacher.{key}", getattr(self, key) >= 0, "0 or more", getattr(self, key))
        _require(
            "teacher.alpha",
            self.alpha == 0 or self.transport_cost or self.alignment,
            "0 where neither teacher.transport_cost nor teacher.alignment is wanted",
            self.alpha,
        )
        _require("teacher.tau", self.tau > 0, "more than 0", self.tau)
        _require("teacher.apart", 0 <= self.apart <= 1, "0 to 1", self.apart)
        _require("teacher.word_pairs", self.word_pairs >= 0, "0 or more", self.word_pairs)
        _require("teacher.tau_word", self.tau_word > 0, "more than 0", self.tau_word)


@dataclass(frozen=True, slots=True)
class TransportConfig:
    """The word-level transport plan of Eq. 3."""

    solver: Literal["sinkhorn", "ipot"] = "sinkhorn"
    epsilon: float = 0.05  # sinkhorn: strength of the entropy, in units of the cost (0 to 2)
    rho: float = 0.0  # strength of the relaxed marginals; 0: balanced
    marginals: Literal["uniform", "salience"] = "uniform"
    centred: bool = False  # the plan is made of tokens less the batch's mean token of a language
    max_iterations: int = 200
    tolerance: float = 1e-3  # L1 error of the marginals at which to stop

    def __post_init__(self) -> None:
        _require("transport.epsilon", self.epsilon > 0, "more than 0", self.epsilon)
        _require("transport.rho", self.rho >= 0, "0 (balanced) or more", self.rho)
        _require(
            "transport.rho",
            self.rho == 0 or self.solver == "sinkhorn",
            "0 with the solver 'ipot', which is balanced",
            self.rho,
        )
        iterations = self.max_iterations
        _require("transport.max_iterations", 1 <= iterations <= 10_000, "1 to 10000", iterations)
        _require("transport.tolerance", self.tolerance >= 0, "0 or more", self.tolerance)


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
        _require("transfer.beta", self.beta >= 0, "0 or more", self.beta)
        _require("transfer.tau_teacher", self.tau_teacher > 0, "more than 0", self.tau_teacher)
        _require("transfer.tau_student", self.tau_student > 0, "more than 0", self.tau_student)
        _require("transfer.decay", 0 <= self.decay < 1, "at least 0, below 1", self.decay)
        for key in ("source_target", "regression"):
            _require(f"transfer.{key}", getattr(self, key) >= 0, "0 or more", getattr(self, key))
        _require(
            "transfer.word_relation", 0 <= self.word_relation <= 1, "0 to 1", self.word_relation
        )


@dataclass(frozen=True, slots=True)
class NrccrConfig:
    """The rival NRCCR: weight of each part beside M(V, S); 0 takes a part out."""

    target: float = 1.0  # weight of M(V, T); 1: as Eq. 8; published: 0.6
    soft: float = 0.4  # weight of the soft targets of the fused text
    tau: float = 0.07  # temperature of the soft targets
    feature: float = 0.1  # weight of the distance to the fused text
    fused: float = 1.0  # weight of the fused text's own matching loss; published: none
    query: Literal["source", "target"] = "source"  # whose tokens ask the other's in the fusion
    key: int = 16  # width of the fusion's keys, for each head
    cycle: float = 0.5  # weight of the matching of source captions and their back-translations
    adversarial: float = 0.001  # weight of deceiving the language discriminator
    game: Literal["gan", "reversal"] = "gan"  # target texts pass for source; or reversed gradient

    def __post_init__(self) -> None:
        for key in ("target", "soft", "feature", "fused", "cycle", "adversarial"):
            _require(f"nrccr.{key}", getattr(self, key) >= 0, "0 or more", getattr(self, key))
        _require("nrccr.tau", self.tau > 0, "more than 0", self.tau)
        _require("nrccr.key", self.key >= 1, "1 or more", self.key)


@dataclass(frozen=True, slots=True)
class DcotConfig:
    """The rival DCOT: how far a pair's confidence weighs its M(V, T), and when."""

    strength: float = 1.0  # part of a pair's weight that is its confidence, at last; 0: no part
    modal: float = 0.5  # share of the cross-modal view in the cost, at last; 0: texts alone
    ramp: float = 0.5  # share of the steps after which strength and modal are reached
    epsilon: float = 0.05  # sinkhorn: strength of the entropy, in units of the cost (0 to 2)
    rho: float = 0.0  # strength of the relaxed marginals; 0: balanced

    def __post_init__(self) -> None:
        for key in ("strength", "modal"):
            value = getattr(self, key)
            _require(f"dcot.{key}", 0 <= value <= 1, "0 to 1", value)
        _require("dcot.ramp", 0 <= self.ramp <= 1, "0 (at once) to 1", self.ramp)
        _require("dcot.epsilon", self.epsilon > 0, "more than 0", self.epsilon)
        _require("dcot.rho", self.rho >= 0, "0 (balanced) or more", self.rho)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """The loop that every method shares."""

    seed: int = 0
    epochs: int = 20  # of the cross-modal network
    batch_size: int = 256
    lr: float = 5e-4
    backbone_lr: float = 2e-5  # for what is not frozen of the text backbone
    weight_decay: float = 0.01
    warmup: float = 0.1  # share of the steps in which the rate rises; a cosine follows
    clip: float = 1.0  # largest norm of the gradient
    patience: int = 0  # epochs without a better validation SumR before stopping; 0: never
    checkpoint_steps: int = 0  # save for resuming every so many steps; 0: every epoch
    device: str = "auto"  # auto | cpu | cuda | cuda:N
    amp: bool = True  # mixed precision, on CUDA only
    threads: int = 0  # CPU threads; 0: torch's choice
    matmul: Literal["float32", "bfloat16"] = "float32"  # of matrix products while training on a
    # CPU; bfloat16 is faster where the processor has it, and weights stay float32

    def __post_init__(self) -> None:
        _require("train.epochs", self.epochs >= 1, "1 or more", self.epochs)
        _require("train.batch_size", self.batch_size >= 2, "2 or more", self.batch_size)
        _require("train.lr", self.lr > 0, "more than 0", self.lr)
        _require("train.backbone_lr", self.backbone_lr > 0, "more than 0", self.backbone_lr)
        _require("train.weight_decay", self.weight_decay >= 0, "0 or more", self.weight_decay)
        _require("train.warmup", 0 <= self.warmup < 1, "at least 0, below 1", self.warmup)
        _require("train.clip", self.clip > 0, "more than 0", self.clip)
        for key in ("patience", "checkpoint_steps"):
            _require(f"train.{key}", getattr(self, key) >= 0, "0 or more", getattr(self, key))
        _require("train.seed", 0 <= self.seed < 2**63, "0 to below 2 ** 63", self.seed)
        _require("train.threads", 0 <= self.threads <= 1024, "0 to 1024", self.threads)
