"""Near-duplicates among hits, shown once: copies of an image, and the moments of one video."""

from collections.abc import Sequence

import numpy as np

from cl2cm.types import Floats, Hit

# Cosine from which two items count as the same. Measured (docs/log.md): of photos saved again as
# WebP 96 % are found, and no two different photos of 964 are as close.
SAME = 0.93


def fold(hits: Sequence[Hit], vectors: Floats, *, same: float = SAME) -> list[list[Hit]]:
    """Group hits; the first of each group is its best, and groups come in the order of these.

    A hit joins the first group whose best one it repeats: a part of the same video, or a vector of
    cosine at least ``same``.

    Args:
        hits: best first.
        vectors: of the hits, unit length, float32 [K, D].
        same: 0 to 1; more than 1 folds videos alone.
    """
    groups: list[list[Hit]] = []
    videos: dict[str, int] = {}
    heads = np.empty_like(vectors)
    for hit, vector in zip(hits, vectors, strict=True):
        video = hit.path if hit.start is not None or hit.end is not None else ""
        close = np.flatnonzero(heads[: len(groups)] @ vector >= same)
        at = videos.get(video) if video else None
        if at is None and len(close):
            at = int(close[0])
        if at is None:
            at = len(groups)
            heads[at] = vector
            groups.append([])
        if video:
            videos.setdefault(video, at)
        groups[at].append(hit)
    return groups


def unfolded(hits: Sequence[Hit]) -> list[list[Hit]]:
    """Return each hit in a group of its own."""
    return [[hit] for hit in hits]
