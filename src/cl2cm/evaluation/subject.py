"""Open a run or an export for evaluation: its model, the items of a split, and their vectors.

Nothing of torch is imported for an export.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cl2cm.data.manifest import Skipped
from cl2cm.data.queries import caption_languages
from cl2cm.errors import CL2CMError, LanguageError
from cl2cm.evaluation.evaluate import Translate
from cl2cm.export.contract import read_contract
from cl2cm.export.load import AnyModel, load, opens_export
from cl2cm.export.model import ExportedModel
from cl2cm.index.shortened import shortened
from cl2cm.model.encoders import AS_TRAINED, Encoders
from cl2cm.progress import say
from cl2cm.translate import find_translators
from cl2cm.types import Example, Floats, StrPath, is_model_spec


class Subject(NamedTuple):
    """What is measured, and on what.

    Attributes:
        model: of the run or export.
        examples: items of the split that have a vector.
        languages: caption languages that can be asked.
        vectors: id → unit vector [D] of each example.
        translate: brings captions into the run's source language, where its method asks for it.
    """

    model: AnyModel
    examples: list[Example]
    languages: list[str]
    vectors: dict[str, Floats]
    translate: Translate | None


def open_subject(
    run: StrPath,
    everything: Sequence[Example],
    examples: Sequence[Example],
    *,
    languages: Sequence[str] = (),
    skipped: Skipped | None = None,
    encoders: Encoders = AS_TRAINED,
    dim: int = 0,
) -> Subject:
    """Load a run or an export and encode the items of a split.

    Args:
        run: finished run, export, or off-the-shelf model.
        everything: all items of the manifest, whose features training may have stored.
        examples: the items of the split.
        languages: of the captions; empty: all.
        skipped: told items that cannot be read, which are left out; None: the first is an error.
        encoders: where the run's encoders or features are by now.
        dim: width of the vectors, of which the rest is left out; 0: all.

    Raises:
        CL2CMError: as ``cl2cm.cli.evaluation.evaluate_manifest``.
    """
    asked = list(languages) or caption_languages(examples)
    source = _source_of_translations(run, encoders)
    translate = None
    if source is not None:
        asked, translate = _translated(asked, source, named=bool(languages))
    loaded = load(run, text_encoder=encoders.text, vision_encoder=encoders.vision)
    model = shortened(loaded, dim)
    whole = not isinstance(loaded, ExportedModel) and loaded.has_stored(
        everything, partial=skipped is not None
    )
    vectors = _vectors(model, everything if whole else examples, examples, skipped)
    kept = [example for example in examples if example.id in vectors]
    if not languages:
        there = caption_languages(kept)
        asked = [language for language in asked if language in there]
    return Subject(model, kept, asked, vectors, translate)


def _vectors(
    model: AnyModel,
    known: Sequence[Example],
    examples: Sequence[Example],
    skipped: Skipped | None,
) -> dict[str, Floats]:
    """Vectors of what is known, which are the examples, or all items where training stored them."""
    asked = {example.id for example in examples}

    def on_skip(name: str, error: CL2CMError) -> None:
        if skipped is not None and name in asked:
            skipped.item(name, error)

    return model.vectors_by_id(known, skip_bad=skipped is not None, on_skip=on_skip)


def _source_of_translations(run: StrPath, encoders: Encoders) -> str | None:
    """Return the language into which a run translates queries; None where it takes them as given.

    A run of an earlier version does not say so itself.
    """
    if is_model_spec(run):
        return None
    if opens_export(run, encoders.text, encoders.vision):
        return read_contract(Path(run)).get("translates_queries_to") or None
    from cl2cm.methods.registry import method_class  # noqa: PLC0415 - loads torch
    from cl2cm.model.run_folder import read_provenance, read_run  # noqa: PLC0415

    config, _ = read_run(Path(run), encoders)
    told = read_provenance(Path(run)).get("translates_queries")
    translates = method_class(config.method).translates_queries if told is None else bool(told)
    return config.data.source if translates else None


def _translated(
    languages: Sequence[str], source: str, *, named: bool
) -> tuple[list[str], Translate]:
    """Return the languages that can be asked in the source language, and how.

    Args:
        languages: that are wanted.
        source: of the run.
        named: the user named them, so that none may be omitted.
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
