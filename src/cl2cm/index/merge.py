"""Make one index of several: shards that were built independently, on one machine or on many.

The files of the shards become the parts of the index (parts.py), so nothing is encoded or computed
again. They are hard links where the file system can do that, else copies.
"""

import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from cl2cm.errors import VectorIndexError
from cl2cm.index.backends.registry import load_backend
from cl2cm.index.items import ItemStore
from cl2cm.index.layout import refuse_other_folder, sweep
from cl2cm.index.metadata import (
    Entry,
    Part,
    check_files,
    check_hashes,
    entries_of,
    files_in_use,
    is_ours,
    parts_of,
    read_metadata,
    write_metadata,
)
from cl2cm.index.metadata_fields import REMOVED
from cl2cm.index.parts import read_removed
from cl2cm.storage import storage_errors

_SAME = ("model", "backend", "dtype", "dim")  # in all shards


def merge_parts(shards: Sequence[Path], out: Path, *, rebuild: bool = False) -> None:
    """Write an index of the parts of some indexes, in their order; the shards stay as they are.

    Args:
        shards: index folders beside each other.
        out: the index folder, beside them; an index that is there is replaced.
        rebuild: also one that holds what the shards do not.

    Raises:
        VectorIndexError: a shard is missing, damaged, somebody else's, or of another model, backend
            or number format than the first; an id in two of them; a backend without parts.
        StorageError: the disk is full, read-only or closed to us.
    """
    shards, out = [shard.resolve() for shard in shards], out.resolve()
    refuse_other_folder(out)
    all_metadata = [_checked(shard, out) for shard in shards]
    first = all_metadata[0]
    for shard, metadata in zip(shards, all_metadata, strict=True):
        _check_same(shards[0], first, shard, metadata)
    _check_ids(shards, all_metadata)
    if not rebuild:
        _check_old(out, all_metadata)
    old = _names_of(out)
    made: list[Path] = []
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        try:
            parts = [
                _taken(shard, out, part, made)
                for shard, metadata in zip(shards, all_metadata, strict=True)
                for part in parts_of(metadata)
            ]
            _flush(out)
            write_metadata(out, _merged(out, all_metadata), parts)
        finally:
            for path in made:
                if path.name not in files_in_use(out):
                    path.unlink(missing_ok=True)
    sweep(out, old)


def _checked(shard: Path, out: Path) -> dict[str, Any]:
    metadata = read_metadata(shard)
    if not load_backend(metadata["backend"]).parted:
        raise VectorIndexError(
            str(shard),
            expected="a backend that keeps everything in files",
            found=metadata["backend"],
            remedy="merge indexes of exact or faiss; a server holds a large index in one piece",
        )
    if not is_ours(metadata):
        raise VectorIndexError(
            str(shard),
            expected="an index that you made",
            found="somebody else's",
            remedy="build it yourself, or copy your key (config folder, key) to the machines "
            "that build the shards",
        )
    if shard.parent != out.parent or metadata["folder"] != str(shard):
        raise VectorIndexError(
            str(shard),
            expected=f"a shard that was built in {out.parent}, where the index shall be",
            found=f"one that was built in {metadata['folder']}",
            remedy="its paths are relative: mount the folder under the same name everywhere",
        )
    check_files(shard, metadata)
    check_hashes(shard, metadata)
    return metadata


def _check_same(
    first: Path, expected: Mapping[str, Any], shard: Path, found: Mapping[str, Any]
) -> None:
    for key in _SAME:
        if expected[key] != found[key]:
            raise VectorIndexError(
                str(shard),
                expected=f"{key} {expected[key]}, as in {first}",
                found=str(found[key]),
                remedy="build all shards with the same options",
            )


def _check_ids(shards: Sequence[Path], all_metadata: Sequence[Mapping[str, Any]]) -> None:
    """Refuse an id in two shards: they were not cut from the same list."""
    seen: dict[str, Path] = {}
    for shard, metadata in zip(shards, all_metadata, strict=True):
        names = _ids(shard, metadata)
        if twice := names & seen.keys():
            name = min(twice)
            raise VectorIndexError(
                str(shard),
                expected="items that no other shard has",
                found=f"{name!r} here and in {seen[name]}",
                remedy="the folder changed between the shards: build these two again",
            )
        seen.update(dict.fromkeys(names, shard))


def _check_old(out: Path, all_metadata: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to replace an index that was updated, or built, without these shards."""
    try:
        there = {entry["sha256"] for _, entry in entries_of(read_metadata(out))}
    except VectorIndexError:
        return
    known = {entry["sha256"] for one in all_metadata for _, entry in entries_of(one)}
    if not there <= known:
        raise VectorIndexError(
            str(out),
            expected="no index yet, or one of these shards alone",
            found="one that was updated since they were merged, or built without them",
            remedy="remove the shards to keep it; --rebuild replaces it by its shards",
        )


def _ids(shard: Path, metadata: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    with ExitStack() as stack:
        for part in parts_of(metadata):
            path = shard / part["files"]["items"]["name"]
            names, _ = stack.enter_context(closing(ItemStore(path))).states()
            removed = set[int]()
            if REMOVED in part:
                removed.update(read_removed(shard / part[REMOVED]["name"], part["count"]).tolist())
            found.update(name for row, name in enumerate(names) if row not in removed)
    return found


def _merged(out: Path, all_metadata: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return ``index.json`` of the whole but for its parts."""
    first = {k: v for k, v in all_metadata[0].items() if k not in ("files", "parts", "seal")}
    roots = dict.fromkeys(root for one in all_metadata for root in one.get("roots", ()))
    count = sum(one["count"] for one in all_metadata)
    return {**first, "folder": str(out), "count": count, "roots": [*roots]}


def _taken(shard: Path, out: Path, part: Part, made: list[Path]) -> Part:
    """Link or copy the files of a part into the index, under new names."""
    token = secrets.token_hex(4)

    def take(kind: str, entry: Entry) -> Entry:
        target = out / f"{kind}-{token}{Path(entry['name']).suffix}"
        made.append(target)
        _link(shard / entry["name"], target)
        return Entry(name=target.name, bytes=entry["bytes"], sha256=entry["sha256"])

    files = {kind: take(kind, entry) for kind, entry in part["files"].items()}
    if REMOVED in part:
        return Part(count=part["count"], files=files, removed=take(REMOVED, part[REMOVED]))
    return Part(count=part["count"], files=files)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    if os.name == "nt":  # it opens no folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _names_of(out: Path) -> frozenset[str]:
    try:
        return frozenset(entry["name"] for _, entry in entries_of(read_metadata(out)))
    except VectorIndexError:
        return frozenset()
