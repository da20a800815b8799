"""Precomputed features as a vision encoder, ``features:PATH``: no picture is opened.

Items are found in the layouts of ``feature_layouts.py`` by their ``features`` id, or by their own.
A picture that nobody has computed features of cannot be encoded. The fingerprint is a hash of
names, shapes and a sample of the numbers, whatever the layout: a run that was trained on other
features is refused, one whose features were only written anew is not.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cl2cm.encode.feature_layouts import open_layout
from cl2cm.encode.store import FeatureStore, Gathered, Rows, write_store
from cl2cm.errors import EncoderError, MediaError, StoreError
from cl2cm.media.images import Pixels, Preprocess
from cl2cm.progress import track
from cl2cm.text import spellings
from cl2cm.types import Example, Floats, Sampling

SAMPLED = 64  # items whose numbers are in the fingerprint
SHARD_ITEMS = 512  # films have many frames
OnMissing = Callable[[str, MediaError], None]


class FeatureFiles:
    """A vision encoder that knows the features of its items, and of nothing else.

    Args:
        name: what it is called in messages and records.
        path: folder or file of the features.

    Attributes:
        width: D_v.
        fingerprint: hexadecimal hash of names, shapes and a sample of the numbers.

    Raises:
        EncoderError: nothing is there.
        StoreError: what is there is of no known layout, or damaged.
        MissingExtraError: h5py is not installed.
    """

    def __init__(self, name: str, path: Path) -> None:
        if not path.exists():
            raise EncoderError(
                name, expected="features", found="no such file or folder", remedy="check the path"
            )
        self.name = name
        self.path = path
        self._layout = open_layout(path)
        self.width = self._layout.width
        self._rows = {item: row for row, item in enumerate(self._layout.names)}
        if not self._rows:
            raise StoreError(
                str(path), expected="features of items", found="no item", remedy="check the path"
            )
        self.fingerprint = self._fingerprint()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def preprocess(self) -> Preprocess:
        """There is none.

        Raises:
            EncoderError: always; it is asked for by who wants to encode a picture.
        """
        self._no_pictures()

    @property
    def sampling(self) -> Sampling:
        """As `preprocess`."""
        self._no_pictures()

    @property
    def size(self) -> int:
        """As `preprocess`."""
        self._no_pictures()

    @property
    def preprocessing(self) -> str:
        """What is known of it, as JSON for the record."""
        return json.dumps({"features": str(self.path), "items": len(self)}, sort_keys=True)

    def encode(self, pixels: Pixels) -> Floats:
        """As `preprocess`."""
        del pixels
        self._no_pictures()

    def has(self, example: Example) -> bool:
        """Whether the features of an item are there."""
        return self._row(example) >= 0

    def frames(self, row: int) -> Floats:
        """Features float32 [F, D_v] of one item, F at least 1.

        Raises:
            StoreError: they are of another width, or no finite numbers.
        """
        stored = self._layout.frames(row)
        values: Floats = np.array(np.atleast_2d(_numbers(stored)), dtype=np.float32)
        right = values.ndim == 2 and values.shape[1] == self.width and len(values)
        if right and bool(np.isfinite(values).all()):
            return values
        raise StoreError(
            f"{self.path}: {self._layout.names[row]!r}",
            expected=f"finite numbers [{self.width}] or [F, {self.width}]",
            found="infinite ones, or none" if right else f"{stored.dtype} {list(stored.shape)}",
            remedy="compute its features again",
        )

    def choose(
        self,
        examples: Sequence[Example],
        *,
        skip_bad: bool = False,
        on_skip: OnMissing | None = None,
    ) -> "ChosenFeatures":
        """The features of some items, by the items' own ids.

        Raises:
            MediaError: an item has none, and ``skip_bad`` is not set; or none of them has.
        """
        rows = [self._row(example) for example in examples]
        for example, row in zip(examples, rows, strict=True):
            if row < 0:
                error = self._missing(f"item {example.id!r}", f"features of {_key(example)!r}")
                if not skip_bad:
                    raise error
                if on_skip:
                    on_skip(example.id, error)
        if examples and max(rows) < 0:
            raise self._missing(f"{len(examples)} items", "features of at least one")
        return ChosenFeatures(self, [example.id for example in examples], rows)

    def known(self, examples: Sequence[Example], on_skip: OnMissing | None = None) -> list[Example]:
        """The items whose features are there; the others are told to ``on_skip``.

        Raises:
            MediaError: there is none.
        """
        chosen = self.choose(examples, skip_bad=True, on_skip=on_skip)
        return [example for example in examples if chosen.has(example.id)]

    def _row(self, example: Example) -> int:
        """Row of an item's features, -1 where there are none; names may be spelt either way."""
        rows = (self._rows.get(name, -1) for name in spellings(_key(example)))
        return next((row for row in rows if row >= 0), -1)

    def _fingerprint(self) -> str:
        names = sorted(self._rows)
        digest = hashlib.sha256("\n".join([str(self.width), *names]).encode())
        for place in np.linspace(0, len(names) - 1, min(SAMPLED, len(names))).round().astype(int):
            values = self.frames(self._rows[names[place]])
            digest.update(f"{names[place]} {len(values)}\n".encode())
            digest.update(values.astype("<f4").tobytes())
        return digest.hexdigest()

    def _missing(self, subject: str, expected: str) -> MediaError:
        found = f"features of {len(self)} others, such as {self._layout.names[0]!r}"
        remedy = "check the ids of the manifest, or leave such items out"
        return MediaError(f"{self.name}: {subject}", expected=expected, found=found, remedy=remedy)

    def _no_pictures(self) -> NoReturn:
        raise EncoderError(
            self.name,
            expected="items whose features it holds",
            found="a picture or film to encode",
            remedy="give a manifest with ids of the features, or train with onnx:DIR or hf:ID",
        )


class ChosenFeatures:
    """Features of the items of a manifest, read when they are asked for; as a `FeatureStore`.

    Attributes:
        ids: of the items.
        width: D_v.
        folder: where the features are.
    """

    def __init__(self, files: FeatureFiles, ids: list[str], rows: Sequence[int]) -> None:
        self.ids = ids
        self.width = files.width
        self.folder = files.path
        self._files = files
        self._stored = rows
        self._rows = {name: row for row, name in enumerate(ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def has(self, name: str) -> bool:
        """Whether the features of an item are there."""
        return name in self._rows and self._stored[self._rows[name]] >= 0

    def row(self, name: str) -> int:
        """Row of an id.

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
        """Padded batch float32 [B, F, D_v] of rows int64 [B]; padding is zero and masked."""
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
                fingerprint=self._files.fingerprint,
                width=self.width,
                preprocessing=self._files.preprocessing,
                on_done=advance,
                shard_items=SHARD_ITEMS,
            )

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


def _key(example: Example) -> str:
    return example.id if example.features is None else example.features


def _numbers(stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What is stored, or nothing of that width where it is no numbers."""
    return stored if stored.dtype.kind in "fiu" else np.empty((0, 0))
