"""The jobs of an array (SLURM, a shell loop): each has every n-th shard, in a folder of its own.

The jobs need nothing of each other: no common lock, no order. ``part-00003-of-00007`` in the
store's folder has the shards of job 3 of 7. Whoever writes the store takes them from there.
"""

import contextlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from cl2cm.encode.plan import Plan
from cl2cm.encode.shards import PART_NAME, Shards, check_folder
from cl2cm.errors import ConfigError, StorageError, StoreError
from cl2cm.progress import say
from cl2cm.storage import only_writer

_NAMED = 8  # in a message
_JOB = re.compile(r"(\d{1,5})/(\d{1,5})", re.ASCII)


class ArrayJob(NamedTuple):
    """One job of an array: ``number`` of ``jobs``, from 1."""

    number: int
    jobs: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the job that is written ``3/7``.

        Raises:
            ConfigError: it is written in another way, or there is no such job.
        """
        found = _JOB.fullmatch(text)
        number, count = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= count:
            raise ConfigError(
                "--shard",
                expected="a job of an array, from 1/7 to 7/7",
                found=repr(text),
                remedy="number the jobs from 1, such as --shard 3/7",
            )
        return cls(number, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.jobs}"

    def folder(self, store: Path) -> Path:
        """Return the folder of the job's shards."""
        return store / f"part-{self.number:05}-of-{self.jobs:05}"

    def shards(self, plan: Plan) -> list[tuple[int, range]]:
        """Return the job's shards: numbers, and positions of their items."""
        return list(plan.shards())[self.number - 1 :: self.jobs]


class Parts:
    """The parts in the folder of a store.

    Args:
        store: the folder.
        plan: of the store.

    Raises:
        StoreError: a part of another plan.
    """

    def __init__(self, store: Path, plan: Plan) -> None:
        self._plan = plan
        found = sorted(store.iterdir()) if store.is_dir() else []
        self._folders = [path for path in found if PART_NAME.fullmatch(path.name)]
        for folder in self._folders:
            check_folder(folder, plan)
        self._parts = [Shards(folder, plan) for folder in self._folders]

    def take(self, number: int, part: range, shards: Shards) -> dict[str, Any] | None:
        """Put a shard that is done in a part into the store; return its entry, None if none is."""
        for other in self._parts:
            if (entry := other.done(number, part)) is not None:
                shards.take(number, other)
                return entry
        return None

    def missing(self, store: Path, numbers: Sequence[int]) -> StoreError:
        """Return the error of shards that are done nowhere; it names the jobs that have to run."""
        named = ", ".join(map(str, numbers[:_NAMED]))
        more = f" and {len(numbers) - _NAMED:,} more" if len(numbers) > _NAMED else ""
        return StoreError(
            str(store),
            expected=f"all {self._plan.shard_count:,} shards, of the files as they are",
            found=f"none or a damaged one in place of {named}{more}",
            remedy=self._remedy(numbers),
        )

    def _remedy(self, missing: Sequence[int]) -> str:
        names = (PART_NAME.fullmatch(folder.name) for folder in self._folders)
        counts = {int(name[2]) for name in names if name}
        if len(counts) != 1:
            return "run their jobs (--shard), or leave --merge out to encode them here"
        count = counts.pop()
        jobs = sorted({number % count + 1 for number in missing})
        named = ", ".join(f"--shard {job}/{count}" for job in jobs[:_NAMED])
        return f"run again: {named}{', …' if len(jobs) > _NAMED else ''}"

    def remove(self) -> None:
        """Remove the parts, whose shards the store has; one that a job still writes stays."""
        for folder in self._folders:
            try:
                with only_writer(folder), contextlib.suppress(OSError):
                    shutil.rmtree(folder)
            except StorageError as error:
                say(f"{folder} stays: {error.found}")
