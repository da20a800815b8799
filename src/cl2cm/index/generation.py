"""A generation of an index: written, opened and dropped by its backend, wherever its data are."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cl2cm.errors import CL2CMError, ConfigError, VectorIndexError
from cl2cm.index.address import Server
from cl2cm.index.allowed import Allowed
from cl2cm.index.backend_choice import BackendConfig, trusted_name
from cl2cm.index.backends.base import Backend, Generation
from cl2cm.index.backends.location import Location, remote_name
from cl2cm.index.backends.registry import load_backend, warn_of_shadowed
from cl2cm.index.items import ItemStore
from cl2cm.index.metadata import METADATA, Part, is_ours, parts_of
from cl2cm.index.metadata_fields import REMEDY, REMOVED
from cl2cm.index.parts import OpenPart, PartedItems, PartedVectors, other_rows, read_removed
from cl2cm.index.protocol import Items, VectorIndex
from cl2cm.progress import say
from cl2cm.types import Floats, Item

_ORPHAN_SECONDS = 24 * 3600  # after this nobody is still filling a location that nothing names


def check_backend(config: BackendConfig) -> None:
    """Detect early, before encoding, that the index could not be written.

    Raises:
        ConfigError: an address that cannot be.
        MissingExtraError: the backend's package is not installed.
        VectorIndexError: a server that does not answer.
    """
    warn_of_shadowed([config.name])
    location = Location(config.name, config.public, remote_name("check"))
    load_backend(config.name).check(location, config.server)


def write(
    config: BackendConfig,
    files: Mapping[str, Path],
    vectors: Floats,
    items: Sequence[Item],
    folder: str,
    states: Sequence[int | None] = (),
) -> None:
    """Write vectors and items to the files of a generation, and to a server if there is one.

    Args:
        config: what searches them.
        files: of the generation, by kind.
        vectors: unit vectors float32 [N, D].
        items: item i for vector i.
        folder: that will hold the files.
        states: of the files of the items, where they are known; see `ItemStore`.

    Raises:
        VectorIndexError: no vectors, or not of unit length; an id twice; a server that refuses.
        MissingExtraError: the backend's package is not installed.
    """
    backend = load_backend(config.name)
    location = None
    if "place" in files:  # written first, so that what a killed run leaves can be found
        name = remote_name(files["place"].stem.partition("-")[2])
        location = Location(config.name, config.public, name, folder, config.cleartext, ours=True)
        location.write(files["place"])
    count, dim = vectors.shape if vectors.ndim == 2 else (0, 0)
    generation = Generation(
        files, config.dtype, count, dim, location=location, server=config.server, states=states
    )
    try:
        backend.write(generation, vectors, items)
        _check_written(backend, files)
    except BaseException:
        if location is not None:
            with contextlib.suppress(CL2CMError):
                drop(location, config.server)
        raise


def open_generation(
    folder: Path, metadata: Mapping[str, Any], allowed: Allowed
) -> tuple[VectorIndex, Items]:
    """Open the vectors and items that the metadata of an index names.

    Raises:
        VectorIndexError: a file is damaged, a server does not answer, or the index names a server
            or a backend that the user did not allow.
        MissingExtraError: the backend's package is not installed.
    """
    backend = _backend_of(folder, metadata, allowed)
    parts = parts_of(metadata)
    if len(parts) == 1 and REMOVED not in parts[0]:
        return _open_part(backend, folder, metadata, parts[0], allowed)
    opened: list[OpenPart] = []
    try:
        for part in parts:
            vectors, items = _open_part(backend, folder, metadata, part, allowed)
            live = None
            if REMOVED in part:
                removed = read_removed(folder / part[REMOVED]["name"], part["count"])
                live = other_rows(removed, part["count"])
            if not isinstance(items, ItemStore):
                raise VectorIndexError(
                    str(folder / METADATA),
                    expected="parts with their items in files",
                    found=f"the backend {backend.name}",
                    remedy=REMEDY,
                )
            opened.append(OpenPart(vectors, items, live))
    except BaseException:
        for one in opened:
            one.vectors.close()
            one.items.close()
        raise
    return PartedVectors(opened), PartedItems(opened)


def _open_part(
    backend: Backend, folder: Path, metadata: Mapping[str, Any], part: Part, allowed: Allowed
) -> tuple[VectorIndex, Items]:
    files = {kind: folder / entry["name"] for kind, entry in part["files"].items()}
    location, server = None, None
    if "place" in files:
        location = Location.read(files["place"], backend.name)
        server = location.server(allowed, backend.public_url)
    hashes = {kind: str(entry["sha256"]) for kind, entry in part["files"].items()}
    generation = Generation(
        files,
        metadata["dtype"],
        int(part["count"]),
        int(metadata["dim"]),
        hashes,
        is_ours(metadata),
        location,
        server,
    )
    vectors, items = backend.open(generation)
    if len(items) != part["count"]:
        vectors.close()
        items.close()
        raise VectorIndexError(
            str(files.get("items", folder)),
            expected=f"{part['count']} items, one for each vector",
            found=f"{len(items)}",
            remedy=REMEDY,
        )
    return vectors, items


def _backend_of(folder: Path, metadata: Mapping[str, Any], allowed: Allowed) -> Backend:
    """Return the backend of an index; the backend must support the files and the dtype."""
    name = trusted_name(metadata, allowed)
    try:
        backend = load_backend(name)
    except ConfigError as error:
        raise VectorIndexError(
            f"{folder / METADATA}: backend {name!r}",
            expected=error.expected,
            found=error.found,
            remedy=error.remedy,
        ) from error
    for part in parts_of(metadata):
        kinds = part["files"].keys()
        if kinds != set(backend.kinds) or metadata["dtype"] not in backend.dtypes:
            raise VectorIndexError(
                str(folder / METADATA),
                expected=f"an index of the backend {name}: {', '.join(backend.kinds)}",
                found=f"{', '.join(sorted(kinds))} in {metadata['dtype']!r:.40}",
                remedy=REMEDY,
            )
    return backend


def drop(location: Location, server: Server) -> None:
    """Delete the data at a location of a server, if there are any.

    Raises:
        VectorIndexError: the server does not answer, or refuses.
    """
    load_backend(location.backend).drop(location, server)


def sweep_locations(folder: Path, keep: frozenset[str], gone: frozenset[str]) -> None:
    """Remove the locations ``gone``, and what killed runs left a day ago.

    Only what this user made for this folder is removed, at the server that this user named then.
    What cannot be removed now is tried again by a later run.

    Args:
        folder: of the index.
        keep: names of the files of locations that are in use.
        gone: names of the files of locations that are no longer in use.
    """
    old = time.time() - _ORPHAN_SECONDS
    for path in folder.glob("place-*.json"):
        if path.name in keep or not (path.name in gone or path.stat().st_mtime < old):
            continue
        with contextlib.suppress(CL2CMError, OSError):
            location = Location.read(path)
            if location.ours and location.folder == str(folder):
                backend = load_backend(location.backend)
                drop(location, location.server(Allowed(), backend.public_url))
                path.unlink()
            elif path.name in gone:
                say(
                    f"{path}: {location.name} at {location.url} was made elsewhere or by an "
                    "earlier version, and stays; drop it there, then remove this file"
                )


def _check_written(backend: Backend, files: Mapping[str, Path]) -> None:
    missing = [kind for kind, path in files.items() if not path.is_file()]
    if missing:
        raise VectorIndexError(
            f"backend {backend.name!r}",
            expected=f"a file for each of {', '.join(backend.kinds)}",
            found=f"none for {', '.join(missing)}",
            remedy="report it to the authors of the backend",
        )
