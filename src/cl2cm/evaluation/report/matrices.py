"""Matrices as heat maps, side by side, with their scales."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cl2cm.evaluation.report.svg import Figure, label, ramp

WIDE = 720.0  # pixels of matrices side by side
Matrix = npt.NDArray[np.float64]


class HeatMap(NamedTuple):
    """A matrix: its title, its values, and the values that get the first and the last colour."""

    title: str
    values: Matrix
    low: float
    high: float


def heat_maps(
    name: str,
    title: str,
    maps: Sequence[HeatMap],
    description: str,
    *,
    labels: Sequence[str] = (),
    unit: str = "cosine",
    side: float = 210.0,
) -> Figure:
    """Return matrices side by side, with their scales below.

    Args:
        name: of the figure.
        title: of the figure.
        maps: the matrices.
        description: the text alternative.
        labels: of rows and columns, and the cells get numbers; without them neither.
        unit: of the values.
        side: pixels of a matrix, at least.
    """
    edge = 30.0 if labels else 4.0
    side = max(side, 34.0 * len(labels))
    per_row = max(1, int((WIDE - 8) // (side + edge + 12)))
    parts = []
    whole = side + 70 + edge
    for number, one in enumerate(maps):
        left = 8 + edge + (number % per_row) * (side + edge + 12)
        top = 24 + edge / 2 + (number // per_row) * whole
        parts.append(label(one.title, left, top - 8 - edge / 2, bold=True))
        parts.append(_cells(one, left, top, side, labels))
        parts.append(_scale(one, left, top + side + 14, side, unit))
    rows = -(-len(maps) // per_row)
    used = min(per_row, len(maps)) * (side + edge + 12) + 8
    width = max(used, *(16 + edge + len(one.title) * 7.5 for one in maps))
    return Figure(name, title, description, width, rows * whole + 10, "".join(parts))


def _cells(one: HeatMap, left: float, top: float, side: float, labels: Sequence[str]) -> str:
    count = len(one.values)
    cell = side / count
    parts = []
    for i, row in enumerate(one.values.tolist()):
        for j, value in enumerate(row):
            share = (value - one.low) / max(one.high - one.low, 1e-12)
            x, y = left + j * cell, top + i * cell
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell:.2f}" height="{cell:.2f}" '
                f'fill="{ramp(share)}"/>'
            )
            if labels:
                ink = "#ffffff" if share < 0.55 else "#000000"
                parts.append(
                    f'<text x="{x + cell / 2:.1f}" y="{y + cell / 2 + 4:.1f}" '
                    f'style="fill:{ink}" font-size="10" text-anchor="middle">{value:.2f}</text>'
                )
    for place, text in enumerate(labels):
        middle = (place + 0.5) * cell
        parts.append(label(text, left - 6, top + middle + 4, anchor="end"))
        parts.append(label(text, left + middle, top - 5, anchor="middle"))
    return "".join(parts)


def _scale(one: HeatMap, left: float, top: float, side: float, unit: str) -> str:
    steps = 24
    width = side / 2 / steps
    parts = [
        f'<rect x="{left + side / 4 + step * width:.1f}" y="{top:.1f}" width="{width + 0.3:.2f}" '
        f'height="8" fill="{ramp(step / (steps - 1))}"/>'
        for step in range(steps)
    ]
    parts += [
        label(f"{one.low:.2f}", left + side / 4 - 4, top + 9, anchor="end"),
        label(f"{one.high:.2f}", left + 3 * side / 4 + 4, top + 9),
        label(unit, left + side / 2, top + 24, anchor="middle"),
    ]
    return "".join(parts)
