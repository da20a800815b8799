"""Readers for the common layouts of precomputed features, one class per layout.

    feature.bin, id.txt, shape.txt   rows float32; ids between spaces or lines; "ROWS WIDTH"
    a .npy with id.txt or ids.txt    [N, D] or [N, F, D]
    a folder of .npy                 one file an item, [D] or [F, D], called after it
    a .h5 or .hdf5                   one data set an item, [D] or [F, D], called after it
    a feature store                  of ``cl2cm encode``

In the first two, rows may be frames: ``video2frames.txt`` says which belong to an item, or all ids
end in ``_NUMBER`` and each item's numbers begin with 0 (or each with 1), as in the frame-level
features of Dong et al., "Dual Encoding for Zero-Example Video Retrieval", CVPR 2019. Nothing is
unpickled.
"""

import ast
import json
import mmap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from cl2cm.data.npy_files import map_array
from cl2cm.encode.hdf5_features import ITEM_BYTES, Hdf5File, first_line, unfit
from cl2cm.encode.store import FeatureStore
from cl2cm.errors import StoreError
from cl2cm.storage import read_regular
from cl2cm.types import Floats, Ints

FRAMES = "video2frames.txt"
_IDS = ("id.txt", "ids.txt")
_HDF5 = (".h5", ".hdf5")
_BIN = "<f4"
_LISTED_BYTES = 2**26  # of a mapping in the syntax of Python
MAPPED_BYTES = 2**25  # read pages of a file that may stay in a process, without their neighbours


class Layout(Protocol):
    """Features of items, loaded on demand.

    Attributes:
        names: the items.
        width: D, the last dimension.
    """

    names: Sequence[str]
    width: int

    def frames(self, row: int) -> npt.NDArray[Any]:
        """Return the numbers [D] or [F, D] of one item, as stored."""
        ...


def open_layout(path: Path) -> Layout:
    """Detect the layout and open the features; only ids and shapes are read.

    Raises:
        StoreError: nothing of a known layout is there, or its parts do not fit together.
        MissingExtraError: h5py is not installed.
    """
    if path.suffix in _HDF5 and path.is_file():
        return Hdf5File(path)
    if path.suffix == ".npy" and path.is_file():
        return open_array(path)
    if (path / "store.json").exists() or (path / "plan.json").exists():
        return StoredRows(path)
    if (path / "feature.bin").exists():
        return open_bin(path)
    arrays = sorted(path.glob("*.npy"))
    if len(arrays) == 1 and any((path / name).exists() for name in _IDS):
        return open_array(arrays[0])
    if arrays:
        return ArrayFolder(path, arrays)
    files = [file for suffix in _HDF5 for file in sorted(path.glob(f"*{suffix}"))]
    if len(files) == 1:
        return Hdf5File(files[0])
    found = f"{len(files)} HDF5 files" if files else "none of them" if path.exists() else "nothing"
    raise StoreError(
        str(path),
        expected="feature.bin, .npy files, one HDF5 file or a feature store",
        found=found,
        remedy="name the folder or file of the features",
    )


class Matrix:
    """Rows of numbers [N, D] or [N, F, D]; an item is one row, or some.

    Args:
        values: memory-mapped.
        ids: of the rows.
        frames: item → its rows; None: each row is an item.
    """

    def __init__(
        self,
        values: npt.NDArray[Any],
        ids: Sequence[str],
        frames: Mapping[str, Sequence[int]] | None,
    ) -> None:
        self.width = int(values.shape[-1])
        self.names: Sequence[str] = ids if frames is None else list(frames)
        self._values = values
        base: object = values.base
        self._mapped = base if isinstance(base, mmap.mmap) else None
        self._touched = 0
        self._rows = None if frames is None else [_run(rows) for rows in frames.values()]

    def frames(self, row: int) -> npt.NDArray[Any]:
        """Return the numbers [D] or [F, D] of one item."""
        rows = row if self._rows is None else self._rows[row]
        numbers: npt.NDArray[Any] = self._values[rows]
        self._touched += numbers.nbytes
        if self._touched > MAPPED_BYTES:
            self._let_go()
        return numbers

    def _let_go(self) -> None:
        """Take the pages that were read out of this process; the system keeps them cached."""
        self._touched = 0
        if self._mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)


def open_bin(folder: Path) -> Matrix:
    """Open ``feature.bin`` with its ``id.txt`` and ``shape.txt``."""
    count, width = _read_shape(folder / "shape.txt")
    ids = _read_ids(folder / "id.txt", count)
    path = folder / "feature.bin"
    if not path.is_file():
        raise unfit(path, "a regular file", "something else")
    size, wanted = path.stat().st_size, count * width * np.dtype(_BIN).itemsize
    if size != wanted:
        expected = f"{wanted:,} bytes for {count} rows of {width} (shape.txt)"
        raise unfit(path, expected, f"{size:,}")
    values = np.memmap(path, _BIN, "r", shape=(count, width)) if size else np.empty((0, width))
    return Matrix(values, ids, _frames(folder / FRAMES, ids))


def open_array(path: Path) -> Matrix:
    """Open a ``.npy`` with the ids of its rows beside it (``NAME.txt``, id.txt or ids.txt)."""
    values = _load(path)
    beside = [path.with_suffix(".txt"), *(path.parent / name for name in _IDS)]
    listed = next((file for file in beside if file.exists()), beside[1])
    if values.ndim not in (2, 3):
        raise unfit(path, "an array [N, D] or [N, F, D]", f"{list(values.shape)}")
    ids = _read_ids(listed, len(values))
    return Matrix(values, ids, _frames(path.parent / FRAMES, ids) if values.ndim == 2 else None)


class ArrayFolder:
    """A folder of ``.npy`` files, each opened on demand."""

    def __init__(self, folder: Path, files: Sequence[Path]) -> None:
        self.names: Sequence[str] = [file.stem for file in files]
        self.width = int(_load(files[0]).shape[-1])
        self._folder = folder

    def frames(self, row: int) -> npt.NDArray[Any]:
        """Return the numbers [D] or [F, D] of one item."""
        path = self._folder / f"{self.names[row]}.npy"
        numbers = _load(path)
        if numbers.nbytes > ITEM_BYTES:
            raise unfit(path, f"at most {ITEM_BYTES // 2**20} MB", f"{numbers.nbytes:,} bytes")
        return np.array(numbers)


class StoredRows:
    """A feature store of cl2cm, without the items that were skipped at encoding."""

    def __init__(self, folder: Path) -> None:
        self._store = FeatureStore.open(folder)
        self.names: Sequence[str] = [name for name in self._store.ids if self._store.has(name)]
        self.width = self._store.width

    def frames(self, row: int) -> npt.NDArray[Any]:
        """Return the numbers [F, D] of one item."""
        rows = torch.tensor([self._store.row(self.names[row])])
        numbers: Floats = self._store.gather(rows).values[0].numpy()
        return numbers


def _run(rows: Sequence[int]) -> slice | Ints:
    """Row numbers as a slice, which reads no more than it must, where they follow each other."""
    first, last = rows[0], rows[-1]
    if last - first == len(rows) - 1 and list(rows) == list(range(first, last + 1)):
        return slice(first, last + 1)
    return np.asarray(rows, dtype=np.int64)


def _frames(listed: Path, ids: Sequence[str]) -> dict[str, list[int]] | None:
    """Return the item → rows of its frames; None where each row is an item."""
    return _listed_frames(listed, ids) if listed.exists() else _numbered_frames(ids)


def _numbered_frames(ids: Sequence[str]) -> dict[str, list[int]] | None:
    numbered: dict[str, list[tuple[int, int]]] = {}
    for row, name in enumerate(ids):
        item, _, number = name.rpartition("_")
        if not item or len(number) > 18 or not (number.isascii() and number.isdecimal()):
            return None
        numbered.setdefault(item, []).append((int(number), row))
    # "video_1 video_2 …" are items of one name, not frames of one video; "cat_0 dog_0" have no
    # second frame, and are items, too.
    if not 2 <= len(numbered) < len(ids):
        return None
    for frames in numbered.values():
        frames.sort()
    if {frames[0][0] for frames in numbered.values()} not in ({0}, {1}):
        return None
    return {item: [row for _, row in frames] for item, frames in numbered.items()}


def _listed_frames(path: Path, ids: Sequence[str]) -> dict[str, list[int]]:
    """Return the mapping item → ids of rows of a ``video2frames.txt``."""
    text = _read(path)
    try:
        try:
            listed = json.loads(text.replace("'", '"'))  # quicker than a parser of Python
        except ValueError:
            if len(text) > _LISTED_BYTES:
                raise
            listed = ast.literal_eval(text)
        if not isinstance(listed, dict) or not all(isinstance(n, str) for n in listed):
            raise ValueError("another value")
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        found = f"something else ({first_line(error)})"
        raise unfit(path, "a mapping of items to lists of ids", found) from None
    rows = {name: row for row, name in enumerate(ids)}
    found_rows: dict[str, list[int]] = {}
    for item, frames in listed.items():
        if not isinstance(frames, list) or not frames:
            raise unfit(path, f"a list of the frames of {item!r}", "none")
        unknown = next((f for f in frames if not isinstance(f, str) or f not in rows), None)
        if unknown is not None:
            raise unfit(path, "ids of id.txt", f"{unknown!r:.60} for {item!r}")
        found_rows[item] = [rows[name] for name in frames]
    return found_rows


def _read_shape(path: Path) -> tuple[int, int]:
    words = _read(path).split()
    if len(words) != 2 or not all(
        word.isascii() and word.isdecimal() and len(word) <= 18 for word in words
    ):
        raise unfit(path, "two numbers, rows and width", repr(" ".join(words)[:40]))
    count, width = (int(word) for word in words)
    if width < 1 or max(count, width) > 10**12:
        raise unfit(path, "a width of at least 1", f"{count} × {width}")
    return count, width


def _read_ids(path: Path, count: int) -> list[str]:
    text = _read(path)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    ids = lines if len(lines) == count else text.split()
    if len(ids) != count:
        raise unfit(path, f"{count} ids, one for each row", f"{len(ids)}")
    if len(set(ids)) != count:
        ((twice, _),) = Counter(ids).most_common(1)
        raise unfit(path, "an id of its own for each row", f"{twice[:60]!r} twice")
    return ids


def _read(path: Path) -> str:
    try:
        data = read_regular(path)
    except OSError as error:
        raise unfit(path, "a text", (error.strerror or str(error)).lower()) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")  # as the tools that write this layout read it


def _load(path: Path) -> npt.NDArray[Any]:
    try:
        return map_array(path)
    except (OSError, ValueError, EOFError) as error:
        raise unfit(path, "an array of numbers", f"none ({first_line(error)})") from None
