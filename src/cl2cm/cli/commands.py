"""What the command line does in more than one call, for programs that want the same."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cl2cm.data.leaks import known_leaks
from cl2cm.data.manifest import Skipped, read_manifest, split_of_manifest
from cl2cm.data.queries import caption_languages, every_text
from cl2cm.data.scan import check_name, scan_folder
from cl2cm.encode.encoding import encode_pictures, encode_texts, find_pictures
from cl2cm.encode.feature_files import FeatureFiles
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.vision import load_vision
from cl2cm.errors import CL2CMError, ConfigError, LanguageError, ManifestError, MediaError
from cl2cm.evaluation.retrieval import Translate, evaluate
from cl2cm.index import Allowed, Index
from cl2cm.index.metadata import check_path
from cl2cm.index.update.build import confine
from cl2cm.index.update.update import UpdateOptions, replace_index, update_index
from cl2cm.media.shots import LONG, split_films
from cl2cm.methods.registry import method_class
from cl2cm.model.checkpoint import load, load_visual
from cl2cm.model.config import Config
from cl2cm.model.retrieval import VisualSide
from cl2cm.model.run_folder import AS_TRAINED, Encoders, read_provenance, read_run
from cl2cm.progress import say, track
from cl2cm.search.searcher import Searcher
from cl2cm.translate import find_translators
from cl2cm.types import Example, Floats


def read_source(source: Path, *, skipped: Skipped | None = None) -> list[Example]:
    """Examples of a folder of pictures, or of a manifest.

    Args:
        source: folder or manifest.
        skipped: gets the places of lines that do not fit; None: such a line is an error.

    Raises:
        MediaError: a folder without pictures, or with a folder in it that cannot be read.
        ManifestError: a manifest that does not fit the format, or is empty.
    """
    if source.is_dir():
        return scan_folder(source)
    examples = read_lines(source, skipped)
    if not examples:
        raise ManifestError(
            str(source), expected="at least one item", found="none", remedy="check the file"
        )
    return examples


def read_lines(manifest: Path, skipped: Skipped | None) -> list[Example]:
    """Examples of a manifest, whatever its source language; see `read_source`."""
    return list(
        read_manifest(
            manifest,
            source=None,
            skip_bad=skipped is not None,
            on_skip=skipped.item if skipped is not None else None,
        )
    )


def encode_store(
    source: Path, out: Path, encoder: str, *, side: str, skip_bad: bool = False
) -> dict[str, Any]:
    """Make a feature store of pictures or captions.

    Args:
        source: folder or manifest.
        out: the store.
        encoder: ``onnx:NAME``, ``hf:NAME``, or ``features:PATH``, whose features are copied.
        side: ``vision`` or ``text``.
        skip_bad: leave broken items out.
    """
    if side not in ("vision", "text"):
        raise ConfigError(
            "--side", expected="'vision' or 'text'", found=repr(side), remedy="choose one"
        )
    skipped = Skipped()
    bad = skipped if skip_bad else None
    examples = _named(read_source(source, skipped=bad), bad)
    begin = time.monotonic()
    if side == "vision":
        store = encode_pictures(
            examples, load_vision(encoder), out, skip_bad=skip_bad, on_skip=skipped.item
        )
    else:
        store = encode_texts(all_texts(examples), TextBackbone.load(encoder), out)
    return {
        "store": str(out),
        "encoder": encoder,
        "items": sum(store.has(name) for name in store.ids),
        "width": store.width,
        "skipped": skipped.names,
        "rate": len(store) / max(time.monotonic() - begin, 1e-9),
    }


def _named(examples: list[Example], skipped: Skipped | None) -> list[Example]:
    """Examples whose names are texts; the others are told to ``skipped``, or an error."""
    named = []
    for example in examples:
        try:
            check_name(example)
        except MediaError as error:
            if skipped is None:
                raise
            skipped.item(example.id, error)
        else:
            named.append(example)
    return named


def all_texts(examples: Sequence[Example]) -> list[str]:
    """Every distinct caption and translation, in order of appearance."""
    texts = every_text(examples)
    if not texts:
        raise ManifestError(
            "captions", expected="at least one text", found="none", remedy="check the manifest"
        )
    return texts


def evaluate_manifest(
    run: Path,
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
        run: finished run.
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
    config, _ = read_run(run, encoders)
    translate = None
    if _translates_queries(run, config):
        asked, translate = _translated(asked, config.data.source, named=bool(languages))
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


def index_source(
    run: Path,
    source: Path,
    out: Path,
    *,
    skip_bad: bool = False,
    shots: bool | None = None,
    options: UpdateOptions | None = None,
    roots: Sequence[Path] = (),
    encoders: Encoders = AS_TRAINED,
) -> dict[str, Any]:
    """Index a folder or a manifest; an index that is there encodes only what is new or changed.

    The features of a manifest's pictures come from the cache where they were encoded in training;
    such an index is written anew.

    Args:
        run: finished run.
        source: folder or manifest.
        out: index to make or replace.
        skip_bad: leave broken items out.
        shots: whether a film has one vector for each shot; None: where it is longer than 10 s.
        options: how an index that is there is brought up to date.
        roots: folders that a manifest may lead to, besides its own.
        encoders: where the run's vision encoder or features are by now.
    """
    for path in (run, out):
        check_path(path)
    skipped = Skipped()
    bad = skipped.item if skip_bad else None
    examples = read_source(source, skipped=skipped if skip_bad else None)
    if source.is_dir():  # whose files are all below it
        roots = (source.absolute(),)
    else:
        roots = (source.parent.resolve(), *(root.resolve() for root in roots))
        examples = confine(examples, roots, bad)
    options = replace(options or UpdateOptions(), roots=roots)
    model = load_visual(run, vision_encoder=encoders.vision)
    stored = isinstance(model.vision, FeatureFiles)
    if skip_bad and isinstance(model.vision, FeatureFiles):
        examples = model.vision.known(examples, skipped.item)
    if shots is not False and not stored:
        examples = split_films(examples, longer_than=0.0 if shots else LONG, on_skip=bad)
    if stored or find_pictures(examples, model.vision):
        vectors = model.encode_examples(examples)
        update = replace_index(model, examples, vectors, out, run=run, options=options)
    else:
        with track("index", len(examples)) as advance:
            update = update_index(
                model,
                examples,
                out,
                run=run,
                options=options,
                on_skip=bad,
                progress=advance,
            )
    return {
        "index": str(out),
        "items": len(update.index),
        "encoded": update.encoded,
        "kept": update.kept,
        "dropped": update.dropped,
        "skipped": skipped.names,
        "model": model.fingerprint,
    }


def open_searcher(
    index: Path,
    run: Path | None = None,
    allowed: Allowed | None = None,
    encoders: Encoders = AS_TRAINED,
    on_stage: Callable[[str], None] | None = None,
) -> Searcher:
    """A searcher on an index, with the model of its run.

    Args:
        index: the folder.
        run: the run, where it is not the one of the index.
        allowed: what the index may reach outside its folder; see `Index.open`.
        encoders: where the run's encoders are by now.
        on_stage: called with what begins, as each part may take seconds.

    Raises:
        VectorIndexError: no index, another model's, or a server that the user did not allow.
        CheckpointError: its run is gone or damaged.
    """
    tell = on_stage or (lambda _: None)
    tell(f"opening the index {index}")
    opened = Index.open(index, allowed)
    place = run or opened.run
    tell(f"loading the model {place}")
    model = load(place, text_encoder=encoders.text, vision_encoder=encoders.vision)
    tell(f"comparing scores of {len(opened):,} items")
    return Searcher(model, opened)
