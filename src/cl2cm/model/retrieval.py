"""The complete retrieval model: backbones and student heads, from texts and files to vectors."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from cl2cm.encode.encoding import encode_pictures, find_pictures
from cl2cm.encode.feature_files import FeatureFiles
from cl2cm.encode.protocol import VisionEncoder
from cl2cm.encode.rows import length_batches
from cl2cm.encode.steps import TOKENS_AT_ONCE, text_states
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.tokens import pad_tokens
from cl2cm.encode.vision import encode_paths
from cl2cm.errors import EncoderError, OnSkip
from cl2cm.media.images import Source
from cl2cm.media.user_input import Visual, sources
from cl2cm.model.finite import check_vectors
from cl2cm.model.inputs import text_list
from cl2cm.model.networks import CrossModalNetwork
from cl2cm.model.vectors import frame_vectors, picture_vectors
from cl2cm.text import Case, in_case, normalise
from cl2cm.types import Example, Floats, Frames, StrPath, Tokens

FRAMES_AT_ONCE = 4096  # padded


class VisualSide:
    """The vision side of a trained model, which is all that indexing needs.

    Attributes:
        vision: the vision backbone, or the features that stand for one.
        head: what turns its features into unit vectors.
        run: the folder that it was loaded from, or the spec of an off-the-shelf model; None for one
            made in memory.
    """

    def __init__(
        self, head: nn.Module, vision: VisionEncoder | FeatureFiles, *, fingerprint: str, dim: int
    ) -> None:
        self.vision = vision
        self.head = head.eval()
        self.run: StrPath | None = None
        self._fingerprint = fingerprint
        self._dim = dim

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 that names the space of vectors."""
        return self._fingerprint

    @property
    def dim(self) -> int:
        """D."""
        return self._dim

    @property
    def stored(self) -> bool:
        """Whether stored features stand for the vision backbone."""
        return isinstance(self.vision, FeatureFiles)

    def known(self, examples: Sequence[Example], on_skip: OnSkip) -> list[Example]:
        """Return the examples that have stored features, where the model knows those alone."""
        vision = self.vision
        return vision.known(examples, on_skip) if isinstance(vision, FeatureFiles) else [*examples]

    def has_stored(self, examples: Sequence[Example], *, partial: bool = False) -> bool:
        """Return whether the features of exactly these examples are in the cache."""
        return not self.stored and bool(find_pictures(examples, self.vision, partial=partial))

    def known_vectors(self, examples: Sequence[Example]) -> Floats | None:
        """Return the vectors of examples whose features are stored, here or in the cache."""
        if not self.stored and not find_pictures(examples, self.vision):
            return None
        return self.encode_examples(examples)

    def encode_visual(self, items: Iterable[Visual]) -> Floats:
        """Return unit vectors float32 [N, D] of N images and videos.

        Args:
            items: paths; examples, whose ``start`` and ``end`` choose a part of a video; or images
                in memory: the bytes of a file, pixels uint8 [H, W, 3], or an image of Pillow. A
                model on stored features takes examples alone, by their ids.

        Raises:
            MediaError: one of them cannot be read, or one alone in place of a list.
            EncoderError: files, and the model knows stored features alone.
            MissingExtraError: there is a video, and the extra ``video`` is not installed.
            NumberError: a vector is not finite.

        Example:
            >>> import cl2cm
            >>> model = cl2cm.load("run")
            >>> model.encode_visual(["images/red-square.png", "images/blue-bar.png"]).shape
            (2, 32)
        """
        given = sources(items)
        if isinstance(self.vision, FeatureFiles):
            return self.encode_examples(_with_features(self.vision, given))
        vectors = np.empty((len(given), self.dim), dtype=np.float32)
        features, kept, _ = encode_paths(self.vision, given)
        lengths = np.bincount(np.array(kept, np.int64), minlength=len(given)).tolist()
        frames = torch.from_numpy(features).split(lengths)
        for batch in length_batches(lengths, FRAMES_AT_ONCE):
            values = pad_sequence([frames[i] for i in batch], batch_first=True)
            mask = torch.arange(values.shape[1]) < torch.tensor([[lengths[i]] for i in batch])
            vectors[batch] = self.encode_features(values, mask)
        check_vectors(vectors, [_name(source) for source in given], "item")
        return vectors

    def encode_images(self, images: Iterable[Visual]) -> Floats:
        """Return unit vectors float32 [N, D] of N images; another name of `encode_visual`."""
        return self.encode_visual(images)

    def encode_examples(self, examples: Sequence[Example]) -> Floats:
        """Return unit vectors float32 [N, D] of N examples; features are cached.

        Raises:
            MediaError: an image or video cannot be read.
            StoreError: stored features of an item are damaged.
            NumberError: a vector is not finite.
        """
        if not examples:
            return np.empty((0, self.dim), dtype=np.float32)
        return np.stack(list(self.vectors_by_id(examples).values()))

    def vectors_by_id(
        self,
        examples: Sequence[Example],
        *,
        skip_bad: bool = False,
        on_skip: OnSkip | None = None,
    ) -> dict[str, Floats]:
        """Return id → unit vector float32 [D] of each example; see `encode_examples`.

        Args:
            examples: at least one.
            skip_bad: leave out items whose file or features cannot be read; all are told to
                ``on_skip``, each once.
            on_skip: told id and error of each.

        Raises:
            MediaError: an item cannot be read, and ``skip_bad`` is False; or none can.
            StoreError: stored features of an item are damaged, and ``skip_bad`` is False.
            NumberError: a vector is not finite.
        """
        store = encode_pictures(examples, self.vision, skip_bad=skip_bad, on_skip=on_skip)
        known = [example.id for example in examples if store.has(example.id)]
        rows = torch.tensor([store.row(name) for name in known])
        vectors: Floats = picture_vectors(self.head, store, rows).numpy()
        check_vectors(vectors, known, "item")
        return dict(zip(known, vectors, strict=True))

    def encode_features(self, values: Tensor, mask: Tensor | None = None) -> Floats:
        """Return unit vectors float32 [N, D] of frame features [N, F, D_v]."""
        if mask is None:
            mask = torch.ones(values.shape[:2], dtype=torch.bool)
        vectors: Floats = frame_vectors(self.head, Frames(values, mask)).numpy()
        return vectors


def _with_features(files: FeatureFiles, items: Sequence[Source]) -> list[Example]:
    """Return the items, all of which must be examples."""
    examples = [item for item in items if isinstance(item, Example)]
    if len(examples) < len(items):
        raise EncoderError(
            files.name,
            expected="items whose features it holds",
            found="an image or video to encode",
            remedy="give a manifest with ids of the features, or train with onnx:DIR or hf:ID",
        )
    return examples


def _name(source: Source) -> str:
    if isinstance(source, Example):
        return source.id
    return str(source) if isinstance(source, Path) else "in memory"


class RetrievalModel(VisualSide):
    """Student and backbones; the SearchModel that search and evaluation ask.

    Attributes:
        student: the cross-modal network, in evaluation mode.
        backbone: the text backbone; the student runs it itself where it was trained.
        vision: the vision backbone.
        fingerprint: of weights, tokenizer and preprocessing: one space of vectors.
        case: how texts are written before they are encoded, by the run's contract (``text.py``).

    Example:
        >>> import cl2cm
        >>> model = cl2cm.load("run")
        >>> texts = model.encode_text(["red square", "blue bar"])
        >>> images = model.encode_images(["images/red-square.png"])
        >>> texts.shape, images.shape, (texts @ images.T).argmax()
        ((2, 32), (1, 32), np.int64(0))
    """

    def __init__(
        self,
        student: CrossModalNetwork,
        backbone: TextBackbone,
        vision: VisionEncoder | FeatureFiles,
        *,
        fingerprint: str,
        dim: int,
    ) -> None:
        super().__init__(student.vision, vision, fingerprint=fingerprint, dim=dim)
        self.student = student.eval()
        self.backbone = backbone
        self.case: Case = "keep"

    def encode_text(self, texts: Iterable[str]) -> Floats:
        """Return unit vectors float32 [N, D] of N texts, in any language.

        Args:
            texts: a list of them; one text alone is refused, as it would be read letter by letter.

        Raises:
            QueryError: a text is empty, or one alone in place of a list.
            NumberError: a vector is not finite.

        Example:
            >>> import cl2cm
            >>> model = cl2cm.load("run")
            >>> model.encode_text(["red square", "blue bar"]).shape
            (2, 32)
            >>> model.encode_text("red square")
            Traceback (most recent call last):
            ...
            cl2cm.errors.QueryError: texts: expected a list of texts, found a single one ('red...
        """
        texts = text_list(texts)
        ids = self.query_ids(texts)
        vectors = np.empty((len(ids), self.dim), dtype=np.float32)
        for batch in length_batches([len(text) for text in ids], TOKENS_AT_ONCE):
            vectors[batch] = self._sentences([ids[i] for i in batch]).numpy()
        check_vectors(vectors, texts, "text")
        return vectors

    def query_ids(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the token ids of texts, in the case that the run's contract asks for."""
        return self.backbone.tokenize([in_case(normalise(text), self.case) for text in texts])

    @torch.no_grad()
    def _sentences(self, ids: Sequence[Sequence[int]]) -> Tensor:
        return self.student.encode_text(self.tokens(ids)).sentence.float()

    def tokens(self, ids: Sequence[Sequence[int]]) -> Tokens:
        """Return what the student's text side expects of tokenised texts: ids, or frozen states."""
        tokens = pad_tokens(ids, self.backbone.special)
        return tokens if self.student.backbone is not None else text_states(self.backbone, tokens)
