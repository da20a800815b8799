"""Images that look the same: perceptual hashes find candidates, small copies in colour decide.

The hash is computed from the discrete cosine transform (Zauner, "Implementation and Benchmarking of
Perceptual Image Hash Functions", 2010), of a square from the middle of the image.
An image that was compressed again or made smaller is found; one that was mirrored or cropped is
not.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cl2cm.media.decoding import decode_parallel
from cl2cm.media.images import Pixels, Preprocess
from cl2cm.progress import say, track
from cl2cm.types import Floats

# Measured on photos of Flickr8k and on drawings of OpenMoji, 500 each: copies of quality 40, or of
# half or a third of the size, differ in at most 7 bits, by at most 5.4 levels on average, 65 in
# grey and 22 in colour. Of the 7,761 other photos the nearest, two of one series, differ in 14
# bits, by 10.6 levels on average and 144 in grey; of drawings, some in the expression of a face
# (92 in grey), others in a colour (43).
_BITS = 10  # of the 64 of a hash
_MEAN = 8.0  # levels of 255 between small copies, on average
_GREY, _COLOUR = 64, 24  # and at most, in one cell of either part
_SIDE = 128  # pixels of the square that is looked at
_GRID = 32  # cells of its side in grey: what is transformed, and the fine part of a small copy
_COLOURS = 8  # cells of its side in colour
_COPY = _GRID**2 + 3 * _COLOURS**2  # numbers of a small copy
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of R, G and B, ITU-R BT.601
_NOISE = 2.0  # levels: what compression adds to a coefficient of a flat image
_BLOCK = 2**22  # hashes compared at a time: 32 MB
_NAMED = 20  # files in a message
_CHUNK = 2**12  # small copies compared at a time: 10 MB


class Looks(NamedTuple):
    """Images as they are compared.

    rows: number of each among the items; hashes: uint64 [N]; copies: uint8 [N, COPY].
    """

    rows: list[int]
    hashes: npt.NDArray[np.uint64]
    copies: npt.NDArray[np.uint8]


def look_at(images: Sequence[tuple[int, Path]], *, progress: bool) -> Looks:
    """Hash images and make small copies of them; those that cannot be read are named and left out.

    Args:
        images: number of each among the items, and its file.
        progress: show a bar on standard error.
    """
    numbers, paths = [row for row, _ in images], [path for _, path in images]
    hashes = np.zeros(len(paths), np.uint64)
    copies = np.zeros((len(paths), _COPY), np.uint8)
    read = np.zeros(len(paths), bool)
    with track("looking for leaks", len(paths)) if progress and paths else nullcontext() as advance:
        for batch in decode_parallel(paths, Preprocess(_SIDE), skip_bad=True):
            if len(batch.rows):  # none where no image of the batch could be read
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
    return Looks(rows, hashes[read], copies[read])


def _shrink(pixels: Pixels, cells: int) -> Floats:
    """Return means of the cells of squares: [N, S, S, 3] to [N, cells, cells, 3]."""
    count, side = pixels.shape[:2]
    step = side // cells
    grid = pixels.reshape(count, cells, step, cells, step, 3)
    means: Floats = grid.mean((2, 4), dtype=np.float32)
    return means


def _copy(grey: Floats, pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Return small copies of squares, fine in grey and coarse in colour; uint8 [N, COPY]."""
    parts = [grey, _shrink(pixels, _COLOURS)]
    return (
        np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
        .round()
        .astype(np.uint8)
    )


def _hash(grey: Floats) -> npt.NDArray[np.uint64]:
    """Return which of the 64 lowest frequencies are strong; uint64 [N] of [N, GRID, GRID]."""
    place = np.arange(_GRID)
    cosines = np.cos(np.pi / _GRID * np.outer(place[:11], place + 0.5)).astype(np.float32)
    cosines *= np.sqrt(2 / _GRID)
    order = sorted(((i, j) for i in range(11) for j in range(11)), key=lambda ij: (sum(ij), ij))
    down, right = np.array(order[1:65]).T
    waves = (cosines @ grey @ cosines.T)[:, down, right]
    bits = waves > np.median(waves, axis=1, keepdims=True) + _NOISE
    return np.ascontiguousarray(np.packbits(bits, axis=1)).view(np.uint64)[:, 0]


def same_images(looks: Looks, splits: Sequence[str]) -> Iterator[tuple[int, int, float]]:
    """Yield pairs of positions in ``looks`` that look alike in different splits, and how far apart.

    The distance is the mean difference of their small copies, 0 to 255.

    Of images that are equal to the last cell, only one of each split is compared with others.
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
    looks: Looks, one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]
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
    """Return whether small copies that differ by these levels [M, COPY] look alike; bool [M]."""
    grey, colour = levels[:, : _GRID**2].max(axis=1), levels[:, _GRID**2 :].max(axis=1)
    alike: npt.NDArray[np.bool_] = (grey <= _GREY) & (colour <= _COLOUR)
    alike &= levels.mean(axis=1) <= _MEAN
    return alike
