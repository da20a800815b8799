"""The plan of a feature store: which items are in which shard, and what they are encoded with.

The plan depends on the items and the encoder alone, never on who encodes, so that every engine and
every order of shards writes the same bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cl2cm.storage import read_record, sha256_text

FORMAT = 1
PLAN = "plan.json"
SHARD_ITEMS = 4096  # at most
SHARDS = 64  # so many at least, where there are enough items: each is a piece of parallel work
_SIZE = "shard_items"


@dataclass(frozen=True)
class Plan:
    """A feature store, as it is to be.

    Attributes:
        ids: the items, unique.
        contents: of each item the state of its file, another once the file is another; "": not
            known. None: an id says everything.
        settings: what ``plan.json`` holds: the encoder, the hash of the ids, the items in a shard.
    """

    ids: Sequence[str]
    contents: Sequence[str] | None
    settings: dict[str, Any]

    @property
    def key(self) -> str:
        """Hash of the settings, which every shard carries."""
        return sha256_text(repr(sorted(self.settings.items())))

    @property
    def fingerprint(self) -> str:
        """The encoder's fingerprint."""
        return str(self.settings["fingerprint"])

    @property
    def shard_count(self) -> int:
        """Return the number of shards."""
        return -(-len(self.ids) // int(self.settings[_SIZE]))

    def shards(self) -> Iterator[tuple[int, range]]:
        """Yield the number of each shard and the positions of its items."""
        size, count = self.settings[_SIZE], len(self.ids)
        for number in range(self.shard_count):
            yield number, range(number * size, min((number + 1) * size, count))

    def as_begun(self, folder: Path) -> "Plan":
        """Return the plan with shards of the size that a store in this folder was begun with."""
        try:
            begun = read_record(folder / PLAN)
        except (OSError, ValueError, RecursionError):
            return self
        size = begun.get(_SIZE)
        same = begun == {**self.settings, _SIZE: size} and type(size) is int and size > 0
        return replace(self, settings=begun) if same else self


def plan_store(
    ids: Sequence[str],
    *,
    encoder: str,
    fingerprint: str,
    width: int,
    preprocessing: str = "",
    contents: Sequence[str] | None = None,
    shard_items: int = SHARD_ITEMS,
) -> Plan:
    """Return the plan of a store.

    Args:
        ids: the items, unique.
        encoder: the encoder's name, for people.
        fingerprint: the encoder's fingerprint, for the check at opening.
        width: the last dimension of the values.
        preprocessing: what was done to the input, for people.
        contents: see `Plan`.
        shard_items: items in a shard; see `shard_size`.
    """
    settings = {
        "format": FORMAT,
        "encoder": encoder,
        "fingerprint": fingerprint,
        "width": width,
        "dtype": "float16",
        "preprocessing": preprocessing,
        "ids": sha256_text("\n".join(ids)),
        _SIZE: shard_items,
    }
    return Plan(ids, contents, settings)


def shard_size(items: int, least: int, most: int = SHARD_ITEMS) -> int:
    """Return how many items a shard has, so that there are about `SHARDS` of them."""
    return max(least, min(most, -(-items // SHARDS)))
