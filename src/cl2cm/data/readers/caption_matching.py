"""Match the captions of two releases that differ in spelling and order.

Flickr30k took over the captions of Flickr8k's images, with spaces, case and spelling changed
("grey", "gray"); what was made from one release is put beside the captions of the other by this.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher

SAME = 0.87  # of 1; found on Flickr8k: the same from 0.888 up, others up to 0.851


def match_captions(wanted: Sequence[str], given: Sequence[str]) -> list[int | None]:
    """For each of some captions the place of the same one among others; each is used once.

    Equal ones come first, case, space and punctuation aside; then the most similar, by
    ``difflib``'s ratio of letters.

    Returns:
        Places in ``given``, None if none is as similar as ``SAME``.
    """
    left, right = [_letters(text) for text in wanted], [_letters(text) for text in given]
    found: list[int | None] = [None] * len(wanted)
    free = list(range(len(given)))
    for i, text in enumerate(left):
        equal = next((j for j in free if right[j] == text), None)
        if equal is not None:
            found[i] = equal
            free.remove(equal)
    pairs = [
        (_ratio(left[i], right[j]), i, j)
        for i, place in enumerate(found)
        if place is None
        for j in free
    ]
    for ratio, i, j in sorted(pairs, key=lambda pair: -pair[0]):
        if ratio >= SAME and found[i] is None and j in free:
            found[i] = j
            free.remove(j)
    return found


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


def _ratio(left: str, right: str) -> float:
    return SequenceMatcher(None, left, right, autojunk=False).ratio()
