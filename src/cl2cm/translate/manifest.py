"""Translate a manifest's captions, translate back, score, and record the provenance.

What an engine makes goes into the cache first and from there into the new manifest, so a run that
was stopped continues, and the same captions in another manifest cost nothing. Beside the manifest
lies a record of where they come from (``record.py``).
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from cl2cm.errors import ConfigError, LanguageError, ManifestError
from cl2cm.progress import say, track
from cl2cm.text import one_line
from cl2cm.translate import Translator, open_translator
from cl2cm.translate.cache import TranslationCache
from cl2cm.translate.languages import check_code
from cl2cm.translate.pipeline import Translated, translate_texts
from cl2cm.translate.quality import VERSION, identifier_version
from cl2cm.translate.scoring import CosineModel, Scored, Sentence, asked_pairs, score_sentences
from cl2cm.types import Example

ENCODER = "hf:multilingual-e5-small"

Column = tuple[str, str]  # language and name
Place = tuple[int, int]  # example and caption


@dataclass(frozen=True, slots=True)
class Order:
    """A request to translate a manifest.

    Attributes:
        languages: to translate into.
        engine: as on the command line, such as ``ct2:FOLDER``.
        source: language of the captions.
        back_engine: engine of the way back; "" for none.
        jobs: batches at a time; 0: as suits the engine.
    """

    languages: tuple[str, ...]
    engine: str
    source: str = "en"
    back_engine: str = ""
    jobs: int = 0

    def __post_init__(self) -> None:
        check_code(self.source, "--source")
        for code in self.languages:
            check_code(code, "--to")
        if self.source in self.languages:
            raise LanguageError(
                "--to",
                expected=f"languages other than the source {self.source!r}",
                found=repr(self.source),
                remedy="take it out; --back translates back into it",
            )
        kind, _, argument = self.engine.partition(":")
        if kind == "file" and len(self.languages) > 1 and "{target}" not in argument:
            raise ConfigError(
                "--engine",
                expected="one table for each language, as in file:NAME-{target}.tsv",
                found=f"{self.engine} for {', '.join(self.languages)}",
                remedy="write {target} into its name, or translate into one language",
            )


def back_column(name: str, language: str) -> str:
    """Name of the column of source-language texts that translations were turned back into."""
    return f"{name}-{language}-back"


def translate_examples(
    examples: Sequence[Example], order: Order, cache: TranslationCache
) -> tuple[list[Example], list[dict[str, Any]]]:
    """Add a column for each language, and one of each way back.

    Returns:
        The examples, with the other columns as they were, and an account of each new column.

    Raises:
        ManifestError: there are no captions in the source language.
        CL2CMError: whatever is wrong with the engine.
    """
    captions = [text for example in examples for text in example.captions.get(order.source, ())]
    if not captions:
        raise ManifestError(
            "captions",
            expected=f"some in the source language {order.source!r}",
            found="none",
            remedy="choose another --source",
        )
    engines = [open_translator(order.engine, order.source, code) for code in order.languages]
    backs = [
        open_translator(order.back_engine, code, order.source)
        for code in (order.languages if order.back_engine else ())
    ]
    done, accounts = list(examples), []
    for number, engine in enumerate(engines):
        made, account = _translate(engine, captions, cache, order.jobs, engine.name)
        done = [_with_column(e, order.source, engine.target, engine.name, made) for e in done]
        accounts.append(account)
        if backs:
            name = back_column(engine.name, engine.target)
            texts = [text for text in made.values() if text]
            turned, account = _translate(backs[number], texts, cache, order.jobs, name)
            both = {text: turned.get(made[text], "") for text in made}
            done = [_with_column(e, order.source, order.source, name, both) for e in done]
            accounts.append(account)
    return done, accounts


def _translate(
    engine: Translator, texts: Sequence[str], cache: TranslationCache, jobs: int, column: str
) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the text, as one line → translation, and an account of them."""
    what = f"{engine.name}: {engine.source} to {engine.target}"
    begin = time.monotonic()
    with ExitStack() as stack:

        def on_start(total: int, known: int) -> Any:  # noqa: ANN401 - a callback
            if known:
                say(f"{what}: {known} of {total} texts were translated before")
            return stack.enter_context(track(what, total - known))

        result: Translated = translate_texts(
            engine,
            texts,
            cache,
            jobs=jobs,
            on_start=on_start,
            on_wait=lambda: say(f"{what}: another process is translating; waiting"),
        )
    seconds = time.monotonic() - begin
    new = len(result.made) - result.cached
    return result.made, {
        "language": engine.target,
        "column": column,
        "engine": engine.name,
        "version": engine.version,
        "licence": engine.licence,
        "texts": len(result.made),
        "translated": new,
        "cached": result.cached,
        "empty": sum(not text for text in result.made.values()),
        "seconds": round(seconds, 3),
        "rate": round(new / max(seconds, 1e-9), 1),
    }


def _with_column(
    example: Example, source: str, language: str, name: str, made: Mapping[str, str]
) -> Example:
    """Return an example with one column more, or another in its place; its old scores go."""
    captions = example.captions.get(source)
    if not captions:
        return example
    column = tuple(made.get(one_line(text)) or None for text in captions)
    there = example.translations.get(language, {})
    translations = {**example.translations, language: {**there, name: column}}
    return replace(example, translations=translations, quality=_without(example, language, name))


def _without(example: Example, language: str, name: str) -> dict[str, Any]:
    left = {
        code: {
            engine: scores for engine, scores in by.items() if (code, engine) != (language, name)
        }
        for code, by in example.quality.items()
    }
    return {code: by for code, by in left.items() if by}


def columns(examples: Iterable[Example], source: str, languages: Sequence[str]) -> list[Column]:
    """Return the columns of translations in a manifest, those back into the source left out."""
    there = {
        (language, name): None
        for example in examples
        for language, by_engine in example.translations.items()
        for name in by_engine
        if language != source and (not languages or language in languages)
    }
    return sorted(there)


def score_examples(
    examples: Sequence[Example],
    *,
    source: str,
    languages: Sequence[str] = (),
    encoder: str = ENCODER,
    cache: TranslationCache,
) -> tuple[list[Example], dict[Column, dict[Place, tuple[Sentence, Scored]]], dict[str, Any]]:
    """Score the translations of a manifest.

    Args:
        examples: of the manifest.
        source: language of the captions.
        languages: whose translations; empty: all.
        encoder: whose cosines are a part of the scores; ``none`` leaves the part out.
        cache: where cosines are kept.

    Returns:
        The examples with their scores; sentence and score of each place in each column; and how
        the scores were made, for the record.

    Raises:
        ManifestError: there are no translations to score.
        LanguageError: none in one of the languages.
        EncoderError: the encoder cannot be found or loaded.
        MissingExtraError: the extra ``translate`` is not installed.
    """
    wanted = columns(examples, source, languages)
    _check_columns(wanted, languages)
    model = None if encoder == "none" else CosineModel(encoder, cache)
    found: dict[Column, dict[Place, tuple[Sentence, Scored]]] = {}
    for column in wanted:
        places = _sentences(examples, column, source)
        sentences = list(places.values())
        cosines = _cosines(model, sentences, column) if model else None
        scored = score_sentences(sentences, source=source, target=column[0], cosines=cosines)
        found[column] = dict(zip(places, zip(sentences, scored, strict=True), strict=True))
    record = {
        "version": VERSION,
        "language_identification": identifier_version(),
        "encoder": None if model is None else {"name": encoder, "hash": model.fingerprint},
    }
    return [_with_scores(e, i, found) for i, e in enumerate(examples)], found, record


def _check_columns(there: Sequence[Column], languages: Sequence[str]) -> None:
    if not there and not languages:
        raise ManifestError(
            "translations",
            expected="some to score",
            found="none",
            remedy="translate with --to and --engine",
        )
    for language in languages:
        if language not in {code for code, _ in there}:
            raise LanguageError(
                f"language {language!r}",
                expected="translations in it",
                found="none",
                remedy="translate with --to and --engine",
            )


def _sentences(examples: Sequence[Example], column: Column, source: str) -> dict[Place, Sentence]:
    """Return the sentences of a column that have a translation, by place."""
    language, name = column
    found: dict[Place, Sentence] = {}
    for i, example in enumerate(examples):
        texts = example.translations.get(language, {}).get(name, ())
        backs = example.translations.get(source, {}).get(back_column(name, language))
        for j, text in enumerate(texts):
            if text is not None:
                back = backs[j] if backs else None
                found[i, j] = Sentence(example.captions[source][j], text, back)
    return found


def _cosines(
    model: CosineModel, sentences: Sequence[Sentence], column: Column
) -> dict[tuple[str, str], float]:
    pairs = asked_pairs(sentences)
    left = len(model.missing(pairs))
    if not left:
        return model.cosines(pairs)
    with track(f"compare {' '.join(column)}", left) as advance:
        return model.cosines(pairs, advance)


def _with_scores(
    example: Example,
    number: int,
    found: Mapping[Column, Mapping[Place, tuple[Sentence, Scored]]],
) -> Example:
    quality = {code: dict(by) for code, by in example.quality.items()}
    for (language, name), places in found.items():
        texts = example.translations.get(language, {}).get(name)
        if texts is not None:
            scores = (places.get((number, j)) for j in range(len(texts)))
            quality.setdefault(language, {})[name] = tuple(
                None if one is None else round(one[1].score, 4) for one in scores
            )
    return replace(example, quality=quality)
