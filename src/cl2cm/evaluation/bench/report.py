"""The report of a benchmark: rows, means over seeds, and comparisons.

Comparisons are of one method, ``cl2cm`` where nothing else is asked for, with every other one,
language by language: a paired bootstrap over images and seeds, corrected by Holm over the target
languages.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cl2cm.evaluation.bench.run import Job
from cl2cm.evaluation.bootstrap import Comparison, bootstrap, holm_intervals
from cl2cm.evaluation.ranks import Ranks, Runs, compare_mrr, mean_blocks, sum_blocks
from cl2cm.evaluation.statistics import gap_closed, mean_rank_variance
from cl2cm.metrics import CUTOFFS, QueryRanks, summary

Results = Sequence[tuple[Job, Mapping[str, Ranks]]]
Key = tuple[str, str, str]  # regime, table ("all" or one language), method
OURS, LOWER, UPPER = "cl2cm", "zero-shot", "supervised"
TARGETS = "targets"  # the mean over the target languages is in a row of its own


def report(name: str, results: Results, *, source: str, against: str = "") -> dict[str, Any]:
    """Return the object of ``bench --json``: rows, summary, tests, MRV and share of the gap closed.

    Args:
        name: of the suite.
        results: of every run.
        source: the source language, which is reported but not compared.
        against: the method that all others are compared with; empty: ``cl2cm``.
    """
    rows = [
        row for job, ranks in results for row in _rows(job, ranks, multi=_is_multi(job, results))
    ]
    table = summarise(rows, source)
    return {
        "suite": name,
        "rows": rows,
        "summary": table,
        "tests": tests(results, source, against or OURS),
        "gap": gaps(table),
        "mrv": rank_variances(results, source),
    }


def _is_multi(job: Job, results: Results) -> bool:
    return len(job.trained_on) == max(len(other.trained_on) for other, _ in results)


def _rows(job: Job, ranks: Mapping[str, Ranks], *, multi: bool) -> list[dict[str, Any]]:
    rows = []
    for language, found in ranks.items():
        rows.append(
            {
                "regime": job.regime,
                "table": "all" if multi else job.trained_on[0],
                "method": job.method,
                "seed": job.seed,
                "language": language,
                **figures_of(found),
            }
        )
    return rows


def figures_of(found: Ranks) -> dict[str, Any]:
    """Return SumR, the recalls of both directions, and what else a row says of one language."""
    to_vision, to_text = (
        summary(QueryRanks(ranks, 1 / ranks)) for ranks in (found.captions, found.pictures)
    )
    recalls = {
        f"{short} R@{k}": side[f"R@{k}"]
        for short, side in (("t2v", to_vision), ("v2t", to_text))
        for k in CUTOFFS
    }
    return {
        "SumR": sum(recalls.values()),
        **recalls,
        "t2v MedR": to_vision["MedR"],
        "t2v MRR": 100 * float(np.mean(1 / found.captions)),
        "queries": len(found.captions),
        "gallery": len(found.pictures),
    }


def summarise(rows: Iterable[Mapping[str, Any]], source: str) -> list[dict[str, Any]]:
    """Mean and standard deviation of SumR over seeds, per language and over the targets."""
    values: dict[tuple[str, str, str, str], dict[int, float]] = {}
    over_targets: dict[tuple[str, str, str, str], dict[int, list[float]]] = {}
    for row in rows:
        key = (row["regime"], row["table"], row["method"], row["language"])
        values.setdefault(key, {})[row["seed"]] = row["SumR"]
        if row["language"] != source and row["table"] == "all":
            all_targets = over_targets.setdefault((*key[:3], TARGETS), {})
            all_targets.setdefault(row["seed"], []).append(row["SumR"])
    most = max((len(v) for by_seed in over_targets.values() for v in by_seed.values()), default=0)
    for key, by_seed in over_targets.items():
        if all(len(each) == most for each in by_seed.values()):  # not where an engine is missing
            values[key] = {seed: float(np.mean(each)) for seed, each in by_seed.items()}
    return [
        {
            "regime": regime,
            "table": table,
            "method": method,
            "language": language,
            "mean": float(np.mean(list(by_seed.values()))),
            "std": float(np.std(list(by_seed.values()), ddof=1)) if len(by_seed) > 1 else 0.0,
            "seeds": len(by_seed),
        }
        for (regime, table, method, language), by_seed in values.items()
    ]


def tests(results: Results, source: str, reference: str) -> list[dict[str, Any]]:
    """Compare one method, the reference, with every other one of the same regime and table."""
    grouped = _by_method(results)
    found = []
    for (regime, table, method), runs in grouped.items():
        ours = grouped.get((regime, table, reference))
        if ours is None or method == reference:
            continue
        pair = {"regime": regime, "table": table, "a": reference, "b": method}
        found += [{**pair, **row} for row in _comparisons(ours, runs, source)]
    return found


def _comparisons(ours: Runs, theirs: Runs, source: str) -> Iterator[dict[str, Any]]:
    """Compare two methods in each language, and in the mean over the target languages."""
    languages = [code for code in theirs[0] if code in ours[0]]
    targets = [code for code in languages if code != source]
    blocks = [sum_blocks(ours, theirs, code) for code in targets]
    corrected = dict(zip(targets, holm_intervals(blocks), strict=True)) if targets else {}
    for code in languages:
        row = {
            "language": code,
            **_difference(bootstrap(sum_blocks(ours, theirs, code))),
            "MRR": _difference(compare_mrr(ours, theirs, code)),
        }
        if code in corrected:
            one = corrected[code]
            row |= {"ci95_corrected": [one.low, one.high], "p_holm": one.p}
        yield row
    if len(targets) > 1:
        yield {"language": TARGETS, **_difference(bootstrap(mean_blocks(ours, theirs, targets)))}


def _difference(one: Comparison) -> dict[str, Any]:
    return {"difference": one.difference, "ci95": [one.low, one.high], "p": one.p}


def _by_method(results: Results) -> dict[Key, list[Mapping[str, Ranks]]]:
    """Return ranks of all seeds of a method."""
    grouped: dict[Key, list[Mapping[str, Ranks]]] = {}
    for job, ranks in results:
        table = "all" if _is_multi(job, results) else job.trained_on[0]
        grouped.setdefault((job.regime, table, job.method), []).append(ranks)
    return grouped


def gaps(table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the share of the gap zero-shot to supervised that each method closes."""
    means = {
        (row["regime"], row["method"], row["language"]): row["mean"]
        for row in table
        if row["table"] == "all"
    }
    found = []
    for (regime, method, language), mean in means.items():
        low, high = (means.get((regime, name, language)) for name in (LOWER, UPPER))
        if method not in (LOWER, UPPER) and low is not None and high is not None:
            share = gap_closed(mean, low, high)
            if np.isfinite(share):
                found.append(
                    {"regime": regime, "method": method, "language": language, "closed": share}
                )
    return found


def rank_variances(results: Results, source: str) -> list[dict[str, Any]]:
    """Return MRV over the target languages, of each image's mean caption rank; mean over seeds.

    People captioned each language anew, so there is no caption common to all: an image's mean
    rank over its captions stands for it (we choose). Only images captioned in all count.
    """
    found = []
    for (regime, table, method), runs in _by_method(results).items():
        if table != "all":
            continue
        each = [rank_variance(run, source) for run in runs]
        values = [value for value in each if value is not None]
        if values:
            found.append({"regime": regime, "method": method, "MRV": float(np.mean(values))})
    return found


def rank_variance(run: Mapping[str, Ranks], source: str) -> float | None:
    """Return the MRV of one run over its target languages; None where they have nothing common."""
    means = [
        dict(zip(one.ids.tolist(), mean_ranks(one), strict=True))
        for code, one in run.items()
        if code != source
    ]
    common = set.intersection(*(set(by_id) for by_id in means)) if len(means) > 1 else set()
    if not common:
        return None
    return mean_rank_variance([[by_id[name] for name in sorted(common)] for by_id in means])


def mean_ranks(one: Ranks) -> list[float]:
    """Return the mean rank of each image over its captions."""
    means: list[float] = (np.bincount(one.rows, one.captions) / np.bincount(one.rows)).tolist()
    return means
