"""A run before and after a language was added to it: SumR of each language, and what got worse."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from cl2cm.data.manifest import split_of_manifest
from cl2cm.data.queries import caption_languages
from cl2cm.errors import ConfigError
from cl2cm.evaluation.compare import FEWEST, compare
from cl2cm.model.encoders import AS_TRAINED, Encoders
from cl2cm.types import Example, is_model_spec


def check_measurable(
    examples: Sequence[Example], learned: Collection[str], manifest: Path, split: str
) -> None:
    """Refuse, before anything is trained, what no learned language can be measured on.

    Raises:
        ManifestError: the manifest has no items of the split.
        ConfigError: none has a human caption in a learned language, or their files are absent.
    """
    items = split_of_manifest(examples, split, manifest)
    there = [code for code in caption_languages(items) if code in learned]
    counts = [sum(bool(item.captions.get(code)) for item in items) for code in there]
    most = max(counts, default=0)
    files = any(item.path is None or item.path.exists() for item in items)
    if most >= FEWEST and files:
        return
    found = f"captions of {most} items" if most < FEWEST else "no file of any item"
    raise ConfigError(
        f"{manifest}, split {split!r}",
        expected=f"{FEWEST} or more images or videos with human captions in one of "
        f"{', '.join(learned)}",
        found=found,
        remedy="name a manifest that has them with --evaluate-on, or another --split",
    )


def before_and_after(
    runs: tuple[Path, Path],
    manifest: Path,
    *,
    split: str,
    language: str,
    learned: Collection[str],
    max_regression: float,
    skip_bad: bool = False,
    encoders: Encoders,
) -> dict[str, Any]:
    """Return SumR before and after in each language, by paired bootstrap over images and videos.

    Args:
        runs: before, which may be an off-the-shelf model, and after.
        manifest: with human captions.
        split: to report.
        language: that was added.
        learned: languages of the run before.
        max_regression: largest loss of SumR that a learned language may have.
        skip_bad: leave out broken lines and items.
        encoders: of both runs; of the new one, where the other is an off-the-shelf model.

    Raises:
        CL2CMError: as `cl2cm.evaluation.compare.compare`.
    """
    before, after = runs
    earlier = AS_TRAINED if is_model_spec(before) else encoders  # these are of the new text side
    found = compare(
        (after, before), manifest, split=split, skip_bad=skip_bad, encoders=(encoders, earlier)
    )
    rows = [
        {
            "language": row["language"],
            "role": _role(row["language"], language, learned),
            "before": row["SumR"]["b"],
            "after": row["SumR"]["a"],
            "difference": row["difference"],
            "ci95": row["ci95"],
            "queries": row["queries"],
            "gallery": row["gallery"],
        }
        for row in found["tests"]
        if "SumR" in row
    ]
    there = {row["language"] for row in rows}
    return {
        "split": split,
        "max_regression": max_regression,
        "languages": rows,
        "worse": [
            row["language"]
            for row in rows
            if row["role"] == "learned" and row["difference"] < -max_regression
        ],
        "not_measured": [code for code in (language, *learned) if code not in there],
        "skipped": found["skipped"],
    }


def _role(code: str, language: str, learned: Collection[str]) -> str:
    if code == language:
        return "new"
    return "learned" if code in learned else "other"


def before_after_lines(result: Mapping[str, Any]) -> list[str]:
    """Return a result as a table for people, with the languages that got worse at its end."""
    lines = [
        f"SumR on {result['split']}",
        f"{'':8}{'':9}{'before':>8}{'after':>8}{'change':>8}{'95 % interval':>18}",
    ]
    for row in result["languages"]:
        low, high = row["ci95"]
        lines.append(
            f"{row['language']:8}{row['role']:9}{row['before']:8.1f}{row['after']:8.1f}"
            f"{row['difference']:+8.1f}{f'{low:+.1f} to {high:+.1f}':>18}"
        )
    if result["not_measured"]:
        codes = ", ".join(result["not_measured"])
        lines.append(f"not measured, no human captions in the split: {codes}")
    if result["skipped"]:
        lines.append(f"{len(result['skipped'])} skipped: {', '.join(result['skipped'])}")
    if result["worse"]:
        codes = ", ".join(result["worse"])
        lines.append(f"worse by more than {result['max_regression']:g} SumR: {codes}")
    return lines
