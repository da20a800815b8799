"""``index.json``: what an index folder holds, written last and replaced in one step.

It names the data files of its generation with their sizes and hashes. A new generation is written
beside the old one; once ``index.json`` points at it, the old files are removed, which a reader
that has them open does not notice.

Version 1 has one part, all of whose rows count: ``files``. Version 2 has ``parts``, each with its
files, its number of rows and perhaps a file of the rows that no longer count (parts.py). Version 1
is written where it suffices, so that earlier versions of cl2cm can read it.

It carries the user's seal (seal.py). Metadata without a seal is from somebody else, or from a
version that wrote none: what it says about other folders and about servers is then ignored.
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from cl2cm.errors import VectorIndexError
from cl2cm.index.backends.registry import load_backend
from cl2cm.index.metadata_fields import (
    FORMAT,
    REMOVED,
    VERSION,
    VERSION_OF_PARTS,
    check_fields,
    damaged,
    suffix_of,
)
from cl2cm.index.seal import is_sealed, sealed
from cl2cm.storage import (
    CHECKSUM,
    atomic_file,
    checksummed,
    has_hash,
    hash_and_remember,
    is_unchanged,
    open_confined,
    write_json,
)
from cl2cm.types import Ints

METADATA = "index.json"
JOURNAL = "encoded.sqlite"  # what was encoded so far; an index that is begun has nothing else

_SEALED = "head"  # as seals of earlier versions have it
_BYTES = 2**24  # of index.json: more than any list of folders


class Entry(TypedDict):
    """A data file as ``index.json`` names it."""

    name: str
    bytes: int
    sha256: str


class Part(TypedDict):
    """Files that hold a number of rows; ``removed`` names the rows that no longer count."""

    count: int
    files: dict[str, Entry]
    removed: NotRequired[Entry]


def parts_of(metadata: Mapping[str, Any]) -> list[Part]:
    """Return the parts of an index, in the order of its rows; one for an index of version 1."""
    if "files" in metadata:
        return [{"count": metadata["count"], "files": metadata["files"]}]
    parts: list[Part] = metadata.get("parts", [])
    return parts


def entries_of(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Entry]]:
    """Yield kind and entry of each data file of an index."""
    for part in parts_of(metadata):
        yield from part["files"].items()
        if REMOVED in part:
            yield REMOVED, part[REMOVED]


@contextmanager
def write_generation(
    folder: Path,
    metadata: Mapping[str, Any],
    *,
    count: int,
    kept: Sequence[Part] = (),
    removed: Mapping[int, Ints] | None = None,
) -> Iterator[dict[str, Path]]:
    """Yield the paths of a new part's files; point ``index.json`` at them on success.

    Args:
        folder: of the index.
        metadata: all of ``index.json`` but its parts.
        count: rows of the new part; 0: there is none, and no path is yielded.
        kept: parts of the last generation that stay, before the new one.
        removed: number of a kept part → its rows int64 that no longer count, rising; for the others
            this stays as it was.
    """
    token = secrets.token_hex(4)
    kinds = load_backend(metadata["backend"]).kinds if count else ()
    paths = {kind: folder / f"{kind}-{token}{suffix_of(kind)}" for kind in kinds}
    lists = {at: folder / f"{REMOVED}-{token}{at:x}{suffix_of(REMOVED)}" for at in removed or {}}
    try:
        yield paths
        parts = [*kept]
        for at, path in lists.items():
            with atomic_file(path) as file:
                file.write((removed or {})[at].astype("<i8").tobytes())
            kept_part = parts[at]
            parts[at] = Part(
                count=kept_part["count"], files=kept_part["files"], removed=_entry(path)
            )
        if count:
            files = {kind: _entry(path) for kind, path in paths.items()}
            parts.append({"count": count, "files": files})
        write_metadata(folder, metadata, parts)
    finally:
        for path in (*paths.values(), *lists.values()):
            if path.name not in files_in_use(folder):
                path.unlink(missing_ok=True)


def write_metadata(folder: Path, metadata: Mapping[str, Any], parts: Sequence[Part]) -> None:
    """Write ``index.json`` with the user's seal and a checksum, whole or not at all."""
    about: dict[str, Any] = {**metadata, "version": VERSION_OF_PARTS, "parts": [*parts]}
    if len(parts) == 1 and REMOVED not in parts[0]:
        about = {**metadata, "version": VERSION, "files": parts[0]["files"]}
    write_json(folder / METADATA, checksummed(sealed(_SEALED, about)))


def _entry(path: Path) -> Entry:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": hash_and_remember(path)}


def read_metadata(folder: Path) -> dict[str, Any]:
    """Read and check ``index.json``.

    Raises:
        VectorIndexError: it is absent, damaged, or of another format or version.
    """
    path = folder / METADATA
    try:
        with open_confined(path, [folder]) as file:
            content = file.read(_BYTES + 1)
        if len(content) > _BYTES:
            raise damaged(path, f"at most {_BYTES // 2**20} MB", "a longer file")
        metadata = json.loads(content)
    except FileNotFoundError:
        if os.path.lexists(path):
            raise damaged(
                path, "a file that can be read", "a link, a folder, a pipe or no permission"
            ) from None
        raise VectorIndexError(
            str(folder),
            expected=f"an index, a folder with {METADATA}",
            found="none" if folder.is_dir() else "no such folder",
            remedy="make one with cl2cm index",
        ) from None
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise damaged(path, "a file that can be read", found) from error
    except (ValueError, RecursionError) as error:
        raise damaged(path, "one JSON object", str(error)) from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise damaged(path, f"the metadata of an index ({FORMAT})", "something else")
    if metadata.get("version") not in (VERSION, VERSION_OF_PARTS):
        found = f"version {metadata.get('version')}"
        raise damaged(path, f"version {VERSION} or {VERSION_OF_PARTS} of the format", found)
    if not is_unchanged(metadata):
        raise damaged(path, "the content of its checksum", "another")
    metadata.pop(CHECKSUM, None)
    check_fields(path, metadata)
    return metadata


def check_files(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Compare the sizes of the data files with ``index.json``; each is a file of the folder itself.

    Raises:
        VectorIndexError: a file is absent, a link, or shorter or longer than it was written.
    """
    for _, entry in entries_of(metadata):
        path = folder / entry["name"]
        try:
            with open_confined(path, [folder]) as file:
                found = f"{os.fstat(file.fileno()).st_size} bytes"
        except FileNotFoundError:
            found = "no such file" if not os.path.lexists(path) else "a link, or no file"
        if found != f"{entry['bytes']} bytes":
            raise damaged(path, f"{entry['bytes']} bytes", found)


def check_hashes(folder: Path, metadata: Mapping[str, Any], *, again: bool = False) -> None:
    """Compare the hashes of the data files with ``index.json``.

    Args:
        folder: of the index.
        metadata: what `read_metadata` returned.
        again: read every byte, even of files that were found right since they changed last.

    Raises:
        VectorIndexError: a file is not the one that was written.
    """
    for kind, entry in entries_of(metadata):
        if kind == "place" and not again:  # it has the user's seal
            continue
        if not has_hash(folder / entry["name"], entry["sha256"], again=again):
            expected = f"the hash {entry['sha256'][:16]}…"
            raise damaged(folder / entry["name"], expected, "a damaged file of another hash")


def is_ours(metadata: Mapping[str, Any]) -> bool:
    """Return whether this user wrote the metadata; only then they speak for the user."""
    return is_sealed(_SEALED, metadata)


def files_in_use(folder: Path) -> frozenset[str]:
    """Names of the data files of the present generation; none where there is no good index."""
    try:
        return frozenset(entry["name"] for _, entry in entries_of(read_metadata(folder)))
    except VectorIndexError:
        return frozenset()


def check_path(path: Path) -> None:
    """Refuse a path that could not be written into ``index.json``.

    Raises:
        VectorIndexError: it is not Unicode.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise VectorIndexError(
            ascii(str(path)),
            expected="a path in Unicode",
            found=ascii(error.object[error.start : error.end]),
            remedy="choose another name",
        ) from error
