"""Token batches of texts: token ids, stored states of a frozen backbone, or their means."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cl2cm.encode.store import FeatureStore
from cl2cm.types import Special, Tokens


class TextSource(Protocol):
    """Where the texts' tokens come from: ids for a backbone, or its frozen states."""

    def gather(self, rows: Tensor) -> Tokens:
        """Return the padded tokens of the texts of rows int64 [B]."""
        ...

    def lengths(self, rows: Tensor) -> Tensor:
        """Return the number of tokens of the texts of rows int64 [B]."""
        ...


@dataclass(frozen=True, slots=True)
class StoredStates:
    """Frozen backbone states, read from a feature store.

    rows: row in the store of each text, int64.
    """

    store: FeatureStore
    rows: Tensor

    def gather(self, rows: Tensor) -> Tokens:
        """Return the padded states float32 [B, T, D_b]."""
        return Tokens(*self.store.gather(self.rows[rows]))

    def lengths(self, rows: Tensor) -> Tensor:
        """Return the number of tokens of the texts of rows int64 [B]."""
        return self.store.lengths(self.rows[rows])


@dataclass(frozen=True, slots=True)
class PooledStates:
    """Means of the texts' normalised states, float32 [N, D_b]; rows as in ``StoredStates``."""

    means: Tensor
    rows: Tensor

    def gather(self, rows: Tensor) -> Tokens:
        """Return the means float32 [B, 1, D_b]."""
        mask = torch.ones(len(rows), 1, dtype=torch.bool)
        return Tokens(self.means[self.rows[rows]][:, None], mask, mask, pooled=True)

    def lengths(self, rows: Tensor) -> Tensor:
        """Return ones: a text is one mean."""
        return torch.ones_like(rows)


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Token ids, for a backbone that is trained."""

    ids: Sequence[Sequence[int]]
    special: Special

    def gather(self, rows: Tensor) -> Tokens:
        """Return the padded ids int64 [B, T]."""
        return pad_tokens([self.ids[row] for row in rows.tolist()], self.special)

    def lengths(self, rows: Tensor) -> Tensor:
        """Return the number of tokens of the texts of rows int64 [B]."""
        return torch.tensor([len(self.ids[row]) for row in rows.tolist()], dtype=torch.int64)


def pad_tokens(ids: Sequence[Sequence[int]], special: Special) -> Tokens:
    """Return a padded batch of tokenised texts: ids int64 [B, T], mask and content bool [B, T]."""
    width = max((len(text) for text in ids), default=0)
    values = torch.tensor(
        [[*text, *[special.pad] * (width - len(text))] for text in ids], dtype=torch.int64
    ).reshape(len(ids), width)
    columns = torch.arange(width)
    mask = columns < torch.tensor([len(text) for text in ids])[:, None]
    no_word = torch.isin(values, torch.tensor(sorted(special.ids), dtype=torch.int64))
    return Tokens(values, mask, mask & ~no_word & (columns >= special.start))
