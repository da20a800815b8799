"""Statistics of a benchmark: bootstrap over images, MRV, and the gap closed.

Implements the statistics of the method page ("Metrics"). A claim that A beats B is a paired
comparison on the same queries. The captions of an image are not independent, so images are
resampled, each with all its queries. With runs of several seeds, an interval covers other images
and other seeds (``bootstrap.py``), otherwise other images only.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cl2cm.evaluation.bootstrap import RESAMPLES, Block, Comparison, Values, bootstrap
from cl2cm.metrics import CUTOFFS


class Hits(NamedTuple):
    """What SumR is made from, per query: see ``recall_hits``.

    Attributes:
        captions: [Q] or [seeds, Q], of captions that ask for their image.
        images: [N] or [seeds, N], of images that ask for their captions.
    """

    captions: Values
    pictures: Values


def recall_hits(ranks: npt.ArrayLike, cutoffs: Sequence[int] = CUTOFFS) -> Values:
    """Return how many of the cutoffs a query meets, averaged over seeds.

    Args:
        ranks: [Q] or [seeds, Q], best ranks from 1.
        cutoffs: the k of R@k; one alone gives a single recall.

    Returns:
        [Q], in [0, len(cutoffs)]. Its mean times 100 is the sum of the recalls in percent.
    """
    met = np.asarray(ranks)[..., None] <= np.asarray(cutoffs)
    return _over_seeds(met.sum(-1))


def reciprocal_ranks(ranks: npt.ArrayLike) -> Values:
    """1 / rank averaged over seeds: ranks [Q] or [seeds, Q], from 1 -> [Q] in (0, 1]."""
    return _over_seeds(1 / np.asarray(ranks, dtype=np.float64))


def _over_seeds(values: npt.ArrayLike) -> Values:
    array = np.atleast_2d(np.asarray(values, dtype=np.float64))
    mean: Values = array.mean(0)
    return mean


def paired_bootstrap(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    clusters: npt.ArrayLike,
    *,
    scale: float = 1.0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare the mean over queries of A and B; see ``bootstrap``.

    Args:
        a: [Q] or [seeds, Q], value of each query under A: a reciprocal rank, or hits in [0, 1] of
            a recall.
        b: the same under B.
        clusters: int [Q], the image of each query.
        scale: factor of the result: 1 for the unit of a and b, 100 for a recall in percent.
        level: of the confidence interval.
        resamples: of the images.
        seed: of the resampling.
    """
    blocks = [Block(a, b, clusters, scale)]
    return bootstrap(blocks, level=level, resamples=resamples, seed=seed)


def bootstrap_sum_of_recalls(
    a: Hits,
    b: Hits,
    rows: npt.ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare SumR of A and B in percent (0 to 600); see ``bootstrap``.

    An image is drawn with its captions: both directions of a resample speak of one sample.

    Args:
        a: hits under A.
        b: hits under B.
        rows: int [Q], gallery row of each caption's image, 0 to N - 1.
        level: of the confidence interval.
        resamples: of the images.
        seed: of the resampling.
    """
    blocks = sum_of_recalls_blocks(a, b, rows)
    return bootstrap(blocks, level=level, resamples=resamples, seed=seed)


def sum_of_recalls_blocks(a: Hits, b: Hits, rows: npt.ArrayLike) -> list[Block]:
    """Return SumR as blocks for ``bootstrap`` and ``holm_intervals``; arguments as above."""
    pictures = np.arange(np.shape(a.pictures)[-1])
    return [
        Block(a.captions, b.captions, rows, 100.0),
        Block(a.pictures, b.pictures, pictures, 100.0),
    ]


def mean_rank_variance(ranks_by_language: npt.ArrayLike) -> float:
    """Return MRV: how differently an image ranks when the same caption is asked in each language.

    mean_q var_l rank[l, q], the variance taken over languages (divided by L, not L - 1: we
    choose), in squared ranks; 0 where all languages agree. Proposed in "Improving the Consistency
    in Cross-Lingual Cross-Modal Retrieval with 1-to-K Contrastive Learning", KDD 2024,
    arXiv 2406.18254, for the rank inconsistency across languages within each instance.

    Args:
        ranks_by_language: [L, Q], from 1; column q is one caption and its translations, asked in
            one gallery.

    Raises:
        ValueError: not two dimensions, or nothing in one of them.
    """
    ranks = np.asarray(ranks_by_language, dtype=np.float64)
    if ranks.ndim != 2 or ranks.size == 0:
        raise ValueError(f"expected ranks [L, Q], neither empty; found {ranks.shape}")
    return float(ranks.var(0).mean())


def gap_closed(method: float, zero_shot: float, supervised: float) -> float:
    """Return the gap that a method closes: (method - zero_shot) / (supervised - zero_shot).

    All three in the same unit. Below 0 where the method is worse than zero-shot, above 1 where it
    beats supervised training; NaN where supervised is no better than zero-shot, for then there is
    no gap to close.
    """
    gap = supervised - zero_shot
    return (method - zero_shot) / gap if gap > 0 else math.nan
