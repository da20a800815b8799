"""The implementation of ``cl2cm evaluate``, callable from Python."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cl2cm.cli.sources import read_lines
from cl2cm.data.leaks import known_leaks
from cl2cm.data.manifest import Skipped, split_of_manifest
from cl2cm.data.queries import caption_languages, caption_queries
from cl2cm.evaluation.evaluate import check_outputs, evaluate
from cl2cm.evaluation.per_query import TOP
from cl2cm.evaluation.subject import open_subject
from cl2cm.model.encoders import AS_TRAINED, Encoders
from cl2cm.progress import say
from cl2cm.types import StrPath


def evaluate_manifest(
    run: StrPath,
    manifest: Path,
    *,
    split: str = "test",
    languages: Sequence[str] = (),
    trec: Path | None = None,
    depth: int = 0,
    per_query: Path | None = None,
    top: int = TOP,
    leak_check: bool = True,
    skip_bad: bool = False,
    encoders: Encoders = AS_TRAINED,
    dim: int = 0,
) -> dict[str, Any]:
    """Return the object of ``evaluate --json``; ``leaks`` are images in two splits.

    With ``skip_bad``, lines that do not fit and items whose file or features cannot be read are
    left out, and named under ``skipped``.

    A run whose method translates queries is asked in its source language: the captions of every
    other language are translated into it, and without named languages those that have no engine
    are left out.

    Args:
        run: finished run, export, or off-the-shelf model: ``hf:MODEL``.
        manifest: with human captions.
        split: to report.
        languages: of the captions; empty: all.
        trec: file of ranked lists; see `cl2cm.evaluate`.
        depth: items of each of its lists; 0: all.
        per_query: file of the ranks of each query; see `cl2cm.evaluate`.
        top: best items of each query in it; 0: all.
        leak_check: look for images that are in two splits.
        skip_bad: leave broken lines and items out.
        encoders: where the run's encoders or features are by now.
        dim: width of the vectors, of which the rest is left out; 0: all.

    Raises:
        ManifestError: the manifest does not fit the format, or has no items of the split.
        LanguageError: a language has no captions, or no engine where one is needed.
        CheckpointError: the run is damaged or unfinished.
        MissingExtraError: an engine is not installed.
    """
    check_outputs(trec, per_query)
    skipped = Skipped()
    everything = read_lines(manifest, skipped if skip_bad else None)
    examples = split_of_manifest(everything, split, manifest)
    for language in languages or caption_languages(examples):  # before anything is loaded
        caption_queries(examples, language)
    subject = open_subject(
        run,
        everything,
        examples,
        languages=languages,
        skipped=skipped if skip_bad else None,
        encoders=encoders,
        dim=dim,
    )
    found = evaluate(
        subject.model,
        subject.examples,
        languages=subject.languages,
        vectors=subject.vectors,
        trec=trec,
        depth=depth,
        per_query=per_query,
        top=top,
        translate=subject.translate,
    )
    leaks = known_leaks(everything) if leak_check else []
    if leaks:
        say(f"warning: {len(leaks)} items seem to be in two splits, such as {leaks[0]}")
    return {
        "run": str(run),
        "split": split,
        "languages": found,
        "leaks": leaks,
        "skipped": skipped.names,
    }


def evaluation_lines(result: dict[str, Any]) -> list[str]:
    """Return an evaluation as a table of text."""
    lines = [f"{'':6}{'text to vision':^32}{'vision to text':^32}"]
    names = ("R@1", "R@5", "R@10", "MedR")
    lines.append(
        f"{'':6}" + "".join(f"{name:>8}" for name in names * 2)
        + f"{'SumR':>9}{'queries':>9}{'gallery':>9}"
    )  # fmt: skip
    for language, scores in result["languages"].items():
        cells = [scores[side][n] for side in ("text_to_vision", "vision_to_text") for n in names]
        lines.append(
            f"{language:6}" + "".join(f"{cell:8.1f}" for cell in cells)
            + f"{scores['SumR']:9.1f}{scores['queries']:9}{scores['gallery']:9}"
        )  # fmt: skip
    if result["skipped"]:
        lines.append(f"{len(result['skipped'])} skipped: {', '.join(result['skipped'])}")
    return lines
