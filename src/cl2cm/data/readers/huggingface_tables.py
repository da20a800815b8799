"""The tables of a directory made by ``save_to_disk``: checked, opened, and read row by row.

Nothing is fetched, and no code of the directory is run: only files inside it are opened, after a
decoding process has measured them. The extra ``datasets`` brings the package.
"""

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cl2cm.data.readers.columns import find_columns
from cl2cm.errors import DatasetError, MediaError, MissingExtraError
from cl2cm.media.decoder_pool import Budget, decoders

_BATCH = 64  # rows in memory
_NAME = re.compile(r"[\w.][\w.+-]*")
_JSON_BYTES = 2**26
_MEMORY = 2**32  # bytes to measure a table, beside its file, which is mapped
Cells = Mapping[str, Any]  # column → value of a row


class Part:
    """One table, as one split.

    Args:
        place: directory and part, for messages.
        name: of the part; empty if it is the only one.
        table: a ``datasets.Dataset``.
        package: the package ``datasets``.
        chosen: role → column, by the user.
    """

    def __init__(
        self,
        place: str,
        name: str,
        table: Any,  # noqa: ANN401
        package: Any,  # noqa: ANN401
        chosen: Mapping[str, str],
    ) -> None:
        features = table.features
        pictures = [key for key, kind in features.items() if isinstance(kind, package.Image)]
        if "file" in chosen:
            pictures = [key for key in pictures if key == chosen["file"]]
        if len(pictures) != 1:
            found = ", ".join(pictures) or f"none among {', '.join(features)[:80]}"
            raise misfit(place, "one column of the type Image", found)
        self.picture = pictures[0]
        others = [key for key in features if key != self.picture]
        named = {role: key for role, key in chosen.items() if role != "file"}
        self.columns = find_columns(others, named, place, files=False)
        if not self.columns.captions:
            raise misfit(place, "a column caption or text", ", ".join(features)[:80])
        split = self.columns.split
        self.unread = [*self.columns.unread, *([split] if name and split else [])]
        self.place, self.name = place, name
        # Only what is read, as Arrow has it: the package would open files that other columns name.
        columns = [key for key in features if key not in self.unread]
        table = table.with_format(None).select_columns(columns)
        table = table.cast_column(self.picture, package.Image(decode=False))
        self.table = table.with_format("arrow")

    def rows(self) -> Iterator[tuple[int, Cells]]:
        """Rows with their numbers, from 0."""
        for start in range(0, len(self.table), _BATCH):
            batch = self.table[start : start + _BATCH].to_pylist()
            yield from enumerate(batch, start=start)


def load_parts(source: Path, chosen: Mapping[str, str]) -> list[Part]:
    """Open every table of a directory.

    Args:
        source: the directory.
        chosen: role → column, by the user.

    Raises:
        DatasetError: it is none, or is damaged.
        MissingExtraError: the package ``datasets`` is not installed.
    """
    package = _package()
    for path in _files(source):
        budget = Budget(cpu=600, wall=3600, memory=path.stat().st_size + _MEMORY)
        try:
            decoders().ask("arrow", str(path), budget, {"path": str(path)})
        except MediaError as error:
            raise misfit(error.subject, error.expected, error.found) from None
    try:
        loaded = package.load_from_disk(str(source.resolve()))
        tables = loaded if isinstance(loaded, dict) else {"": loaded}
        for table in tables.values():
            table.data.validate(full=True)
    except Exception as error:  # a damaged file makes the package raise anything
        raise _damaged(str(source), error) from None
    return [
        Part(str(source / name), name, table, package, chosen)
        for name, table in sorted(tables.items())
    ]


def _files(source: Path) -> Iterator[Path]:
    """Yield the tables' files, which lie in the directory and nowhere else.

    Raises:
        DatasetError: a name leads out of it.
    """
    if "::" in str(source.resolve()):
        raise misfit(str(source), "a path without '::'", "one that may name another place")
    folders = [source]
    if not all((source / name).is_file() for name in ("dataset_info.json", "state.json")):
        splits = _json(source / "dataset_dict.json").get("splits")
        folders = [source / _plain(source, name) for name in splits or ()]
    for folder in folders:
        for described in _json(folder / "state.json").get("_data_files") or ():
            named = described.get("filename") if isinstance(described, dict) else None
            path = folder / _plain(folder, named)
            if path.is_symlink() or not path.is_file():
                raise misfit(str(path), "a file", "none, or a link")
            yield path


def _plain(folder: Path, name: object) -> str:
    if isinstance(name, str) and _NAME.fullmatch(name) and ".." not in name:
        return name
    raise misfit(str(folder), "names of files in it", f"{name!r:.60}")


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _JSON_BYTES:
            raise ValueError(f"more than {_JSON_BYTES // 2**20} MB")
        value = json.loads(path.read_bytes())
        if isinstance(value, dict):
            return value
        raise ValueError("no object")
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(str(path), error) from None


def whole_rows(part: Part) -> Iterator[tuple[int, Cells]]:
    """Yield the rows of a table with their numbers.

    Raises:
        DatasetError: the table is damaged.
    """
    rows = part.rows()
    while True:
        try:
            row = next(rows, None)
        except Exception as error:  # as above
            raise _damaged(part.place, error) from None
        if row is None:
            return
        yield row


def _package() -> Any:  # noqa: ANN401 - a module of an extra
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise MissingExtraError("datasets", "datasets") from error


def _damaged(place: str, error: Exception) -> DatasetError:
    return misfit(place, "a directory made by save_to_disk", f"a damaged one ({error})"[:200])


def misfit(place: str, expected: str, found: str) -> DatasetError:
    """Return the error for an invalid value in the directory."""
    return DatasetError(place, expected=expected, found=found, remedy="correct it")
