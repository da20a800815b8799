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
from cl2cm.index.metadata import FORMAT, VERSION, files_in_use, read_metadata, write_generation
from cl2cm.storage import atomic_folder, storage_errors
from cl2cm.types import Floats, Item, StrPath


def write_index(
    path: Path,
    vectors: Floats,
    items: Sequence[Item],
    *,
    model: str,
    run: StrPath,
    options: BackendOptions,
    roots: Sequence[Path] | None,
) -> BackendConfig:
    """Write an index atomically; arguments and errors are those of `Index.create`."""
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
    items = [replace(item, path=portable_path(item.path, path)) for item in items]
    old = _old_metadata(path)
    config = options.resolve(old, vectors.size)
    shape = (len(items), vectors.shape[-1] if vectors.ndim else 0)
    metadata = _metadata(path, config, shape, model, run, roots, old)
    if is_index(path) or (path.is_dir() and any(path.iterdir())):
        with storage_errors(path):
            _write(path, metadata, config, vectors, items)
        _sweep(path, old, str(metadata["previous"]))
    else:
        with atomic_folder(path) as partial:
            _write(partial, metadata, config, vectors, items)
    return config


def _metadata(
    path: Path,
    config: BackendConfig,
    shape: tuple[int, int],
    model: str,
    run: StrPath,
    roots: Sequence[Path],
    old: Mapping[str, Any],
) -> dict[str, Any]:
    """Return ``index.json`` but for its files."""
    return {
        "format": FORMAT, "version": VERSION, "backend": config.name, "dtype": config.dtype,
        "count": shape[0], "dim": shape[1], "model": model,
        "folder": str(path), "run": run_paths(run, path), "url": config.public,
        "cleartext": config.cleartext,
        "roots": [portable_path(os.path.abspath(root), path) for root in roots],  # noqa: PTH100
        "previous": old.get("files", {}).get("place", {}).get("name", ""),
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
) -> None:
    with write_generation(folder, metadata) as files:
        write(config, files, vectors, items, metadata["folder"])


def _sweep(path: Path, old: Mapping[str, Any], previous: str) -> None:
    """Remove the old generation; on a server, the one before it."""
    sweep(path, frozenset(entry["name"] for entry in old.get("files", {}).values()))
    keep = frozenset({previous, *filter(names_location, files_in_use(path))})
    sweep_locations(path, keep, frozenset({str(old.get("previous", ""))}))
