"""Compare two runs on the same queries, with paired significance tests per language.

Both runs rank the same captions and items of a manifest. The difference of SumR is tested by the
paired bootstrap over images and videos (``bootstrap.py``), corrected by Holm over the languages.
The interval covers the variation over queries, not over seeds, because each run is one seed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cl2cm.data.manifest import Skipped, read_manifest, split_of_manifest
from cl2cm.data.queries import caption_languages
from cl2cm.errors import LanguageError
from cl2cm.evaluation.bootstrap import Comparison, bootstrap, holm_intervals
from cl2cm.evaluation.evaluate import measure
from cl2cm.evaluation.ranks import Ranks, compare_mrr, mean_blocks, ranks_of, sum_blocks
from cl2cm.evaluation.subject import Subject, open_subject
from cl2cm.metrics import CUTOFFS
from cl2cm.model.encoders import AS_TRAINED, Encoders
from cl2cm.progress import say
from cl2cm.types import Example

FEWEST = 2  # images or videos that can be resampled
MEAN = "mean"  # language of the row that speaks of all


def compare(
    runs: tuple[Path, Path],
    manifest: Path,
    *,
    split: str = "test",
    languages: Sequence[str] = (),
    skip_bad: bool = False,
    encoders: tuple[Encoders, Encoders] = (AS_TRAINED, AS_TRAINED),
) -> dict[str, Any]:
    """Return the object of ``compare --json``.

    Args:
        runs: A and B, finished runs.
        manifest: with human captions.
        split: whose captions are ranked.
        languages: of the captions; empty: all that both runs can be asked in.
        skip_bad: leave out lines that do not fit, and items that either run cannot read.
        encoders: where the encoders or features of A and of B are by now.

    Raises:
        ManifestError: the manifest does not fit the format, or has no items of the split.
        LanguageError: a language cannot be compared.
        CheckpointError: a run is damaged or unfinished.
    """
    skipped = Skipped()
    bad = skipped if skip_bad else None
    everything = list(read_manifest(manifest, source=None, skip_bad=skip_bad, on_skip=skipped.item))
    examples = split_of_manifest(everything, split, manifest)
    subjects = [
        open_subject(run, everything, examples, languages=languages, skipped=bad, encoders=where)
        for run, where in zip(runs, encoders, strict=True)
    ]
    common = [example for example in examples if all(example.id in s.vectors for s in subjects)]
    asked = _languages(subjects, common, named=bool(languages))
    ranks = [_ranks(subject, common, asked) for subject in subjects]
    names = str(runs[0]), str(runs[1])
    return {
        "a": names[0],
        "b": names[1],
        "split": split,
        "tests": [{"a": names[0], "b": names[1], **row} for row in tests(ranks[0], ranks[1])],
        "skipped": list(dict.fromkeys(skipped.names)),
    }


def _languages(
    subjects: Sequence[Subject], examples: Sequence[Example], *, named: bool
) -> list[str]:
    """Return the languages that both runs can be asked in, with items enough to resample."""
    there = caption_languages(examples)
    few = {
        code: count
        for code in there
        if (count := sum(bool(example.captions.get(code)) for example in examples)) < FEWEST
    }
    engines = [set(there if named else subject.languages) for subject in subjects]
    can = [code for code in there if code not in few and all(code in own for own in engines)]
    wanted = list(dict.fromkeys(code for subject in subjects for code in subject.languages))
    left = [code for code in wanted if code not in can]
    if left and (named or not can):
        found = ", ".join(f"{code} with {few.get(code, 0)}" for code in left)
        raise LanguageError(
            "comparison",
            expected=f"languages in which {FEWEST} or more items have captions",
            found=found,
            remedy=f"choose among {', '.join(can)}" if can else "choose another split or manifest",
        )
    if left:
        say(f"left out, not enough captions or no engine: {', '.join(left)}")
    return [code for code in wanted if code in can]


def _ranks(
    subject: Subject, examples: Sequence[Example], languages: Sequence[str]
) -> dict[str, Ranks]:
    found = measure(
        subject.model,
        examples,
        languages,
        vectors=subject.vectors,
        translate=subject.translate,
    )
    return {measured.language: ranks_of(measured) for measured in found}


def tests(a: Mapping[str, Ranks], b: Mapping[str, Ranks]) -> list[dict[str, Any]]:
    """Compare A with B in each language; with several languages a last row is their mean.

    Args:
        a: language → ranks of A.
        b: the same of B, of the same captions.

    Returns:
        Rows as ``bench --json`` has them under ``tests``, with SumR of both.
    """
    languages = list(a)
    corrected = holm_intervals([sum_blocks([a], [b], code) for code in languages])
    rows = []
    for code, holm in zip(languages, corrected, strict=True):
        plain = bootstrap(sum_blocks([a], [b], code))
        rows.append(
            {
                "language": code,
                "SumR": {"a": sum_of_recalls(a[code]), "b": sum_of_recalls(b[code])},
                **_plain(plain),
                "ci95_corrected": [holm.low, holm.high],
                "p_holm": holm.p,
                "MRR": _plain(compare_mrr([a], [b], code)),
                "queries": len(a[code].captions),
                "gallery": len(a[code].pictures),
            }
        )
    common = set.intersection(*(set(one.ids.tolist()) for one in a.values()))
    if len(languages) > 1 and len(common) >= FEWEST:
        mean = bootstrap(mean_blocks([a], [b], languages))
        rows.append({"language": MEAN, **_plain(mean), "gallery": len(common)})
    return rows


def _plain(found: Comparison) -> dict[str, Any]:
    return {"difference": found.difference, "ci95": [found.low, found.high], "p": found.p}


def sum_of_recalls(ranks: Ranks) -> float:
    """Return SumR in percent, 0 to 600."""
    sides = ranks.captions, ranks.pictures
    return sum(100.0 * float(np.mean(side <= k)) for side in sides for k in CUTOFFS)


def comparison_lines(result: Mapping[str, Any]) -> list[str]:
    """Return a comparison as a table for people."""
    lines = [
        f"A: {result['a']}",
        f"B: {result['b']}",
        f"{'':6}{'SumR A':>9}{'SumR B':>9}{'A - B':>9}{'95 % interval':>20}{'p':>9}",
    ]
    corrected = False
    for row in result["tests"]:
        sums = row.get("SumR")
        cells = f"{sums['a']:9.1f}{sums['b']:9.1f}" if sums else f"{'':18}"
        low, high = row.get("ci95_corrected", row["ci95"])
        interval = f"{low:.1f} to {high:.1f}"
        p = row.get("p_holm", row["p"])
        lines.append(f"{row['language']:6}{cells}{row['difference']:9.1f}{interval:>20}{p:9.4f}")
        corrected = corrected or len(result["tests"]) > 1
    if corrected:
        lines.append("interval and p of each language corrected by Holm over the languages")
    if result["skipped"]:
        lines.append(f"{len(result['skipped'])} skipped: {', '.join(result['skipped'])}")
    return lines
