"""States of texts that the stores of earlier trainings have: copied, not computed again."""

from collections.abc import Sequence
from pathlib import Path

import torch

from cl2cm.encode.rows import Rows, ragged
from cl2cm.encode.store import FeatureStore
from cl2cm.encode.text import TextBackbone
from cl2cm.errors import CL2CMError
from cl2cm.storage import cache_folder

COPIED_AT_ONCE = 1024  # texts


def known_texts(
    root: Path | None, backbone: TextBackbone, texts: Sequence[str]
) -> tuple[FeatureStore, ...]:
    """Return the stores under ``root``, or in the cache, that hold states of some of the texts."""
    found = []
    base = root or cache_folder() / "features"
    for folder in sorted(base.glob(f"text-{backbone.fingerprint[:12]}-*")):
        try:
            store = FeatureStore.open(folder, fingerprint=backbone.fingerprint)
        except CL2CMError:  # unfinished, or damaged
            continue
        if any(map(store.has, texts)):
            found.append(store)
    return tuple(found)


def known_rows(
    stores: Sequence[FeatureStore], texts: Sequence[str]
) -> tuple[list[int], list[Rows]]:
    """Return the positions of the texts that the stores have, and their states in that order."""
    order: list[int] = []
    parts: list[Rows] = []
    left = list(range(len(texts)))
    for store in stores:
        there = [i for i in left if store.has(texts[i])]
        for start in range(0, len(there), COPIED_AT_ONCE):
            some = there[start : start + COPIED_AT_ONCE]
            rows = torch.tensor([store.row(texts[i]) for i in some])
            parts.append(ragged(*store.gather(rows)))
        order += there
        left = [i for i in left if not store.has(texts[i])]
    return order, parts
