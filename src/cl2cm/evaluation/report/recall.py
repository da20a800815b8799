"""Recall with intervals, and how consistently images are found across languages.

An interval is the paired bootstrap of ``bootstrap.py`` against nothing: over images and videos, and
where a line has at least three seeds, over these, too. Two seeds say too little of others.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cl2cm.evaluation.bench.report import mean_ranks, rank_variance
from cl2cm.evaluation.bootstrap import Block, bootstrap
from cl2cm.evaluation.ranks import Ranks
from cl2cm.evaluation.report.results import RECALLS
from cl2cm.evaluation.report.subjects import Run, Subjects

RESAMPLES = 2_000
SEEDS = 3  # that say something of other seeds
FOUND = 10  # an image counts as found where its captions rank it so well on average
Matrix = npt.NDArray[np.float64]


def recall_rows(subjects: Subjects, languages: Sequence[str]) -> list[dict[str, Any]]:
    """Return means over seeds of the recalls of each line in each language.

    Returns:
        ``{"label", "language", "seeds", "queries", "gallery", "SumR", "t2v R@1": {"value", "ci95"},
        …}``; ``ci95`` is null where it is unknown.
    """
    rows = []
    for label in subjects.labels:
        runs = subjects.of(label)
        for code in languages:
            own = [row for run in runs for row in run.rows if row["language"] == code]
            if not own:
                continue
            ranks = [run.ranks[code] for run in runs if run.ranks is not None and code in run.ranks]
            known = ranks if len(ranks) == len(own) else []
            rows.append(
                {
                    "label": label,
                    "language": code,
                    "seeds": len(own),
                    "queries": int(own[0]["queries"]),
                    "gallery": int(own[0]["gallery"]),
                    "SumR": _mean(own, "SumR"),
                    **{key: {"value": _mean(own, key), "ci95": None} for key in RECALLS},
                    **_with_intervals(own, known),
                }
            )
    return rows


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))


def _with_intervals(rows: Sequence[Mapping[str, Any]], ranks: Sequence[Ranks]) -> dict[str, Any]:
    if not ranks or len(ranks[0].pictures) < 2:
        return {}
    labels = {"t2v": ranks[0].rows, "v2t": np.arange(len(ranks[0].pictures))}
    found = {}
    for key in RECALLS:
        side, cutoff = key[:3], int(key.rpartition("@")[2])
        hits = [(r.captions if side == "t2v" else r.pictures) <= cutoff for r in ranks]
        values = np.stack(hits).astype(np.float64)
        values = values if len(values) >= SEEDS else values.mean(0)
        block = Block(values, np.zeros_like(values), labels[side], 100.0)
        interval = bootstrap([block], resamples=RESAMPLES)
        low, high = max(0.0, interval.low), min(100.0, interval.high)
        found[key] = {"value": _mean(rows, key), "ci95": [low, high]}
    return found


def consistency_rows(
    subjects: Subjects, languages: Sequence[str], source: str
) -> list[dict[str, Any]]:
    """Return how alike the languages rank the images, for each line: means over its seeds.

    Returns:
        ``{"label", "MRV", "images", "in_all", "in_some", "in_none"}``: mean rank variance over the
        target languages, and the shares in percent of the images with captions in all languages
        that are found (mean rank of the captions at most 10) in all, some or none of them.
    """
    rows = []
    for label in subjects.labels:
        runs = [run for run in subjects.of(label) if run.ranks is not None]
        shares = [found for run in runs if (found := _shares(run, languages)) is not None]
        variance = subjects.mrv.get(label)
        if variance is None:
            each = [rank_variance(_chosen(run, languages), source) for run in runs]
            values = [value for value in each if value is not None]
            variance = float(np.mean(values)) if values else None
        if variance is None and not shares:
            continue
        mean = np.mean([share[:3] for share in shares], 0).tolist() if shares else [None] * 3
        rows.append(
            {
                "label": label,
                "MRV": variance,
                "images": shares[0][3] if shares else None,
                **dict(zip(("in_all", "in_some", "in_none"), mean, strict=True)),
            }
        )
    return rows


def _chosen(run: Run, languages: Sequence[str]) -> dict[str, Ranks]:
    return {code: one for code, one in (run.ranks or {}).items() if code in languages}


def _shares(run: Run, languages: Sequence[str]) -> tuple[float, float, float, int] | None:
    table = _by_image(run, languages)
    if table is None:
        return None
    found = table[1] <= FOUND
    all_, none = found.all(0).mean(), (~found).all(0).mean()
    return 100 * float(all_), 100 * float(1 - all_ - none), 100 * float(none), found.shape[1]


def _by_image(run: Run, languages: Sequence[str]) -> tuple[list[str], Matrix] | None:
    """Return languages, and mean ranks [L, N] of the images with captions in all of them."""
    means = {
        code: dict(zip(one.ids.tolist(), mean_ranks(one), strict=True))
        for code, one in _chosen(run, languages).items()
    }
    if len(means) < 2:
        return None
    common = sorted(set.intersection(*(set(by_id) for by_id in means.values())))
    if len(common) < 3:
        return None
    return list(means), np.array([[by_id[name] for name in common] for by_id in means.values()])


def rank_correlations(run: Run, languages: Sequence[str]) -> tuple[list[str], Matrix] | None:
    """Return languages, and Spearman's correlation [L, L] of their ranks of the same images."""
    table = _by_image(run, languages)
    if table is None:
        return None
    codes, ranks = table
    order = np.array([average_ranks(row) for row in ranks])
    if (order.std(1) == 0).any():
        return None
    return codes, np.corrcoef(order)


def average_ranks(values: npt.ArrayLike) -> Matrix:
    """Return the rank of each value [N], from 1; equal values share their mean rank."""
    array = np.asarray(values, dtype=np.float64)
    _, place, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Matrix = (last - (counts - 1) / 2)[place]
    return ranks


def spearman(x: npt.ArrayLike, y: npt.ArrayLike) -> float | None:
    """Return Spearman's correlation of two lists; None where one has no order."""
    a, b = average_ranks(x), average_ranks(y)
    if len(a) < 3 or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
