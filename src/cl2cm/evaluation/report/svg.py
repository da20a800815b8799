"""Figures as SVG: the pieces that all charts share.

A series has a colour and a shape or dash pattern of its own, so that a chart can be read without
colours. The colours are from Okabe and Ito ("Color Universal Design", 2008), without yellow,
which is too light on white. A figure is put into a page, whose style sheet colours it, or stands
alone with a style sheet of its own.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#8c564b", "#777777")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "2 2 6 2", "1 2")
SHAPES = 8
FONT = 12
LETTER = 0.58  # width of a letter as a share of the font's size, at most

_RAMP = ("#00204c", "#213d6b", "#555b6c", "#7b7a77", "#a59c74", "#d3c064", "#ffe945")  # cividis
_STANDALONE = (
    "svg{background:#fff}text{fill:#1a1a1a}.grid{stroke:#ddd}.axis{stroke:#666}.plot{fill:none}"
)


class Figure(NamedTuple):
    """A figure.

    Attributes:
        name: of its file, without a suffix.
        title: what it shows.
        description: the text alternative: what can be seen in it.
        width: pixels.
        height: pixels.
        body: its elements, as SVG.
    """

    name: str
    title: str
    description: str
    width: float
    height: float
    body: str


def inline(figure: Figure) -> str:
    """Return a figure for an HTML page."""
    return _svg(figure, "", "")


def standalone(figure: Figure) -> str:
    """Return a figure as the content of a file."""
    return _svg(
        figure,
        f' xmlns="http://www.w3.org/2000/svg" width="{figure.width:g}" height="{figure.height:g}"',
        f"<style>{series_style(COLOURS)}{_STANDALONE}</style>"
        f'<rect width="{figure.width:g}" height="{figure.height:g}" fill="#ffffff"/>',
    )


def _svg(figure: Figure, attributes: str, style: str) -> str:
    label, described = f"{figure.name}-title", f"{figure.name}-desc"
    return (
        f'<svg{attributes} viewBox="0 0 {figure.width:g} {figure.height:g}" role="img" '
        f'aria-labelledby="{label} {described}" font-family="sans-serif" font-size="{FONT}">'
        f'<title id="{label}">{text_of(figure.title)}</title>'
        f'<desc id="{described}">{text_of(figure.description)}</desc>{style}{figure.body}</svg>'
    )


def series_style(colours: Sequence[str]) -> str:
    """Return the style sheet of the series, one class each."""
    return "".join(
        f".c{number}{{stroke:{colour};fill:{colour}}}.l{number}{{stroke:{colour};fill:none}}"
        for number, colour in enumerate(colours)
    )


def text_of(text: str) -> str:
    """Return text for HTML and XML: escaped, without what neither can hold."""
    kept = "".join(c if c >= " " and not 0xD800 <= ord(c) <= 0xDFFF else " " for c in text)
    return escape(kept.replace("\x7f", " ").replace("\ufffe", " ").replace("\uffff", " "))


def ramp(share: float) -> str:
    """Return the colour of a value from 0 (dark blue) to 1 (yellow); cividis, in seven steps."""
    place = min(max(share, 0.0), 1.0) * (len(_RAMP) - 1)
    first = min(int(place), len(_RAMP) - 2)
    mixed = (
        round(a + (b - a) * (place - first))
        for a, b in zip(_parts(_RAMP[first]), _parts(_RAMP[first + 1]), strict=True)
    )
    return "#" + "".join(f"{value:02x}" for value in mixed)


def _parts(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def label(text: str, x: float, y: float, *, anchor: str = "start", bold: bool = False) -> str:
    """Return a text."""
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{text_of(text)}</text>'


def turned(text: str, x: float, y: float) -> str:
    """Return a text that is read upwards, with its middle at a point."""
    return f'<g transform="rotate(-90 {x:.1f} {y:.1f})">{label(text, x, y, anchor="middle")}</g>'


def mark(series: int, x: float, y: float, title: str = "", size: float = 4.0) -> str:
    """Return the mark of a series at a point; later series than the eighth are hollow."""
    kind = f"c{series % len(COLOURS)}" if series < SHAPES else f"l{series % len(COLOURS)}"
    inside = f"<title>{text_of(title)}</title>" if title else ""
    if series % SHAPES == 0:
        shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}" class="{kind}"'
        return f"{shape}>{inside}</circle>" if inside else f"{shape}/>"
    path = _path(series % SHAPES, x, y, size)
    if series % SHAPES in (4, 5):  # plus and cross have no inside
        kind = f"l{series % len(COLOURS)}"
        bold = 2 if series < SHAPES else 1
        return f'<path d="{path}" class="{kind}" stroke-width="{bold}">{inside}</path>'
    return f'<path d="{path}" class="{kind}">{inside}</path>'


def _path(shape: int, x: float, y: float, r: float) -> str:
    if shape == 4:
        return f"M{x - r:.1f} {y:.1f}h{2 * r:g}M{x:.1f} {y - r:.1f}v{2 * r:g}"
    if shape == 5:
        r *= 0.8
        far = 2 * r
        return f"M{x - r:.1f} {y - r:.1f}l{far:g} {far:g}M{x - r:.1f} {y + r:.1f}l{far:g} {-far:g}"
    corners = {
        1: [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        2: [(0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
        3: [(0, 1.2), (1.1, -0.8), (-1.1, -0.8)],
        6: [(0, -1.3), (1.1, 0), (0, 1.3), (-1.1, 0)],
        7: [(-1.2, -0.5), (1.2, -0.5), (1.2, 0.5), (-1.2, 0.5)],
    }[shape]
    return "M" + "L".join(f"{x + dx * r:.1f} {y + dy * r:.1f}" for dx, dy in corners) + "Z"


def legend(names: Sequence[str], x: float, y: float, width: float) -> tuple[str, float]:
    """Return the legend of series from a point on, in lines of a width, and its height."""
    parts, left, top = [], x, y
    for series, name in enumerate(names):
        needed = 24 + len(name) * FONT * LETTER
        if left > x and left + needed > x + width:
            left, top = x, top + 18
        parts += [mark(series, left + 6, top - 4), label(name, left + 16, top)]
        left += needed
    return "".join(parts), top - y + 18


class Axis(NamedTuple):
    """A range of values on a length of pixels.

    Attributes:
        low: value at the first pixel.
        high: value at the last one.
        start: first pixel.
        end: last pixel; before the first on an axis that points upwards.
    """

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def fitting(values: Iterable[float], start: float, end: float, *, zero: bool = False) -> Axis:
    """Return an axis whose ends are round numbers outside of the values."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if zero:
        low = min(low, 0.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    step = _step(high - low)
    return Axis(math.floor(low / step) * step, math.ceil(high / step) * step, start, end)


def ticks(axis: Axis, *, log: bool = False) -> list[float]:
    """Return the round numbers on an axis; on an axis of logarithms, the powers of ten."""
    if log and math.floor(axis.high) - math.ceil(axis.low) >= 1:
        return [float(n) for n in range(math.ceil(axis.low), math.floor(axis.high) + 1)]
    step = _step(axis.high - axis.low)
    first = math.ceil(axis.low / step - 1e-9)
    return [n * step for n in range(first, math.floor(axis.high / step + 1e-9) + 1)]


def _step(span: float) -> float:
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def grid(x: Axis, y: Axis, *, across: bool = True, log: bool = False) -> str:
    """Return the horizontal lines of a plot with their numbers, and the numbers below.

    Args:
        x: the horizontal axis.
        y: the vertical one.
        across: whether the horizontal axis has numbers.
        log: whether both are of logarithms to the base ten.
    """
    parts = []
    for value in ticks(y, log=log):
        at = y.at(value)
        parts.append(f'<path d="M{x.start:.1f} {at:.1f}H{x.end:.1f}" class="grid"/>')
        parts.append(label(_number(value, log=log), x.start - 6, at + 4, anchor="end"))
    if across:
        below = y.start + 16
        for value in ticks(x, log=log):
            parts += [label(_number(value, log=log), x.at(value), below, anchor="middle")]
    parts.append(f'<path d="M{x.start:.1f} {y.start:.1f}H{x.end:.1f}" class="axis"/>')
    return "".join(parts)


def _number(value: float, *, log: bool) -> str:
    return (
        f"{10**value:,.3g}" if log and value < 3 else f"{10**value:,.0f}" if log else f"{value:g}"
    )
