"""Measure what a report shows, run by run, so that one model is in memory at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cl2cm.data.manifest import Skipped, read_manifest, split_of_manifest
from cl2cm.data.queries import caption_languages
from cl2cm.errors import CL2CMError, LanguageError
from cl2cm.evaluation.alignment.links import Alignment, load_reader
from cl2cm.evaluation.report.curves import Curves, read_curves
from cl2cm.evaluation.report.measurements import (
    Batch,
    MapPoint,
    Matrix,
    alignments,
    choose_batch,
    cross_lingual,
    cross_modal,
    map_of,
    measure_run,
    worst_queries,
)
from cl2cm.evaluation.report.quality import Quality, translation_quality
from cl2cm.evaluation.report.recall import consistency_rows, rank_correlations, recall_rows
from cl2cm.evaluation.report.subjects import Run, Subjects
from cl2cm.evaluation.subject import open_subject
from cl2cm.model.encoders import AS_TRAINED, Encoders
from cl2cm.progress import track
from cl2cm.types import Example

SIDE_BY_SIDE = ("zero-shot", "translate-train")  # their similarities are shown beside cl2cm's
_MOST_MODELS = 4  # that are opened for their similarities
_MOST_CURVES = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user chose.

    Attributes:
        split: of the manifest.
        languages: of the captions; empty: all.
        worst: number of the worst queries.
        skip_bad: leave out lines and items that cannot be read.
        encoders: where the encoders of the runs are by now.
    """

    split: str = "test"
    languages: tuple[str, ...] = ()
    worst: int = 100
    skip_bad: bool = False
    encoders: Encoders = AS_TRAINED


@dataclass(slots=True)
class Material:
    """Everything that a report shows.

    Attributes:
        subjects: the runs, with their ranks.
        split: of the manifest.
        source: source language of the runs.
        main: the run that single queries, alignments and the map are of; None: none can be opened.
        examples: items of the split; empty without a manifest.
        languages: in the order of the tables.
        recall: see ``recall_rows``.
        consistency: see ``consistency_rows``.
        correlations: see ``rank_correlations``, of the main run.
        curves: label → log of its first run.
        worst: see ``worst_queries``.
        batch: whose similarities are shown.
        taught: language → similarities CL.
        learned: label → language → similarities CM.
        aligned: languages and alignments.
        points: of the map.
        quality: of the translations.
        missing: part of the report → sentences about what it cannot show.
        skipped: items that could not be read.
    """

    subjects: Subjects
    split: str
    source: str
    main: Run | None
    examples: list[Example] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    recall: list[dict[str, Any]] = field(default_factory=list)
    consistency: list[dict[str, Any]] = field(default_factory=list)
    correlations: tuple[list[str], Matrix] | None = None
    curves: dict[str, Curves] = field(default_factory=dict)
    worst: list[dict[str, Any]] = field(default_factory=list)
    batch: Batch | None = None
    taught: dict[str, Matrix] = field(default_factory=dict)
    learned: dict[str, dict[str, Matrix]] = field(default_factory=dict)
    aligned: list[tuple[str, Alignment]] = field(default_factory=list)
    points: list[MapPoint] = field(default_factory=list)
    quality: Quality | None = None
    missing: dict[str, list[str]] = field(default_factory=dict)
    skipped: Skipped = field(default_factory=Skipped)

    def lacks(self, part: str, sentence: str) -> None:
        """Note what a part of the report cannot show."""
        self.missing.setdefault(part, []).append(sentence)


def gather(subjects: Subjects, manifest: Path | None, choice: Choice) -> Material:
    """Measure everything.

    Args:
        subjects: the runs.
        manifest: with the captions; None for results of a benchmark alone.
        choice: of the user.

    Raises:
        CL2CMError: a run cannot be opened, the manifest not be read, a language not be asked.
    """
    main = _main(subjects)
    config = next((run.config for run in subjects.runs if run.config is not None), None)
    source = "en" if config is None else config.data.source
    found = Material(subjects, choice.split, source, main)
    for sentence in subjects.missing:
        found.lacks("recall", sentence)
    everything: list[Example] = []
    if manifest is not None:
        everything, found.examples = _read(manifest, choice, found.skipped)
    found.languages = _languages(found, choice.languages)
    _ask_models(found, everything, choice)
    found.recall = recall_rows(subjects, found.languages)
    found.consistency = consistency_rows(subjects, found.languages, source)
    if main is not None:
        found.correlations = rank_correlations(main, found.languages)
    _read_curves(found)
    engines = config.data.engines if config is not None else ()
    targets = [code for code in found.languages if code != source]
    found.quality = translation_quality(everything, targets, engines)
    return found


def _main(subjects: Subjects) -> Run | None:
    """Return the first run with a cross-lingual network, or else the first that can be opened."""
    able = [run for run in subjects.runs if run.config is not None or not run.rows]
    return next((run for run in able if run.has_teacher), able[0] if able else None)


def _read(manifest: Path, choice: Choice, skipped: Skipped) -> tuple[list[Example], list[Example]]:
    lines = read_manifest(manifest, source=None, skip_bad=choice.skip_bad, on_skip=skipped.item)
    everything = list(lines)
    return everything, split_of_manifest(everything, choice.split, manifest)


def _languages(found: Material, chosen: Sequence[str]) -> list[str]:
    """Return the languages of the report, the source first."""
    ranked = {row["language"] for run in found.subjects.runs for row in run.rows}
    there = set(caption_languages(found.examples)) if found.examples else ranked
    if ranked and all(run.rows for run in found.subjects.runs):
        there = ranked
    if left := [code for code in chosen if code not in there]:
        raise LanguageError(
            f"--languages {','.join(left)}",
            expected=f"some of {', '.join(sorted(there))}",
            found="no captions or results in it",
            remedy="choose among these, or another --split",
        )
    codes = list(chosen) or sorted(there)
    return sorted(dict.fromkeys(codes), key=lambda code: code != found.source)


def _ask_models(found: Material, everything: Sequence[Example], choice: Choice) -> None:
    """Open one model after the other; a model whose ranks are known only where it is looked at."""
    if not found.examples or found.main is None:
        absent = "run folder" if found.main is None else "manifest"
        for part in ("worst", "transfer", "alignment", "map"):
            found.lacks(part, f"There is no {absent} to look into.")
        return
    found.batch = choose_batch(found.examples, found.source, found.languages)
    looked_at = _looked_at(found)
    asked = [run for run in found.subjects.runs if not run.rows or run in looked_at]
    with track("runs", len(asked)) as advance:
        for run in asked:
            _ask(found, run, everything, choice, look=run in looked_at)
            advance(1)


def _looked_at(found: Material) -> list[Run]:
    """Return the runs whose similarities are shown: the main one, and the usual baselines."""
    main = found.main
    if main is None:
        return []
    others = [run for run in found.subjects.runs if run is not main and run.seed == main.seed]
    if main.seed is not None:  # of a benchmark, which has too many
        names = [
            main.label.replace(main.config.method, name) if main.config else name
            for name in SIDE_BY_SIDE
        ]
        others = [run for run in others if run.label in names and run.config is not None]
    return [main, *others][:_MOST_MODELS]


def _ask(
    found: Material, run: Run, everything: Sequence[Example], choice: Choice, *, look: bool
) -> None:
    subject = open_subject(
        run.spec,
        everything,
        found.examples,
        languages=choice.languages,
        skipped=found.skipped if choice.skip_bad else None,
        encoders=choice.encoders,
    )
    if not run.rows:
        measure_run(run, subject)
    if not look:
        return
    if found.batch is not None:
        found.learned[run.label] = cross_modal(subject, found.batch)
    if run is not found.main:
        return
    worst = worst_queries(run, subject, found.languages, choice.worst)
    found.worst = worst or []
    if choice.worst == 0:
        found.lacks("worst", "None were asked for (--worst 0).")
    elif worst is None:
        found.lacks("worst", f"There are no ranks of {run.label} for the captions of the manifest.")
    elif not worst:
        found.lacks("worst", "Every caption has found its image or video in the first place.")
    found.points = map_of(subject, found.languages)
    _ask_teacher(found, run, choice)


def _ask_teacher(found: Material, run: Run, choice: Choice) -> None:
    if run.folder is None:
        for part in ("transfer", "alignment"):
            found.lacks(part, f"{run.label} is no run folder, so its text side cannot be read.")
        return
    if found.batch is None:
        for part in ("transfer", "alignment"):
            found.lacks(part, "The split has no items with captions in two languages.")
        return
    try:
        reader = load_reader(run.folder, encoders=choice.encoders)
        found.aligned = alignments(reader, found.batch)
    except CL2CMError as error:
        for part in ("transfer", "alignment"):
            found.lacks(part, f"The text side of {run.label} could not be read: {error.found}.")
        return
    if reader.side == "teacher":
        found.taught = cross_lingual(reader, found.batch)
    else:
        sentence = f"{run.label} has no cross-lingual network"
        found.lacks("transfer", f"{sentence}, so there are no similarities CL.")
        found.lacks("alignment", f"{sentence}; the texts are read by the student's text side.")


def _read_curves(found: Material) -> None:
    without = []
    for label in found.subjects.labels:
        run = found.subjects.of(label)[0]
        if run.folder is None:
            without.append(f"{label} (no run folder)")
            continue
        curves = read_curves(run.folder)
        if curves.missing:
            without.append(f"{label} ({curves.missing})")
        elif len(found.curves) < _MOST_CURVES:
            found.curves[label] = curves
        else:
            without.append(f"{label} (only {_MOST_CURVES} are drawn)")
    if without:
        found.lacks("curves", f"No curves of {', '.join(without)}.")
