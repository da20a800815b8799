"""Draw SumR over planted noise as an SVG, from the rows of `cl2cm bench --csv`.

    python benchmarks/noise_curve.py rows.csv de weak docs/images/noise.svg

The regimes are named PREFIX-PERCENT, as in benchmarks/suites/noise.toml.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean

WIDTH, HEIGHT, LEFT, BOTTOM, RIGHT, TOP = 560, 320, 48, 36, 130, 16
COLOURS = ("#0b6e4f", "#c1121f", "#1d4ed8", "#b45309", "#6b21a8", "#334155")


def main(rows: Path, language: str, prefix: str, out: Path) -> None:
    """Write the curve of every method that has at least two levels of noise."""
    values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    with rows.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            start, _, percent = row["regime"].rpartition("-")
            if start == prefix and row["language"] == language and percent.isdigit():
                values[row["method"]][int(percent)].append(float(row["SumR"]))
    curves = {
        method: [(percent, mean(sums)) for percent, sums in sorted(by_percent.items())]
        for method, by_percent in values.items()
        if len(by_percent) > 1
    }
    out.write_text(drawing(curves, language), encoding="utf-8")


def drawing(curves: dict[str, list[tuple[int, float]]], language: str) -> str:
    """Return the SVG of curves of (percent, SumR)."""
    sums = [value for points in curves.values() for _, value in points]
    most = max(percent for points in curves.values() for percent, _ in points)
    low, high = 10 * int(min(sums) // 10), 10 * int(max(sums) // 10 + 1)

    def at(percent: float, value: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * percent / most
        return x, HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for value in range(low, high + 1, 10):
        x, y = at(0, value)
        end = at(most, value)[0]
        parts.append(f'<path d="M{x:.0f} {y:.1f}H{end:.0f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">{value}</text>')
    for percent in sorted({percent for points in curves.values() for percent, _ in points}):
        x = at(percent, low)[0]
        parts.append(f'<text x="{x:.0f}" y="{HEIGHT - 16}" text-anchor="middle">{percent} %</text>')
    parts.append(f'<text x="{LEFT}" y="12">SumR, {language}</text>')
    names = []
    for (method, points), colour in zip(sorted(curves.items()), COLOURS, strict=False):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in points))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        names.append((at(*points[-1]), method, colour))
    floor = 0.0
    for (x, y), method, colour in sorted(names):
        floor = max(y + 4, floor + 14)
        parts.append(f'<text x="{x + 6:.0f}" y="{floor:.1f}" fill="{colour}">{method}</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    if len(sys.argv) == 5:
        main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    else:
        print(__doc__)
