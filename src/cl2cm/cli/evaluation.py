"""What ``cl2cm evaluate`` does, for programs that want the same."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cl2cm.cli.sources import read_lines
from cl2cm.data.leaks import known_leaks
from cl2cm.data.manifest import Skipped, split_of_manifest
from cl2cm.data.queries import caption_languages, caption_queries
from cl2cm.errors import LanguageError, MediaError
from cl2cm.evaluation.retrieval import Translate, evaluate
from cl2cm.export.contract import read_contract
from cl2cm.export.load import AnyModel, load, opens_export
from cl2cm.export.model import ExportedModel
from cl2cm.model.encoders import AS_TRAINED, Encoders
from cl2cm.progress import say
from cl2cm.translate import find_translators
from cl2cm.types import Example, Floats, StrPath, is_model_spec


def evaluate_manifest(
    run: StrPath,
    manifest: Path,
    *,
    split: str = "test",
    languages: Sequence[str] = (),
    trec: Path | None = None,
    leak_check: bool = True,
    skip_bad: bool = False,
    encoders: Encoders = AS_TRAINED,
) -> dict[str, Any]:
    """The object of ``evaluate --json``, with the pictures that are in two splits as ``leaks``.

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
        trec: write the text -> vision runs to this file.
        leak_check: look for images that are in two splits.
        skip_bad: leave broken lines and items out.
        encoders: where the run's encoders or features are by now.

    Raises:
        ManifestError: the manifest does not fit the format, or has no items of the split.
        LanguageError: a language has no captions, or no engine where one is needed.
        CheckpointError: the run is damaged or unfinished.
        MissingExtraError: an engine is not installed.
    """
    skipped = Skipped()
    everything = read_lines(manifest, skipped if skip_bad else None)
    examples = split_of_manifest(everything, split, manifest)
    asked = list(languages) or caption_languages(examples)
    for language in asked:  # before anything is loaded or encoded
        caption_queries(examples, language)
    source = _source_of_translations(run, encoders)
    translate = None
    if source is not None:
        asked, translate = _translated(asked, source, named=bool(languages))
    model = load(run, text_encoder=encoders.text, vision_encoder=encoders.vision)
    vectors = _vectors(model, everything, examples, skipped if skip_bad else None)
    examples = [example for example in examples if example.id in vectors]
    if not languages:
        there = caption_languages(examples)
        asked = [language for language in asked if language in there]
    found = evaluate(
        model, examples, languages=asked, vectors=vectors, trec=trec, translate=translate
    )
    leaks = known_leaks(everything) if leak_check else []
    if leaks:
        say(f"warning: {len(leaks)} pictures are in two splits, such as {leaks[0]}")
    return {
        "run": str(run),
        "split": split,
        "languages": found,
        "leaks": leaks,
        "skipped": skipped.names,
    }


def _vectors(
    model: AnyModel,
    everything: Sequence[Example],
    examples: Sequence[Example],
    skipped: Skipped | None,
) -> dict[str, Floats]:
    """Vectors of the examples, from the store of everything where training has made one."""
    lenient = skipped is not None
    whole = not isinstance(model, ExportedModel) and model.has_stored(everything, partial=lenient)
    asked = {example.id for example in examples}

    def on_skip(name: str, error: MediaError) -> None:
        if skipped is not None and name in asked:
            skipped.item(name, error)

    known = everything if whole else examples
    return model.vectors_by_id(known, skip_bad=lenient, on_skip=on_skip)


def _source_of_translations(run: StrPath, encoders: Encoders) -> str | None:
    """Language into which a run translates queries; None where it takes them as they are.

    A run of an earlier version does not say so itself.
    """
    if is_model_spec(run):
        return None
    if opens_export(run, encoders.text, encoders.vision):
        return read_contract(Path(run)).get("translates_queries_to") or None
    from cl2cm.methods.registry import method_class
    from cl2cm.model.checkpoint import read_provenance, read_run

    config, _ = read_run(Path(run), encoders)
    told = read_provenance(Path(run)).get("translates_queries")
    translates = method_class(config.method).translates_queries if told is None else bool(told)
    return config.data.source if translates else None


def _translated(
    languages: Sequence[str], source: str, *, named: bool
) -> tuple[list[str], Translate]:
    """Languages that can be asked in the source language, and how.

    Args:
        languages: that are wanted.
        source: of the run.
        named: the user named them, so that none may be left out.
    """
    engines = find_translators((code for code in languages if code != source), source)
    can = [code for code in languages if code == source or code in engines]
    left = [code for code in languages if code not in can]
    if left and (named or not can):
        raise LanguageError(
            f"translated queries in {', '.join(left)}",
            expected=f"languages with an engine into {source!r}",
            found="no engine",
            remedy=f"choose among {', '.join(can)}" if can else "evaluate another method",
        )
    if left:
        say(f"left out, no translation engine into {source}: {', '.join(left)}")

    def translate(language: str, texts: list[str]) -> list[str]:
        if language == source:
            return texts
        say(f"translate {len(texts)} captions: {language} to {source}")
        return engines[language].translate(texts)

    return can, translate


def evaluation_lines(result: dict[str, Any]) -> list[str]:
    """An evaluation as a table for people."""
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
