"""Build an index in shards, each the work of one job of an array, and put them together.

A shard is an index of a contiguous range of the items, in a folder beside the one of the whole:
``photos-index.shard-2-of-8``. So the rows of the merged index are in the order of one that was
built in one go, and equal scores come in the same order too.
"""

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cl2cm.errors import ConfigError, VectorIndexError
from cl2cm.index import Index
from cl2cm.index.merge import merge_parts
from cl2cm.index.update.journal import JOURNAL, Journal, discard
from cl2cm.progress import say
from cl2cm.storage import locked

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


def find_shards(out: Path) -> list[Path]:
    """Return the folders of all shards of an index, in their order.

    Raises:
        VectorIndexError: there is none, or one is missing, or those of two arrays are there.
    """
    out = out.resolve()
    pattern = re.compile(re.escape(out.name) + r"\.shard-([0-9]{1,6})-of-([0-9]{1,6})")
    names = out.parent.iterdir() if out.parent.is_dir() else ()
    found = {
        Shard(int(match[1]), int(match[2]))
        for path in names
        if path.is_dir() and (match := pattern.fullmatch(path.name))
    }
    counts = sorted({shard.count for shard in found})
    if len(counts) != 1:
        raise VectorIndexError(
            str(out),
            expected=f"its shards beside it, {out.name}.shard-1-of-N and so on",
            found=f"shards of arrays of {' and '.join(map(str, counts))}" if counts else "none",
            remedy="build them with --shard I/N" if not counts else "remove those of one array",
        )
    wanted = [Shard(number, counts[0]) for number in range(1, counts[0] + 1)]
    missing = [str(shard.number) for shard in wanted if shard not in found]
    if missing:
        raise VectorIndexError(
            str(out),
            expected=f"{counts[0]} shards",
            found=f"none of number {', '.join(missing[:20])}",
            remedy=f"build what is missing, such as --shard {missing[0]}/{counts[0]}",
        )
    return [shard.folder(out) for shard in wanted]


def merge_shards(out: Path) -> Index:
    """Make an index of its shards; what each has encoded is kept, so that updates go on from there.

    Args:
        out: the index folder; its shards are beside it, and stay.

    Raises:
        VectorIndexError: a shard is missing, damaged or of another kind than the others.
        StorageError: the disk is full, read-only or closed to us.
    """
    out = out.resolve()
    shards = find_shards(out)
    with locked(
        out / f"{JOURNAL}.lock", lambda: say(f"{out}: another process is updating it, waiting")
    ):
        merge_parts(shards, out)
        discard(out / JOURNAL)
        with closing(Journal(out / JOURNAL)) as whole:
            for shard in shards:
                if (shard / JOURNAL).exists():
                    with closing(Journal(shard / JOURNAL)) as part:
                        whole.take(part)
    return Index.open(out)
