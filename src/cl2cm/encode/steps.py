"""The encode step of each side: positions of a plan to features, in any process.

A step is pickled with its inputs, but without the encoder, which each process loads by its name
and compares with the fingerprint.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from cl2cm.encode.known_texts import known_rows
from cl2cm.encode.protocol import VisionEncoder
from cl2cm.encode.rows import (
    EncodedShard,
    Rows,
    finite_rows,
    join,
    length_batches,
    ragged,
    reorder,
)
from cl2cm.encode.store import FeatureStore
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.tokens import pad_tokens
from cl2cm.encode.vision import EncodedPictures, encode_paths, load_vision
from cl2cm.errors import EncoderError, MediaError
from cl2cm.media.blob import Blob
from cl2cm.media.images import Source
from cl2cm.types import Example, Tokens

TOKENS_AT_ONCE = 4096  # padded tokens in one pass of the text backbone


class VisionStep:
    """Encodes images and videos.

    Args:
        encoder: the backbone; other processes load it by its name.
        sources: of all items.
        skip_bad: leave broken ones out, as failures.
    """

    def __init__(
        self, encoder: VisionEncoder, sources: Sequence[Source], *, skip_bad: bool = False
    ) -> None:
        self._encoder: VisionEncoder | None = encoder
        self._named = encoder.name, encoder.sampling
        self._fingerprint = encoder.fingerprint
        self._sources, self._skip_bad = sources, skip_bad
        self._threads: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the encoder."""
        return {**self.__dict__, "_encoder": None}

    def use_threads(self, threads: int) -> None:
        """Limit the processor threads of an encoder that is not loaded yet."""
        self._threads = threads

    def __call__(self, positions: Sequence[int]) -> EncodedShard:
        """Encode some items.

        Raises:
            MediaError: one cannot be read, and broken ones are not left out.
            EncoderError: this process finds another encoder of that name.
        """
        chosen = [self._sources[i] for i in positions]
        decoders = None if self._threads is None else self._threads + 1
        found = encode_paths(self._loaded(), chosen, skip_bad=self._skip_bad, workers=decoders)
        features, kept, failures = _finite(found, chosen, skip_bad=self._skip_bad)
        rows = Rows(
            torch.from_numpy(features).half(),
            torch.bincount(torch.tensor(kept, dtype=torch.int64), minlength=len(chosen)),
            torch.ones(len(features), dtype=torch.bool),
        )
        return EncodedShard(rows, [(positions[place], error) for place, error in failures])

    def _loaded(self) -> VisionEncoder:
        if self._encoder is None:
            name, sampling = self._named
            loaded: Any = load_vision(name, sampling=sampling, threads=self._threads)
            check_same(name, self._fingerprint, loaded.fingerprint)
            self._encoder = loaded
        return self._encoder


class TextStep:
    """Encodes texts.

    Args:
        backbone: frozen; other processes load it by its name.
        texts: all texts.
        known: stores of the same backbone, whose states are copied.
    """

    def __init__(
        self, backbone: TextBackbone, texts: Sequence[str], known: Sequence[FeatureStore] = ()
    ) -> None:
        self._backbone: TextBackbone | None = backbone
        self._name, self._fingerprint = backbone.name, backbone.fingerprint
        self._options: dict[str, Any] = {
            "prefix": backbone.prefix,
            "max_tokens": backbone.max_tokens,
            "lower_case": backbone.lower_case,
        }
        self._texts, self._known = texts, known

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the backbone and the stores that are open here."""
        return {**self.__dict__, "_backbone": None, "_known": ()}

    def __call__(self, positions: Sequence[int]) -> Rows:
        """Encode some texts.

        Raises:
            EncoderError: this process finds another encoder of that name.
        """
        asked = [self._texts[i] for i in positions]
        order, parts = known_rows(self._known, asked)
        left = sorted(set(range(len(asked))) - set(order))
        if left:
            backbone = self._loaded()
            parts.append(encode_ids(backbone, backbone.tokenize([asked[i] for i in left])))
        return reorder(join(parts), [*order, *left])

    def _loaded(self) -> TextBackbone:
        if self._backbone is None:
            self._backbone = TextBackbone.load(self._name, **self._options)
            check_same(self._name, self._fingerprint, self._backbone.fingerprint)
        return self._backbone


def check_same(name: str, expected: str, found: str) -> None:
    """Refuse an encoder that is not the one of the plan.

    Raises:
        EncoderError: it has another fingerprint.
    """
    if expected != found:
        raise EncoderError(
            name,
            expected=f"the encoder {expected[:12]} in every process",
            found=f"{found[:12]} in a worker",
            remedy="install the same weights on every machine",
        )


def text_states(backbone: TextBackbone, tokens: Tokens) -> Tokens:
    """Frozen states float32 [B, T, D_b] in place of ids."""
    with torch.no_grad():
        return tokens._replace(values=backbone(tokens.values, tokens.mask))


def encode_ids(backbone: TextBackbone, ids: Sequence[Sequence[int]]) -> Rows:
    """Rows of the states of tokenised texts, in the order given."""
    order: list[int] = []
    parts: list[Rows] = []
    for batch in length_batches([len(text) for text in ids], TOKENS_AT_ONCE):
        tokens = pad_tokens([ids[i] for i in batch], backbone.special)
        states = text_states(backbone, tokens)
        parts.append(ragged(states.values, tokens.mask, tokens.content))
        order += batch
    return reorder(join(parts), order)


def _finite(
    encoded: EncodedPictures, sources: Sequence[Source], *, skip_bad: bool
) -> EncodedPictures:
    """What was encoded, with items whose features are not finite among the failures."""
    features, kept, failures = encoded
    sound = finite_rows(torch.from_numpy(features))
    bad = sorted({row for row, good in zip(kept, sound.tolist(), strict=True) if not good})
    if not bad:
        return encoded
    errors = [
        MediaError(
            _name(sources[row]),
            expected="finite features",
            found="NaN, infinity or numbers too large for half precision",
            remedy="check the encoder and the file",
        )
        for row in bad
    ]
    if not skip_bad:
        raise errors[0]
    good_rows = [row not in bad for row in kept]
    kept = [row for row in kept if row not in bad]
    return EncodedPictures(features[good_rows], kept, [*failures, *zip(bad, errors, strict=True)])


def _name(source: Source) -> str:
    """Return what an error calls a source."""
    if isinstance(source, Example | Blob):
        return source.name if isinstance(source, Blob) else str(source.path)
    return "an image in memory" if isinstance(source, bytes | np.ndarray) else str(source)
