"""Writing an index folder: a new generation beside the old one, and ``index.json`` last."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cl2cm.errors import VectorIndexError
from cl2cm.index.backend_choice import BackendConfig, BackendOptions
from cl2cm.index.generation import sweep_locations, write
from cl2cm.index.layout import is_index, names_location, refuse_other_folder, sweep
from cl2cm.index.media import folders_of, portable_path, run_paths
from cl2cm.index.metadata import (
    Part,
    entries_of,
    files_in_use,
    read_metadata,
    write_generation,
)
from cl2cm.index.metadata_fields import FORMAT
from cl2cm.storage import atomic_folder, storage_errors
from cl2cm.types import Floats, Ints, Item, StrPath


def write_index(
    path: Path,
    vectors: Floats,
    items: Sequence[Item],
    *,
    model: str,
    run: StrPath,
    options: BackendOptions,
    roots: Sequence[Path] | None,
    states: Sequence[int | None] = (),
) -> BackendConfig:
    """Write an index atomically; arguments and errors are as for `Index.create`.

    Args:
        path: as the others, of `Index.create`.
        vectors: of the items.
        items: item i for vector i.
        model: fingerprint.
        run: that a search loads.
        options: of the backend.
        roots: folders that the items' files are in.
        states: of the files of the items, where they are known; see `ItemStore.write`.
    """
    vectors = np.asarray(vectors)
    if vectors.ndim == 2 and len(vectors) != len(items):
        raise VectorIndexError(
            str(path),
            expected="an item for each vector",
            found=f"{len(vectors)} vectors and {len(items)} items",
            remedy="pass both in the same order and number",
        )
    path = path.resolve()
    refuse_other_folder(path)
    if roots is None:
        roots = folders_of(Path(item.path) for item in items if os.path.isabs(item.path))  # noqa: PTH117
    old = _old_metadata(path)
    config = options.resolve(old, vectors.size)
    shape = (len(items), vectors.shape[-1] if vectors.ndim else 0)
    metadata = _metadata(path, config, shape, model, run, roots, old)
    if is_index(path) or (path.is_dir() and any(path.iterdir())):
        with storage_errors(path):
            _write(path, metadata, config, vectors, items, states)
        _sweep(path, old, str(metadata["previous"]))
    else:
        with atomic_folder(path) as partial:
            _write(partial, metadata, config, vectors, items, states)
    return config


def write_change(
    path: Path,
    vectors: Floats,
    items: Sequence[Item],
    states: Sequence[int | None],
    *,
    old: Mapping[str, Any],
    kept: Sequence[Part],
    removed: Mapping[int, Ints],
    config: BackendConfig,
    run: StrPath,
    roots: Sequence[Path],
) -> None:
    """Write what is new in an index, as a part beside those that stay.

    Args:
        path: the folder.
        vectors: unit vectors float32 [N, D]; N may be 0.
        items: item i for vector i.
        states: of their files.
        old: ``index.json`` as it is.
        kept: parts of it that stay, in their order.
        removed: number of a kept part → its rows that do not count, where this changes.
        config: what searches it, as before.
        run: that a search loads.
        roots: folders that all items' files are in.
    """
    gone = {at: len(rows) for at, rows in removed.items()}
    rows = [
        part["count"] - gone.get(at, part["removed"]["bytes"] // 8 if "removed" in part else 0)
        for at, part in enumerate(kept)
    ]
    shape = (sum(rows) + len(items), old["dim"])
    metadata = _metadata(path, config, shape, old["model"], run, roots, old)
    with (
        storage_errors(path),
        write_generation(path, metadata, count=len(items), kept=kept, removed=removed) as files,
    ):
        if files:
            write(config, files, vectors, _portable(items, path), str(path), states)
    sweep(path, _names(old))


def _portable(items: Sequence[Item], folder: Path) -> list[Item]:
    return [replace(item, path=portable_path(item.path, folder)) for item in items]


def _metadata(
    path: Path,
    config: BackendConfig,
    shape: tuple[int, int],
    model: str,
    run: StrPath,
    roots: Sequence[Path],
    old: Mapping[str, Any],
) -> dict[str, Any]:
    """Return ``index.json`` but for its parts."""
    return {
        "format": FORMAT, "backend": config.name, "dtype": config.dtype,
        "count": shape[0], "dim": shape[1], "model": model,
        "folder": str(path), "run": run_paths(run, path), "url": config.public,
        "cleartext": config.cleartext,
        "roots": [portable_path(os.path.abspath(root), path) for root in roots],  # noqa: PTH100
        "previous": next((e["name"] for kind, e in entries_of(old) if kind == "place"), ""),
    }  # fmt: skip


def _old_metadata(folder: Path) -> dict[str, Any]:
    try:
        return read_metadata(folder)
    except VectorIndexError:
        return {}


def _write(
    folder: Path,
    metadata: Mapping[str, Any],
    config: BackendConfig,
    vectors: Floats,
    items: Sequence[Item],
    states: Sequence[int | None],
) -> None:
    items = _portable(items, Path(metadata["folder"]))
    with write_generation(folder, metadata, count=max(len(items), 1)) as files:
        write(config, files, vectors, items, metadata["folder"], states)


def _names(metadata: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(entry["name"] for _, entry in entries_of(metadata))


def _sweep(path: Path, old: Mapping[str, Any], previous: str) -> None:
    """Remove the old generation; on a server, the one before it."""
    sweep(path, _names(old))
    keep = frozenset({previous, *filter(names_location, files_in_use(path))})
    sweep_locations(path, keep, frozenset({str(old.get("previous", ""))}))
