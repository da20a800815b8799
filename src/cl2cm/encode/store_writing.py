"""Write a feature store: shard by shard, resuming where an earlier call was stopped.

One process writes a store at a time. Whoever encodes (``engines/``), this process commits each
shard once and writes ``store.json`` last. The jobs of an array write their shards into folders of
their own (``array_parts.py``), from which they are taken here.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from cl2cm.encode.array_parts import ArrayJob, Parts
from cl2cm.encode.engines.engine import Engine, in_turn
from cl2cm.encode.plan import PLAN, SHARD_ITEMS, Plan, plan_store
from cl2cm.encode.rows import Encode, EncodedShard, Rows, finite_rows
from cl2cm.encode.shards import Shards, check_folder
from cl2cm.encode.store import MEANS, STORE, FeatureStore, not_finite
from cl2cm.errors import CL2CMError
from cl2cm.progress import Advance, say
from cl2cm.storage import only_writer, read_record, storage_errors, write_record

OnFailure = Callable[[int, CL2CMError], None]  # told position and error of an item left out


def ignore(position: int, error: CL2CMError) -> None:
    """Do nothing about an item that was left out."""
    del position, error


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
    """Encode what is missing, changed or damaged in this process, and return the store, opened.

    Args:
        folder: where the store is, or shall be.
        ids: the items, unique.
        encode: gives the Rows of a list of positions in ``ids``, in that order.
        encoder: see `plan_store`, as for the next ones.
        fingerprint: the same.
        width: the same.
        preprocessing: the same.
        contents: the same.
        progress: told the number of items just done.
        shard_items: items in a shard.
        shared: see `write_planned`.

    Raises:
        StoreError: the folder holds something else, or what was encoded is not finite.
        StorageError: the disk is full or closed, or another process writes the store.
    """
    plan = plan_store(
        ids,
        encoder=encoder,
        fingerprint=fingerprint,
        width=width,
        preprocessing=preprocessing,
        contents=contents,
        shard_items=shard_items,
    )
    return write_planned(folder, plan, encode, progress=progress, shared=shared)


def write_planned(
    folder: Path,
    plan: Plan,
    encode: Encode | None,
    *,
    engine: Engine = in_turn,
    on_failure: OnFailure = ignore,
    progress: Advance | None = None,
    shared: bool = False,
) -> FeatureStore:
    """Encode what is missing, changed or damaged, and return the store, opened.

    Args:
        folder: where the store is, or shall be.
        plan: what is to be in it.
        encode: the step; None: only merge the parts of an array.
        engine: where shards are encoded.
        on_failure: told of items that the step left out.
        progress: told the number of items just done.
        shared: wait for another process that writes the store, as in a cache; else it is an error.

    Raises:
        StoreError: the folder holds something else, what was encoded is not finite, or shards
            are missing and ``encode`` is None.
        StorageError: the disk is full or closed, or another process writes the store.
    """
    plan = plan.as_begun(folder)
    shards = Shards(folder, plan)
    store = shards.finished(tell=False)
    if store is None:
        check_folder(folder, plan)  # before a lock is put into a folder of something else

        def waits() -> None:
            say(f"{folder}: another process encodes it, waiting")

        remedy = "choose another --out"
        with (
            storage_errors(folder),
            only_writer(folder, remedy=remedy, on_wait=waits if shared else None),
        ):
            store = shards.finished(tell=True)  # by the one that was waited for
            if store is None:
                check_folder(folder, plan)
                return _write_missing(shards, encode, engine, on_failure, progress)
    if progress:
        progress(len(plan.ids))
    return store


def write_part(
    folder: Path,
    plan: Plan,
    job: ArrayJob,
    encode: Encode,
    *,
    engine: Engine = in_turn,
    on_failure: OnFailure = ignore,
    progress: Advance | None = None,
) -> tuple[int, int]:
    """Encode what is missing of the shards of one job of an array, into a folder of its own.

    Args:
        folder: the store, in which the job has its folder.
        plan: what is to be in the store.
        job: which job.
        encode: the step.
        engine: where shards are encoded.
        on_failure: told of items that the step left out.
        progress: told the number of items just done.

    Returns:
        How many shards and items the part has.

    Raises:
        StoreError: the folder holds something else, or what was encoded is not finite.
        StorageError: the disk is full or closed, or another process writes the part.
    """
    plan = plan.as_begun(folder)
    mine = job.shards(plan)
    counts = len(mine), sum(len(part) for _, part in mine)
    if Shards(folder, plan).finished(tell=False) is not None:
        return counts
    check_folder(folder, plan)
    part = Shards(job.folder(folder), plan)
    check_folder(part.folder, plan)
    remedy = "choose another --shard"
    with storage_errors(part.folder), only_writer(part.folder, remedy=remedy):
        _commit(part, mine, None, encode, engine, on_failure, progress)
    return counts


def _write_missing(
    shards: Shards,
    encode: Encode | None,
    engine: Engine,
    on_failure: OnFailure,
    progress: Advance | None,
) -> FeatureStore:
    """Put the store together and encode what is missing; the caller is its only writer."""
    folder, plan = shards.folder, shards.plan
    parts = Parts(folder, plan)
    for name in (STORE, MEANS):  # until it is whole, it is no store
        (folder / name).unlink(missing_ok=True)
    wanted = list(plan.shards())
    entries = _commit(shards, wanted, parts, encode, engine, on_failure, progress)
    record = {**plan.settings, "items": len(plan.ids), "shards": entries}
    write_record(folder / STORE, record)
    parts.remove()
    return FeatureStore.open(folder, fingerprint=plan.fingerprint)


def _commit(
    shards: Shards,
    wanted: Sequence[tuple[int, range]],
    others: Parts | None,
    encode: Encode | None,
    engine: Engine,
    on_failure: OnFailure,
    progress: Advance | None,
) -> list[dict[str, Any]]:
    """Encode and write the wanted shards that are not done; return the entries of all of them."""
    entries: dict[int, dict[str, Any]] = {}
    for number, part in wanted:
        entry = shards.done(number, part)
        if entry is None and others is not None:
            entry = others.take(number, part, shards)
        if entry is not None:
            entries[number] = entry
            _begin(shards)
            if progress:
                progress(len(part))
    left = [(number, part) for number, part in wanted if number not in entries]
    if encode is None and others is not None and left:
        raise others.missing(shards.folder, [number for number, _ in left])
    if encode is not None and left:
        parts = dict(left)
        with closing(engine(encode, left)) as results:
            for number, result in results:
                if number in entries:
                    continue  # of an attempt that was thought lost
                entries[number] = _write(shards, number, parts[number], result, on_failure)
                if progress:
                    progress(len(parts[number]))
    return [entries[number] for number, _ in wanted]


def _write(
    shards: Shards, number: int, part: range, result: EncodedShard, on_failure: OnFailure
) -> dict[str, Any]:
    """Write a shard that was encoded."""
    _check_finite(shards.folder, [shards.plan.ids[i] for i in part], result.rows)
    for position, error in result.failures:
        on_failure(position, error)
    _begin(shards)
    return shards.write(number, part, result.rows)


def _begin(shards: Shards) -> None:
    """Write the plan, with which a store begins, unless it is there."""
    path = shards.folder / PLAN
    try:
        there = read_record(path) == shards.plan.settings
    except (OSError, ValueError, RecursionError):
        there = False
    if not there:
        write_record(path, shards.plan.settings)


def _check_finite(folder: Path, names: Sequence[str], rows: Rows) -> None:
    bad = (~finite_rows(rows.values)).nonzero()
    if len(bad):
        owner = torch.repeat_interleave(torch.arange(len(names)), rows.lengths)
        raise not_finite(folder, names[int(owner[int(bad[0])])])
