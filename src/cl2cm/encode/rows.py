"""Ragged rows of vectors: the frames of an image or video, or the token states of a text."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from cl2cm.errors import CL2CMError


class Rows(NamedTuple):
    """Ragged rows, laid end to end.

    values: float16 [sum of lengths, width]; lengths: int64 [n]; content: bool [sum of lengths],
    False on special tokens (all True for frames).
    """

    values: Tensor
    lengths: Tensor
    content: Tensor


class Gathered(NamedTuple):
    """Rows as a padded batch: float32 [B, T, width], and two masks bool [B, T]."""

    values: Tensor
    mask: Tensor
    content: Tensor


class EncodedShard(NamedTuple):
    """What encoding the items of a shard gives.

    rows: of its items, in their order; one without features has length 0. failures: position in
    the plan and error of each item that was left out.
    """

    rows: Rows
    failures: Sequence[tuple[int, CL2CMError]] = ()


Encode = Callable[[Sequence[int]], Rows | EncodedShard]  # positions in the plan -> their features


class StoredFeatures(Protocol):
    """Features of items by row, wherever they are kept; see `FeatureStore`."""

    @property
    def ids(self) -> Sequence[str]:
        """The items, by row."""
        ...

    @property
    def width(self) -> int:
        """Last dimension of the values."""
        ...

    @property
    def folder(self) -> Path:
        """Where they are kept."""
        ...

    def __len__(self) -> int: ...

    def has(self, name: str) -> bool:
        """Return whether an item is there with at least one vector."""
        ...

    def row(self, name: str) -> int:
        """Return the row of an id."""
        ...

    def gather(self, rows: Tensor) -> Gathered:
        """Return a padded batch of the rows int64 [B]; padding is zero and masked."""
        ...


class NoFeatures:
    """Stands for the features of items that nobody looks at: one vector of zeros each.

    Args:
        ids: of the items.
        width: of the features that they would have.
    """

    def __init__(self, ids: Sequence[str], width: int) -> None:
        self.ids = ids
        self.width = width
        self.folder = Path()
        self._rows = {name: row for row, name in enumerate(ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def has(self, name: str) -> bool:
        """Return whether an item is one of them."""
        return name in self._rows

    def row(self, name: str) -> int:
        """Return the row of an id."""
        return self._rows[name]

    def gather(self, rows: Tensor) -> Gathered:
        """Return zeros [B, 1, width]."""
        mask = torch.ones(len(rows), 1, dtype=torch.bool)
        return Gathered(torch.zeros(len(rows), 1, self.width), mask, mask)


def ragged(values: Tensor, mask: Tensor, content: Tensor | None = None) -> Rows:
    """Return rows of a padded batch float [B, T, width] with masks bool [B, T]."""
    kept = mask if content is None else content
    return Rows(values[mask].half().cpu(), mask.sum(1).cpu(), kept[mask].cpu())


def join(parts: Sequence[Rows]) -> Rows:
    """Return rows of all parts, one after the other."""
    return Rows(*(torch.cat(column) for column in zip(*parts, strict=True)))


def reorder(rows: Rows, order: Sequence[int]) -> Rows:
    """Return rows whose i-th item is number ``order[i]``, sorted by number."""
    values = rows.values.split(rows.lengths.tolist())
    content = rows.content.split(rows.lengths.tolist())
    back = torch.argsort(torch.tensor(order))
    places = back.tolist()
    return Rows(
        torch.cat([values[i] for i in places]),
        rows.lengths[back],
        torch.cat([content[i] for i in places]),
    )


def length_batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Yield positions in batches of similar length, each of at most ``tokens`` padded tokens."""
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * max(lengths[position], 1) > tokens:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def finite_rows(values: Tensor) -> Tensor:
    """Return which rows float [n, width] are finite in half precision, bool [n]."""
    finite: Tensor = values.half().isfinite().all(1)
    return finite
