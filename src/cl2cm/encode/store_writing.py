"""Write a feature store: shard by shard, resuming where an earlier call was stopped."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from cl2cm.encode.rows import Encode, Rows, finite_rows
from cl2cm.encode.store import FORMAT, FeatureStore, not_finite
from cl2cm.errors import StoreError
from cl2cm.progress import Advance
from cl2cm.storage import (
    atomic_path,
    read_regular,
    sha256_file,
    sha256_text,
    storage_errors,
    write_json,
)

SHARD_ITEMS = 4096


def write_store(
    folder: Path,
    ids: Sequence[str],
    encode: Encode,
    *,
    encoder: str,
    fingerprint: str,
    width: int,
    preprocessing: str = "",
    progress: Advance | None = None,
    shard_items: int = SHARD_ITEMS,
) -> FeatureStore:
    """Encode what is missing and return the store, opened.

    Args:
        folder: where the store is, or shall be.
        ids: the items, unique.
        encode: gives the Rows of a list of positions in ``ids``, in that order.
        encoder: the encoder's name, for people.
        fingerprint: the encoder's fingerprint, for the check at opening.
        width: the last dimension of the values.
        preprocessing: what was done to the input, for people.
        progress: told the number of items just done.
        shard_items: items in a shard.

    Raises:
        StoreError: the folder holds something else, or what was encoded is not finite.
        StorageError: the disk is full or closed.
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
    if (folder / "store.json").exists():
        store = FeatureStore.open(folder, fingerprint=fingerprint)
        if store.meta["ids"] != settings["ids"]:
            raise StoreError(
                str(folder),
                expected="a store of the same items",
                found="a store of others",
                remedy="choose another --out, or delete the folder",
            )
        if progress:
            progress(len(ids))
        return store
    _check_plan(folder, settings)
    shards = []
    for number, start in enumerate(range(0, len(ids), shard_items)):
        positions = range(start, min(start + shard_items, len(ids)))
        path = folder / f"{number:05}.safetensors"
        if not (path.exists() and path.with_suffix(".ids.json").exists()):
            rows = encode(positions)
            _check_finite(folder, [ids[i] for i in positions], rows)
            if number == 0:  # a store begins with its first shard
                write_json(folder / "plan.json", settings)
            _write_shard(path, [ids[i] for i in positions], rows)
        shards.append({"items": len(positions), "sha256": sha256_file(path)})
        if progress:
            progress(len(positions))
    write_json(folder / "store.json", {**settings, "items": len(ids), "shards": shards})
    return FeatureStore.open(folder, fingerprint=fingerprint)


def _check_plan(folder: Path, settings: dict[str, Any]) -> None:
    """Allow a new store, or an unfinished one of the same settings; nothing else."""
    plan = folder / "plan.json"
    if plan.exists():
        with contextlib.suppress(ValueError, RecursionError):  # a damaged plan is another one
            if json.loads(read_regular(plan)) == settings:
                return
        raise StoreError(
            str(folder),
            expected="an unfinished store of the same encoder and items",
            found="one of others",
            remedy="choose another --out, or delete the folder",
        )
    with storage_errors(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise StoreError(
                str(folder),
                expected="a new or empty folder",
                found="something else there",
                remedy="choose another --out",
            )


def _check_finite(folder: Path, names: Sequence[str], rows: Rows) -> None:
    bad = (~finite_rows(rows.values)).nonzero()
    if len(bad):
        owner = torch.repeat_interleave(torch.arange(len(names)), rows.lengths)
        raise not_finite(folder, names[int(owner[int(bad[0])])])


def _write_shard(path: Path, ids: list[str], rows: Rows) -> None:
    with atomic_path(path.with_suffix(".ids.json")) as partial:
        partial.write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    with atomic_path(path) as partial:
        save_file({name: t.contiguous() for name, t in rows._asdict().items()}, partial)
