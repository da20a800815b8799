"""Holm's correction for multiple comparisons, and the corresponding interval levels."""

import numpy as np
import numpy.typing as npt

from cl2cm.errors import ConfigError

Values = npt.NDArray[np.float64]

ROUNDING = 1e-9  # slack for levels such as 1 - 0.05 / 3, which binary floats miss by a hair


def holm(p_values: npt.ArrayLike) -> Values:
    """Return Holm's adjusted p-values, which control the family-wise error.

    With p sorted, the i-th of m becomes max over j ≤ i of min(1, (m - j + 1) p_j). Holm: "A Simple
    Sequentially Rejective Multiple Test Procedure", Scand. J. Statist. 6, 1979.

    Args:
        p_values: [m].

    Returns:
        [m], in the given order, each at least its p-value and at most 1.

    Raises:
        ValueError: not one row of numbers in [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"expected p-values [m] in [0, 1]; found {p}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def holm_levels(p_values: npt.ArrayLike, *, level: float = 0.95) -> Values:
    """Return the confidence level at which Holm's procedure tests each comparison.

    Let alpha = 1 - level. The i-th smallest of m p-values is tested at alpha / (m - i + 1) until
    one is not rejected; no other is rejected after it, and all that remain, u of them, keep its
    alpha / u. An interval at 1 less this, from the same resamples as the p-value, excludes 0
    exactly if Holm rejects.

    The levels depend on the data, so together these intervals promise Holm's family-wise error
    about 0 and no more. Where all intervals must cover at once, use ``simultaneous_level``.

    Args:
        p_values: [m], not adjusted.
        level: of the family, in (0, 1).

    Returns:
        [m], in the given order, each in [level, simultaneous_level(level, m)].

    Raises:
        ConfigError: the level is not in (0, 1).
        ValueError: not one row of numbers in [0, 1].
    """
    require_level(level)
    p = np.asarray(p_values, dtype=np.float64)
    kept = holm(p) > (1 - level) * (1 + ROUNDING)
    remaining = np.empty(len(p))
    remaining[np.argsort(p, kind="stable")] = np.arange(len(p), 0, -1)
    remaining[kept] = np.count_nonzero(kept)
    levels: Values = 1 - (1 - level) / remaining
    return levels


def simultaneous_level(level: float, m: int) -> float:
    """Return the level of each of m intervals for simultaneous coverage (Bonferroni).

    1 - (1 - level) / m: valid under any dependence, never narrower than ``holm_levels``.

    Raises:
        ConfigError: the level is not in (0, 1), or m is below 1.
    """
    require_level(level)
    if m < 1:
        raise ConfigError("m", expected="1 or more", found=str(m), remedy="count the comparisons")
    return 1 - (1 - level) / m


def require_level(level: float) -> None:
    """Refuse a confidence level that is not between 0 and 1.

    Raises:
        ConfigError: it is not.
    """
    if not 0 < level < 1:
        raise ConfigError(
            "level", expected="above 0 and below 1", found=str(level), remedy="choose 0.95"
        )
