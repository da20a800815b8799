"""Mean quality of the translations of each language, beside which a report sets its recall.

Where ``cl2cm translate`` has scored the translations, the mean of the scores; otherwise their chrF
against the human captions of the same image or video, the best of them for each translation.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from cl2cm.translate.quality import chrf
from cl2cm.types import Example

SCORE, CHRF = "quality score", "chrF"
_MOST = 400  # items of a language that are compared


class Quality(NamedTuple):
    """Mean quality of translations.

    Attributes:
        measure: ``SCORE`` or ``CHRF``, the same for all languages.
        means: language → mean, 0 to 1, higher is better.
        counts: language → number of translations.
    """

    measure: str
    means: dict[str, float]
    counts: dict[str, int]


def translation_quality(
    examples: Sequence[Example], languages: Iterable[str], engines: Sequence[str]
) -> Quality | None:
    """Return the quality of the translations of the languages that have one; None without any.

    Args:
        examples: all items of a manifest.
        languages: of the translations.
        engines: whose translations count; empty: all.
    """
    languages = list(languages)
    scores = {code: _scores(examples, code, engines) for code in languages}
    measure = SCORE
    if not any(scores.values()):
        measure = CHRF
        scores = {code: _compared(examples, code, engines) for code in languages}
    scores = {code: values for code, values in scores.items() if values}
    if not scores:
        return None
    means = {code: float(np.mean(values)) for code, values in scores.items()}
    return Quality(measure, means, {code: len(values) for code, values in scores.items()})


def _scores(examples: Sequence[Example], code: str, engines: Sequence[str]) -> list[float]:
    return [
        score
        for example in examples
        for engine, column in example.quality.get(code, {}).items()
        if not engines or engine in engines
        for score in column
        if score is not None
    ]


def _compared(examples: Sequence[Example], code: str, engines: Sequence[str]) -> list[float]:
    both = [e for e in examples if e.captions.get(code) and e.translations.get(code)]
    chosen = both[:: max(1, len(both) // _MOST)]
    values = []
    for example in chosen:
        for engine, column in example.translations[code].items():
            text = next((text for text in column if text), None)
            if text and (not engines or engine in engines):
                values.append(max(chrf(text, human) for human in example.captions[code]))
    return values
