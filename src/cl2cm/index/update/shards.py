"""Build an index in shards, each the work of one job of an array, and put them together.

A shard is an index of a contiguous range of the items, in a folder beside the one of the whole:
``photos-index.shard-2-of-8``. So the rows of the merged index are in the order of one that was
built in one go, and equal scores come in the same order too.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cl2cm.errors import ConfigError, VectorIndexError
from cl2cm.index import Index
from cl2cm.index.merge import merge_parts
from cl2cm.index.update.journal import JOURNAL, Journal, discard
from cl2cm.progress import say
from cl2cm.storage import locked, sha256_text
from cl2cm.storage.records import read_record, write_record

Element = TypeVar("Element")

_TEXT = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard: the ``number``-th of ``count``, from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Return the shard that ``2/8`` names.

        Raises:
            ConfigError: it names none.
        """
        match = _TEXT.fullmatch(text)
        shard = cls(int(match[1]), int(match[2])) if match else cls(0, 0)
        if not 1 <= shard.number <= shard.count:
            raise ConfigError(
                "--shard", expected="I/N with I from 1 to N", found=repr(text), remedy="as in 2/8"
            )
        return shard

    def of(self, items: Sequence[Element]) -> Sequence[Element]:
        """Return this shard's range of some items."""
        size = len(items)
        return items[size * (self.number - 1) // self.count : size * self.number // self.count]

    def folder(self, out: Path) -> Path:
        """Return the folder of this shard of an index."""
        return out.with_name(f"{out.name}.shard-{self.number}-of-{self.count}")

    def plan_file(self, out: Path) -> Path:
        """Return the file that says which list this shard was cut from."""
        return out.with_name(f"{self.folder(out).name}.json")

    def begin(self, out: Path) -> None:
        """Forget the list of an earlier shard, until the new one is written."""
        self.plan_file(out).unlink(missing_ok=True)

    def finish(self, out: Path, ids: Sequence[str]) -> None:
        """Record the ids of all items, of which this shard has its range."""
        path = self.plan_file(out)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_record(path, {**plan_of(ids), "own": len(self.of(ids))})


def plan_of(ids: Sequence[str]) -> dict[str, Any]:
    """Return what shards of one list have in common."""
    return {"items": len(ids), "ids": sha256_text("\n".join(ids))}


def find_shards(out: Path) -> list[Path]:
    """Return the folders of all shards of an index that have items, in their order.

    Raises:
        VectorIndexError: there is none, one is missing, there are shards of two arrays, or
            the shards were cut from different lists of items.
    """
    out = out.resolve()
    pattern = re.compile(re.escape(out.name) + r"\.shard-([0-9]{1,6})-of-([0-9]{1,6})(\.json)?")
    names = out.parent.iterdir() if out.parent.is_dir() else ()
    found = {
        Shard(int(match[1]), int(match[2]))
        for path in names
        if (match := pattern.fullmatch(path.name))
    }
    counts = sorted({shard.count for shard in found})
    if len(counts) != 1:
        raise VectorIndexError(
            str(out),
            expected=f"its shards beside it, {out.name}.shard-1-of-N and so on",
            found=f"shards of arrays of {' and '.join(map(str, counts))}" if counts else "none",
            remedy="remove the shards of one array" if counts else "build them with --shard I/N",
        )
    wanted = [Shard(number, counts[0]) for number in range(1, counts[0] + 1)]
    plans = {shard: _plan(out, shard) for shard in wanted}
    missing = [str(shard.number) for shard, plan in plans.items() if plan is None]
    if missing:
        raise VectorIndexError(
            str(out),
            expected=f"{counts[0]} finished shards",
            found=f"none of number {', '.join(missing[:20])}",
            remedy=f"build what is missing, such as --shard {missing[0]}/{counts[0]}",
        )
    return _of_one_list(out, {shard: plan for shard, plan in plans.items() if plan})


def _plan(out: Path, shard: Shard) -> dict[str, Any] | None:
    """Return what a finished shard says of itself; None if it is missing, unfinished or damaged."""
    try:
        plan = read_record(shard.plan_file(out))
        items, _, own = plan["items"], plan["ids"], plan["own"]
    except (OSError, ValueError, KeyError, RecursionError):
        return None
    there = isinstance(items, int) and (own == 0 or shard.folder(out).is_dir())
    return plan if there else None


def _of_one_list(out: Path, plans: Mapping[Shard, dict[str, Any]]) -> list[Path]:
    """Return the folders of shards that have items, if all were cut from the same list."""
    first = next(iter(plans.values()))
    for shard, plan in plans.items():
        if (plan["items"], plan["ids"]) != (first["items"], first["ids"]):
            raise VectorIndexError(
                str(shard.folder(out)),
                expected=f"a shard of the same {first['items']:,} items as the first",
                found=f"one of another list, of {plan['items']:,} items",
                remedy="the source changed between the shards: run all --shard jobs again",
            )
    found = [shard.folder(out) for shard, plan in plans.items() if plan["own"]]
    if not found:
        raise VectorIndexError(
            str(out), expected="shards with items", found="none", remedy="check the source"
        )
    return found


def merge_shards(out: Path, *, rebuild: bool = False) -> Index:
    """Make an index of its shards; what each has encoded is kept, so that updates go on from there.

    Args:
        out: the index folder; its shards are beside it, and stay.
        rebuild: replace an index that was updated after an earlier merge.

    Raises:
        VectorIndexError: a shard is missing, damaged or of another kind than the others; the index
            was updated since, and ``rebuild`` is False.
        StorageError: the disk is full, read-only or closed to us.
    """
    out = out.resolve()
    shards = find_shards(out)
    with locked(
        out / f"{JOURNAL}.lock", lambda: say(f"{out}: another process is updating it, waiting")
    ):
        merge_parts(shards, out, rebuild=rebuild)
        discard(out / JOURNAL)
        with closing(Journal(out / JOURNAL)) as whole:
            for shard in shards:
                if (shard / JOURNAL).exists():
                    with closing(Journal(shard / JOURNAL)) as part:
                        whole.take(part)
    return Index.open(out)
