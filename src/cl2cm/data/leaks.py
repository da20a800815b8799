"""The same image in two splits: what was trained on must not be what is tested on.

Two items are the same by their id, by their files' bytes, or by their pictures: of each picture a
perceptual hash of 64 bits finds those that may be the same, and small copies in colour, held beside
each other, say whether they are. A picture that was compressed again or made smaller is found; one
that was mirrored, or cut to less, is not. Films are compared by id and by their bytes.

The hash is that of the discrete cosine transform (Zauner, "Implementation and Benchmarking of
Perceptual Image Hash Functions", 2010), of a square from the middle of the picture.
"""

import filecmp
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from cl2cm.media.decoding import decode_parallel
from cl2cm.media.images import Pixels, Preprocess
from cl2cm.progress import say, track
from cl2cm.storage import cache_folder, sha256_text, write_json
from cl2cm.types import Example, Floats, Kind

Why = Literal["id", "bytes", "picture"]

# Measured on photos of Flickr8k and on drawings of OpenMoji, 500 each: copies of quality 40, or of
# half or a third of the size, differ in at most 7 bits, by at most 5.4 levels on average, 65 in
# grey and 22 in colour. Of the 7,761 other photos the nearest, two of one series, differ in 14
# bits, by 10.6 levels on average and 144 in grey; of drawings, some in the expression of a face
# (92 in grey), others in a colour (43).
_BITS = 10  # of the 64 of a hash
_MEAN = 8.0  # levels of 255 between small copies, on average
_GREY, _COLOUR = 64, 24  # and at most, in one cell of either part

_WORDING = "2"  # of the lines that are kept
_SIDE = 128  # pixels of the square that is looked at
_GRID = 32  # cells of its side in grey: what is transformed, and the fine part of a small copy
_COLOURS = 8  # cells of its side in colour
_COPY = _GRID**2 + 3 * _COLOURS**2  # numbers of a small copy
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of R, G and B, ITU-R BT.601
_NOISE = 2.0  # levels: what compression adds to a coefficient of a flat picture
_BLOCK = 2**22  # hashes compared at a time: 32 MB
_NAMED = 20  # files in a message
_CHUNK = 2**12  # small copies compared at a time: 10 MB


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
    """Lines of the leaks of a data set; looked for once, then kept in the user's cache.

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
        found = json.loads(kept.read_text(encoding="utf-8"))["leaks"]
        if isinstance(found, list):
            return [str(line) for line in found]
    except (OSError, ValueError, KeyError, TypeError):  # not kept yet, or damaged
        pass
    found = leak_lines(find_leaks(items))
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, {"leaks": found})
    return found


def find_leaks(examples: Iterable[Example], *, progress: bool = True) -> list[Leak]:
    """Find items that are the same in different splits.

    Pictures that cannot be read are not compared, and this is said. Of many that are all the
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
    looks = _look(items, progress=progress)
    for first, second, apart in _same_picture(looks, [items[row].split for row in looks.rows]):
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
        """All of them, by the later item."""
        order = sorted(self._pairs.items(), key=lambda pair: pair[0][::-1])
        return [_leak(self._items[a], self._items[b], *found) for (a, b), found in order]


def _leak(first: Example, second: Example, why: Why, apart: float) -> Leak:
    if why == "picture" and first.path and second.path and _equal_files(first.path, second.path):
        return Leak(first, second, "bytes")
    return Leak(first, second, why, apart)


# --- by name and by bytes --------------------------------------------------------------------


def _same_name(items: Sequence[Example]) -> Iterator[list[int]]:
    for names in ([e.id for e in items], [e.features for e in items]):
        groups: dict[str, list[int]] = defaultdict(list)
        for row, name in enumerate(names):
            if name is not None:
                groups[name].append(row)
        yield from (rows for rows in groups.values() if len(rows) > 1)


def _same_film(items: Sequence[Example]) -> Iterator[tuple[int, int]]:
    """Parts of one film, or of its copies, that overlap and are in different splits."""
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
    """Rows and files of the images, or of the videos, among items."""
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


# --- by picture ------------------------------------------------------------------------------


class _Looks(NamedTuple):
    """Pictures as they are compared.

    rows: number of each among the items; hashes: uint64 [N]; copies: uint8 [N, COPY].
    """

    rows: list[int]
    hashes: npt.NDArray[np.uint64]
    copies: npt.NDArray[np.uint8]


def _look(items: Sequence[Example], *, progress: bool) -> _Looks:
    images = _paths(items, "image")
    numbers, paths = [row for row, _ in images], [path for _, path in images]
    hashes = np.zeros(len(paths), np.uint64)
    copies = np.zeros((len(paths), _COPY), np.uint8)
    read = np.zeros(len(paths), bool)
    with track("looking for leaks", len(paths)) if progress and paths else nullcontext() as advance:
        for batch in decode_parallel(paths, Preprocess(_SIDE), skip_bad=True):
            grey = _shrink(batch.pixels, _GRID) @ _LUMA
            hashes[batch.rows] = _hash(grey)
            copies[batch.rows] = _copy(grey, batch.pixels)
            read[batch.rows] = True
            if advance is not None:
                advance(len(batch.rows) + len(batch.failures))
    if not read.all():
        unread = [str(path) for path, good in zip(paths, read, strict=True) if not good]
        named = ", ".join(unread[:_NAMED])
        rest = f" and {len(unread) - _NAMED:,} more" if len(unread) > _NAMED else ""
        say(
            f"{len(unread):,} of {len(paths):,} images could not be read and are not compared: "
            f"{named}{rest}"
        )
    rows = [number for number, good in zip(numbers, read, strict=True) if good]
    return _Looks(rows, hashes[read], copies[read])


def _shrink(pixels: Pixels, cells: int) -> Floats:
    """Means of the cells of squares: [N, S, S, 3] to [N, cells, cells, 3]."""
    count, side = pixels.shape[:2]
    step = side // cells
    grid = pixels.reshape(count, cells, step, cells, step, 3)
    means: Floats = grid.mean((2, 4), dtype=np.float32)
    return means


def _copy(grey: Floats, pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Small copies of squares, fine in grey and coarse in colour; uint8 [N, COPY]."""
    parts = [grey, _shrink(pixels, _COLOURS)]
    return (
        np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
        .round()
        .astype(np.uint8)
    )


def _hash(grey: Floats) -> npt.NDArray[np.uint64]:
    """Which of the 64 lowest frequencies but the mean are strong; uint64 [N] of [N, GRID, GRID]."""
    place = np.arange(_GRID)
    cosines = np.cos(np.pi / _GRID * np.outer(place[:11], place + 0.5)).astype(np.float32)
    cosines *= np.sqrt(2 / _GRID)
    order = sorted(((i, j) for i in range(11) for j in range(11)), key=lambda ij: (sum(ij), ij))
    down, right = np.array(order[1:65]).T
    waves = (cosines @ grey @ cosines.T)[:, down, right]
    bits = waves > np.median(waves, axis=1, keepdims=True) + _NOISE
    return np.ascontiguousarray(np.packbits(bits, axis=1)).view(np.uint64)[:, 0]


def _same_picture(looks: _Looks, splits: Sequence[str]) -> Iterator[tuple[int, int, float]]:
    """Pairs of positions in ``looks`` that look alike in different splits, and their distance.

    Of pictures that are equal to the last cell, only one of each split is compared with others.
    """
    alike: dict[bytes, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for position, split in enumerate(splits):
        seen = looks.copies[position].tobytes()
        alike[hashlib.sha256(seen).digest()][split].append(position)
    by_split: dict[str, list[int]] = defaultdict(list)
    same: dict[int, list[int]] = {}
    for groups in alike.values():
        for split, positions in groups.items():
            by_split[split].append(positions[0])
            same[positions[0]] = positions
    for one, other in combinations(by_split.values(), 2):
        for first, second, apart in _close(looks, np.array(one), np.array(other)):
            yield from ((position, second, apart) for position in same[first])
            yield from ((first, position, apart) for position in same[second][1:])


def _close(
    looks: _Looks, one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]
) -> Iterator[tuple[int, int, float]]:
    step = max(1, _BLOCK // len(other))
    for start in range(0, len(one), step):
        chosen = one[start : start + step]
        apart = np.bitwise_count(looks.hashes[chosen][:, None] ^ looks.hashes[other][None])
        near = np.argwhere(apart <= _BITS)
        for at in range(0, len(near), _CHUNK):
            left, right = near[at : at + _CHUNK].T
            pairs = np.stack([chosen[left], other[right]], axis=1)
            levels = np.abs(looks.copies[pairs[:, 0]].astype(np.int16) - looks.copies[pairs[:, 1]])
            for row in np.flatnonzero(_are_alike(levels)):
                yield int(pairs[row, 0]), int(pairs[row, 1]), float(levels[row].mean())


def _are_alike(levels: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
    """Whether small copies that differ by these levels [M, COPY] look alike; bool [M]."""
    grey, colour = levels[:, : _GRID**2].max(axis=1), levels[:, _GRID**2 :].max(axis=1)
    alike: npt.NDArray[np.bool_] = (grey <= _GREY) & (colour <= _COLOUR)
    alike &= levels.mean(axis=1) <= _MEAN
    return alike
