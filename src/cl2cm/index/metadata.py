"""``index.json``: what an index folder holds, written last and replaced in one step.

It names the data files of its generation with their sizes and hashes. A new generation is written
beside the old one; once ``index.json`` points at it, the old files are removed, which a reader
that has them open does not notice.

It carries the user's seal (seal.py). Metadata without a seal is from somebody else, or from a
version that wrote none: what it says about other folders and about servers is then ignored.
"""

import json
import os
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cl2cm.errors import VectorIndexError
from cl2cm.index.backends.registry import BACKENDS, is_kind, is_name, load_backend
from cl2cm.index.seal import SEAL, is_sealed, sealed
from cl2cm.storage import (
    CHECKSUM,
    checksummed,
    has_hash,
    hash_and_remember,
    is_unchanged,
    open_confined,
    write_json,
)
from cl2cm.types import is_model_spec

FORMAT = "cl2cm-index"
VERSION = 1
METADATA = "index.json"
JOURNAL = "encoded.sqlite"  # what was encoded so far; an index that is begun has nothing else
REMEDY = "build the index again with cl2cm index"

_SEALED = "head"  # as seals of earlier versions have it
_BYTES = 2**24  # of index.json: more than any list of folders
_MOST = {"count": 2**40, "dim": 2**16}
_FIELDS: dict[str, type] = {
    "format": str,
    "version": int,
    "backend": str,
    "count": int,
    "dim": int,
    "dtype": str,
    "model": str,
    "folder": str,
    "run": dict,
    "files": dict,
}
_LATER: dict[str, type] = {  # fields that an older index does not have
    "url": str,
    "previous": str,
    "cleartext": bool,
    "roots": list,
    SEAL: str,
}
SUFFIXES = {"vectors": ".npy", "items": ".sqlite", "graph": ".faiss", "place": ".json"}
_SUFFIX = ".cl2cm"  # of every other kind of file; so a backend's files are known without it
_MOST_KINDS = 16


@contextmanager
def write_generation(folder: Path, metadata: Mapping[str, Any]) -> Iterator[dict[str, Path]]:
    """Yield the paths of a new generation's files; point ``index.json`` at them on success."""
    token = secrets.token_hex(4)
    kinds = load_backend(metadata["backend"]).kinds
    paths = {kind: folder / f"{kind}-{token}{_suffix(kind)}" for kind in kinds}
    try:
        yield paths
        files = {
            kind: {"name": p.name, "bytes": p.stat().st_size, "sha256": hash_and_remember(p)}
            for kind, p in paths.items()
        }
        write_json(folder / METADATA, checksummed(sealed(_SEALED, {**metadata, "files": files})))
    finally:
        for path in paths.values():
            if path.name not in files_in_use(folder):
                path.unlink(missing_ok=True)


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
            raise _damaged(path, f"at most {_BYTES // 2**20} MB", "a longer file")
        metadata = json.loads(content)
    except FileNotFoundError:
        if os.path.lexists(path):
            raise _damaged(
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
        raise _damaged(path, "a file that can be read", found) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "one JSON object", str(error)) from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise _damaged(path, f"the metadata of an index ({FORMAT})", "something else")
    if metadata.get("version") != VERSION:
        found = f"version {metadata.get('version')}"
        raise _damaged(path, f"version {VERSION} of the format", found)
    if not is_unchanged(metadata):
        raise _damaged(path, "the content of its checksum", "another")
    metadata.pop(CHECKSUM, None)
    _check_fields(path, metadata)
    return metadata


def check_files(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Compare the sizes of the data files with ``index.json``; each is a file of the folder itself.

    Raises:
        VectorIndexError: a file is absent, a link, or shorter or longer than it was written.
    """
    for entry in metadata["files"].values():
        path = folder / entry["name"]
        try:
            with open_confined(path, [folder]) as file:
                found = f"{os.fstat(file.fileno()).st_size} bytes"
        except FileNotFoundError:
            found = "no such file" if not os.path.lexists(path) else "a link, or no file"
        if found != f"{entry['bytes']} bytes":
            raise _damaged(path, f"{entry['bytes']} bytes", found)


def check_hashes(folder: Path, metadata: Mapping[str, Any], *, again: bool = False) -> None:
    """Compare the hashes of the data files with ``index.json``.

    Args:
        folder: of the index.
        metadata: what `read_metadata` returned.
        again: read every byte, even of files that were found right since they changed last.

    Raises:
        VectorIndexError: a file is not the one that was written.
    """
    for kind, entry in metadata["files"].items():
        if kind == "place" and not again:  # it has the user's seal
            continue
        if not has_hash(folder / entry["name"], entry["sha256"], again=again):
            expected = f"the hash {entry['sha256'][:16]}…"
            raise _damaged(folder / entry["name"], expected, "a damaged file of another hash")


def is_ours(metadata: Mapping[str, Any]) -> bool:
    """Return whether this user wrote the metadata; only then they speak for the user."""
    return is_sealed(_SEALED, metadata)


def files_in_use(folder: Path) -> frozenset[str]:
    """Names of the data files of the present generation; none where there is no good index."""
    try:
        return frozenset(entry["name"] for entry in read_metadata(folder)["files"].values())
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


def _suffix(kind: str) -> str:
    return SUFFIXES.get(kind, _SUFFIX)


def _check_fields(path: Path, metadata: Mapping[str, Any]) -> None:
    for key, kind in (_FIELDS | {key: _LATER[key] for key in _LATER if key in metadata}).items():
        if type(metadata.get(key)) is not kind:
            raise _damaged(path, f"{key} as {kind.__name__}", _shown(metadata.get(key)))
    _check_keys(path, "index.json", metadata, {*_FIELDS, *_LATER})
    for key, most in _MOST.items():
        if not 1 <= metadata[key] <= most:
            raise _damaged(path, f"{key} from 1 to {most}", _shown(metadata[key]))
    _check_folders(path, metadata)
    for name in _kinds(path, metadata):
        _check_entry(path, name, metadata["files"].get(name))


def _kinds(path: Path, metadata: Mapping[str, Any]) -> Collection[str]:
    """Return the kinds of the files; of a backend of another package, which is not asked here."""
    name, files = metadata["backend"], metadata["files"]
    if name in BACKENDS:
        kinds = load_backend(name).kinds
        _check_keys(path, "files", files, set(kinds))
        return kinds
    if not is_name(name):
        raise _damaged(path, f"a backend, {' or '.join(BACKENDS)}", _shown(name))
    if len(files) > _MOST_KINDS or not all(map(is_kind, files)):
        raise _damaged(path, "files of a backend by their kinds", _shown(sorted(files)))
    return list(files)


def _check_folders(path: Path, metadata: Mapping[str, Any]) -> None:
    run = metadata["run"]
    keys = {"spec"} if "spec" in run else {"absolute", "relative"}
    _check_keys(path, "run", run, keys)
    if "spec" in run and not (type(run["spec"]) is str and is_model_spec(run["spec"])):
        raise _damaged(path, "run.spec as hf:MODEL", _shown(run["spec"]))
    named = [
        *(run.get(key) for key in sorted(keys)),
        metadata["folder"],
        *metadata.get("roots", ()),
    ]
    for folder in named:
        if type(folder) is not str or "\0" in folder:
            raise _damaged(path, "run, folder and roots as paths", _shown(folder))


def _check_keys(path: Path, what: str, value: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(value.keys() - known):
        raise _damaged(path, f"in {what} the keys {', '.join(sorted(known))}", _shown(unknown[0]))


def _check_entry(path: Path, kind: str, entry: object) -> None:
    fields = {"name": str, "bytes": int, "sha256": str}
    if not isinstance(entry, dict) or any(type(entry.get(k)) is not t for k, t in fields.items()):
        raise _damaged(path, f"files.{kind} with name, bytes and sha256", _shown(entry))
    _check_keys(path, f"files.{kind}", entry, set(fields))
    if not re.fullmatch(rf"{kind}-[0-9A-Za-z]{{1,40}}\{_suffix(kind)}", entry["name"]):
        raise _damaged(path, f"a plain file name in files.{kind}", _shown(entry["name"]))


def _shown(value: object) -> str:
    """Return a value for a message; a stranger's may be long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _damaged(path: Path, expected: str, found: str) -> VectorIndexError:
    return VectorIndexError(str(path), expected=expected, found=found, remedy=REMEDY)
