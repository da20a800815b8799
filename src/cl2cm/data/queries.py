"""Texts of examples: all of them, or the caption queries of one language."""

from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from cl2cm.errors import LanguageError
from cl2cm.types import Example, Ints


class Queries(NamedTuple):
    """Captions of one language: their texts, and the gallery row that each one describes."""

    texts: list[str]
    rows: Ints
    gallery: list[Example]


def caption_queries(examples: Sequence[Example], language: str) -> Queries:
    """All human captions of a language, with the pictures that have one.

    Raises:
        LanguageError: no picture has a caption in it.
    """
    gallery = [example for example in examples if example.captions.get(language)]
    if not gallery:
        there = sorted({code for example in examples for code in example.captions})
        raise LanguageError(
            f"language {language!r}",
            expected="captions in it",
            found=f"captions in {', '.join(there) or 'no language'}",
            remedy=_remedy(language, there),
        )
    texts: list[str] = []
    rows: list[int] = []
    for row, example in enumerate(gallery):
        texts += example.captions[language]
        rows += [row] * len(example.captions[language])
    return Queries(texts, np.asarray(rows, dtype=np.int64), gallery)


def _remedy(language: str, there: Sequence[str]) -> str:
    if language.lower() in there:
        return f"did you mean {language.lower()!r}?"
    if any(mark in language for mark in "; "):
        return "write several with commas, such as de,fr"
    return "choose among those, or another split"


def caption_languages(examples: Sequence[Example]) -> list[str]:
    """Languages with at least one caption, in alphabetical order."""
    return sorted(
        {code for example in examples for code, texts in example.captions.items() if texts}
    )


def every_text(examples: Iterable[Example], translated: Container[str] | None = None) -> list[str]:
    """Every distinct caption and translation, in order of appearance.

    Args:
        examples: with their texts.
        translated: splits whose translations count; None: all.
    """
    texts: dict[str, None] = {}
    for example in examples:
        for captions in example.captions.values():
            texts |= dict.fromkeys(captions)
        if translated is None or example.split in translated:
            for engines in example.translations.values():
                for column in engines.values():
                    texts |= dict.fromkeys(text for text in column if text)
    return list(texts)
