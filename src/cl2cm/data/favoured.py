"""Caption pairs of which one target language is drawn more often than the others."""

import dataclasses

import numpy as np

from cl2cm.data.caption_pairs import CaptionPairs
from cl2cm.errors import LanguageError


def favour(pairs: CaptionPairs, language: str, share: float) -> CaptionPairs:
    """Return pairs that are drawn in one language as often as a share says.

    The other languages of a pair have the rest, in equal parts; a pair that is not translated into
    both is drawn in those that it has. Every pair stays as likely as it was.

    Raises:
        LanguageError: it is none of the target languages.
    """
    if language not in pairs.languages:
        raise LanguageError(
            f"language {language!r}",
            expected=f"one of {', '.join(pairs.languages)}",
            found="another",
            remedy="add it to data.languages",
        )
    sizes = np.diff(pairs.groups)
    owner = np.repeat(np.arange(len(pairs)), sizes)
    new = pairs.group_language == pairs.languages.index(language)
    news = np.bincount(owner, new, minlength=len(pairs))
    olds = sizes - news
    both = ((news > 0) & (olds > 0))[owner]
    of_group = np.where(
        new, share / np.maximum(news, 1)[owner], (1 - share) / np.maximum(olds, 1)[owner]
    )
    chances = np.where(both, of_group, 1 / sizes[owner]) * sizes[owner]
    options = np.diff(pairs.choices)
    weights = np.repeat(chances / options, options)
    if pairs.weights is not None:
        weights *= pairs.weights * np.repeat(options, options)
    return dataclasses.replace(pairs, weights=weights)
