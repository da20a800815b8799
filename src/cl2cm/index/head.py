"""``index.json``: what an index folder holds, written last and replaced in one step.

It names the data files of its generation with their sizes and hashes. A new generation is written
beside the old one; once ``index.json`` points at it, the old files are removed, which a reader
that has them open does not notice.
"""

import contextlib
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cl2cm.errors import VectorIndexError
from cl2cm.storage import sha256_file, write_json

FORMAT = "cl2cm-index"
VERSION = 1
HEAD = "index.json"
JOURNAL = "encoded.sqlite"  # what was encoded so far; an index that is begun has nothing else
REMEDY = "build the index again with cl2cm index"

_FIELDS: dict[str, type] = {
    "backend": str,
    "count": int,
    "dim": int,
    "dtype": str,
    "model": str,
    "folder": str,
    "run": dict,
    "files": dict,
}
_SUFFIXES = {"vectors": ".npy", "items": ".sqlite", "graph": ".faiss", "place": ".json"}
_KINDS = {  # of files, by backend
    "exact": ("vectors", "items"),
    "faiss": ("vectors", "items", "graph"),
    "qdrant": ("vectors", "items", "place"),
    "pgvector": ("place",),
}
_ORPHAN_SECONDS = 24 * 3600  # after this nobody is still writing a file that nothing names


@contextmanager
def write_generation(folder: Path, head: Mapping[str, Any]) -> Iterator[dict[str, Path]]:
    """Give the paths of a new generation's files; point ``index.json`` at them on success."""
    token = secrets.token_hex(4)
    kinds = _KINDS[head["backend"]]
    paths = {kind: folder / f"{kind}-{token}{_SUFFIXES[kind]}" for kind in kinds}
    try:
        yield paths
        files = {
            kind: {"name": p.name, "bytes": p.stat().st_size, "sha256": sha256_file(p)}
            for kind, p in paths.items()
        }
        write_json(folder / HEAD, {**head, "files": files})
    finally:
        for path in paths.values():
            if path.name not in named_files(folder):
                path.unlink(missing_ok=True)


def read_head(folder: Path) -> dict[str, Any]:
    """Read and check ``index.json``.

    Raises:
        VectorIndexError: it is absent, damaged, or of another format or version.
    """
    path = folder / HEAD
    try:
        head = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise VectorIndexError(
            str(folder),
            expected=f"an index, a folder with {HEAD}",
            found="none" if folder.is_dir() else "no such folder",
            remedy="make one with cl2cm index",
        ) from None
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise _damaged(path, "a file that can be read", found) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "one JSON object", str(error)) from error
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise _damaged(path, f"the head of an index ({FORMAT})", "something else")
    if head.get("version") != VERSION:
        found = f"version {head.get('version')}"
        raise _damaged(path, f"version {VERSION} of the format", found)
    _check_fields(path, head)
    return head


def check_files(folder: Path, head: Mapping[str, Any]) -> None:
    """Compare the sizes of the data files with ``index.json``.

    Raises:
        VectorIndexError: a file is absent, or shorter or longer than it was written.
    """
    for entry in head["files"].values():
        path = folder / entry["name"]
        found = f"{path.stat().st_size} bytes" if path.is_file() else "no such file"
        if found != f"{entry['bytes']} bytes":
            raise _damaged(path, f"{entry['bytes']} bytes", found)


def named_files(folder: Path) -> frozenset[str]:
    """Names of the data files of the present generation; none where there is no good index."""
    try:
        return frozenset(entry["name"] for entry in read_head(folder)["files"].values())
    except VectorIndexError:
        return frozenset()


def is_index(folder: Path) -> bool:
    """Whether a folder is an index, be it a damaged one."""
    try:
        read_head(folder)
    except VectorIndexError:
        head = folder / HEAD
        return head.is_file() and any(
            path != head and _is_data(path.name) for path in folder.iterdir()
        )
    return True


def check_path(path: Path) -> None:
    """Refuse a path that could not be written into ``index.json``.

    Raises:
        VectorIndexError: it is no Unicode.
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


def refuse_other_folder(folder: Path) -> None:
    """Refuse to write an index over what is not one.

    Raises:
        VectorIndexError: a file, or a folder with other things in it.
    """
    if folder.is_dir() and (_is_begun(folder) or is_index(folder)):
        return
    if folder.exists():
        raise VectorIndexError(
            str(folder),
            expected="a new, an empty or an index folder",
            found="a folder of other things" if folder.is_dir() else "a file",
            remedy="choose another place for the index",
        )


def _is_begun(folder: Path) -> bool:
    """Whether a folder is empty, or holds no more than what was encoded so far."""
    return all(path.name.startswith(JOURNAL) or _is_data(path.name) for path in folder.iterdir())


def sweep(folder: Path, before: frozenset[str]) -> None:
    """Remove the files of the generation ``before``, and what a killed run left a day ago."""
    keep = named_files(folder) | {HEAD}
    old = time.time() - _ORPHAN_SECONDS
    for path in folder.iterdir():
        if path.name in keep or not _is_data(path.name) or is_place(path.name):
            continue
        with contextlib.suppress(OSError):  # a file that is open cannot be removed on Windows
            if path.name in before or path.stat().st_mtime < old:
                path.unlink()


def is_place(name: str) -> bool:
    """Whether a file names something on a server, which has to go before the file goes."""
    return name.startswith("place-")


def _is_data(name: str) -> bool:
    plain = name.removeprefix(".").partition(".partial-")[0]
    return plain == HEAD or any(
        plain.startswith(f"{kind}-") and plain.endswith(suffix)
        for kind, suffix in _SUFFIXES.items()
    )


def _check_fields(path: Path, head: Mapping[str, Any]) -> None:
    for key, kind in _FIELDS.items():
        if type(head.get(key)) is not kind:
            raise _damaged(path, f"{key} as {kind.__name__}", repr(head.get(key)))
    for key in ("absolute", "relative"):
        if not isinstance(head["run"].get(key), str):
            raise _damaged(path, f"run.{key} as str", repr(head["run"].get(key)))
    if head["backend"] not in _KINDS:
        raise _damaged(path, f"a backend, {' or '.join(_KINDS)}", repr(head["backend"]))
    for name in _KINDS[head["backend"]]:
        _check_entry(path, name, head["files"].get(name))
    for key in ("url", "previous"):
        if not isinstance(head.get(key, ""), str):
            raise _damaged(path, f"{key} as str", repr(head[key]))


def _check_entry(path: Path, kind: str, entry: object) -> None:
    fields = {"name": str, "bytes": int, "sha256": str}
    if not isinstance(entry, dict) or any(type(entry.get(k)) is not t for k, t in fields.items()):
        raise _damaged(path, f"files.{kind} with name, bytes and sha256", repr(entry))
    if Path(entry["name"]).name != entry["name"]:
        raise _damaged(path, f"a plain file name in files.{kind}", repr(entry["name"]))


def _damaged(path: Path, expected: str, found: str) -> VectorIndexError:
    return VectorIndexError(str(path), expected=expected, found=found, remedy=REMEDY)
