"""Data types shared by the modules, and the letters of tensor shapes.

Shape letters, everywhere in the project:

    B    examples in a batch            F    frames of an image (1) or a video
    T    text tokens, padded            D    width of the shared space
    D_b  width of the text backbone     D_v  width of the vision backbone
    N    items of a gallery             Q    queries
    K    hits for a query               H W  height and width in pixels

Masks are boolean, True where valid. torch is imported for type checkers only.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

StrPath = str | os.PathLike[str]  # a path as users write it
MODEL_SPEC = "hf:"  # begins the name of an off-the-shelf model, in place of a run
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

Captions = Mapping[str, tuple[str, ...]]
Translations = Mapping[str, Mapping[str, tuple[str | None, ...]]]
Quality = Mapping[str, Mapping[str, tuple[float | None, ...]]]
Kind = Literal["image", "video"]


@dataclass(frozen=True, slots=True)
class Media:
    """An image file, a video file, or a part of a video.

    Attributes:
        path: of the file.
        kind: what the manifest says that it is; of a bare file, what ``media/kinds.py`` does.
        start: seconds at which the part of a video begins; None for an image or a whole video.
        end: seconds at which it ends.
    """

    path: Path
    kind: Kind
    start: float | None = None
    end: float | None = None

    @property
    def is_video(self) -> bool:
        """Whether it is a video or a part of one."""
        return self.kind == "video"


@dataclass(frozen=True, slots=True)
class Example:
    """One visual item of a manifest: an image, a video (or a part of it), or features.

    Attributes:
        id: unique in its manifest.
        split: ``train``, ``val``, ``test`` or another name.
        image: image, absolute path.
        video: video, absolute path; ``start`` and ``end`` in seconds choose a part.
        features: id in a feature store, in place of a file.
        captions: language → captions written by people.
        translations: language → engine → machine translations, index-aligned with the source
            language's captions, None where unknown.
        quality: language → engine → score of each translation, 0 to 1, higher is better; None
            where unknown.

    Example:
        >>> import cl2cm
        >>> from pathlib import Path
        >>> example = cl2cm.Example(
        ...     id="red-square", split="test", image=Path("images/red-square.png"),
        ...     captions={"en": ("red square",)},
        ... )
        >>> cl2cm.load("run").encode_visual([example]).shape
        (1, 32)
    """

    id: str
    split: str
    image: Path | None = None
    video: Path | None = None
    features: str | None = None
    start: float | None = None
    end: float | None = None
    captions: Captions = field(default_factory=dict)
    translations: Translations = field(default_factory=dict)
    quality: Quality = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take a path that was given as text for a path."""
        for name in ("image", "video"):
            path = getattr(self, name)
            if path is not None and not isinstance(path, Path):
                object.__setattr__(self, name, Path(path))

    @property
    def media(self) -> Media | None:
        """The image, video or part of a video; None where features stand for it."""
        if self.video is not None:
            return Media(self.video, "video", self.start, self.end)
        return None if self.image is None else Media(self.image, "image", self.start, self.end)

    @property
    def path(self) -> Path | None:
        """The file of its image or video; None where features stand for it."""
        media = self.media
        return None if media is None else media.path

    @property
    def kind(self) -> Kind | None:
        """``image`` or ``video``; None where features stand for it."""
        media = self.media
        return None if media is None else media.kind

    def with_media(self, media: Media) -> "Example":
        """Return the same example with another file, or with a file in place of features."""
        image, video = (None, media.path) if media.is_video else (media.path, None)
        part = replace(self, start=media.start, end=media.end)
        return replace(part, image=image, video=video, features=None)


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which frames stand for a video, or for a part of it.

    Attributes:
        kind: ``uniform``: evenly spread; ``fps``: so many a second, however long the video is;
            ``scenes``: the middle of each shot.
        frames: of a video, for ``uniform``; 1 or more.
        fps: frames per second; for ``uniform`` the most, so that short videos have fewer frames.
    """

    kind: Literal["uniform", "fps", "scenes"] = "uniform"
    frames: int = 16
    fps: float = 2.0


class Tokens(NamedTuple):
    """A padded batch of texts: token ids int64 [B, T], or backbone states float [B, T, D_b].

    Where ``pooled`` is set, the values are the means of each text's normalised states, float
    [B, 1, D_b]: enough for the sentence vector of a head without transformer layers.
    """

    values: "Tensor"
    mask: "Tensor"  # bool [B, T], True on every token that the backbone attends to
    content: "Tensor"  # bool [B, T], mask without special tokens and prefix
    pooled: bool = False


class Special(NamedTuple):
    """Tokens that are no words.

    pad: id of padding; ids: all special ids; start: tokens before the first word (the opening
    token and the prefix).
    """

    pad: int
    ids: frozenset[int]
    start: int


class Frames(NamedTuple):
    """A padded batch of backbone features of frames: float [B, F, D_v] and bool [B, F]."""

    values: "Tensor"
    mask: "Tensor"


class Encoded(NamedTuple):
    """What the text side of a network gives.

    sentence: [B, D], unit length; tokens: [B, T, D], unit length; mask: bool [B, T], valid
    content tokens (no padding, no special tokens); salience: [B, T], non-negative token norms
    before normalisation, 0 outside the mask.
    """

    sentence: "Tensor"
    tokens: "Tensor"
    mask: "Tensor"
    salience: "Tensor"


# What stands as the target of a source caption: a translation of it; the translation of another
# item's caption; or another source caption of the same item.
Pairing = Literal["translations", "shuffled", "source"]


class Batch(NamedTuple):
    """One training step: B triples (V, S, T)."""

    vision: Frames
    source: Tokens
    target: Tokens
    languages: tuple[str, ...]  # target language of each row
    pictures: "Tensor"  # int64 [B], row of each triple's image; rows of one image are no
    # negatives of each other
    source_texts: "Tensor"  # int64 [B], row of each source caption among all texts
    target_texts: "Tensor"  # int64 [B], row of each translation among all texts
    words: tuple[Tokens, Tokens] | None = None  # first rows as tokens, where the others are means
    other: Tokens | None = None  # a translation of any caption of each row's image, where the
    # method asks for it
    back: Tokens | None = None  # back-translations of the source captions, where asked for; a
    # caption without one stands for itself
    has_back: "Tensor | None" = None  # bool [B], True where there is a back-translation
    confidence: "Tensor | None" = None  # float32 [B], weight of each target, 0 to 1; None: all 1
    other_confidence: "Tensor | None" = None  # the same of ``other``
    also: tuple["Batch", ...] = ()  # the same pairs in other languages, where a step sees all


@dataclass(frozen=True, slots=True)
class Item:
    """What an index remembers of one vector."""

    id: str
    path: str  # absolute, or relative to the index folder
    start: float | None = None  # seconds, for a part of a video
    end: float | None = None
    captions: Captions = field(default_factory=dict[str, tuple[str, ...]])
    kind: Kind = "image"
    bytes: int | None = None  # size of the file
    # When the image was taken, as its camera says, else when its file was changed; seconds of the
    # epoch.
    modified: float | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer to a query.

    Attributes:
        id: of the item in the index; of an indexed folder, the path below it.
        score: dot product of unit vectors, -1 to 1; higher is better. Scores of two queries
            cannot be compared.
        path: of the file, absolute; empty where the index was made from features.
        start: seconds at which the part of a video begins; None for an image or a whole video.
        end: seconds at which it ends.
        captions: language → captions of the item, where it has some.
        match: how far the score stands out among the items of the index, 0 to 1; NaN for a hit
            that was not found by a `Searcher`.
        kind: ``image`` or ``video``.
        roots: folders below which a notebook may open the file: the folders of the index. Empty for
            a hit that a program made itself.

    Example:
        >>> import cl2cm
        >>> hit = cl2cm.open("index").search("red square", k=1)[0]
        >>> hit.id, hit.path.endswith("images/red-square.png"), 0 < hit.match < 1
        ('red-square.png', True, True)
    """

    id: str
    score: float
    path: str
    start: float | None = None
    end: float | None = None
    captions: Captions = field(default_factory=dict[str, tuple[str, ...]])
    match: float = field(default=math.nan, compare=False)
    kind: Kind = "image"
    roots: tuple[Path, ...] = field(default=(), compare=False, repr=False)


class VisualModel(Protocol):
    """What an index needs of a model; ``fingerprint`` names exactly one space of vectors."""

    @property
    def fingerprint(self) -> str:
        """Name of the space of vectors: equal only for equal weights and preprocessing."""
        ...

    @property
    def dim(self) -> int:
        """D, the width of a vector."""
        ...

    def encode_visual(self, paths: Sequence[Path | Example]) -> Floats:
        """Return unit vectors float32 [N, D] of N images or videos, or of the examples' parts."""
        ...


class SearchModel(VisualModel, Protocol):
    """What search needs of a model."""

    def encode_text(self, texts: Sequence[str]) -> Floats:
        """Return unit vectors float32 [N, D] of N texts in any language."""
        ...


def is_model_spec(name: StrPath) -> bool:
    """Return whether a name is an off-the-shelf model (``hf:OWNER/NAME``), not a run folder."""
    return os.fspath(name).startswith(MODEL_SPEC)
