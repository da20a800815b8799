"""Noise planted in the translations that a training learns from, to measure what it costs.

The noise of real translation engines cannot be turned up or down; this one can. It spoils a given
share of the training split's translations, and nothing else: captions that people wrote, other
splits and back-translations into the source language stay as they are. Each language and engine has
a random stream of its own, so its noise depends on the seed and on its own translations alone.
"""

import dataclasses
import re
import zlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from cl2cm.types import Example, Ints

Kind = Literal["sentence", "word"]
# Scripts that are written without spaces: Thai, Lao, Burmese, Khmer, kana, Chinese characters.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_MARKS = (
    "\\s!-/:-@\\[-`{-~\u00a1-\u00bf\u060c\u061b\u061f\u06d4\u0964\u2000-\u206f\u3000-\u303f"
    "\uff00-\uff0f\uff1a-\uff20"
)
# A word is a run of characters between spaces and punctuation, or one character of those scripts.
_WORD = re.compile(f"[{_UNSPACED}]|[^{_MARKS}{_UNSPACED}]+")
_ROUNDS = 20  # of repairs, after which what still is in its own place stays there


class Spoilt(NamedTuple):
    """Training data with planted noise.

    Attributes:
        examples: all examples; examples of other splits are the very same objects.
        changed: language/engine -> (units that were changed, all units), a unit being a
            translation or a word.
    """

    examples: list[Example]
    changed: dict[str, tuple[int, int]]


class _Place(NamedTuple):
    """Where a translation stands: row of its example, and its position there."""

    row: int
    caption: int


def plant_noise(
    examples: Sequence[Example], *, share: float, kind: Kind, seed: int, source: str
) -> Spoilt:
    """Return examples in which a share of the training translations is wrong.

    ``sentence``: that share of the translations of a language and engine is permuted among items,
    so that each is the translation of a caption of another item, with another text. ``word``: that
    share of the words is replaced by other words, drawn as often as the language has them. A
    changed translation has no quality score, since its score was another text's.

    Args:
        examples: of all splits.
        share: of the translations or words, 0 to 1.
        kind: of the noise.
        seed: of the random choices.
        source: language whose translations, being back-translations, stay as they are.
    """
    columns: dict[tuple[str, str], list[_Place]] = {}
    for row, example in enumerate(examples):
        if example.split == "train":
            for language, engines in example.translations.items():
                for engine, column in engines.items() if language != source else ():
                    places = columns.setdefault((language, engine), [])
                    places += [_Place(row, i) for i, text in enumerate(column) if text]
    edits: dict[int, dict[tuple[str, str], dict[int, str]]] = {}
    changed = {}
    for (language, engine), places in sorted(columns.items()):
        rng = np.random.default_rng([seed, zlib.crc32(f"{language}/{engine}".encode())])
        texts = [examples[row].translations[language][engine][i] or "" for row, i in places]
        if kind == "sentence":
            new = _permuted(texts, [place.row for place in places], share, rng)
            units = sum(old != other for old, other in zip(texts, new, strict=True)), len(texts)
        else:
            new, units = _reworded(texts, share, rng)
        changed[f"{language}/{engine}"] = units
        for place, old, text in zip(places, texts, new, strict=True):
            if old != text:
                by_column = edits.setdefault(place.row, {})
                by_column.setdefault((language, engine), {})[place.caption] = text
    spoilt = [_edited(example, edits.get(row, {})) for row, example in enumerate(examples)]
    return Spoilt(spoilt, changed)


def _permuted(
    texts: Sequence[str], items: Sequence[int], share: float, rng: np.random.Generator
) -> list[str]:
    """Return the texts, a share of them moved to other items."""
    chosen = rng.permutation(len(texts))[: round(share * len(texts))]
    numbers: dict[str, int] = {}
    text = np.array([numbers.setdefault(texts[i], len(numbers)) for i in chosen], dtype=np.int64)
    item = np.array([items[i] for i in chosen], dtype=np.int64)
    origin = elsewhere(item, text, rng)
    new = list(texts)
    for place, other in zip(chosen.tolist(), origin.tolist(), strict=True):
        new[place] = texts[chosen[other]]
    return new


def elsewhere(item: Ints, text: Ints, rng: np.random.Generator) -> Ints:
    """Return a permutation that gives each place another text of another item where possible."""
    origin = rng.permutation(len(item))
    everywhere = np.arange(len(item))
    for _ in range(_ROUNDS):
        for place in _stays(item, text, origin, everywhere).tolist():
            pair = np.array([place, int(rng.integers(len(item)))])
            before = len(_stays(item, text, origin, pair))
            origin[pair] = origin[pair[::-1]]
            if len(_stays(item, text, origin, pair)) >= before:
                origin[pair] = origin[pair[::-1]]
    while len(stays := _stays(item, text, origin, everywhere)):
        if (own := origin[stays] == stays).all():
            break
        place = stays[~own][0]  # cut out of its cycle, it keeps its own text
        origin[origin == place] = origin[place]
        origin[place] = place
    return origin


def _stays(item: Ints, text: Ints, origin: Ints, places: Ints) -> Ints:
    """Return the places that would get a text of their own item, or their own text."""
    of = origin[places]
    kept: Ints = places[(item[of] == item[places]) | (text[of] == text[places])]
    return kept


def _reworded(
    texts: Sequence[str], share: float, rng: np.random.Generator
) -> tuple[list[str], tuple[int, int]]:
    """Return the texts with a share of their words replaced, and the numbers of words."""
    found = [list(_WORD.finditer(text)) for text in texts]
    words = [match.group() for matches in found for match in matches]
    numbers: dict[str, int] = {}
    old = np.array([numbers.setdefault(word, len(numbers)) for word in words], dtype=np.int64)
    places = rng.permutation(len(words))[: round(share * len(words))]
    new = old.copy()
    for _ in range(_ROUNDS):  # a unigram is a word at a random place; not the same word again
        same = places[new[places] == old[places]]
        if not len(same):
            break
        new[same] = old[rng.integers(len(words), size=len(same))]
    names = list(numbers)
    result, position = [], 0
    for text, matches in zip(texts, found, strict=True):
        parts, end = [], 0
        for match in matches:
            parts += [text[end : match.start()], names[new[position]]]
            end, position = match.end(), position + 1
        result.append("".join([*parts, text[end:]]))
    return result, (int(np.count_nonzero(new != old)), len(words))


def _edited(example: Example, edits: dict[tuple[str, str], dict[int, str]]) -> Example:
    """Return the example with other translations, whose quality nobody has measured."""
    if not edits:
        return example
    translations = {code: dict(engines) for code, engines in example.translations.items()}
    quality = {code: dict(engines) for code, engines in example.quality.items()}
    for (language, engine), new in edits.items():
        column = translations[language][engine]
        translations[language][engine] = tuple(new.get(i, old) for i, old in enumerate(column))
        if engine in quality.get(language, {}):
            scores = quality[language][engine]
            quality[language][engine] = tuple(
                None if i in new else score for i, score in enumerate(scores)
            )
    return dataclasses.replace(example, translations=translations, quality=quality)
