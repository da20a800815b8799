"""Score a column of translations, including the similarity under an encoder.

The formula and its other parts are in ``translate/quality.py``. Cosines are kept in the
translation cache batch by batch, so a stopped run continues where it was.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import normalize

from cl2cm.encode.text import TextBackbone
from cl2cm.encode.tokens import pad_tokens
from cl2cm.progress import Advance
from cl2cm.translate.cache import TranslationCache
from cl2cm.translate.quality import (
    USUAL_CHRF,
    USUAL_COSINE,
    Parts,
    Strangers,
    chrf,
    copied_share,
    language_share,
    length_ratio,
    score,
)

Pair = tuple[str, str]

MAX_TOKENS = 64  # of a text, for its cosine
_STRANGERS = 500  # pairs of texts that do not belong together, for each column
_TEXTS_AT_ONCE = 64
_KEPT_AT_ONCE = 512  # pairs


class Sentence(NamedTuple):
    """A source text, its translation, and that translated back, None where it was not."""

    source: str
    translation: str
    back: str | None = None


class Scored(NamedTuple):
    """The score of a sentence, in [0, 1], and its parts."""

    score: float
    parts: Parts


class CosineModel:
    """Cosines of texts under a multilingual encoder, means of their states.

    Args:
        spec: ``hf:NAME``; of an E5 the prefix is ``query: ``, of others there is none.
        cache: where cosines are kept.

    Raises:
        EncoderError: it cannot be found.
        WeightsError: its files are absent or damaged.
    """

    def __init__(self, spec: str, cache: TranslationCache) -> None:
        prefix = "query: " if "e5" in spec.lower() else ""
        self.backbone = TextBackbone.load(spec, prefix=prefix, max_tokens=MAX_TOKENS)
        self.fingerprint = self.backbone.fingerprint
        self._cache = cache
        self._vectors: dict[str, npt.NDArray[np.float16]] = {}

    def missing(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Return the distinct pairs without a known cosine."""
        distinct = list(dict.fromkeys(pairs))
        known = self._cache.find_cosines(self.fingerprint, distinct)
        return [pair for pair in distinct if pair not in known]

    def cosines(
        self, pairs: Sequence[Pair], advance: Advance = lambda _: None
    ) -> dict[Pair, float]:
        """Return the cosine of each pair, in [-1, 1]; ``advance`` gets the number done."""
        left = sorted(self.missing(pairs), key=lambda pair: (len(pair[1]), pair[1]))
        for start in range(0, len(left), _KEPT_AT_ONCE):
            part = left[start : start + _KEPT_AT_ONCE]
            self._encode(sorted({text for pair in part for text in pair}, key=len))
            made = {pair: self._cosine(*pair) for pair in part}
            self._cache.add_cosines(self.fingerprint, made)
            for pair in part:  # a source comes again in other columns, a translation does not
                self._vectors.pop(pair[1], None)
            advance(len(part))
        return self._cache.find_cosines(self.fingerprint, list(dict.fromkeys(pairs)))

    def _cosine(self, one: str, other: str) -> float:
        vectors = (self._vectors[text].astype(np.float32) for text in (one, other))
        return float(np.clip(np.dot(*vectors), -1, 1))  # halves are rounded

    def _encode(self, texts: Sequence[str]) -> None:
        new = [text for text in texts if text not in self._vectors]
        for start in range(0, len(new), _TEXTS_AT_ONCE):
            part = new[start : start + _TEXTS_AT_ONCE]
            tokens = pad_tokens(self.backbone.tokenize(part), self.backbone.special)
            with torch.no_grad():
                states = self.backbone(tokens.values, tokens.mask)
            valid = tokens.mask[..., None]
            means = (states * valid).sum(1) / valid.sum(1)
            vectors = normalize(means, dim=-1).numpy().astype(np.float16)
            self._vectors.update(zip(part, vectors, strict=True))


def stranger_pairs(sentences: Sequence[Sentence]) -> list[tuple[int, int]]:
    """Return up to 500 mismatched pairs (i, j), the same ones every time."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, max(1, len(sentences)), (4 * _STRANGERS, 2)).tolist()
    different = ((i, j) for i, j in drawn if sentences and _differ(sentences[i], sentences[j]))
    return list(dict.fromkeys(different))[:_STRANGERS]


def asked_pairs(sentences: Sequence[Sentence]) -> list[Pair]:
    """Return the pairs whose cosine ``score_sentences`` needs."""
    strangers = (
        (sentences[i].source, sentences[j].translation) for i, j in stranger_pairs(sentences)
    )
    return [*((s.source, s.translation) for s in sentences), *strangers]


def score_sentences(
    sentences: Sequence[Sentence],
    *,
    source: str,
    target: str,
    cosines: Mapping[Pair, float] | None = None,
) -> list[Scored]:
    """Score the sentences of one column, each beside the others.

    Args:
        sentences: with a translation each.
        source: language of the sources.
        target: language of the translations.
        cosines: of ``asked_pairs``; None leaves this part out.

    Raises:
        MissingExtraError: the extra ``translate`` is not installed.
    """
    strangers = stranger_pairs(sentences)
    far = [
        cosines[sentences[i].source, sentences[j].translation]
        for i, j in (strangers if cosines is not None else ())
        if cosines is not None
    ]
    backs = [
        chrf(back, sentences[i].source)
        for i, j in strangers
        if (back := sentences[j].back) is not None
    ]
    by_cosine = Strangers.of(far, USUAL_COSINE)
    by_chrf = Strangers.of(backs, USUAL_CHRF)
    ratios = [length_ratio(s.source, s.translation) for s in sentences]
    usual = float(np.median(ratios)) if ratios else 1.0
    found = []
    for sentence, ratio in zip(sentences, ratios, strict=True):
        parts = Parts(
            length=ratio / usual,
            copied=copied_share(sentence.source, sentence.translation),
            language=language_share(sentence.translation, target, source),
            cosine=cosines[sentence.source, sentence.translation] if cosines is not None else None,
            chrf=None if sentence.back is None else chrf(sentence.back, sentence.source),
        )
        found.append(Scored(score(parts, by_cosine, by_chrf), parts))
    return found


def _differ(one: Sentence, other: Sentence) -> bool:
    return one.source != other.source and one.translation != other.translation
