"""The shards of a feature store on disk: which are done, and how one is written.

A shard is done once its ``.shard.json`` says so, which is written last and has the hashes of the
shard's files; so a shard that was cut off or changed, or whose images were replaced, is encoded
again, and the others are kept.
"""

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from cl2cm.encode.plan import PLAN, SHARD_ITEMS, Plan
from cl2cm.encode.rows import Rows
from cl2cm.encode.store import MEANS, STORE, FeatureStore, read_meta
from cl2cm.errors import StoreError
from cl2cm.progress import say
from cl2cm.storage import (
    LOCK,
    atomic_file,
    atomic_path,
    has_hash,
    is_partial,
    read_record,
    sha256_file,
    storage_errors,
    write_record,
)

PART_NAME = re.compile(r"part-(\d{5})-of-(\d{5})")  # folder of a job of an array
_OURS = re.compile(r"\d{5,}\.(safetensors|ids\.json|shard\.json)")
_SUFFIXES = (".ids.json", ".safetensors", ".shard.json")  # the one that makes it valid last


class Shards:
    """The shards of one plan in one folder.

    Args:
        folder: the store, or the folder of a job's part of it.
        plan: what is to be in it.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        self._key = plan.key

    def path(self, number: int) -> Path:
        """Return the path of a shard's values."""
        return self.folder / f"{number:05}.safetensors"

    def finished(self, *, tell: bool) -> FeatureStore | None:
        """Return the store, if it is whole and of the files as they are.

        Raises:
            StoreError: it is of another encoder or of other items.
        """
        if not (self.folder / STORE).exists():
            return None
        settings = self.plan.settings
        try:
            meta = read_meta(self.folder)
        except StoreError as error:
            self._again(error.found, tell=tell)
            return None
        if meta["fingerprint"] == settings["fingerprint"]:
            if meta["ids"] != settings["ids"]:
                raise StoreError(
                    str(self.folder),
                    expected="a store of the same items",
                    found="a store of others",
                    remedy="choose another --out, or delete the folder",
                )
            changed = sum(self._changed(number, meta) for number in range(len(meta["shards"])))
            if changed:
                self._again(f"{changed:,} files changed since", tell=tell)
                return None
        try:
            return FeatureStore.open(self.folder, fingerprint=settings["fingerprint"])
        except StoreError as error:
            if meta["fingerprint"] != settings["fingerprint"]:
                raise
            self._again(f"{error.subject}: {error.found}", tell=tell)
            return None

    def _again(self, why: str, *, tell: bool) -> None:
        if tell:
            say(f"{self.folder}: {why}; encoding what is concerned again")

    def _changed(self, number: int, meta: dict[str, Any]) -> int:
        """How many files of a shard are others than when they were encoded, as far as is known."""
        start = number * meta.get("shard_items", SHARD_ITEMS)
        part = range(start, min(start + meta["shards"][number]["items"], len(self.plan.ids)))
        known = self._record(number).get("contents")
        return 0 if known is None else self._differ(known, part)

    def _differ(self, known: Sequence[str], part: Sequence[int]) -> int:
        if self.plan.contents is None:
            return 0
        now = [self.plan.contents[i] for i in part]
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
        path, names = self.path(number), [self.plan.ids[i] for i in part]
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
        if self.plan.contents is not None:
            record["contents"] = [self.plan.contents[i] for i in part]
        write_record(shard, record)
        return _entry(record)

    def take(self, number: int, other: "Shards") -> None:
        """Take a shard that is done in another folder, whose files stay there."""
        for suffix in _SUFFIXES:
            here = self.path(number).with_suffix(suffix)
            with atomic_path(here) as partial:
                _link(other.path(number).with_suffix(suffix), partial)


def _link(source: Path, target: Path) -> None:
    """Put a file at another path too; as a copy where the file system has no hard links."""
    target.unlink()
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _json_bytes(names: Sequence[str]) -> bytes:
    """Return a list of ids as it is written."""
    return json.dumps(names, ensure_ascii=False).encode()


def _entry(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in ("items", "sha256", "ids_sha256")}


def check_folder(folder: Path, plan: Plan) -> None:
    """Allow a new store, or an unfinished or damaged one of the same plan; nothing else.

    Raises:
        StoreError: there is something else.
    """
    with storage_errors(folder):
        if folder.exists() and (not folder.is_dir() or not all(map(_is_ours, folder.iterdir()))):
            raise StoreError(
                str(folder),
                expected="a new or empty folder",
                found="something else there",
                remedy="choose another --out",
            )
    try:
        begun = read_record(folder / PLAN)
    except (OSError, ValueError, RecursionError):  # none, or a damaged one: each shard has its own
        return
    if begun != plan.settings:
        raise StoreError(
            str(folder),
            expected="an unfinished store of the same encoder and items",
            found=f"one of {_difference(begun, plan.settings)}",
            remedy="choose another --out, or delete the folder",
        )


def _difference(begun: dict[str, Any], settings: dict[str, Any]) -> str:
    """Return what two plans do not share, for people."""
    if begun.get("fingerprint") != settings["fingerprint"]:
        return f"another encoder ({begun.get('encoder')}, {str(begun.get('fingerprint'))[:12]})"
    if begun.get("ids") != settings["ids"]:
        return "others (the ids differ)"
    keys = sorted(key for key in settings if begun.get(key) != settings[key])
    return f"others ({', '.join(keys)} differ)"


def _is_ours(path: Path) -> bool:
    name = path.name
    return (
        name in (STORE, PLAN, MEANS, LOCK)
        or is_partial(name)
        or bool(_OURS.fullmatch(name))
        or (bool(PART_NAME.fullmatch(name)) and path.is_dir())
    )
