"""The float32 copy of a stored matrix: made once, and shared by all indexes of the same file.

A service that opens the next generation of an index while the last one still answers finds the copy
of the large part there already. All copies together stay within a share of the memory.
"""

import threading
import weakref
from collections.abc import Callable, Hashable
from pathlib import Path

from cl2cm.index.backends.machine import memory
from cl2cm.types import Floats

_SHARE = 8  # of the memory, for all copies


class WideCopy:
    """A place for the copy of one matrix; safe to share between threads.

    Args:
        size: bytes of the copy.
        room: bytes that it may take; None: what the other copies of this process leave of an
            eighth of the memory.
    """

    def __init__(self, size: int, room: int | None = None) -> None:
        self.size = size
        self._room = room
        self._making = threading.Lock()
        self._values: Floats | None = None

    def get(self, make: Callable[[], Floats]) -> Floats | None:
        """Return the copy, made by the first caller; None meanwhile, or for lack of room.

        Args:
            make: makes it.
        """
        if self._values is None and self._making.acquire(blocking=False):
            try:
                if self._values is None and self._fits():
                    self._values = make()
                    _made.add(self)
            finally:
                self._making.release()
        return self._values

    def _fits(self) -> bool:
        if self._room is not None:
            return self.size <= self._room
        return self.size + sum(copy.size for copy in list(_made)) <= memory() // _SHARE


_made: "weakref.WeakSet[WideCopy]" = weakref.WeakSet()
_of_files: "weakref.WeakValueDictionary[Hashable, WideCopy]" = weakref.WeakValueDictionary()
_lock = threading.Lock()


def copy_of_file(path: Path, size: int) -> WideCopy:
    """Return the copy of a file's matrix, the same one for as long as somebody holds it.

    Args:
        path: the file, which is never changed.
        size: bytes of the copy.
    """
    file = path.stat()
    key = (file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns)
    with _lock:
        copy = _of_files.get(key)
        if copy is None:
            copy = _of_files[key] = WideCopy(size)
        return copy
