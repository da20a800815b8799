"""Machine translations that stand for the human captions of a language that has none.

A training without human captions in its target languages would choose its best epoch by the source
language alone. The translations of its validation captions are noisy, but they are in the language
that counts.
"""

import dataclasses
from collections.abc import Sequence

from cl2cm.data.pairs import translations_of
from cl2cm.data.queries import caption_languages
from cl2cm.types import Example


def with_stand_ins(
    examples: Sequence[Example],
    languages: Sequence[str],
    *,
    engines: Sequence[str] = (),
    min_quality: float = 0.0,
) -> tuple[list[Example], list[str]]:
    """Return examples with translations as the captions of languages that nobody captioned.

    Args:
        examples: of one split.
        languages: to fill where no example has a human caption.
        engines: translation engines to use; the first that has a caption counts. Empty: all.
        min_quality: leave out translations of a lower score.

    Returns:
        The examples, and the languages in which at least one translation stands for a caption.
    """
    human = caption_languages(examples)
    names = [code for code in languages if code not in human]
    filled = [_filled(example, names, engines, min_quality) for example in examples]
    there = caption_languages(filled)
    return filled, [code for code in names if code in there]


def _filled(
    example: Example, names: Sequence[str], engines: Sequence[str], min_quality: float
) -> Example:
    found: dict[str, list[str]] = {}
    columns = [c for code in names for c in example.translations.get(code, {}).values()]
    for caption in range(len(columns[0]) if columns else 0):
        for number, options in translations_of(example, caption, names, engines, min_quality):
            found.setdefault(names[number], []).append(options[0][0])
    if not found:
        return example
    captions = {**example.captions, **{code: tuple(texts) for code, texts in found.items()}}
    return dataclasses.replace(example, captions=captions)
