"""Retrieval metrics of the method page: R@1, R@5, R@10, median rank, mAP, SumR.

Each caption is its own query (text -> vision); an image queries its captions, and the best rank
among them counts for recall and median rank, all of them for mAP. Similarities are computed in
chunks, so that memory stays bounded; ties are broken by row, as in the exact index.
"""

import re
from typing import Any, NamedTuple

import numpy as np

from cl2cm.errors import NumberError
from cl2cm.types import Floats, Ints

CUTOFFS = (1, 5, 10)
CHUNK = 1024  # queries whose similarities are held at once


TIE = np.float32(1e-6)  # several times the rounding of a dot product of unit vectors in float32


class QueryRanks(NamedTuple):
    """Ranks of the queries in one direction.

    best: int64 [Q], best rank of each query's relevant items, from 1.
    precision: float64 [Q], average precision of each query.
    """

    best: Ints
    precision: np.ndarray


def _check_problem(text: Floats, vision: Floats, rows: Ints) -> None:
    """Refuse what has no ranks: no caption, or an item without one."""
    answers = np.unique(rows)
    if len(text) == len(rows) > 0 and np.array_equal(answers, np.arange(len(vision))):
        return
    raise NumberError(
        "ranks",
        expected="one row for each caption, and at least one caption of each item",
        found=f"{len(text)} captions with {len(rows)} rows, of {len(answers)} items among "
        f"{len(vision)}",
        remedy="leave out items without captions",
    )


def scores_of(queries: Floats, gallery: Floats, first: tuple[str, int], other: str) -> Floats:
    """Return the dot products [Q, N], all finite.

    Args:
        queries: [Q, D].
        gallery: [N, D].
        first: what a query is called in an error, and the number of the first one.
        other: what an item of the gallery is called.

    Raises:
        NumberError: a score is not finite.
    """
    with np.errstate(all="ignore"):
        scores: Floats = queries @ gallery.T
    if not np.isfinite(scores).all():
        row, column = np.argwhere(~np.isfinite(scores))[0].tolist()
        raise NumberError(
            f"score of {first[0]} {first[1] + row} and {other} {column}",
            expected="a finite number",
            found=str(scores[row, column]),
            remedy="check the vectors and the model that made them",
        )
    return scores


def text_to_vision(text: Floats, vision: Floats, rows: Ints, *, chunk: int = CHUNK) -> QueryRanks:
    """Return the rank of each caption's image.

    Args:
        text: unit vectors [Q, D].
        vision: unit vectors [N, D].
        rows: int64 [Q], the image of each caption.
        chunk: captions whose similarities are held at once.

    Raises:
        NumberError: a score is not finite, or there is nothing to rank.
    """
    _check_problem(text, vision, rows)
    best = np.empty(len(text), dtype=np.int64)
    for start in range(0, len(text), chunk):
        part = slice(start, start + chunk)
        best[part] = _rank(scores_of(text[part], vision, ("caption", start), "item"), rows[part])
    return QueryRanks(best, 1.0 / best)


def vision_to_text(text: Floats, vision: Floats, rows: Ints, *, chunk: int = CHUNK) -> QueryRanks:
    """Return ranks of each image's captions; arguments and errors as in ``text_to_vision``."""
    _check_problem(text, vision, rows)
    best = np.empty(len(vision), dtype=np.int64)
    precision = np.empty(len(vision))
    order = np.argsort(rows, kind="stable")
    bounds = np.searchsorted(rows[order], np.arange(len(vision) + 1))
    for start in range(0, len(vision), chunk):
        scores = scores_of(vision[start : start + chunk], text, ("item", start), "caption")
        for i, row in enumerate(range(start, min(start + chunk, len(vision)))):
            ranks, _ = relevant_ranks(scores[i], order[bounds[row] : bounds[row + 1]])
            best[row] = ranks[0]
            precision[row] = np.mean(np.arange(1, len(ranks) + 1) / ranks)
    return QueryRanks(best, precision)


def _rank(scores: Floats, columns: Ints) -> Ints:
    """Return rank, from 1, of one column in each row; of equal scores the lower column comes first.

    Scores within ``TIE`` are equal: equal items get vectors that differ by rounding, according to
    the batch that each was encoded in, and the rank must not depend on that.
    """
    own = scores[np.arange(len(scores)), columns][:, None]
    before = np.arange(scores.shape[1]) < columns[:, None]
    ahead = np.where(before, scores >= own - TIE, scores > own + TIE)
    ahead[np.arange(len(scores)), columns] = False
    ranks: Ints = 1 + np.count_nonzero(ahead, axis=1)
    return ranks


def relevant_ranks(scores: Floats, columns: Ints) -> tuple[Ints, Ints]:
    """Return ranks of a query's relevant items, from 1, and the items by rank.

    "Equal within ``TIE``" is not transitive, so several items in a chain of near ties may get one
    rank; they then take neighbouring ranks, as in a list.

    Args:
        scores: [N], of all items.
        columns: int64 [R], the relevant items.

    Returns:
        Strictly increasing ranks int64 [R], and the columns in their order.
    """
    repeated = np.broadcast_to(scores, (len(columns), len(scores)))
    ranks = _rank(repeated, columns)
    order = np.argsort(ranks, kind="stable")
    steps = np.arange(len(columns))
    distinct: Ints = np.maximum.accumulate(ranks[order] - steps) + steps
    return np.minimum(distinct, len(scores) - steps[::-1]), columns[order]


def summary(direction: QueryRanks) -> dict[str, float]:
    """Return recalls in percent, median rank, and mAP in percent."""
    recalls = {f"R@{k}": 100.0 * float(np.mean(direction.best <= k)) for k in CUTOFFS}
    return recalls | {
        "MedR": float(np.median(direction.best)),
        "mAP": 100.0 * float(np.mean(direction.precision)),
    }


def metrics(text: Floats, vision: Floats, rows: Ints, *, chunk: int = CHUNK) -> dict[str, Any]:
    """Return all metrics of one language, as ``evaluate --json`` gives them."""
    to_vision = summary(text_to_vision(text, vision, rows, chunk=chunk))
    to_text = summary(vision_to_text(text, vision, rows, chunk=chunk))
    total = sum(side[f"R@{k}"] for side in (to_vision, to_text) for k in CUTOFFS)
    return {
        "text_to_vision": to_vision,
        "vision_to_text": to_text,
        "SumR": total,
        "queries": len(text),
        "gallery": len(vision),
    }


def trec_name(item: str) -> str:
    """Return an id as TREC's format takes it: with ``_`` for each blank and control character."""
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]", "_", item)
