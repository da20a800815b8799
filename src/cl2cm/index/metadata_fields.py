"""The fields of ``index.json``, and checks of those that anyone may have written."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from cl2cm.errors import VectorIndexError
from cl2cm.index.backends.registry import BACKENDS, is_kind, is_name, load_backend
from cl2cm.index.seal import SEAL
from cl2cm.types import is_model_spec

FORMAT = "cl2cm-index"
VERSION = 1
VERSION_OF_PARTS = 2
REMEDY = "build the index again with cl2cm index"

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
}
_LATER: dict[str, type] = {  # fields that an older index does not have
    "url": str,
    "previous": str,
    "cleartext": bool,
    "roots": list,
    SEAL: str,
}
REMOVED: Final = "removed"  # kind of the file of a part's rows that no longer count
SUFFIXES = {
    "vectors": ".npy", "items": ".sqlite", "graph": ".faiss", "place": ".json", REMOVED: ".rows",
}  # fmt: skip
_SUFFIX = ".cl2cm"  # of every other kind of file; so a backend's files are known without it
_MOST_KINDS = 16
_MOST_PARTS = 4096


def suffix_of(kind: str) -> str:
    """Return the suffix of the files of a kind."""
    return SUFFIXES.get(kind, _SUFFIX)


def check_fields(path: Path, metadata: Mapping[str, Any]) -> None:
    """Refuse metadata with a field that is missing, unknown, or not as we write it.

    Args:
        path: of ``index.json``.
        metadata: without the checksum.

    Raises:
        VectorIndexError: there is one.
    """
    for key, kind in (_FIELDS | {key: _LATER[key] for key in _LATER if key in metadata}).items():
        if type(metadata.get(key)) is not kind:
            raise damaged(path, f"{key} as {kind.__name__}", _shown(metadata.get(key)))
    data = "files" if metadata["version"] == VERSION else "parts"
    _check_keys(path, "index.json", metadata, {*_FIELDS, *_LATER, data})
    for key, most in _MOST.items():
        if not 1 <= metadata[key] <= most:
            raise damaged(path, f"{key} from 1 to {most}", _shown(metadata[key]))
    _check_folders(path, metadata)
    if data == "files":
        _check_data(path, metadata["backend"], metadata.get("files"))
    else:
        _check_parts(path, metadata)


def _check_parts(path: Path, metadata: Mapping[str, Any]) -> None:
    parts = metadata.get("parts")
    if not isinstance(parts, list) or not 1 <= len(parts) <= _MOST_PARTS:
        raise damaged(path, f"parts, from 1 to {_MOST_PARTS}", _shown(parts))
    rows = 0
    for part in parts:
        if not isinstance(part, dict) or type(part.get("count")) is not int:
            raise damaged(path, "parts with count and files", _shown(part))
        _check_keys(path, "parts", part, {"count", "files", REMOVED})
        if not 1 <= part["count"] <= _MOST["count"]:
            raise damaged(path, f"count from 1 to {_MOST['count']}", _shown(part["count"]))
        rows += part["count"]
        _check_data(path, metadata["backend"], part.get("files"))
        if REMOVED in part:
            _check_entry(path, REMOVED, part[REMOVED])
            rows -= part[REMOVED]["bytes"] // 8
    if rows != metadata["count"]:
        raise damaged(path, f"parts of {metadata['count']} rows", f"{rows}")


def _check_data(path: Path, backend: str, files: object) -> None:
    """Check the files of a part; a backend of another package is not asked for its kinds here."""
    if not isinstance(files, dict):
        raise damaged(path, "files as dict", _shown(files))
    if backend in BACKENDS:
        kinds: Collection[str] = load_backend(backend).kinds
        _check_keys(path, "files", files, set(kinds))
    elif not is_name(backend):
        raise damaged(path, f"a backend, {' or '.join(BACKENDS)}", _shown(backend))
    elif len(files) > _MOST_KINDS or not all(map(is_kind, files)):
        raise damaged(path, "files of a backend by their kinds", _shown(sorted(files)))
    else:
        kinds = files
    for kind in kinds:
        _check_entry(path, kind, files.get(kind))


def _check_folders(path: Path, metadata: Mapping[str, Any]) -> None:
    run = metadata["run"]
    keys = {"spec"} if "spec" in run else {"absolute", "relative"}
    _check_keys(path, "run", run, keys)
    if "spec" in run and not (type(run["spec"]) is str and is_model_spec(run["spec"])):
        raise damaged(path, "run.spec as hf:MODEL", _shown(run["spec"]))
    named = [
        *(run.get(key) for key in sorted(keys)),
        metadata["folder"],
        *metadata.get("roots", ()),
    ]
    for folder in named:
        if type(folder) is not str or "\0" in folder:
            raise damaged(path, "run, folder and roots as paths", _shown(folder))


def _check_keys(path: Path, what: str, value: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(value.keys() - known):
        raise damaged(path, f"in {what} the keys {', '.join(sorted(known))}", _shown(unknown[0]))


def _check_entry(path: Path, kind: str, entry: object) -> None:
    fields = {"name": str, "bytes": int, "sha256": str}
    if not isinstance(entry, dict) or any(type(entry.get(k)) is not t for k, t in fields.items()):
        raise damaged(path, f"files.{kind} with name, bytes and sha256", _shown(entry))
    _check_keys(path, f"files.{kind}", entry, set(fields))
    if not re.fullmatch(rf"{kind}-[0-9A-Za-z]{{1,40}}\{suffix_of(kind)}", entry["name"]):
        raise damaged(path, f"a plain file name in files.{kind}", _shown(entry["name"]))


def _shown(value: object) -> str:
    """Return a value for a message; a stranger's may be long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def damaged(path: Path, expected: str, found: str) -> VectorIndexError:
    """Return the error for a damaged file of an index."""
    return VectorIndexError(str(path), expected=expected, found=found, remedy=REMEDY)
