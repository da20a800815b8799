"""Leak check: find images that occur in two splits.

Two items are the same by their id, by their files' bytes, or by their images (``same_images.py``).
Videos are compared by id and by their bytes.
"""

import filecmp
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

from cl2cm.data.same_images import look_at, same_images
from cl2cm.storage import cache_folder, read_record, sha256_text, write_record
from cl2cm.types import Example, Kind

Why = Literal["id", "bytes", "picture"]

_WORDING = "2"  # of the lines that are kept


class Leak(NamedTuple):
    """Two items of different splits that are the same.

    Attributes:
        first: the earlier of them.
        second: the later.
        why: their ids (or the ids of their stored features) are equal, or their files' bytes, or
            their images look alike.
        distance: of images that look alike, how far their small copies are apart on average, 0 to
            255; 0 for the others.
    """

    first: Example
    second: Example
    why: Why
    distance: float = 0.0


def known_leaks(examples: Iterable[Example]) -> list[str]:
    """Return lines of the leaks of a data set; looked for once, then kept in the user's cache.

    A data set is known by the ids, splits, paths, sizes and times of its files.
    """
    items = list(examples)
    lines = [_WORDING]
    for item in items:
        path = item.path
        file = path.stat() if path is not None and path.is_file() else None
        about = (file.st_size, file.st_mtime_ns) if file else None
        lines.append(repr((item.id, item.split, str(path), item.start, item.end, about)))
    kept = cache_folder() / "leaks" / f"{sha256_text(chr(10).join(lines))[:32]}.json"
    try:
        found = read_record(kept)["leaks"]
        if isinstance(found, list):
            return [str(line) for line in found]
    except (OSError, ValueError, KeyError, TypeError):  # not kept yet, or damaged
        pass
    found = leak_lines(find_leaks(items))
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_record(kept, {"leaks": found})
    return found


def find_leaks(examples: Iterable[Example], *, progress: bool = True) -> list[Leak]:
    """Find items that are the same in different splits.

    Images that cannot be read are not compared, and this is reported. Of many that are all the
    same, not every pair is listed, but each item at least once for each split that has it too.

    Args:
        examples: items of all splits.
        progress: show how far it is on standard error.

    Returns:
        In the order of the later item.
    """
    items = list(examples)
    if len({item.split for item in items}) < 2:
        return []
    found = _Found(items)
    for same in _same_name(items):
        found.add_group(same, "id")
    for first, second in _same_film(items):
        found.add(first, second, "bytes")
    looks = look_at(_paths(items, "image"), progress=progress)
    for first, second, apart in same_images(looks, [items[row].split for row in looks.rows]):
        found.add(looks.rows[first], looks.rows[second], "picture", apart)
    return found.leaks()


def leak_lines(leaks: Sequence[Leak]) -> list[str]:
    """Return a line for each leak: ``b (test) looks like a (train), 2.1 of 255 levels apart``."""
    what = {"id": "has the same id as", "bytes": "is the same file as", "picture": "looks like"}
    return [
        f"{second.id} ({second.split}) {what[why]} {first.id} ({first.split})"
        + (f", {apart:.1f} of 255 levels apart" if why == "picture" else "")
        for first, second, why, apart in leaks
    ]


class _Found:
    """Leaks so far: linear in the items, however many of them are the same."""

    def __init__(self, items: Sequence[Example]) -> None:
        self._items = items
        self._pairs: dict[tuple[int, int], tuple[Why, float]] = {}
        self._listed: set[tuple[int, str]] = set()  # item, and another split that has it

    def add(self, first: int, second: int, why: Why, apart: float = 0.0) -> None:
        """Two items of different splits, by number; nothing new where both are listed."""
        keys = {(first, self._items[second].split), (second, self._items[first].split)}
        if not keys <= self._listed:
            self._listed |= keys
            self._pairs.setdefault((min(first, second), max(first, second)), (why, apart))

    def add_group(self, rows: Sequence[int], why: Why) -> None:
        """Items that are all the same, of any splits."""
        by_split: dict[str, list[int]] = defaultdict(list)
        for row in rows:
            by_split[self._items[row].split].append(row)
        for one, other in combinations(by_split.values(), 2):
            for row in one:
                self.add(row, other[0], why)
            for row in other:
                self.add(row, one[0], why)

    def leaks(self) -> list[Leak]:
        """Return all of them, by the later item."""
        order = sorted(self._pairs.items(), key=lambda pair: pair[0][::-1])
        return [_leak(self._items[a], self._items[b], *found) for (a, b), found in order]


def _leak(first: Example, second: Example, why: Why, apart: float) -> Leak:
    if why == "picture" and first.path and second.path and _equal_files(first.path, second.path):
        return Leak(first, second, "bytes")
    return Leak(first, second, why, apart)


def _same_name(items: Sequence[Example]) -> Iterator[list[int]]:
    for names in ([e.id for e in items], [e.features for e in items]):
        groups: dict[str, list[int]] = defaultdict(list)
        for row, name in enumerate(names):
            if name is not None:
                groups[name].append(row)
        yield from (rows for rows in groups.values() if len(rows) > 1)


def _same_film(items: Sequence[Example]) -> Iterator[tuple[int, int]]:
    """Yield parts of one video, or of its copies, that overlap and are in different splits."""
    videos = {row: path for row, path in _paths(items, "video") if path.is_file()}
    originals = _originals(set(videos.values()))
    parts: dict[Path, list[int]] = defaultdict(list)
    for row, path in videos.items():
        parts[originals[path]].append(row)
    for rows in parts.values():
        rows.sort(key=lambda row: items[row].start or 0.0)
        for place, first in enumerate(rows):
            end = items[first].end
            for second in rows[place + 1 :]:
                if end is not None and (items[second].start or 0.0) >= end:
                    break
                if items[first].split != items[second].split:
                    yield first, second


def _paths(items: Sequence[Example], kind: Kind) -> list[tuple[int, Path]]:
    """Return rows and files of the images, or of the videos, among items."""
    found = ((row, item.media) for row, item in enumerate(items))
    return [(row, media.path) for row, media in found if media and media.kind == kind]


def _originals(files: Iterable[Path]) -> dict[Path, Path]:
    """Of each file the first that has the same bytes."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    found: dict[Path, Path] = {}
    for path in sorted(files):
        known = by_size[path.stat().st_size]
        found[path] = next((other for other in known if _equal_files(path, other)), path)
        if found[path] == path:
            known.append(path)
    return found


def _equal_files(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False
