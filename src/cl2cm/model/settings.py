"""The sections of a configuration that every run has: small frozen dataclasses, one per concern.

Each checks its own ranges, and says what was expected. A method's own settings are beside the
method.
"""

from dataclasses import dataclass
from typing import Literal

from cl2cm.errors import ConfigError
from cl2cm.types import Sampling

Freeze = Literal["all", "embeddings", "none"] | int


MOST_ADAPTERS = 256


def require(key: str, valid: bool, expected: str, found: object) -> None:
    """Refuse a value that a setting cannot have.

    Args:
        key: of the setting, such as ``match.tau``.
        valid: whether the value is possible.
        expected: what is possible, for the message.
        found: the value.

    Raises:
        ConfigError: it is not valid.
    """
    if not valid:
        raise ConfigError(key, expected=expected, found=repr(found), remedy="change the setting")


@dataclass(frozen=True, slots=True)
class DataConfig:
    """The data to learn from."""

    manifest: str = ""  # path of the manifest
    source: str = "en"  # language of the human captions
    languages: tuple[str, ...] = ()  # target languages; empty: all with translations in the
    # training split
    engines: tuple[str, ...] = ()  # translation engines to use; empty: all
    min_quality: float = 0.0  # exclude translations with a lower score, 0 to 1
    quality_weighting: float = 0.0  # sample translations in proportion to their score to this
    # power; 0: uniformly
    confidence: bool = False  # weigh translations by how likely they belong to their captions,
    # estimated by word-level transport
    every_language: bool = False  # show each pair in all target languages in every step, not in one
    # of them
    noise: float = 0.0  # share of noise planted in the training translations, 0 to 1
    noise_kind: Literal["sentence", "word"] = "sentence"  # sentence: swap translations between
    # items; word: replace words by random ones
    noise_seed: int = 0  # seed of the noise, independent of train.seed; -1: equal to it
    features: str = ""  # folder for feature stores; empty: the user's cache
    skip_bad: bool = False  # skip broken lines and images, and list them

    def __post_init__(self) -> None:
        require("data.source", bool(self.source), "a language code such as 'en'", self.source)
        require(
            "data.languages",
            self.source not in self.languages,
            f"target languages other than the source {self.source!r}",
            self.languages,
        )
        quality = self.min_quality
        require("data.min_quality", 0 <= quality <= 1, "0 to 1", quality)
        power = self.quality_weighting
        require("data.quality_weighting", power >= 0, "0 or more", power)
        require("data.noise", 0 <= self.noise <= 1, "0 to 1", self.noise)
        seed = self.noise_seed
        require("data.noise_seed", -1 <= seed < 2**63, "-1 to below 2 ** 63", seed)


@dataclass(frozen=True, slots=True)
class TextConfig:
    """The text encoder and its tokenizer."""

    encoder: str = "hf:multilingual-e5-small"  # hf:NAME, hf:OWNER/NAME or hf:./FOLDER
    layer: int = -1  # use the hidden states after this layer; -1: the last
    freeze: Freeze = "all"  # frozen part of the encoder: all, embeddings, a number of layers, or
    # none
    prefix: str = "query: "  # text before every caption and query; E5 was trained with this one
    max_tokens: int = 64  # longest text; longer ones are truncated
    lower_case: bool = False  # lower-case all texts, for an uncased vocabulary

    def __post_init__(self) -> None:
        require("text.max_tokens", 4 <= self.max_tokens <= 8192, "4 to 8192", self.max_tokens)
        require("text.layer", self.layer == -1 or self.layer > 0, "-1, or 1 and more", self.layer)
        freeze = self.freeze
        require(
            "text.freeze",
            freeze in ("all", "embeddings", "none") if isinstance(freeze, str) else freeze >= 0,
            "'all', 'embeddings', 'none' or a number of layers",
            freeze,
        )


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """The vision encoder, which is never trained, and the frames of a video that it sees."""

    encoder: str = "onnx:efficientnet-lite2"  # onnx:NAME, hf:OWNER/NAME or features:PATH
    sampling: Literal["uniform", "fps", "scenes"] = "uniform"  # uniform: evenly spread; fps: a
    # number per second; scenes: the middle of each shot
    frames: int = 16  # frames per video or shot, for uniform
    fps: float = 2.0  # frames per second; for uniform the maximum, so that short videos have fewer
    # frames

    def __post_init__(self) -> None:
        require("vision.frames", 1 <= self.frames <= 10_000, "1 to 10000", self.frames)
        require("vision.fps", 0 < self.fps <= 1000, "more than 0, to 1000", self.fps)

    @property
    def films(self) -> Sampling:
        """How videos are sampled."""
        return Sampling(self.sampling, self.frames, self.fps)


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """The heads on the encoders, the same for both networks."""

    dim: int = 512  # width of the shared space
    layers: int = 1  # transformer layers on the projected tokens
    heads: int = 8  # attention heads; must divide dim
    dropout: float = 0.1  # dropout rate in the heads
    whitening: float = 0.0  # ridge of the whitening of text states, as a share of the mean
    # variance; 0: no whitening
    adapters: tuple[str, ...] = ()  # languages that add-language has added, each with an adapter
    adapter_width: int = 512  # hidden width of an adapter
    vision_head: bool = True  # a head on the vision encoder; false: its features are the vectors

    def __post_init__(self) -> None:
        require("network.dim", 8 <= self.dim <= 8192, "8 to 8192", self.dim)
        require("network.layers", 0 <= self.layers <= 24, "0 to 24", self.layers)
        require(
            "network.heads",
            self.heads > 0 and self.dim % self.heads == 0,
            f"a divisor of network.dim = {self.dim}",
            self.heads,
        )
        width, added = self.adapter_width, self.adapters
        require("network.adapter_width", 1 <= width <= 65536, "1 to 65536", width)
        distinct = len(set(added)) == len(added) <= MOST_ADAPTERS
        require(
            "network.adapters", distinct, f"at most {MOST_ADAPTERS} languages, each once", added
        )
        require("network.whitening", self.whitening >= 0, "0 or more", self.whitening)
        require("network.dropout", 0 <= self.dropout < 1, "at least 0, below 1", self.dropout)


@dataclass(frozen=True, slots=True)
class MatchConfig:
    """The matching loss M of Eq. 8."""

    loss: Literal["infonce", "triplet"] = "infonce"  # infonce, or triplet with the hardest negative
    tau: float = 0.05  # temperature of InfoNCE
    margin: float = 0.2  # margin of the triplet loss
    smoothing: float = 0.0  # label smoothing of InfoNCE
    target: float = 1.0  # weight of M(V, T), relative to M(V, S)
    smallest_dim: int = 0  # Matryoshka: average M over prefixes of the vectors, halved down to this
    # width; 0: off

    def __post_init__(self) -> None:
        width = self.smallest_dim
        require("match.smallest_dim", 0 <= width <= 8192, "0 to 8192", width)
        require("match.target", self.target >= 0, "0 or more", self.target)
        require("match.tau", self.tau > 0, "more than 0", self.tau)
        require("match.margin", self.margin > 0, "more than 0", self.margin)
        require("match.smoothing", 0 <= self.smoothing < 1, "0 to below 1", self.smoothing)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """The training loop, shared by all methods."""

    seed: int = 0  # random seed
    epochs: int = 20  # epochs of the cross-modal network
    warm_start: bool = False  # initialise the text side from a teacher trained with [teacher] and
    # [transport]
    batch_size: int = 256  # pairs per step, in all processes together
    grad_cache_chunks: int = 1  # GradCache: encode a batch in this many chunks, with less memory;
    # 1: at once
    length_groups: int = 1  # encode the texts of a batch in this many groups of similar length,
    # with less padding: faster where token states pass through layers; 1: at once
    lr: float = 5e-4  # learning rate of the heads
    backbone_lr: float = 2e-5  # learning rate of the unfrozen part of the text encoder
    weight_decay: float = 0.01  # weight decay of AdamW
    warmup: float = 0.1  # share of the steps with a rising learning rate; a cosine decay follows
    clip: float = 1.0  # maximum norm of the gradient
    patience: int = 0  # stop after this many epochs without a better validation SumR; 0: never
    checkpoint_steps: int = 0  # steps between two states for --resume; 0: one per epoch
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    amp: bool = True  # mixed precision, on CUDA only
    threads: int = 0  # CPU threads; 0: the default of PyTorch
    matmul: Literal["float32", "bfloat16"] = "float32"  # precision of matrix products on the CPU;
    # weights stay float32
    log_to: tuple[str, ...] = ("tensorboard",)  # trackers: tensorboard, wandb, mlflow

    def __post_init__(self) -> None:
        known = set(self.log_to) <= {"tensorboard", "wandb", "mlflow"}
        require("train.log_to", known, "some of 'tensorboard', 'wandb', 'mlflow'", self.log_to)
        require("train.epochs", self.epochs >= 1, "1 or more", self.epochs)
        require("train.batch_size", self.batch_size >= 2, "2 or more", self.batch_size)
        chunks = self.grad_cache_chunks
        require("train.grad_cache_chunks", chunks >= 1, "1 or more", chunks)
        groups = self.length_groups
        require("train.length_groups", groups >= 1, "1 or more", groups)
        require("train.lr", self.lr > 0, "more than 0", self.lr)
        require("train.backbone_lr", self.backbone_lr > 0, "more than 0", self.backbone_lr)
        require("train.weight_decay", self.weight_decay >= 0, "0 or more", self.weight_decay)
        require("train.warmup", 0 <= self.warmup < 1, "at least 0, below 1", self.warmup)
        require("train.clip", self.clip > 0, "more than 0", self.clip)
        for key in ("patience", "checkpoint_steps"):
            require(f"train.{key}", getattr(self, key) >= 0, "0 or more", getattr(self, key))
        require("train.seed", 0 <= self.seed < 2**63, "0 to below 2 ** 63", self.seed)
        require("train.threads", 0 <= self.threads <= 1024, "0 to 1024", self.threads)
