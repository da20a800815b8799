"""Match: the estimated probability that a hit fits its query.

Dot products of different queries cannot be compared: an image's scores with images
are higher than a text's, and each language, model and collection has its own level. So a score
``s`` is placed on two scales that need no labels:

    z = (s - m) / d        m, d: mean and standard deviation of the query's scores with a fixed
                           sample of the index: how far the hit stands out for this query
    u = arsinh((s - M) / 3 D)   M, D: mean and standard deviation of the best score in this sample
                           of a fixed list of probes, texts that no image fits: how far the hit
                           is above what a meaningless query reaches, far heights compressed

The match of a hit of a text of ``n`` words is ``1 / (1 + exp(-(a u + b log(1 + n) + c)))``, kept
between 1 % and 99 %: a longer text asks for more, so the same score is worth less. A query with an
image or with excluded terms cannot be compared with the probes; it uses z alone. The numbers are
logistic regressions on hits of text queries whose captions tell whether they fit, made by
``benchmarks/match.py``. The match rises with the score, so it never changes the order of hits. On
data like those it was fitted to it is calibrated; elsewhere it is an estimate.
"""

import re
from collections.abc import Sequence

import numpy as np

from cl2cm.index import Index
from cl2cm.types import Floats, SearchModel

FITS = 0.2  # match below which a hit probably does not fit
SURE = 0.5  # match from which a hit is shown larger
SAMPLE = 1024  # items of the background
PLAIN = (1.87, -1.57, -0.89)  # weights of u and of the number of words, and the bias
MIXED = (1.09, -5.4)  # weight of z, and the bias
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")  # written without blanks
_LEAST = 1e-6  # standard deviation of an index of equal items
_LOWEST, _HIGHEST = 0.01, 0.99
PROBES = (
    "quarterly tax return form", "terms and conditions apply", "xqzt vbnm plk", "lorem ipsum dolor",
    "the square root of minus one", "monetary policy of the central bank", "asdfgh jkl",
    "a philosophical argument about free will", "invoice number 20481", "error: file not found",
    "unsubscribe from this newsletter", "grammar of the past participle", "zzzz", "per se",
    "Steuererklärung für das dritte Quartal", "die Wurzel aus minus eins", "wxyz qqq rrr",
    "Allgemeine Geschäftsbedingungen", "la déclaration fiscale trimestrielle",
    "mot de passe oublié", "la raíz cuadrada de menos uno", "política monetaria",
    "季度纳税申报表", "货币政策", "负一的平方根",
    "إقرار ضريبي ربع سنوي", "السياسة النقدية", "квартальная налоговая декларация",
    "nonetheless", "hypothesis", "syntax", "jurisprudence",
)  # fmt: skip


class Background:
    """The score distribution of an index from a fixed sample; thread-safe.

    Args:
        sample: unit vectors of items, float32 [S, D].
        model: encodes the probes.
    """

    def __init__(self, sample: Floats, model: SearchModel) -> None:
        self._sample = sample
        best = (model.encode_text(PROBES) @ self._sample.T).max(axis=1)
        self._level = float(best.mean())
        self._spread = max(float(best.std()), _LEAST)

    @classmethod
    def of(cls, index: Index, model: SearchModel) -> "Background":
        """Take up to 1,024 items at equal distances through an index."""
        rows = sorted({int(row) for row in np.linspace(0, len(index) - 1, SAMPLE)})
        return cls(index.vectors(rows), model)

    def deviation(self, vector: Floats) -> float:
        """Return the standard deviation of the scores of a query float32 [D]; above 0."""
        return max(float((self._sample @ vector).std()), _LEAST)

    def scales(self, vector: Floats, scores: Sequence[float]) -> Floats:
        """Return z and u of each score of a query, float64 [K, 2].

        Args:
            vector: the query, float32 [D].
            scores: dot products of ``vector`` with hits.
        """
        chance, found = self._sample @ vector, np.asarray(scores, np.float64)
        z = (found - float(chance.mean())) / max(float(chance.std()), _LEAST)
        height = (found - self._level) / (3 * self._spread)
        return np.stack([z, np.arcsinh(height)], axis=1)

    def matches(
        self, vector: Floats, scores: Sequence[float], text: str | None = None
    ) -> list[float]:
        """Return the match, 0.01 to 0.99, of each score of a query.

        Args:
            vector: as for `scales`.
            scores: as for `scales`.
            text: the query, where it is a text and nothing else.
        """
        z, u = self.scales(vector, scores).T
        if text is None:
            odds = MIXED[0] * z + MIXED[1]
        else:
            odds = PLAIN[0] * u + PLAIN[1] * np.log1p(word_count(text)) + PLAIN[2]
        match = 1 / (1 + np.exp(-np.clip(odds, -50, 50)))
        found: list[float] = np.clip(match, _LOWEST, _HIGHEST).tolist()
        return found


def word_count(text: str) -> float:
    """Return the number of words; two characters of Chinese or Japanese count as one."""
    without = _CJK.sub(" ", text)
    return max(1.0, len(without.split()) + len(_CJK.findall(text)) / 2)
