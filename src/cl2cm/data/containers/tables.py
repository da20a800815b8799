"""The rows of Parquet files: images in a column of bytes, and columns of captions.

A decoder process reads them. Of a file at a URL it is given a sparse copy: the footer, and one row
group at a time. An id is the column ``id``, or ``FILE/ROW``.
"""

import functools
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cl2cm.data.containers.place import File, Place
from cl2cm.data.readers.columns import Columns, find_columns
from cl2cm.errors import DatasetError, MediaError
from cl2cm.media.blob import Blob
from cl2cm.media.decoder_pool import Answer, Budget, decoders
from cl2cm.types import Example

_END = 8  # bytes: the footer's length and "PAR1"
_FOOTER = 2**26  # bytes
_GROUP = 2**30  # bytes of a row group as it is stored
_BUDGET = Budget(cpu=600, wall=1800, memory=2**31)
_GROUPS = 2  # in memory
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Row(Blob):
    """An image in a row of a group of rows."""

    place: Place
    size: int
    group: int
    column: str
    row: int
    ranges: tuple[tuple[int, int], ...]

    def read(self) -> bytes:
        """Return the image's bytes."""
        with _lock:  # the others wait for the group, and then find it
            images = _images(self.place, self.size, self.group, self.column, self.ranges)
        data = images[self.row] if self.row < len(images) else b""
        if not data:
            remedy = "leave it out (--skip-bad)"
            raise MediaError(self.name, expected="an image", found="no bytes", remedy=remedy)
        return data


def read_parquet(file: File, *, captions: bool) -> Iterator[tuple[Example, Row]]:
    """Yield the rows of a file as items without a file, with their images.

    Args:
        file: the Parquet file.
        captions: read the captions too.

    Raises:
        DatasetError: it is damaged, or has not one column of images.
    """
    with _errors(file.place), _sparse(file.place, file.size) as path:
        about = _ask(file.place, path, what="describe").head["about"]
        column = _image_column(file, about)
        columns = find_columns(
            [name for name in about["columns"] if name != column], {}, str(file.place), files=False
        )
        stem = file.name.removesuffix(".parquet")
        number = 0
        for group, rows in enumerate(about["groups"]):
            wanted = [
                *([columns.id] if columns.id else []),
                *(columns.captions if captions else ()),
            ]
            texts = _texts(file, path, group, wanted, rows["ranges"]) if wanted else {}
            for row in range(rows["rows"]):
                said = None if columns.id is None else texts[columns.id][row]
                identity = f"{stem}/{number}" if said is None else str(said)
                cells = {name: texts[name][row] for name in columns.captions if name in texts}
                image = Row(
                    f"{file.place}: row {number}", file.place, file.size, group, column, row,
                    (tuple(rows["ranges"][column]),),
                )  # fmt: skip
                yield Example(identity, "all", captions=_captions(cells, columns)), image
                number += 1


def _image_column(file: File, about: Mapping[str, Any]) -> str:
    if len(about["images"]) != 1:
        raise DatasetError(
            str(file.place),
            expected="one column of images: bytes, or a struct with bytes",
            found=", ".join(about["images"]) or f"none among {', '.join(about['columns'])[:80]}",
            remedy="write it with one such column",
        )
    return str(about["images"][0])


def _captions(cells: Mapping[str, Any], columns: Columns) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, value in cells.items():
        texts = value if isinstance(value, list) else [value]
        language = columns.captions[name] or "en"
        kept = tuple(text for text in texts if isinstance(text, str) and text.strip())
        if kept:
            found[language] = (*found.get(language, ()), *kept)
    return found


def _texts(
    file: File, path: Path, group: int, columns: Sequence[str], ranges: Mapping[str, Any]
) -> dict[str, list[Any]]:
    _fill(file.place, path, [tuple(ranges[name]) for name in columns])
    answer = _ask(file.place, path, what="texts", group=group, columns=list(columns))
    return dict(answer.head["texts"])


@functools.lru_cache(maxsize=_GROUPS)
def _images(
    place: Place, size: int, group: int, column: str, ranges: tuple[tuple[int, int], ...]
) -> list[bytes]:
    with _errors(place), _sparse(place, size) as path:
        _fill(place, path, ranges)
        arguments = {"path": str(path), "what": "images", "group": group, "column": column}
        answers = decoders().stream("parquet", str(place), _BUDGET, arguments)
        return [bytes(answer.body) for answer in answers]


def _ask(place: Place, path: Path, **arguments: Any) -> Answer:  # noqa: ANN401 - JSON
    return decoders().ask("parquet", str(place), _BUDGET, {"path": str(path), **arguments})


@contextmanager
def _sparse(place: Place, size: int) -> Iterator[Path]:
    """Yield the file, or a sparse copy of the same size that holds only its footer."""
    if place.is_local:
        yield Path(place.url)
        return
    footer = int.from_bytes(place.read(max(0, size - _END), size)[:4], "little") + _END
    if not _END < footer <= min(size, _FOOTER):
        raise _damaged(place, f"a footer of {footer:,} bytes")
    with tempfile.TemporaryDirectory(prefix="cl2cm-parquet-") as folder:
        path = Path(folder, "sparse.parquet")
        with path.open("wb") as file:
            file.truncate(size)
        _fill(place, path, [(size - footer, size)])
        yield path


def _fill(place: Place, path: Path, ranges: Sequence[tuple[int, ...]]) -> None:
    if place.is_local:
        return
    size = path.stat().st_size
    with path.open("r+b") as file:
        for start, end in ranges:
            if not 0 <= start < end <= size or end - start > _GROUP:
                raise _damaged(place, f"a row group at bytes {start:,} to {end:,}")
            file.seek(start)
            file.write(place.read(start, end))


@contextmanager
def _errors(place: Place) -> Iterator[None]:
    """Name a damaged table, which is not one broken image, by its place."""
    try:
        yield
    except MediaError as error:
        if error.subject == place.url and error.expected == "a file or folder":
            raise
        raise _damaged(place, error.found) from None


def _damaged(place: Place, found: str) -> DatasetError:
    return DatasetError(
        place.url, expected="a Parquet file", found=found, remedy="write it again, or leave it out"
    )
