"""Hierarchical bootstrap of a metric's difference over clusters and seeds; alone or by Holm.

Every metric here is a sum of blocks, each a mean over queries: one block for a recall or the mean
reciprocal rank, two for SumR (captions ask for images, images for captions). A resample gives
image c the weight w_c, and a block becomes sum_c w_c s_c / sum_c w_c n_c, with s_c and n_c the
sum and the number of the queries of c.

Where the values are of several seeds, every resample also gets a seed error, t s / sqrt(S): s is
the standard deviation of the difference over the S seeds, and t is drawn from Student's
distribution with S - 1 degrees of freedom. We choose t in place of drawing seeds with replacement:
a handful of seeds has no tails to draw from, and such intervals are too short (see the coverage
test).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cl2cm.errors import ConfigError
from cl2cm.evaluation.holm import ROUNDING, holm, holm_levels, require_level

Values = npt.NDArray[np.float64]


RESAMPLES = 10_000


CHUNK = 1 << 20  # weights held at once

_SEEDS = 0x5EED  # random stream of the seeds' errors, beside that of the clusters


class Comparison(NamedTuple):
    """A compared with B.

    Attributes:
        difference: metric of A less metric of B.
        low: lower end of the confidence interval of the difference.
        high: its upper end.
        p: two-sided p-value of "no difference", above 0 and at most 1.
    """

    difference: float
    low: float
    high: float
    p: float


class Block(NamedTuple):
    """A part of a metric: ``scale`` times the mean over queries.

    Attributes:
        a: [Q] or [S, Q], value of each query under A, of one or several seeds.
        b: the same under B.
        clusters: int [Q], label of the image that a query belongs to.
        scale: 1 for the unit of a and b, 100 for percent of hits.
    """

    a: npt.ArrayLike
    b: npt.ArrayLike
    clusters: npt.ArrayLike
    scale: float = 1.0


def bootstrap(
    blocks: Sequence[Block], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Comparison:
    """Return the paired percentile bootstrap of a difference over clusters and seeds.

    With one seed, or values averaged over seeds, the interval speaks of other clusters alone. With
    several it speaks of other seeds, too. As many seeds of A as of B are taken to be the same ones,
    in one order, and are compared pair by pair; other numbers of them as independent (Welch).

    The interval runs from the k-th smallest to the k-th largest resampled difference,
    k = floor((1 - level) (resamples + 1) / 2), and p = 2 (1 + c) / (1 + resamples), at most 1,
    with c the smaller one of the numbers of differences ≤ 0 and ≥ 0. So the interval excludes 0
    exactly if p ≤ 1 - level. Efron, Tibshirani: "An Introduction to the Bootstrap", 1993.

    Args:
        blocks: the parts of the metric, which are added.
        level: of the confidence interval, in (0, 1).
        resamples: number of resamples; at least 2 / (1 - level).
        seed: the same seed gives the same resamples, at any level.

    Raises:
        ConfigError: the level is not in (0, 1), or there are too few resamples for it.
        ValueError: shapes differ, a value is not finite, there are fewer than two clusters, or a
            cluster has no query in one of the blocks.
    """
    require_level(level)
    difference, draws = _draw(blocks, resamples, seed)
    return _compare(difference, draws, level)


def _draw(blocks: Sequence[Block], resamples: int, seed: int) -> tuple[float, Values]:
    """Return the difference, and the sorted differences of all resamples [resamples]."""
    if resamples < 1:
        raise ConfigError(
            "resamples", expected="1 or more", found=str(resamples), remedy="choose more"
        )
    sums, counts, scale = _cluster_sums(blocks)
    size = len(sums)
    rng = np.random.default_rng(seed)
    draws = np.empty(resamples)
    step = max(1, CHUNK // size)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        chosen = rng.integers(size, size=(rows, size))
        chosen += np.arange(rows)[:, None] * size
        weights = np.bincount(chosen.ravel(), minlength=rows * size).reshape(rows, size)
        part = weights.astype(np.float64)
        draws[start : start + rows] = ((part @ sums) / (part @ counts)) @ scale
    draws += _seed_errors(blocks, resamples, seed)
    draws[np.abs(draws) <= _rounding(blocks)] = 0
    return float((sums.sum(0) / counts.sum(0)) @ scale), np.sort(draws)


def _seed_errors(blocks: Sequence[Block], resamples: int, seed: int) -> Values | float:
    """Return the error [resamples] of the difference over seeds; 0 for one seed."""
    a, b = (sum(_of_seeds(block[side], block.scale) for block in blocks) for side in (0, 1))
    a, b = np.asarray(a), np.asarray(b)
    paired = len(a) == len(b)
    sides = [side for side in ([a - b] if paired else [a, b]) if len(side) > 1]
    squares = [float(side.var(ddof=1)) / len(side) for side in sides]
    total = sum(squares)
    if total <= _rounding(blocks) ** 2:
        return 0.0
    parts = zip(squares, sides, strict=True)
    degrees = total**2 / sum(square**2 / (len(side) - 1) for square, side in parts)
    rng = np.random.default_rng([seed, _SEEDS])
    errors: Values = math.sqrt(total) * rng.standard_t(degrees, resamples)
    return errors


def _of_seeds(values: npt.ArrayLike, scale: float) -> Values:
    """Return a block's part of the metric under each seed [S]."""
    mean: Values = scale * np.atleast_2d(np.asarray(values, dtype=np.float64)).mean(1)
    return mean


def _over_seeds(values: npt.ArrayLike) -> Values:
    """Return values [Q] averaged over seeds."""
    array = np.asarray(values, dtype=np.float64)
    return array.mean(0) if array.ndim == 2 else array


def _rounding(blocks: Sequence[Block]) -> float:
    """Return what rounding can make of zero: a tie in fifths and thirds must not take a side."""
    return 1e-12 * sum(
        abs(block.scale) * float(np.abs(value).max()) for block in blocks for value in block[:2]
    )


def _cluster_sums(blocks: Sequence[Block]) -> tuple[Values, Values, Values]:
    """Return sums of a - b and numbers of queries [clusters, blocks], and the scales [blocks]."""
    parts = [
        (_over_seeds(block.a), _over_seeds(block.b), np.asarray(block.clusters)) for block in blocks
    ]
    for a, b, clusters in parts:
        if a.ndim != 1 or not a.shape == b.shape == clusters.shape:
            raise ValueError(
                f"expected a, b and clusters [Q] of equal length; found {a.shape}, {b.shape}, "
                f"{clusters.shape}"
            )
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise ValueError("expected finite values; found NaN or infinity in a or b")
    labels, rows = np.unique(np.concatenate([part[2] for part in parts]), return_inverse=True)
    if len(labels) < 2:
        raise ValueError(f"expected two clusters or more to resample; found {len(labels)}")
    ends = np.cumsum([len(part[0]) for part in parts])[:-1]
    sums, counts = [], []
    for (a, b, _), row in zip(parts, np.split(rows, ends), strict=True):
        sums.append(np.bincount(row, a.astype(np.float64) - b, minlength=len(labels)))
        counts.append(np.bincount(row, minlength=len(labels)).astype(np.float64))
    if not np.all(counts):
        raise ValueError("expected queries of every cluster in every block; found a cluster in one")
    return np.stack(sums, 1), np.stack(counts, 1), np.asarray([block.scale for block in blocks])


def _compare(difference: float, draws: Values, level: float) -> Comparison:
    count = len(draws)
    k = math.floor((1 - level) * (count + 1) / 2 + ROUNDING)
    if k < 1:
        raise ConfigError(
            "resamples",
            expected=f"at least {math.ceil(2 / (1 - level)) - 1} for the level {level:g}",
            found=str(count),
            remedy="choose more",
        )
    return Comparison(difference, float(draws[k - 1]), float(draws[-k]), _p_value(draws))


def _p_value(draws: Values) -> float:
    beyond = min(np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0))
    return min(1.0, 2 * (1 + int(beyond)) / (1 + len(draws)))


def holm_intervals(
    family: Sequence[Sequence[Block]],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Comparison]:
    """Compare A and B in several metrics or languages, corrected by Holm.

    Args:
        family: the blocks of each comparison; see ``bootstrap``.
        level: of the family.
        resamples: of the clusters; at least 2 m / (1 - level) for m comparisons.
        seed: of the resampling, the same for each comparison.

    Returns:
        For each comparison its difference, adjusted p-value, and the interval at the level of
        ``holm_levels``, which excludes 0 exactly if that p-value is ≤ 1 - level.

    Raises:
        ConfigError, ValueError: as ``bootstrap``.
    """
    require_level(level)
    drawn = [_draw(blocks, resamples, seed) for blocks in family]
    p = [_p_value(draws) for _, draws in drawn]
    levels = holm_levels(p, level=level)
    return [
        _compare(*one, float(at))._replace(p=float(adjusted))
        for one, at, adjusted in zip(drawn, levels, holm(p), strict=True)
    ]
