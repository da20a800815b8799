"""Features in an HDF5 file: only numbers that lie in the file itself, and not too many at once.

An HDF5 file may hold links to other files, data sets whose numbers are in other files, and shapes
of any size without a number behind them; none of these is followed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from cl2cm.errors import MissingExtraError, StoreError
from cl2cm.storage import open_regular

ITEM_BYTES = 2**28  # of one item's numbers: 16,000 frames of width 4096


class Hdf5File:
    """An HDF5 file with one data set an item.

    Raises:
        MissingExtraError: h5py is not installed.
        StoreError: the file is damaged, empty or holds something else than data sets.
    """

    def __init__(self, path: Path) -> None:
        try:
            import h5py  # noqa: PLC0415 — of an extra
        except ImportError as error:
            raise MissingExtraError("h5py", "features") from error
        self._path = path
        self._library = h5py
        try:
            open_regular(path).close()  # a pipe would keep the library waiting
            self._file: Any = h5py.File(path, "r")
            self.names: Sequence[str] = list(self._file)
        except (OSError, RuntimeError, ValueError) as error:
            raise unfit(path, "an HDF5 file", f"a damaged one ({first_line(error)})") from None
        if not self.names:
            raise unfit(path, "a data set [D] or [F, D] for each item", "no item")
        self.width = int(self._data_set(self.names[0]).shape[-1])

    def frames(self, row: int) -> npt.NDArray[Any]:
        """Numbers [D] or [F, D] of one item."""
        stored = self._data_set(self.names[row])
        try:
            numbers: npt.NDArray[Any] = stored[()]
        except (OSError, KeyError, TypeError, ValueError, MemoryError) as error:
            expected = f"a data set {self.names[row]!r:.60}"
            raise unfit(self._path, expected, first_line(error)) from None
        return numbers

    def _data_set(self, name: str) -> Any:  # noqa: ANN401 - a data set of h5py
        """The data set of an item, whose numbers lie in this file and are not too many."""
        try:
            link = self._file.get(name, getlink=True)
            stored = self._file[name] if isinstance(link, self._library.HardLink) else link
            found = self._fault(stored)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            found = first_line(error)
        if found:
            raise unfit(self._path, f"a data set [D] or [F, D] named {name!r:.60}", found)
        return stored

    def _fault(self, stored: Any) -> str:  # noqa: ANN401 - whatever the file holds
        """What is wrong with an object; empty where nothing is."""
        if not isinstance(stored, self._library.Dataset):
            links = self._library.SoftLink | self._library.ExternalLink
            return "a link" if isinstance(stored, links) else "a group or a type"
        if stored.is_virtual or stored.external:
            return "numbers that lie in other files"
        if stored.dtype.kind not in "fiu" or not stored.shape or len(stored.shape) > 2:
            return f"{stored.dtype} {list(stored.shape or ())}"[:60]
        if stored.nbytes > ITEM_BYTES:
            return f"{stored.nbytes:,} bytes; at most {ITEM_BYTES // 2**20} MB are read"
        return ""


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, shortened."""
    return (str(error).splitlines() or [type(error).__name__])[0][:80]


def unfit(path: Path, expected: str, found: str) -> StoreError:
    """Return the error of a file of features."""
    return StoreError(str(path), expected=expected, found=found, remedy="fetch or write it again")
