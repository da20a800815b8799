"""Untrusted Parquet files: read in a decoder process, within its limits of time and memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cl2cm.errors import MediaError


def describe_parquet(path: Path) -> dict[str, Any]:
    """Return the columns of a file, which of them have images, and its row groups.

    A group has its number of rows and the range of bytes of each column.

    Raises:
        MediaError: it is damaged.
    """
    try:
        with pq.ParquetFile(path) as file:
            schema, about = file.schema_arrow, file.metadata
            images = [field.name for field in schema if _has_images(field.type)]
            groups = [_group(about.row_group(number)) for number in range(about.num_row_groups)]
            return {"columns": schema.names, "images": images, "groups": groups}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from None


def _has_images(kind: Any) -> bool:  # noqa: ANN401 - a type of pyarrow
    """Whether a column is of bytes, or of ``{bytes, path}`` as Hugging Face ``datasets`` has it."""
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _group(group: Any) -> dict[str, Any]:  # noqa: ANN401 - of pyarrow
    ranges: dict[str, list[int]] = {}
    for number in range(group.num_columns):
        column = group.column(number)
        start = column.data_page_offset
        if column.dictionary_page_offset:
            start = min(start, column.dictionary_page_offset)
        name = column.path_in_schema.split(".")[0]
        end = start + column.total_compressed_size
        known = ranges.setdefault(name, [start, end])
        ranges[name] = [min(known[0], start), max(known[1], end)]
    return {"rows": group.num_rows, "ranges": ranges}


def read_images(path: Path, group: int, column: str) -> Iterator[bytes]:
    """Yield the bytes of the image of each row of a group; none where there is no image.

    What a row calls its path is never opened.

    Raises:
        MediaError: the file is damaged.
    """
    for value in _column(path, group, [column])[column]:
        data = value.get("bytes") if isinstance(value, dict) else value
        yield data if isinstance(data, bytes) else b""


def read_texts(path: Path, group: int, columns: list[str]) -> dict[str, list[Any]]:
    """Return columns of texts of a group.

    Raises:
        MediaError: the file is damaged.
    """
    found = _column(path, group, columns)
    return {name: [_plain(value) for value in values] for name, values in found.items()}


def _plain(value: Any) -> Any:  # noqa: ANN401 - a cell
    """Return a text, a number or a list of texts; None for any other value."""
    if isinstance(value, list):
        return [item for item in value if isinstance(item, str)]
    return value if isinstance(value, str | int) else None


def _column(path: Path, group: int, columns: list[str]) -> dict[str, list[Any]]:
    try:
        with pq.ParquetFile(path) as file:
            table = file.read_row_group(group, columns=columns, use_threads=False)
            return {name: table.column(name).to_pylist() for name in columns}
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> MediaError:
    found = f"a damaged one ({(str(error).splitlines() or [type(error).__name__])[0][:80]})"
    return MediaError(str(path), expected="a Parquet file", found=found, remedy="write it again")
