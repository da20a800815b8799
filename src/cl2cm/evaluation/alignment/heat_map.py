"""Heat map of an alignment as SVG or, if a suitable font is installed, as PNG."""

import io
import unicodedata
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cl2cm.errors import MediaError, MissingExtraError
from cl2cm.evaluation.alignment.links import Alignment
from cl2cm.storage import atomic_file

CELL = 30  # side of a square of the heat map, in pixels
FONT = 15  # size of its letters
_NO_CHARACTER = "\U0010fffd"  # of private use: no font has it


def shade(value: float) -> str:
    """White to blue; black letters stay readable on all of it."""
    red, green, blue = (round(255 - value * (255 - full)) for full in (96, 165, 250))
    return f"#{red:02x}{green:02x}{blue:02x}"


def to_svg(found: Alignment) -> str:
    """Return the heat map as SVG, with the words at its left side and on top."""
    left, top = (12 + _extent(words) for words in (found.source, found.target))
    width = left + CELL * len(found.target) + 12
    height = top + CELL * len(found.source) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="{FONT}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for i, word in enumerate(found.source):
        y = top + CELL * i
        parts.append(_label(word, left - 8, y + CELL // 2 + FONT // 3, anchor="end"))
        for j, value in enumerate(found.strength[i].tolist()):
            linked = (i, j) in found.links
            frame = 'stroke="#c2410c" stroke-width="3"' if linked else 'stroke="#dddddd"'
            inset = 2 if linked else 1
            side = CELL - 2 * inset
            parts.append(
                f'<rect x="{left + CELL * j + inset}" y="{y + inset}" width="{side}" '
                f'height="{side}" fill="{shade(value)}" {frame}/>'
            )
    for j, word in enumerate(found.target):
        parts += _column_label(word, left + CELL * j + CELL // 2, top - 8)
    return "\n".join([*parts, "</svg>"])


def _column_label(word: str, x: int, y: int) -> list[str]:
    """Return a word that ends at a height and is in the middle of a column.

    Chinese and Japanese are read downwards, other writing is turned.
    """
    letters = _drawable(word)
    if letters and all(unicodedata.east_asian_width(letter) in "WF" for letter in letters):
        places = [y - round(FONT * 1.05 * k) for k in reversed(range(len(letters)))]
        stacked = zip(letters, places, strict=True)
        return [_label(letter, x, place, anchor="middle") for letter, place in stacked]
    x += FONT // 3
    return [f'<g transform="rotate(-90 {x} {y})">{_label(word, x, y)}</g>']


def _label(word: str, x: int, y: int, *, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(_drawable(word))}</text>'


def _extent(words: Iterable[str]) -> int:
    """Return the pixels that the longest word takes, at most."""
    wide = {"W": 1.05, "F": 1.05}
    letters = (sum(wide.get(unicodedata.east_asian_width(c), 0.68) for c in word) for word in words)
    return round(FONT * max(letters))


def _drawable(word: str) -> str:
    """Without what XML cannot hold."""
    return "".join(c for c in word if unicodedata.category(c) not in ("Cc", "Cs", "Cn"))


def write_png(found: Alignment, path: Path) -> None:
    """Draw the heat map with the fonts of this machine.

    Raises:
        MissingExtraError: resvg is not installed.
        MediaError: no font here has one of the letters.
        StorageError: it cannot be written.
    """
    _require_letters("".join([*found.source, *found.target]))
    picture = bytes(resvg().svg_to_bytes(svg_string=to_svg(found), zoom=2))
    with atomic_file(path) as file:
        file.write(picture)


def resvg(extra: str = "demo") -> Any:  # noqa: ANN401 - it has no types
    """Return the package that draws SVG.

    Args:
        extra: to install where it is missing.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import resvg_py  # noqa: PLC0415 - of an extra
    except ImportError:
        raise MissingExtraError("resvg_py", extra) from None
    return resvg_py


def _require_letters(text: str) -> None:
    """Letters that no font has are drawn as nothing, or as the box for what is missing."""
    box = _drawn(_NO_CHARACTER)
    for letter in sorted(set(_drawable(text))):
        if unicodedata.category(letter)[0] not in "LN":
            continue
        drawn = _drawn(letter)
        if drawn.min() == 255 or np.array_equal(drawn, box):
            name = unicodedata.name(letter, f"U+{ord(letter):04X}")
            raise MediaError(
                "heat map",
                expected=f"a font with {letter!r} ({name})",
                found="none on this machine",
                remedy="install one, such as the package fonts-noto-cjk or fonts-noto-core, "
                "or write HTML, which another machine can show",
            )


def _drawn(letter: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="24" height="32"><text x="4" y="24" '
        f'font-family="sans-serif" font-size="16">{escape(letter)}</text></svg>'
    )
    picture = resvg().svg_to_bytes(svg_string=svg, background="#ffffff")
    with Image.open(io.BytesIO(bytes(picture)), formats=("PNG",)) as drawn:
        return np.asarray(drawn.convert("L"), dtype=np.uint8)
