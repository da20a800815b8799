"""What a score is worth: how far it stands above what the index scores by chance.

Dot products of one query cannot be compared with those of another: an image's with images are
higher than a text's, and each language has its own level. But every query has a background, its
scores with a fixed sample of the index, of mean ``m`` and deviation ``s``. The *match* of a hit is

    match = 1 / (1 + exp(-(z - z_N))),   z = (score - m) / s,

where ``z_N`` is the height that the best of N unrelated items reaches, the quantile 1 - 1 / (N + 1)
of the normal distribution. So 0.5 means: as good as the best of this index would be by chance;
each deviation above or below multiplies the odds by e. It rises with the score, so that it never
changes the order of hits. It says how far a hit stands out, not that it is right.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from cl2cm.index import Index
from cl2cm.types import Floats

SAMPLE = 1024  # items of the background
_LEAST = 1e-6  # deviation of an index of equal items


class Background:
    """A fixed sample of an index, to compare scores with; safe to share between threads.

    Args:
        sample: unit vectors, float32 [S, D].
        count: N, the number of items of the index.
    """

    def __init__(self, sample: Floats, count: int) -> None:
        self._sample = sample
        self._best_by_chance = NormalDist().inv_cdf(1 - 1 / (count + 1))

    @classmethod
    def of(cls, index: Index) -> "Background":
        """Take up to 1,024 items at equal distances through an index."""
        rows = sorted({int(row) for row in np.linspace(0, len(index) - 1, SAMPLE)})
        return cls(index.vectors(rows), len(index))

    def deviation(self, vector: Floats) -> float:
        """Return the standard deviation of the scores of a query float32 [D]; above 0."""
        return max(float((self._sample @ vector).std()), _LEAST)

    def matches(self, vector: Floats, scores: Sequence[float]) -> list[float]:
        """Return the match, 0 to 1, of each score of a query.

        Args:
            vector: the query, float32 [D].
            scores: dot products of ``vector`` with hits.
        """
        chance = self._sample @ vector
        z = (np.asarray(scores) - float(chance.mean())) / max(float(chance.std()), _LEAST)
        margin = np.clip(z - self._best_by_chance, -50, 50)
        found: list[float] = (1 / (1 + np.exp(-margin))).tolist()
        return found
