"""Stored features of the items of a manifest, loaded on demand; see `FeatureStore`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cl2cm.encode.rows import Gathered, Rows
from cl2cm.encode.store import FeatureStore
from cl2cm.encode.store_writing import write_store
from cl2cm.errors import StoreError
from cl2cm.progress import track
from cl2cm.types import Floats

if TYPE_CHECKING:  # which imports this module
    from cl2cm.encode.feature_files import FeatureFiles

SHARD_ITEMS = 512  # videos have many frames


class ChosenFeatures:
    """Features of the items of a manifest, loaded on demand; like a `FeatureStore`.

    Attributes:
        ids: of the items.
        width: D_v.
        folder: where the features are.
    """

    def __init__(self, files: "FeatureFiles", ids: list[str], rows: Sequence[int]) -> None:
        self.ids = ids
        self.width = files.width
        self.folder = files.path
        self._files = files
        self._stored = rows
        self._rows = {name: row for row, name in enumerate(ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def has(self, name: str) -> bool:
        """Return whether the features of an item are there."""
        return name in self._rows and self._stored[self._rows[name]] >= 0

    def row(self, name: str) -> int:
        """Return the row of an id.

        Raises:
            StoreError: it is not one of the items, or has no features.
        """
        if not self.has(name):
            raise StoreError(
                str(self.folder),
                expected=f"features of {name!r}",
                found=f"{len(self)} other items",
                remedy="check the ids of the manifest",
            )
        return self._rows[name]

    def gather(self, rows: Tensor) -> Gathered:
        """Return padded batch float32 [B, F, D_v] of rows int64 [B]; padding is zero and masked."""
        frames = [self._files.frames(self._stored[row]) for row in rows.tolist()]
        lengths = torch.tensor([len(values) for values in frames])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        values = torch.zeros(*mask.shape, self.width)
        for place, stored in enumerate(frames):
            values[place, : len(stored)] = torch.from_numpy(stored)
        return Gathered(values, mask, mask.clone())

    def write(self, folder: Path) -> FeatureStore:
        """Copy into a feature store, in half precision.

        Raises:
            StoreError: the folder holds something else, or a number is too large for it.
            StorageError: the disk is full or closed.
        """
        with track("copy features", len(self)) as advance:
            return write_store(
                folder,
                self.ids,
                self._half,
                encoder=self._files.name,
                fingerprint=self._fingerprint(),
                width=self.width,
                preprocessing=self._files.preprocessing,
                progress=advance,
                shard_items=SHARD_ITEMS,
            )

    def _fingerprint(self) -> str:
        names = sorted({self._files.names[row] for row in self._stored if row >= 0})
        return self._files.hash_of(names)

    def _half(self, positions: Sequence[int]) -> Rows:
        stored = [self._stored[position] for position in positions]
        parts = [self._files.frames(row) if row >= 0 else self._nothing() for row in stored]
        values = torch.from_numpy(np.concatenate(parts)).half()
        if not bool(values.isfinite().all()):
            raise StoreError(
                str(self.folder),
                expected=f"numbers to {torch.finfo(torch.float16).max:.0f}, for half precision",
                found="a larger one",
                remedy="use these features in place, or scale them",
            )
        lengths = torch.tensor([len(part) for part in parts])
        return Rows(values, lengths, torch.ones(len(values), dtype=torch.bool))

    def _nothing(self) -> Floats:
        return np.empty((0, self.width), np.float32)
