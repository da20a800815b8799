"""The ranked lists behind the metrics: for each query the whole gallery, in the order that counts.

A list has each relevant item at the rank that the metrics give it, and the others by score. So a
program that reads the lists and the relevant items computes the same figures.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from cl2cm.data.queries import Queries
from cl2cm.metrics import CHUNK, relevant_ranks, scores_of
from cl2cm.types import Floats, Ints

Direction = Literal["text_to_vision", "vision_to_text"]
DIRECTIONS: tuple[Direction, ...] = ("text_to_vision", "vision_to_text")


class Ranking(NamedTuple):
    """The list of one query.

    Attributes:
        query: its row.
        relevant: int64 [R], the relevant items, best first.
        ranks: int64 [R], their ranks, from 1.
        order: int64 [N], the items of the gallery, best first.
        scores: float32 [N], of each item in this order.
    """

    query: int
    relevant: Ints
    ranks: Ints
    order: Ints
    scores: Floats


class Measured(NamedTuple):
    """One language of an evaluation: its captions and items, and their unit vectors."""

    language: str
    asked: Queries
    text: Floats
    vision: Floats


def rankings(measured: Measured, direction: Direction, *, chunk: int = CHUNK) -> Iterator[Ranking]:
    """Return the list of each query in one direction.

    Raises:
        NumberError: a score is not finite.
    """
    _, asked, text, vision = measured
    relevant: Sequence[Ints]
    if direction == "text_to_vision":
        queries, gallery, names = text, vision, ("caption", "item")
        relevant = list(asked.rows[:, None])
    else:
        queries, gallery, names = vision, text, ("item", "caption")
        relevant = _captions_of(asked.rows, len(vision))
    for start in range(0, len(queries), chunk):
        scores = scores_of(queries[start : start + chunk], gallery, (names[0], start), names[1])
        for row, line in enumerate(scores, start=start):
            ranks, columns = relevant_ranks(line, relevant[row])
            order = _place(line, columns, ranks)
            yield Ranking(row, columns, ranks, order, line[order])


def _captions_of(rows: Ints, items: int) -> Sequence[Ints]:
    """Captions of each item."""
    order = np.argsort(rows, kind="stable")
    return np.split(order, np.searchsorted(rows[order], np.arange(1, items)))


def _place(scores: Floats, columns: Ints, ranks: Ints) -> Ints:
    """Return all items by score, with the relevant ones at their ranks."""
    by_score = np.argsort(-scores, kind="stable")
    free = np.ones(len(scores), dtype=bool)
    free[ranks - 1] = False
    order: Ints = np.empty(len(scores), dtype=np.int64)
    order[ranks - 1] = columns
    order[free] = by_score[~np.isin(by_score, columns)]
    return order


def falling(scores: Floats) -> Floats:
    """Return scores float32 [N] that fall strictly, each the largest that is not above its own.

    Readers of ranked lists sort by score and break ties by name. Here the order is said by the
    scores alone; one that ties is lowered by the smallest step that float32 has.
    """
    bits = np.ascontiguousarray(scores, dtype=np.float32).view(np.int32).astype(np.int64)
    whole = np.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))  # in the order of the numbers
    steps = np.arange(len(whole))
    whole = np.minimum.accumulate(whole + steps) - steps
    back = np.where(whole >= 0, whole, (-whole) | 0x80000000).astype(np.uint32)
    result: Floats = back.view(np.float32)
    return result
