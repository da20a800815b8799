"""Quality scores of machine translations, per sentence and without a reference.

The parts of a score, each of which may be missing (None):

    cosine     of source and translation under a multilingual encoder
    chrf       of the source and the translation's translation back into the source language
    length     ratio of the lengths, in letters, over the column's median ratio
    copied     share of the translation's words that are in the source
    language   that it is the target language's, 0 to 1

Cosine and chrF mean little by themselves, so both are read against *strangers*: the same column's
translations beside sources that are not theirs. With a mean m and a deviation s of strangers,
a part x says  f(x) = 1 / (1 + exp(2 − (x − m) / s)):  0.12 for a stranger, 0.5 two deviations
above. The score is

    mean(f(cosine), f(chrf)) · exp(−log2(length)² / 2) · min(1, 2 − 2 copied) · language

over the parts that there are, where the mean of none is 1: in [0, 1], and higher is better.
"""

import functools
import importlib.metadata
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cl2cm.errors import MissingExtraError
from cl2cm.text import new_identifier
from cl2cm.translate.languages import parse_tag

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

VERSION = 1  # of the formula
_ORDER, _BETA = 6, 2.0  # of chrF
_NEUTRAL = 1e-3  # what the language of neither side weighs
_FEW = 20  # strangers that say nothing of a column
_WORD = re.compile(r"\w\w+")
_SAME = {"nb": "no", "nn": "no", "cmn": "zh", "fil": "tl", "sh": "hr"}


class Strangers(NamedTuple):
    """Mean and standard deviation of a value over mismatched pairs of texts."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[float], default: "Strangers") -> "Strangers":
        """Return mean and deviation of values; the default where they are too few to say."""
        if len(values) < _FEW:
            return default
        return cls(float(np.mean(values)), max(float(np.std(values)), 1e-3))

    def likeness(self, value: float) -> float:
        """Return F of a part, in (0, 1)."""
        return 1 / (1 + math.exp(min(2 - (value - self.mean) / self.deviation, 500)))


# Of multilingual E5 on captions, and of chrF in English.
USUAL_COSINE = Strangers(0.775, 0.03)
USUAL_CHRF = Strangers(0.18, 0.05)


class Parts(NamedTuple):
    """The parts of one sentence's score; see the module."""

    length: float
    copied: float
    language: float | None = None
    cosine: float | None = None
    chrf: float | None = None


def score(parts: Parts, cosine: Strangers = USUAL_COSINE, chrf: Strangers = USUAL_CHRF) -> float:
    """Return the score of one sentence, in [0, 1]; higher is better."""
    alike = [
        strangers.likeness(value)
        for value, strangers in ((parts.cosine, cosine), (parts.chrf, chrf))
        if value is not None
    ]
    likeness = sum(alike) / len(alike) if alike else 1.0
    length = math.exp(-(math.log2(max(parts.length, 1e-6)) ** 2) / 2)
    own = min(1.0, 2 - 2 * parts.copied)
    language = 1.0 if parts.language is None else parts.language
    return min(1.0, likeness * length * own * language)


def length_ratio(source: str, translation: str) -> float:
    """Return the ratio of letters in translation and source, without white space."""
    return len("".join(translation.split())) / max(1, len("".join(source.split())))


def copied_share(source: str, translation: str) -> float:
    """Return the share of the translation's words that occur in the source, 0 to 1.

    Letters' case does not count. A text without such words is a copy if it is the same.
    """
    words = _WORD.findall(translation.casefold())
    if not words:
        return float(source.split() == translation.split())
    there = set(_WORD.findall(source.casefold()))
    return sum(word in there for word in words) / len(words)


def chrf(hypothesis: str, reference: str) -> float:
    """Return the character n-gram F-score in [0, 1] (Popović 2015): orders 1 to 6, beta 2.

    Precision and recall are means over the orders that both texts have; white space is left out.
    """
    ours, theirs = "".join(hypothesis.split()), "".join(reference.split())
    orders = range(1, min(_ORDER, len(ours), len(theirs)) + 1)
    precision = recall = 0.0
    for order in orders:
        a, b = _grams(ours, order), _grams(theirs, order)
        both = sum((a & b).values())
        precision += both / (len(ours) - order + 1) / len(orders)
        recall += both / (len(theirs) - order + 1) / len(orders)
    if precision + recall == 0:
        return 0.0
    weight = _BETA**2
    return (1 + weight) * precision * recall / (weight * precision + recall)


def language_share(text: str, target: str, source: str) -> float | None:
    """Return the confidence that a text is in the target language, not the source, 0 to 1.

    p(target) / (p(target) + p(source) + 0.001), so a language near to the target's, which short
    texts are often taken for, takes little away, and a wholly different one everything. None
    where the identifier does not know the target.

    Raises:
        MissingExtraError: the extra ``translate`` is not installed.
    """
    shares = dict(_identifier().rank(text))
    codes = [_code(code, shares) for code in (target, source)]
    if codes[0] is None:
        return None
    there = float(shares[codes[0]])
    other = 0.0 if codes[1] is None or codes[1] == codes[0] else float(shares[codes[1]])
    return there / (there + other + _NEUTRAL)


def identifier_version() -> str:
    """Return the name and version of the language identifier."""
    return f"py3langid {importlib.metadata.version('py3langid')}"


def _code(code: str, known: dict[str, float]) -> str | None:
    language = parse_tag(code).language
    return next((c for c in (language, _SAME.get(language, "")) if c in known), None)


def _grams(text: str, order: int) -> Counter[str]:
    return Counter(text[i : i + order] for i in range(len(text) - order + 1))


@functools.cache
def _identifier() -> "LanguageIdentifier":
    made = new_identifier()
    if made is None:
        raise MissingExtraError("py3langid", "translate")
    return made
