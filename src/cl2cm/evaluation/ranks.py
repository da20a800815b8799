"""The ranks of a model's runs in each language, and their differences, for the bootstrap."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cl2cm.evaluation.bootstrap import Block, Comparison
from cl2cm.evaluation.ranked_lists import Measured
from cl2cm.evaluation.statistics import (
    Hits,
    paired_bootstrap,
    recall_hits,
    reciprocal_ranks,
    sum_of_recalls_blocks,
)
from cl2cm.metrics import text_to_vision, vision_to_text
from cl2cm.types import Ints


class Ranks(NamedTuple):
    """Ranks of one language, from 1.

    captions: of each caption's image, int64 [Q]; images: best of each image's captions,
    int64 [N]; rows: image of each caption, int64 [Q]; ids: of the images, text [N].
    """

    captions: Ints
    pictures: Ints
    rows: Ints
    ids: npt.NDArray[np.str_]


Runs = Sequence[Mapping[str, Ranks]]  # ranks per language, of each seed


def ranks_of(measured: Measured) -> Ranks:
    """Return the ranks of one language."""
    _, asked, text, vision = measured
    return Ranks(
        text_to_vision(text, vision, asked.rows).best,
        vision_to_text(text, vision, asked.rows).best,
        asked.rows,
        np.array([example.id for example in asked.gallery]),
    )


def sum_blocks(a: Runs, b: Runs, code: str) -> list[Block]:
    """Return SumR of A less SumR of B in a language."""
    return sum_of_recalls_blocks(_hits(a, code), _hits(b, code), a[0][code].rows)


def _hits(runs: Runs, code: str) -> Hits:
    return Hits(
        np.stack([recall_hits(run[code].captions) for run in runs]),
        np.stack([recall_hits(run[code].pictures) for run in runs]),
    )


def compare_mrr(a: Runs, b: Runs, code: str) -> Comparison:
    """Compare the mean reciprocal rank of A and B, text to vision, in percent."""
    one, two = (np.stack([reciprocal_ranks(run[code].captions) for run in runs]) for runs in (a, b))
    return paired_bootstrap(one, two, a[0][code].rows, scale=100.0)


def mean_blocks(a: Runs, b: Runs, codes: Sequence[str]) -> list[Block]:
    """Mean SumR over languages, on the images that have captions in all of them."""
    common = sorted(set.intersection(*(set(a[0][code].ids.tolist()) for code in codes)))
    place = {name: number for number, name in enumerate(common)}
    blocks = []
    for code in codes:
        one = a[0][code]
        pictures = np.array([place.get(name, -1) for name in one.ids.tolist()])
        captions = pictures[one.rows]
        for block, labels in zip(sum_blocks(a, b, code), (captions, pictures), strict=True):
            kept = labels >= 0
            first, second = (np.asarray(values)[..., kept] for values in block[:2])
            blocks.append(Block(first, second, labels[kept], block.scale / len(codes)))
    return blocks
