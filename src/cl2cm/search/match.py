"""Match: the estimated probability that a hit fits its query.

Dot products of one query cannot be compared with those of another: an image's scores with images
are higher than a text's, and each language, model and collection has its own level. So a score
``s`` is placed on two scales that need no labels:

    z = (s - m) / d        m, d: mean and standard deviation of the query's scores with a fixed
                           sample of the index: how far the hit stands out for this query
    u = (s - M) / D        M, D: mean and standard deviation of the best score in this sample of a
                           fixed list of probes, texts that no image fits: how far the hit stands
                           above what a meaningless query reaches

and ``match = 1 / (1 + exp(-(a z + b u + c)))``, kept between 1 % and 99 %. A query with an image or
with excluded terms cannot be compared with the probes; it uses z alone. The numbers are logistic
regressions on hits of text queries whose captions tell whether they fit, made by
``benchmarks/match.py``. The match rises with the score, so it never changes the order of hits. On
the data it was fitted to it is calibrated; elsewhere it is an estimate.
"""

from collections.abc import Sequence

import numpy as np

from cl2cm.index import Index
from cl2cm.types import Floats, SearchModel

FITS = 0.3  # match below which a hit probably does not fit
SURE = 0.6  # match from which a hit is shown larger
SAMPLE = 1024  # items of the background
PLAIN = (0.9, 0.6, -3.0)  # weights of z and u, and the bias
MIXED = (1.2, 0.0, -4.0)
_LEAST = 1e-6  # standard deviation of an index of equal items
_LOWEST, _HIGHEST = 0.01, 0.99
PROBES = (
    "quarterly tax return form", "terms and conditions apply", "xqzt vbnm plk", "lorem ipsum dolor",
    "the square root of minus one", "monetary policy of the central bank", "asdfgh jkl",
    "a philosophical argument about free will", "invoice number 20481", "error: file not found",
    "unsubscribe from this newsletter", "grammar of the past participle", "zzzz", "per se",
    "Steuererklärung für das dritte Quartal", "die Wurzel aus minus eins", "wxyz qqq rrr",
    "Allgemeine Geschäftsbedingungen", "la déclaration fiscale trimestrielle", "mot de passe oublié",
    "la raíz cuadrada de menos uno", "política monetaria", "季度纳税申报表", "货币政策", "负一的平方根",
    "إقرار ضريبي ربع سنوي", "السياسة النقدية", "квартальная налоговая декларация",
    "nonetheless", "hypothesis", "syntax", "jurisprudence",
)  # fmt: skip


class Background:
    """What scores in an index are worth, from a fixed sample; safe to share between threads.

    Args:
        index: its sample is up to 1,024 items at equal distances.
        model: encodes the probes.
    """

    def __init__(self, index: Index, model: SearchModel) -> None:
        rows = sorted({int(row) for row in np.linspace(0, len(index) - 1, SAMPLE)})
        self._sample = index.vectors(rows)
        best = (model.encode_text(PROBES) @ self._sample.T).max(axis=1)
        self._level = float(best.mean())
        self._spread = max(float(best.std()), _LEAST)

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
        return np.stack([z, (found - self._level) / self._spread], axis=1)

    def matches(
        self, vector: Floats, scores: Sequence[float], *, plain: bool = True
    ) -> list[float]:
        """Return the match, 0.01 to 0.99, of each score of a query.

        Args:
            vector: as for `scales`.
            scores: as for `scales`.
            plain: whether the query is one text and nothing else.
        """
        weight_z, weight_u, bias = PLAIN if plain else MIXED
        odds = self.scales(vector, scores) @ (weight_z, weight_u) + bias
        match = 1 / (1 + np.exp(-np.clip(odds, -50, 50)))
        found: list[float] = np.clip(match, _LOWEST, _HIGHEST).tolist()
        return found
