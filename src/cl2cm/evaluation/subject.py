"""A finished run at work on a manifest: its model, the items of a split, and their vectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cl2cm.data.manifest import Skipped
from cl2cm.data.queries import caption_languages
from cl2cm.encode.encoding import find_pictures
from cl2cm.encode.feature_files import FeatureFiles
from cl2cm.errors import CL2CMError, LanguageError
from cl2cm.evaluation.evaluate import Translate
from cl2cm.methods.registry import method_class
from cl2cm.model.checkpoint import load
from cl2cm.model.config import Config
from cl2cm.model.retrieval import RetrievalModel, VisualSide
from cl2cm.model.run_folder import AS_TRAINED, Encoders, read_provenance, read_run
from cl2cm.progress import say
from cl2cm.translate import find_translators
from cl2cm.types import Example, Floats, StrPath, is_model_spec


class Subject(NamedTuple):
    """What is measured, and on what.

    Attributes:
        model: of the run.
        examples: items of the split that have a vector.
        languages: caption languages that can be asked.
        vectors: id → unit vector [D] of each example.
        translate: brings captions into the run's source language, where its method asks for it.
    """

    model: RetrievalModel
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
) -> Subject:
    """Load a run and encode the items of a split.

    Args:
        run: finished run, or an off-the-shelf model.
        everything: all items of the manifest, whose features training may have stored.
        examples: those of the split.
        languages: of the captions; empty: all.
        skipped: told items that cannot be read, which are left out; None: the first is an error.
        encoders: where the run's encoders or features are by now.

    Raises:
        CL2CMError: as ``cl2cm.cli.evaluation.evaluate_manifest``.
    """
    asked = list(languages) or caption_languages(examples)
    config = None if is_model_spec(run) else read_run(Path(run), encoders)[0]
    translate = None
    if config is not None and _translates_queries(Path(run), config):
        asked, translate = _translated(asked, config.data.source, named=bool(languages))
    model = load(run, text_encoder=encoders.text, vision_encoder=encoders.vision)
    vectors = _vectors(model, everything, examples, skipped)
    kept = [example for example in examples if example.id in vectors]
    if not languages:
        there = caption_languages(kept)
        asked = [language for language in asked if language in there]
    return Subject(model, kept, asked, vectors, translate)


def _vectors(
    model: VisualSide,
    everything: Sequence[Example],
    examples: Sequence[Example],
    skipped: Skipped | None,
) -> dict[str, Floats]:
    """Vectors of the examples, from the store of everything where training has made one."""
    lenient = skipped is not None
    whole = not isinstance(model.vision, FeatureFiles) and find_pictures(
        everything, model.vision, partial=lenient
    )
    asked = {example.id for example in examples}

    def on_skip(name: str, error: CL2CMError) -> None:
        if skipped is not None and name in asked:
            skipped.item(name, error)

    known = everything if whole else examples
    return model.vectors_by_id(known, skip_bad=lenient, on_skip=on_skip)


def _translates_queries(run: Path, config: Config) -> bool:
    """Whether the method of a run does; a run of an earlier version does not say so itself."""
    told = read_provenance(run).get("translates_queries")
    return method_class(config.method).translates_queries if told is None else bool(told)


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
