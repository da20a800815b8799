"""Draw a word alignment as bands between two columns of words; width shows strength."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ROW = 40  # height of a word, in units of the drawing
WIDTH = 640
_LEFT, _RIGHT = 215, WIDTH - 215
_LEAST = 0.08  # strength below which a bond that is not a link is not drawn
_WIDEST = 22
_FULL = 0.5  # match from which bands are as wide as their bonds are strong


@dataclass(frozen=True, slots=True)
class Band:
    """A bond: its path, width and opacity, the words by number, and whether it is a link."""

    path: str
    width: float
    opacity: float
    source: int
    target: int
    linked: bool


@dataclass(frozen=True, slots=True)
class Drawing:
    """An alignment, placed.

    Attributes:
        source: words of the left column, each with its height.
        target: of the right one.
        bands: the weak ones first, so that links lie on top.
        links: source word, target word, strength in percent; what the drawing says, as text.
        width: of the drawing.
        height: of the drawing.
    """

    source: list[tuple[str, float]]
    target: list[tuple[str, float]]
    bands: list[Band]
    links: list[tuple[str, str, int]]
    width: int
    height: int


def draw(alignment: Mapping[str, Any], match: float = 1.0) -> Drawing:
    """Return the place the words and bands of an alignment.

    Args:
        alignment: as ``cl2cm align --json`` gives it.
        match: of the image with the query, 0 to 1: bands to an image that is probably wrong are
            thin and pale, however strong the bond between the words.
    """
    force = min(1.0, match / _FULL)
    source, target = alignment["source"], alignment["target"]
    rows = max(len(source), len(target))
    links = {(link["source"], link["target"]): link["strength"] for link in alignment["links"]}
    left, right = (_heights(len(words), rows) for words in (source, target))
    bands = [
        _band(left[i], right[j], value * force, (i, j), linked=(i, j) in links)
        for i, row in enumerate(alignment["strength"])
        for j, value in enumerate(row)
        if value >= _LEAST or (i, j) in links
    ]
    return Drawing(
        source=list(zip(source, left, strict=True)),
        target=list(zip(target, right, strict=True)),
        bands=sorted(bands, key=lambda band: (band.linked, band.width)),
        links=[(source[i], target[j], round(100 * value)) for (i, j), value in links.items()],
        width=WIDTH,
        height=ROW * rows,
    )


def _heights(count: int, rows: int) -> list[float]:
    """Return middles of ``count`` words, spread over the height of ``rows``."""
    first = ROW * (rows - count) / 2 + ROW / 2
    return [first + ROW * i for i in range(count)]


def _band(y1: float, y2: float, value: float, words: tuple[int, int], *, linked: bool) -> Band:
    middle = WIDTH / 2
    path = f"M{_LEFT} {y1:g}C{middle:g} {y1:g} {middle:g} {y2:g} {_RIGHT} {y2:g}"
    opacity = 0.45 + 0.4 * value if linked else 0.08 + 0.3 * value
    return Band(path, round(2 + (_WIDEST - 2) * value, 1), round(opacity, 2), *words, linked)
