"""Untrusted ``.npy`` files: memory-mapped, never unpickled, not larger than their file."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cl2cm.storage import open_regular

_MAGIC = b"\x93NUMPY"


def map_array(path: Path) -> npt.NDArray[Any]:
    """Map an array of one or more dimensions.

    The header's claim is compared with the file in whole numbers of any size, before the mapping,
    whose own arithmetic may overflow.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not an array, holds objects, or is shorter than its header says.
    """
    with open_regular(path) as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError("no .npy file")
        file.seek(0)
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                read = np.lib.format.read_array_header_2_0
            shape, _, kind = read(file)
        except (SyntaxError, TypeError, OverflowError, MemoryError, RecursionError) as error:
            raise ValueError(f"a damaged header ({type(error).__name__})") from None
        start = file.tell()
    if kind.hasobject or not kind.itemsize or not shape or any(side < 0 for side in shape):
        raise ValueError(f"no rows of numbers: {kind} {list(shape)}")
    if math.prod(shape) * kind.itemsize > path.stat().st_size - start:
        raise ValueError("the file is shorter than its header says")
    values: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return values
