"""What an update has to write: a part with the new items, and lists of rows that no longer count.

Parts are merged as in a log-structured tree: an update writes the rows of every part again that has
no more of them than the update itself, and of every part that is mostly removed. So an index has
few parts, and a row is written again only a logarithmic number of times. Where no part would stay,
the index is written anew.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cl2cm.index.items import ItemStore
from cl2cm.index.metadata import Part, check_files, check_hashes, parts_of
from cl2cm.index.metadata_fields import REMOVED
from cl2cm.index.parts import read_removed
from cl2cm.types import Example, Ints

_REMOVED_SHARE = 4  # a part is written again once more than one row in so many is removed


@dataclass(frozen=True, slots=True)
class Held:
    """A part of the index that is there: its names by row, and the rows that do not count."""

    part: Part
    items: Path
    names: list[str]
    removed: Ints


@dataclass(frozen=True, slots=True)
class Before:
    """The items of an index before its update.

    Attributes:
        parts: in the order of their rows.
        states: id → state of the file that the item was made of; None where it is not known.
    """

    parts: list[Held]
    states: dict[str, int | None]


@dataclass(frozen=True, slots=True)
class Change:
    """What to write.

    Attributes:
        todo: the examples of the new part, in their order.
        kept: parts that stay.
        removed: number of a kept part → its rows that do not count, where this changes.
        names: ids that stay where they are.
    """

    todo: list[Example]
    kept: list[Part]
    removed: dict[int, Ints]
    names: set[str]


def read_before(out: Path, metadata: Mapping[str, Any]) -> Before:
    """Read the ids and states of an index whose items are in files.

    Raises:
        VectorIndexError: a file is damaged.
    """
    check_files(out, metadata)
    check_hashes(out, metadata)
    parts, states = [], dict[str, int | None]()
    for part in parts_of(metadata):
        path = out / part["files"]["items"]["name"]
        with closing(ItemStore(path)) as store:
            names, found = store.states()
        removed: Ints = np.empty(0, np.int64)
        if REMOVED in part:
            removed = read_removed(out / part[REMOVED]["name"], part["count"])
        live = dict(zip(names, found, strict=True))
        for row in removed:
            live.pop(names[row], None)
        parts.append(Held(part, path, names, removed))
        states.update(live)
    return Before(parts, states)


def plan_change(
    before: Before,
    examples: Sequence[Example],
    states: Sequence[int | None],
    away: set[str],
) -> Change | None:
    """Return what an update has to write; None: everything.

    Args:
        before: the index that is there.
        examples: all that the index shall hold.
        states: of their files.
        away: ids that are not among the examples and stay all the same.
    """
    known = before.states
    todo = {
        example.id
        for example, state in zip(examples, states, strict=True)
        if state is None or known.get(example.id) != state
    }
    gone = known.keys() - {example.id for example in examples} - away
    removed = _rows(before, (todo & known.keys()) | gone)
    kept, absorbed = _split(before, removed, len(todo), away)
    if not kept:
        return None
    todo |= absorbed
    lists = {
        place: rows
        for place, number in enumerate(kept)
        if len(rows := removed[number]) > len(before.parts[number].removed)
    }
    return Change(
        [example for example in examples if example.id in todo],
        [before.parts[number].part for number in kept],
        lists,
        known.keys() - todo - gone,
    )


def away_from(gone: set[str], folder: Path) -> dict[str, set[str]]:
    """Return the ids whose folder is there and empty, as a disk leaves it that is not mounted.

    Args:
        gone: ids that are no longer found.
        folder: that holds them.

    Returns:
        The empty folders, each with the ids that were in it or below it.
    """
    found: dict[str, set[str]] = {}
    empty: dict[str, str | None] = {}
    for name in gone:
        inner = name.rpartition("/")[0]
        if inner not in empty:
            empty[inner] = _empty_folder(folder, inner)
        if (place := empty[inner]) is not None:
            found.setdefault(place, set()).add(name)
    return found


def _empty_folder(root: Path, inner: str) -> str | None:
    """Return the innermost folder that is there, if it is empty and not the root."""
    while inner:
        try:
            with os.scandir(root / inner) as entries:
                return inner if next(entries, None) is None else None
        except FileNotFoundError:
            inner = inner.rpartition("/")[0]
        except (OSError, ValueError):
            return None
    return None


def _rows(before: Before, names: set[str]) -> list[Ints]:
    """Return for each part all rows that do not count once some names are gone from it."""
    found = []
    with ExitStack() as stack:
        for held in before.parts:
            store = stack.enter_context(closing(ItemStore(held.items)))
            rows = {row for name in names if (row := store.find(name)) is not None}
            found.append(np.union1d(held.removed, np.fromiter(rows, np.int64)).astype(np.int64))
    return found


def _split(
    before: Before, removed: Sequence[Ints], count: int, away: set[str]
) -> tuple[list[int], set[str]]:
    """Return the numbers of the parts that stay, and the names of the others."""
    kept, absorbed = list[int](), set[str]()
    for number, held in reversed([*enumerate(before.parts)]):
        rows = held.part["count"]
        live = rows - len(removed[number])
        if live > count and _REMOVED_SHARE * len(removed[number]) <= rows:
            kept.append(number)
            continue
        dead = set(removed[number].tolist())
        names = {name for row, name in enumerate(held.names) if row not in dead}
        if names & away:
            kept.append(number)
        else:
            absorbed |= names
            count += live
    return kept[::-1], absorbed
