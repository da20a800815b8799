"""An index of several parts, searched as one: the old rows, the rows of later updates, shards.

A part is a set of files that is never changed: an update adds one, with the rows that are new, and
lists the rows of the others that no longer count (docs/decisions/0009). Rows are numbered through
all parts in their order, without the rows that no longer count; so a row of an index is a place in
a part, and both directions are one look-up in an array. Scores do not depend on the parts, since
each is computed from a stored vector alone; of equal scores the lower row comes first, as ever.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from cl2cm.errors import VectorIndexError
from cl2cm.index.backends.machine import cores
from cl2cm.index.filter import Filter, Order
from cl2cm.index.items import ItemStore, is_text
from cl2cm.index.protocol import VectorIndex
from cl2cm.index.records import no_such_id, no_such_row
from cl2cm.storage import open_confined
from cl2cm.text import spellings
from cl2cm.types import Floats, Ints, Item

LARGE = 20_000  # rows of a part that is worth a thread

Result = TypeVar("Result")


class OpenPart(NamedTuple):
    """A part that is open; ``live`` are its rows that count, rising; None: all."""

    vectors: VectorIndex
    items: ItemStore
    live: Ints | None

    def __len__(self) -> int:
        """Return the number of rows that count."""
        return len(self.vectors) if self.live is None else len(self.live)

    def inner(self, rows: Ints) -> Ints:
        """Return the rows of the part's files for rows that are counted among its live ones."""
        return rows if self.live is None else self.live[rows]

    def counted(self, rows: Ints) -> Ints:
        """Return the numbers of live rows of the part's files among its live ones."""
        return rows if self.live is None else np.searchsorted(self.live, rows)

    def removed(self) -> Ints:
        """Return the rows of the part's files that no longer count, rising."""
        if self.live is None:
            return np.empty(0, np.int64)
        return other_rows(self.live, len(self.vectors))

    def is_live(self, rows: Ints) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
        """Return which rows of the part's files count."""
        if self.live is None:
            return np.ones(len(rows), bool)
        at = np.minimum(np.searchsorted(self.live, rows), len(self.live) - 1)
        return self.live[at] == rows if len(self.live) else np.zeros(len(rows), bool)


def read_removed(path: Path, count: int) -> Ints:
    """Return the rows of a part that no longer count, int64, rising.

    Args:
        path: the file.
        count: rows of the part.

    Raises:
        VectorIndexError: it is damaged.
    """
    with open_confined(path, [path.parent]) as file:
        data = file.read(8 * count + 1)
    rows = np.frombuffer(data[: len(data) // 8 * 8], "<i8").astype(np.int64)
    if len(data) % 8 or (len(rows) and not (rows[0] >= 0 and rows[-1] < count)):
        raise _damaged(path, count)
    if bool((np.diff(rows) <= 0).any()):
        raise _damaged(path, count)
    return rows


def other_rows(rows: Ints, count: int) -> Ints:
    """Return the rows below ``count`` that are not among some rows, int64, rising."""
    mask = np.ones(count, bool)
    mask[rows] = False
    return np.flatnonzero(mask)


class PartedVectors:
    """The vectors of all parts; see `VectorIndex`.

    Args:
        parts: of one index.
    """

    def __init__(self, parts: Sequence[OpenPart]) -> None:
        self._parts = parts
        self._starts = _starts(parts)

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return self._parts[0].vectors.dim

    def __len__(self) -> int:
        """Return the number N of vectors."""
        return int(self._starts[-1])

    def search(self, queries: Floats, k: int, *, among: Ints | None = None) -> tuple[Floats, Ints]:
        """Return the best ``k`` rows for each query; see `VectorIndex.search`."""

        def ask(number: int) -> tuple[Floats, Ints]:
            part, start = self._parts[number], self._starts[number]
            inner = part.live
            if among is not None:
                low, high = np.searchsorted(among, self._starts[number : number + 2])
                inner = part.inner(among[low:high] - start)
            scores, rows = part.vectors.search(queries, k, among=inner)
            return scores, part.counted(rows.ravel()).reshape(rows.shape) + start

        found = _each(ask, self._parts)
        scores = np.hstack([scores for scores, _ in found])
        rows = np.hstack([rows for _, rows in found])
        order = np.lexsort((rows, -scores), axis=-1)[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)

    def vectors(self, rows: Ints) -> Floats:
        """Return the stored vectors of some rows, float32 [K, D]."""
        found = np.empty((len(rows), self.dim), np.float32)
        for part, places, inner in _placed(self._parts, self._starts, rows):
            found[places] = part.vectors.vectors(inner)
        return found

    def close(self) -> None:
        """Close what is open."""
        for part in self._parts:
            part.vectors.close()


class PartedItems:
    """The items of all parts; see `Items`.

    Args:
        parts: of one index.
    """

    def __init__(self, parts: Sequence[OpenPart]) -> None:
        self._parts = parts
        self._starts = _starts(parts)

    def __len__(self) -> int:
        """Return the number of items."""
        return int(self._starts[-1])

    def at(self, rows: Sequence[int]) -> list[Item]:
        """Return the items of some rows; see `ItemStore.at`."""
        wanted = np.asarray(rows, np.int64)
        wrong = np.flatnonzero((wanted < 0) | (wanted >= len(self)))
        if len(wrong):
            raise no_such_row("the index", int(wanted[wrong[0]]), len(self))
        found: list[Item | None] = [None] * len(wanted)
        for part, places, inner in _placed(self._parts, self._starts, wanted):
            for place, item in zip(places, part.items.at(inner.tolist()), strict=True):
                found[place] = item
        return [item for item in found if item is not None]

    def row_of(self, item_id: str) -> int:
        """Return the row of an id; see `ItemStore.row_of`."""
        for name in spellings(item_id) if is_text(item_id) else ():
            for part, start in zip(self._parts, self._starts, strict=False):
                found = part.items.find(name)
                if found is not None and part.is_live(row := np.array([found]))[0]:
                    return int(part.counted(row)[0] + start)
        raise no_such_id(item_id)

    def matching(self, filter_: Filter, order: Order | None = None) -> Ints:
        """Return rows int64 of the items that a filter lets through, rising or in another order."""
        found, dates = [], []
        for part, start in zip(self._parts, self._starts, strict=False):
            rows = part.items.matching(filter_, order)
            live = part.is_live(rows)
            found.append(part.counted(rows[live]) + start)
            if order is not None:
                dates.append(part.items.modified(rows[live]))
        all_rows = np.concatenate(found)
        if order is None:
            return all_rows
        when = np.concatenate(dates)
        key = -when if order == "newest" else when
        return all_rows[np.lexsort((all_rows, key, np.isnan(when)))]

    def folders(self) -> list[str]:
        """Return every folder that items are in, by their ids, in the order of names."""
        found: set[str] = set()
        for part in self._parts:
            if part.live is None:
                found.update(part.items.folders())
            else:
                counts = part.items.folder_counts(part.removed())
                found.update(name for name, count in counts.items() if name and count > 0)
        return sorted(found, key=lambda name: name.encode())

    def close(self) -> None:
        """Close what is open."""
        for part in self._parts:
            part.items.close()


def _starts(parts: Sequence[OpenPart]) -> Ints:
    """Return the first row of each part, and the number of all rows."""
    return np.cumsum([0, *(len(part) for part in parts)])


def _placed(
    parts: Sequence[OpenPart], starts: Ints, rows: Ints
) -> Iterator[tuple[OpenPart, Ints, Ints]]:
    """Yield each part with places in ``rows``, and the rows of its files that are there."""
    numbers = np.searchsorted(starts, rows, side="right") - 1
    for number in np.unique(numbers):
        places = np.flatnonzero(numbers == number)
        part = parts[number]
        yield part, places, part.inner(rows[places] - starts[number])


def _each(ask: Callable[[int], Result], parts: Sequence[OpenPart]) -> list[Result]:
    """Call a function with the number of each part; large parts share the cores."""
    large = sum(len(part) >= LARGE for part in parts)
    if large < 2 or cores() < 2:
        return [ask(number) for number in range(len(parts))]
    with ThreadPoolExecutor(min(large, cores())) as pool:
        return list(pool.map(ask, range(len(parts))))


def _damaged(path: Path, count: int) -> VectorIndexError:
    return VectorIndexError(
        str(path),
        expected=f"rising numbers of rows below {count}",
        found="a damaged file",
        remedy="build the index again",
    )
