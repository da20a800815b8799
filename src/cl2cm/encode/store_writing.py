"""Write a feature store: shard by shard, resuming where an earlier call was stopped.

One process writes a store at a time. A shard is done once its ``.shard.json`` says so, which is
written last and has the hashes of the shard's files; so a shard that was cut off or changed, or
whose images were replaced, is encoded again, and the others are kept.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file

from cl2cm.encode.rows import Encode, Rows, finite_rows
from cl2cm.encode.store import FORMAT, MEANS, STORE, FeatureStore, not_finite, read_meta
from cl2cm.errors import StoreError
from cl2cm.progress import Advance, say
from cl2cm.storage import (
    LOCK,
    atomic_file,
    atomic_path,
    has_hash,
    is_partial,
    only_writer,
    read_record,
    sha256_file,
    sha256_text,
    storage_errors,
    write_record,
)

SHARD_ITEMS = 4096
PLAN = "plan.json"
_OURS = re.compile(r"\d{5}\.(safetensors|ids\.json|shard\.json)")


def write_store(
    folder: Path,
    ids: Sequence[str],
    encode: Encode,
    *,
    encoder: str,
    fingerprint: str,
    width: int,
    preprocessing: str = "",
    contents: Sequence[str] | None = None,
    progress: Advance | None = None,
    shard_items: int = SHARD_ITEMS,
    shared: bool = False,
) -> FeatureStore:
    """Encode what is missing, changed or damaged, and return the store, opened.

    Args:
        folder: where the store is, or shall be.
        ids: the items, unique.
        encode: gives the Rows of a list of positions in ``ids``, in that order.
        encoder: the encoder's name, for people.
        fingerprint: the encoder's fingerprint, for the check at opening.
        width: the last dimension of the values.
        preprocessing: what was done to the input, for people.
        contents: of each item the state of its file, another once the file is another; "": not
            known. None: an id says everything.
        progress: called with the number of items just done.
        shard_items: items in a shard.
        shared: wait for another process that writes the store, as in a cache; else it is an error.

    Raises:
        StoreError: the folder holds something else, or what was encoded is not finite.
        StorageError: the disk is full or closed, or another process writes the store.
    """
    settings = {
        "format": FORMAT,
        "encoder": encoder,
        "fingerprint": fingerprint,
        "width": width,
        "dtype": "float16",
        "preprocessing": preprocessing,
        "ids": sha256_text("\n".join(ids)),
        "shard_items": shard_items,
    }
    shards = _Shards(folder, ids, contents, settings)
    store = shards.finished(tell=False)
    if store is None:
        _check_folder(folder, settings)  # before a lock is put into a folder of something else

        def waits() -> None:
            say(f"{folder}: another process is encoding it, waiting")

        remedy = "choose another --out"
        with (
            storage_errors(folder),
            only_writer(folder, remedy=remedy, on_wait=waits if shared else None),
        ):
            store = shards.finished(tell=True)  # by the one that was waited for
            if store is None:
                _check_folder(folder, settings)
                return _write_missing(shards, encode, progress)
    if progress:
        progress(len(ids))
    return store


class _Shards(NamedTuple):
    """A store, as it is to be."""

    folder: Path
    ids: Sequence[str]
    contents: Sequence[str] | None
    settings: dict[str, Any]

    def path(self, number: int) -> Path:
        return self.folder / f"{number:05}.safetensors"

    def positions(self) -> list[range]:
        """Return positions of the items of each shard."""
        size, count = self.settings["shard_items"], len(self.ids)
        return [range(start, min(start + size, count)) for start in range(0, count, size)]

    def finished(self, *, tell: bool) -> FeatureStore | None:
        """Return the store, if it is complete and of the files as they are.

        Raises:
            StoreError: it is of another encoder or of other items.
        """
        if not (self.folder / STORE).exists():
            return None
        try:
            meta = read_meta(self.folder)
        except StoreError as error:
            return self._again(f"{error.found}", tell=tell)
        if meta["fingerprint"] == self.settings["fingerprint"]:
            if meta["ids"] != self.settings["ids"]:
                raise StoreError(
                    str(self.folder),
                    expected="a store of the same items",
                    found="a store of other items",
                    remedy="choose another --out, or delete the folder",
                )
            changed = sum(self._changed(number, meta) for number in range(len(meta["shards"])))
            if changed:
                return self._again(f"{changed:,} files changed since", tell=tell)
        try:
            return FeatureStore.open(self.folder, fingerprint=self.settings["fingerprint"])
        except StoreError as error:
            if meta["fingerprint"] != self.settings["fingerprint"]:
                raise
            return self._again(f"{error.subject}: {error.found}", tell=tell)

    def _again(self, why: str, *, tell: bool) -> None:
        if tell:
            say(f"{self.folder}: {why}; encoding the affected items again")

    def _changed(self, number: int, meta: dict[str, Any]) -> int:
        """Return how many files of a shard have changed since they were encoded, if known."""
        start = number * meta.get("shard_items", SHARD_ITEMS)
        part = range(start, min(start + meta["shards"][number]["items"], len(self.ids)))
        known = self._record(number).get("contents")
        return 0 if known is None else self._differ(known, part)

    def _differ(self, known: Sequence[str], part: Sequence[int]) -> int:
        if self.contents is None:
            return 0
        now = [self.contents[i] for i in part]
        if len(now) != len(known):
            return len(now)
        return sum(bool(new) and new != old for new, old in zip(now, known, strict=True))

    def _record(self, number: int) -> dict[str, Any]:
        try:
            return read_record(self.path(number).with_suffix(".shard.json"))
        except (OSError, ValueError, RecursionError):
            return {}

    def done(self, number: int, part: Sequence[int]) -> dict[str, Any] | None:
        """Return the entry of a shard in ``store.json``; None where it has to be encoded."""
        record, path = self._record(number), self.path(number)
        try:
            if (
                record["settings"] != self._key
                or self._differ(record.get("contents") or [], part)
                or record["items"] != len(part)
                or not has_hash(path, record["sha256"], again=True)
                or not has_hash(path.with_suffix(".ids.json"), record["ids_sha256"], again=True)
            ):
                return None
        except (OSError, KeyError, TypeError):
            return None
        return _entry(record)

    def write(self, number: int, part: Sequence[int], rows: Rows) -> dict[str, Any]:
        """Write a shard; return its entry in ``store.json``."""
        path, names = self.path(number), [self.ids[i] for i in part]
        shard, about = path.with_suffix(".shard.json"), path.with_suffix(".ids.json")
        shard.unlink(missing_ok=True)
        with atomic_file(about) as file:
            file.write(_json_bytes(names))
        with atomic_path(path) as partial:
            save_file({name: t.contiguous() for name, t in rows._asdict().items()}, partial)
        record: dict[str, Any] = {
            "settings": self._key,
            "items": len(part),
            "sha256": sha256_file(path),
            "ids_sha256": sha256_file(about),
        }
        if self.contents is not None:
            record["contents"] = [self.contents[i] for i in part]
        write_record(shard, record)
        return _entry(record)

    @property
    def _key(self) -> str:
        return sha256_text(repr(sorted(self.settings.items())))


def _json_bytes(names: Sequence[str]) -> bytes:
    """Return a list of ids as it is written."""
    return json.dumps(names, ensure_ascii=False).encode()


def _entry(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in ("items", "sha256", "ids_sha256")}


def _write_missing(shards: _Shards, encode: Encode, progress: Advance | None) -> FeatureStore:
    """Encode the shards that are not done, and finish the store; the caller is its only writer."""
    folder, settings = shards.folder, shards.settings
    for name in (STORE, MEANS):  # until it is complete, it is not a store
        (folder / name).unlink(missing_ok=True)
    entries = []
    for number, part in enumerate(shards.positions()):
        entry = shards.done(number, part)
        if entry is None:
            rows = encode(part)
            _check_finite(folder, [shards.ids[i] for i in part], rows)
            if number == 0 or not (folder / PLAN).exists():  # a store begins with its first shard
                write_record(folder / PLAN, settings)
            entry = shards.write(number, part, rows)
        entries.append(entry)
        if progress:
            progress(len(part))
    record = {**settings, "items": len(shards.ids), "shards": entries}
    write_record(folder / STORE, record)
    return FeatureStore.open(folder, fingerprint=settings["fingerprint"])


def _check_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Allow a new store, or an unfinished or damaged one of the same settings; nothing else."""
    with storage_errors(folder):
        if folder.exists() and (not folder.is_dir() or not all(map(_is_ours, folder.iterdir()))):
            raise StoreError(
                str(folder),
                expected="a new or empty folder",
                found="something else there",
                remedy="choose another --out",
            )
    try:
        plan = read_record(folder / PLAN)
    except (OSError, ValueError, RecursionError):  # none, or a damaged one: each shard has its own
        return
    if plan != settings:
        raise StoreError(
            str(folder),
            expected="an unfinished store of the same encoder and items",
            found="another store",
            remedy="choose another --out, or delete the folder",
        )


def _is_ours(path: Path) -> bool:
    name = path.name
    return name in (STORE, PLAN, MEANS, LOCK) or is_partial(name) or bool(_OURS.fullmatch(name))


def _check_finite(folder: Path, names: Sequence[str], rows: Rows) -> None:
    bad = (~finite_rows(rows.values)).nonzero()
    if len(bad):
        owner = torch.repeat_interleave(torch.arange(len(names)), rows.lengths)
        raise not_finite(folder, names[int(owner[int(bad[0])])])
