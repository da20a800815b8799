"""The kinds of charts of a report."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cl2cm.evaluation.report.svg import (
    COLOURS,
    DASHES,
    Axis,
    Figure,
    fitting,
    grid,
    label,
    legend,
    mark,
    turned,
)

WIDTH = 600.0
LEFT, RIGHT = 56.0, 26.0
PANEL = 190.0  # height of a plot


class Line(NamedTuple):
    """A series of a line chart: its name, and its points."""

    name: str
    points: Sequence[tuple[float, float]]


class Estimate(NamedTuple):
    """A value with its interval, if it has one."""

    value: float
    low: float | None = None
    high: float | None = None


class Point(NamedTuple):
    """A point of a scatter chart: number of its series, place, and text for a pointer."""

    series: int
    x: float
    y: float
    title: str = ""


def line_chart(
    name: str,
    title: str,
    lines: Sequence[Line],
    x_name: str,
    y_name: str,
    *,
    log: bool = False,
) -> Figure:
    """Return lines over a common axis, each with a dash pattern and a mark of its own.

    Args:
        name: of the figure.
        title: of the figure.
        lines: at least one, each with a point.
        x_name: of the horizontal axis.
        y_name: of the vertical axis.
        log: whether both axes are logarithmic; then all values are above 0, and points are marked.
    """
    ends = "; ".join(f"{line.name} ends at {line.points[-1][1]:.3g}" for line in lines)
    if log:
        lines = [
            Line(line.name, [(math.log10(a), math.log10(b)) for a, b in line.points])
            for line in lines
        ]
    head, height = legend([line.name for line in lines], LEFT, 16, WIDTH - LEFT - RIGHT)
    bottom = height + 12 + PANEL
    points = [point for line in lines for point in line.points]
    x = fitting((p[0] for p in points), LEFT, WIDTH - RIGHT)
    x = Axis(min(p[0] for p in points), max(p[0] for p in points), x.start, x.end)
    x = x if x.low < x.high else Axis(x.low - 0.5, x.low + 0.5, x.start, x.end)
    y = fitting((p[1] for p in points), bottom, height + 12)
    parts = [head, grid(x, y, log=log)]
    for number, line in enumerate(lines):
        path = "L".join(f"{x.at(a):.1f} {y.at(b):.1f}" for a, b in line.points)
        dashes = DASHES[number % len(DASHES)]
        style = f' stroke-dasharray="{dashes}"' if dashes else ""
        parts.append(
            f'<path d="M{path}" class="l{number % len(COLOURS)}" stroke-width="2"{style}/>'
        )
        parts += [
            mark(number, x.at(a), y.at(b), size=3) for a, b in line.points[0 if log else -1 :]
        ]
    parts += [
        label(x_name, (LEFT + WIDTH - RIGHT) / 2, bottom + 34, anchor="middle"),
        turned(y_name, 14, (bottom + height) / 2),
    ]
    return Figure(
        name, title, f"{y_name} over {x_name}. {ends}.", WIDTH, bottom + 42, "".join(parts)
    )


def estimate_chart(
    name: str,
    title: str,
    panels: Mapping[str, Mapping[str, Mapping[str, Estimate]]],
    groups: Sequence[str],
    x_name: str,
) -> Figure:
    """Return values with intervals, grouped: plots one above the other.

    Args:
        name: of the figure.
        title: of the figure.
        panels: name of a plot's axis → series → group → value.
        groups: along the horizontal axis.
        x_name: of that axis.
    """
    names = list(dict.fromkeys(series for panel in panels.values() for series in panel))
    width = max(WIDTH, LEFT + RIGHT + len(groups) * (14 + 9 * len(names)))
    head, top = legend(names, LEFT, 16, width - LEFT - RIGHT)
    parts = [head]
    slot = (width - LEFT - RIGHT) / len(groups)
    x = Axis(0, len(groups), LEFT, width - RIGHT)
    for y_name, panel in panels.items():
        bottom = top + 12 + PANEL
        values = [v for by in panel.values() for e in by.values() for v in e if v is not None]
        y = fitting(values, bottom, top + 12, zero=True)
        parts.append(grid(x, y, across=False))
        parts.append(turned(y_name, 14, (bottom + top) / 2))
        for number, series in enumerate(names):
            offset = slot * (0.12 + 0.76 * (number + 0.5) / len(names))
            for place, group in enumerate(groups):
                if (found := panel.get(series, {}).get(group)) is not None:
                    at = LEFT + slot * place + offset
                    parts.append(_whisker(number, at, y, found, f"{series}, {group}"))
        for place, group in enumerate(groups):
            middle = LEFT + slot * (place + 0.5)
            parts.append(label(group, middle, bottom + 16, anchor="middle"))
            if place:
                line = f"M{LEFT + slot * place:.1f} {top + 12:.1f}V{bottom:.1f}"
                parts.append(f'<path d="{line}" class="grid"/>')
        top = bottom + 24
    parts.append(label(x_name, (LEFT + width - RIGHT) / 2, top + 14, anchor="middle"))
    text = f"{', '.join(panels)} of {', '.join(names)} for {', '.join(groups)}. "
    text += "The table below holds the values."
    return Figure(name, title, text, width, top + 22, "".join(parts))


def _whisker(series: int, x: float, y: Axis, found: Estimate, what: str) -> str:
    title, line = f"{what}: {found.value:.1f}", ""
    if found.low is not None and found.high is not None:
        title += f" ({found.low:.1f} to {found.high:.1f})"
        bar = f"M{x:.1f} {y.at(found.low):.1f}V{y.at(found.high):.1f}"
        line = f'<path d="{bar}" class="l{series % len(COLOURS)}" stroke-width="1.5"/>'
    return line + mark(series, x, y.at(found.value), title)


def scatter_chart(
    name: str,
    title: str,
    points: Sequence[Point],
    names: Sequence[str],
    axes: tuple[str, str] | None,
    description: str,
    *,
    height: float = 420.0,
    size: float = 4.0,
    tags: Sequence[tuple[str, float]] = (),
) -> Figure:
    """Return points of several series.

    Args:
        name: of the figure.
        title: of the figure.
        points: at least one.
        names: of the series.
        axes: names of both axes; None where places mean nothing.
        description: the text alternative.
        height: of the plot, pixels.
        size: of the points, pixels.
        tags: words above the plot, and their places on the horizontal axis.
    """
    head, top = legend(names, LEFT, 16, WIDTH - LEFT - RIGHT)
    top += 14 if tags else 0
    bottom = top + 12 + height
    pad_x, pad_y = (_padding([getattr(p, side) for p in points]) for side in ("x", "y"))
    x = fitting([*(p.x for p in points), *pad_x], LEFT, WIDTH - RIGHT)
    y = fitting([*(p.y for p in points), *pad_y], bottom, top + 12)
    parts = [head]
    if axes is None:
        frame = f"M{LEFT} {top + 12:.1f}H{WIDTH - RIGHT}V{bottom:.1f}H{LEFT}Z"
        parts.append(f'<path d="{frame}" class="axis plot"/>')
    else:
        parts += [
            grid(x, y),
            label(axes[0], (LEFT + WIDTH - RIGHT) / 2, bottom + 34, anchor="middle"),
            turned(axes[1], 14, (bottom + top) / 2),
        ]
    parts += [label(text, x.at(at), top + 9, anchor="middle") for text, at in tags]
    parts += [mark(p.series, x.at(p.x), y.at(p.y), p.title, size) for p in points]
    whole = bottom + (42 if axes else 12)
    return Figure(name, title, description, WIDTH, whole, "".join(parts))


def _padding(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    more = 0.04 * (high - low)
    return low - more, high + more
