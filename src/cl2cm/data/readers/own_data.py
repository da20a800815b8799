"""Data of users: items collected by the readers of folders, shards and tables.

Captions of one item may be spread over several rows, which must name the same file. Where no split
is said, a hash of the id says it, 80 : 10 : 10, so that an item stays in its split when others
come; ``validation`` and ``dev`` are ``val``.
"""

import functools
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cl2cm.data.line_json import BadFieldError
from cl2cm.data.lines import serialise
from cl2cm.data.official_numbers import Protocol
from cl2cm.data.readers.reading import DataSet, Options
from cl2cm.errors import DatasetError
from cl2cm.media.kinds import media_of
from cl2cm.text import is_blank, one_line
from cl2cm.types import Example

# What splits are often called.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_ORDER = ("train", "val", "test")
_SHOWN = 20  # names in an error


class Row(NamedTuple):
    """The values of one row for one item.

    place: file and line, for messages; media: image or video, None if features are stored;
    language, split: empty if none is said.
    """

    place: str
    id: str
    media: Path | None
    captions: tuple[str, ...]
    language: str = ""
    split: str = ""


@dataclass(slots=True)
class _Item:
    place: str
    media: Path | None
    split: str
    captions: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


class Gathering:
    """Rows so far, by item.

    Args:
        name: of the reader.
        options: ``language`` applies to captions without a language code.
    """

    def __init__(self, name: str, options: Options) -> None:
        self._name = name
        self._language = options.language
        self._partial = options.partial
        self._items: dict[str, _Item] = {}
        self._faults: list[DatasetError] = []
        self._twice = 0

    def fault(self, error: DatasetError) -> None:
        """Record an invalid row: skipped with ``--allow-partial``, otherwise an error."""
        self._faults.append(error)

    def add(self, row: Row) -> bool:
        """Add a row; return False if it is invalid, which is recorded as in `fault`."""
        try:
            self._add(row)
        except DatasetError as error:
            self.fault(error)
            return False
        return True

    def _add(self, row: Row) -> None:
        captions = self._captions(row)
        language = row.language or self._language
        if (fault := _language_fault(language)) is not None:
            raise DatasetError(
                row.place, expected=fault.expected, found=fault.found, remedy=fault.remedy
            )
        split = SPLITS.get(row.split.lower(), row.split)
        item = self._items.setdefault(row.id, _Item(row.place, row.media, split))
        if item.media != row.media:
            found = f"{row.id[:60]!r} again, of another file than at {item.place}"
            raise _refused(row.place, "an id of one file", found)
        if split and item.split and split != item.split:
            found = f"{split[:40]!r}, and {item.split[:40]!r} at {item.place}"
            raise _refused(row.place, "one split of an item", found)
        item.split = item.split or split
        known = item.captions.setdefault(language, [])
        for caption in captions:
            if caption in known:
                self._twice += 1
            else:
                known.append(caption)

    def _captions(self, row: Row) -> list[str]:
        """Return the captions of a row as single lines; blank ones are faults.

        Raises:
            DatasetError: there is none, or one holds a NUL character.
        """
        if any("\0" in caption for caption in row.captions):
            raise _refused(row.place, "text", f"a NUL character in a caption of {row.id[:60]!r}")
        full = [one_line(caption) for caption in row.captions if not is_blank(caption)]
        if len(full) == len(row.captions) and full:
            return full
        error = _refused(row.place, "a caption", f"a blank one of {row.id[:200]!r}")
        if not full:
            raise error
        self.fault(error)
        return full

    def dataset(self, notes: Sequence[str] = ()) -> DataSet:
        """Return all that was gathered, by split.

        Raises:
            DatasetError: something does not fit, all of which is named, and may not be left out.
        """
        counts = Counter(code for item in self._items.values() for code in item.captions)
        source = self._language
        if source not in counts and counts:
            source = counts.most_common(1)[0][0]
        examples = list(self._examples(source))
        self._judge()
        examples.sort(key=lambda e: _ORDER.index(e.split) if e.split in _ORDER else len(_ORDER))
        protocol = Protocol(self._name, {}, source="one's own files", free=True)
        return DataSet(examples, protocol, (*notes, *self._notes()), source)

    def _examples(self, source: str) -> Iterator[Example]:
        for name, item in self._items.items():
            try:
                yield self._example(name, item, source)
            except DatasetError as error:
                self.fault(error)

    def _judge(self) -> None:
        """Refuse what does not fit, unless it may be omitted.

        Raises:
            DatasetError: there is something.
        """
        if not self._faults or self._partial:
            return
        first, *others = self._faults
        if not others:
            raise first
        places = ", ".join(error.subject for error in others[:_SHOWN])
        rest = f" and {len(others) - _SHOWN:,} more" if len(others) > _SHOWN else ""
        raise DatasetError(
            first.subject,
            expected=first.expected,
            found=f"{first.found} ({len(others):,} more invalid ones: {places}{rest})",
            remedy=f"{first.remedy}, or skip them with --allow-partial",
        )

    def _example(self, name: str, item: _Item, source: str) -> Example:
        split = item.split or split_of(name)
        captions = {code: tuple(texts) for code, texts in item.captions.items()}
        example = Example(name, split, features=name, captions=captions)
        if item.media is not None:
            example = example.with_media(media_of(item.media))
        try:
            serialise(example, Path("/"), source)
        except BadFieldError as bad:
            place = f"{item.place}: {bad.field}" if bad.field else item.place
            raise DatasetError(
                place, expected=bad.expected, found=bad.found, remedy=bad.remedy
            ) from None
        return example

    def _notes(self) -> Iterator[str]:
        free = [split_of(name) for name, item in self._items.items() if not item.split]
        if free:
            counts = ", ".join(f"{free.count(split):,} {split}" for split in _ORDER)
            yield f"{len(free):,} items of no split are in one by a hash of their ids: {counts}"
        others = dict.fromkeys(item.split for item in self._items.values() if item.split)
        yield from left_out(
            "splits of other names", [name for name in others if name not in _ORDER]
        )
        yield from left_out(
            "places that do not fit, left out",
            [f"{error.subject} ({error.found})" for error in self._faults],
        )
        if self._twice:
            yield f"{self._twice:,} captions are there twice for their items and taken once"


def split_of(identity: str) -> str:
    """``train``, ``val`` or ``test``, 80 : 10 : 10, by a hash of an id."""
    tenth = int(hashlib.sha256(identity.encode(errors="surrogatepass")).hexdigest()[:12], 16) % 10
    return "test" if tenth == 9 else "val" if tenth == 8 else "train"


def is_language(code: str) -> bool:
    """Return whether a text is the code of a language, as manifests have it."""
    return _language_fault(code) is None


def left_out(what: str, names: Iterable[str]) -> list[str]:
    """Return a note with the number and names of skipped files; empty if there are none.

    `prepare` keeps the whole note in its record, and prints its beginning.
    """
    found = list(names)
    if not found:
        return []
    return [f"{what} ({len(found):,}): {', '.join(name[:300] for name in found)}"]


@contextmanager
def own_files() -> Iterator[None]:
    """Adjust the remedy of errors: the user's own files cannot be downloaded again."""
    try:
        yield
    except DatasetError as error:
        if error.remedy != "fetch the file again":
            raise
        remedy = "save it as UTF-8" if "UTF-8" in error.expected else "correct it"
        raise DatasetError(
            error.subject, expected=error.expected, found=error.found, remedy=remedy
        ) from None


def _refused(place: str, expected: str, found: str) -> DatasetError:
    return DatasetError(place, expected=expected, found=found, remedy="correct it")


@functools.lru_cache(maxsize=4096)
def _language_fault(code: str) -> BadFieldError | None:
    example = Example("x", "x", features="x", captions={code: ("x",)})
    try:
        serialise(example, Path("/"), code)
    except BadFieldError as fault:
        return fault
    return None
