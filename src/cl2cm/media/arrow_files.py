"""Untrusted Arrow files: measured in a decoder process before they are loaded.

A compressed Arrow file may unpack to a thousand times its size, in one allocation. What
``save_to_disk`` writes is not compressed, so a table that is much larger than its file is refused.
"""

from pathlib import Path

import pyarrow as pa

from cl2cm.errors import MediaError

FREE = 2**26  # bytes that any table may have
RATIO = 4  # bytes of a table for each of its file, beyond that


def check_arrow(path: Path) -> int:
    """Count the rows of an Arrow stream, and check its size in memory.

    Raises:
        MediaError: it is damaged, or unpacks to more than its file may.
    """
    most = FREE + RATIO * path.stat().st_size
    rows = size = 0
    try:
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as batches:
            for batch in batches:
                rows += batch.num_rows
                size += batch.get_total_buffer_size()
                if size > most:
                    raise _unfit(path, f"one that unpacks to more than {most // 2**20:,} MB")
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unfit(path, f"a damaged one ({str(error).splitlines()[0][:80]})") from None
    return rows


def _unfit(path: Path, found: str) -> MediaError:
    remedy = "save the data set to disk again, uncompressed"
    return MediaError(str(path), expected="an Arrow file", found=found, remedy=remedy)
