"""Caption pairs of a manifest, as ragged tables of text rows.

A caption pair is an image with one human source caption and what stands for it in the target
languages: its translations, or for the upper bound the image's human captions.
"""

from collections.abc import Sequence

import numpy as np

from cl2cm.data.caption_pairs import CaptionPairs
from cl2cm.errors import ConfigError, LanguageError, ManifestError, nearest
from cl2cm.types import Example, Ints

ScoredText = tuple[str, float | None]  # a text, and its score where it has one
Translations = list[tuple[int, list[ScoredText]]]  # number of a language, and its texts


class Texts:
    """The distinct texts of a data set, each with a row."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, text: str) -> int:
        """Return the row of a text, new or known."""
        return self.rows.setdefault(text, len(self.rows))

    def all(self) -> list[str]:
        """Return all texts, in the order of their rows."""
        return list(self.rows)


def target_languages(
    examples: Sequence[Example], *, source: str, chosen: Sequence[str], human: bool = False
) -> tuple[str, ...]:
    """Return the target languages to train on: the chosen ones, or all that there are.

    Raises:
        LanguageError: a chosen language is not in the data, or there is none at all.
    """
    there = {
        language
        for example in examples
        for language in (example.captions if human else example.translations)
    } - {source}
    for language in chosen:
        if language not in there:
            raise LanguageError(
                f"language {language!r}",
                expected="training texts in it",
                found=f"texts in {', '.join(sorted(there)) or 'no target language'}",
                remedy=nearest(language, there, listed=True)
                if there
                else "translate the manifest first",
            )
    if not there:
        raise LanguageError(
            "training data",
            expected="human captions in at least one target language"
            if human
            else "translations in at least one language",
            found="none",
            remedy="translate the manifest first, or train the method 'zero-shot'",
        )
    return tuple(chosen) or tuple(sorted(there))


def caption_pairs(
    examples: Sequence[Example],
    texts: Texts,
    *,
    source: str,
    languages: Sequence[str],
    engines: Sequence[str] = (),
    human: bool = False,
    min_quality: float = 0.0,
    quality_weighting: float = 0.0,
) -> CaptionPairs:
    """Pair the source captions of all examples with their translations.

    Captions without any translation in the languages are left out; where ``languages`` is
    empty, every caption is its own only choice, in the source language (``zero-shot``).
    Translations *into* the source language are back-translations, by whatever engine.

    Args:
        examples: of the training split; an image's row is its position.
        texts: gets the texts that are new.
        source: language of the human captions.
        languages: target languages.
        engines: translation engines to use; empty uses all.
        human: pair with the image's human captions in place of translations (``supervised``).
        min_quality: leave out translations of a lower score; those without a score stay.
        quality_weighting: choose pairs, languages and translations with chances that go as their
            score to this power; those without a score count as 1. 0: all are alike.

    Raises:
        ConfigError: an engine that no translation is of, or no scores where they are asked for.
        ManifestError: no pair is left.
    """
    names = tuple(languages) or (source,)
    if languages and not human:
        _check_engines(examples, engines)
        if min_quality or quality_weighting:
            _check_scores(examples, languages)
    columns = _Columns(texts, quality_weighting)
    for row, example in enumerate(examples):
        captions = _human(example, names)
        for i, caption in enumerate(example.captions.get(source, ())):
            found: Translations
            if not languages:
                found = [(0, [(caption, None)])]
            elif human:
                found = captions
            else:
                found = translations_of(example, i, names, engines, min_quality)
            if found:
                columns.add(row, caption, found, _back_translation(example, source, i))
    if not columns.sources:
        raise ManifestError(
            "training data",
            expected=f"captions in {source!r} with "
            f"{'human captions' if human else 'translations'} in {', '.join(names)}",
            found=f"none among {len(examples)} items",
            remedy="check data.source, data.languages and data.engines",
        )
    return columns.pairs(names)


class _Columns:
    """The columns of `CaptionPairs`, which grow by one pair after the other.

    Args:
        texts: gets the texts that are new.
        quality_weighting: as in `caption_pairs`.
    """

    def __init__(self, texts: Texts, quality_weighting: float) -> None:
        self._texts, self._power = texts, quality_weighting
        self.images: list[int] = []
        self.sources: list[int] = []
        self.backs: list[int] = []
        self.groups: list[int] = [0]
        self.group_language: list[int] = []
        self.choices: list[int] = [0]
        self.target: list[int] = []
        self.weights: list[float] = []

    def add(self, image: int, caption: str, translations: Translations, back: str | None) -> None:
        """Add a pair: the row of an image, its caption, and what stands for it by language."""
        for language, options in translations:
            self.group_language.append(language)
            self.target += [self._texts.add(option) for option, _ in options]
            self.weights += [_weight(score, self._power) / len(options) for _, score in options]
            self.choices.append(len(self.target))
        self.images.append(image)
        self.sources.append(self._texts.add(caption))
        self.backs.append(self._texts.add(back) if back else -1)
        self.groups.append(len(self.group_language))

    def pairs(self, languages: tuple[str, ...]) -> CaptionPairs:
        """Return all pairs that were added."""
        return CaptionPairs(
            _rows(self.images),
            _rows(self.sources),
            _rows(self.groups),
            _rows(self.group_language),
            _rows(self.choices),
            _rows(self.target),
            _rows(self.backs),
            languages=languages,
            weights=np.asarray(self.weights) if self._power else None,
        )


def _weight(score: float | None, power: float) -> float:
    return 1.0 if score is None else max(score, 1e-3) ** power


def _rows(values: list[int]) -> Ints:
    return np.asarray(values, dtype=np.int64)


def _check_engines(examples: Sequence[Example], engines: Sequence[str]) -> None:
    """Each engine has made translations, be it into a language that is not trained here."""
    there = {
        engine
        for example in examples
        for engines_of in example.translations.values()
        for engine in engines_of
    }
    for engine in engines if there else ():
        if engine not in there:
            raise ConfigError(
                "data.engines",
                expected=f"engines among {', '.join(sorted(there))}",
                found=repr(engine),
                remedy=nearest(engine, there, listed=True),
            )


def _check_scores(examples: Sequence[Example], languages: Sequence[str]) -> None:
    if not any(example.quality.get(language) for example in examples for language in languages):
        raise ConfigError(
            "data.min_quality, data.quality_weighting",
            expected="a manifest with scores of its translations",
            found="none",
            remedy="run: cl2cm translate MANIFEST --report --out SCORED",
        )


def translations_of(
    example: Example,
    caption: int,
    languages: Sequence[str],
    engines: Sequence[str],
    min_quality: float,
) -> Translations:
    """Return a caption's translations, by the number of their language, where it has any."""
    found = []
    for number, language in enumerate(languages):
        by_engine = example.translations.get(language, {})
        scores = example.quality.get(language, {})
        options: list[ScoredText] = []
        for engine, column in by_engine.items():
            score = scores[engine][caption] if engine in scores else None
            good = score is None or score >= min_quality
            if good and (not engines or engine in engines) and (text := column[caption]):
                options.append((text, score))
        if options:
            found.append((number, options))
    return found


def _human(example: Example, languages: Sequence[str]) -> Translations:
    """Return the image's human captions in each of the languages that it has."""
    captions = ((number, example.captions.get(code)) for number, code in enumerate(languages))
    return [(number, [(text, None) for text in texts]) for number, texts in captions if texts]


def _back_translation(example: Example, source: str, caption: int) -> str | None:
    """Return the first back-translation of a source caption, if there is one."""
    columns = example.translations.get(source, {}).values()
    return next((text for column in columns if (text := column[caption])), None)
