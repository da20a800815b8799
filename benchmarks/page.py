"""Write the figures of a run into docs/performance.md, between two marks; the rest stays.

Tables, and for what grows a chart in SVG beside the other images of the documentation.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cl2cm.evaluation.report.charts import Line, line_chart
from cl2cm.evaluation.report.svg import standalone

BEGIN = "<!-- make bench writes from here -->"
END = "<!-- to here -->"
SIZES = {"search": "vectors", "transport": "pairs", "texts": "texts", "capacity": "vectors"}
Rows = Sequence[Mapping[str, Any]]


def write_page(page: Path, report: Mapping[str, Any]) -> None:
    """Replace the part of the page between the marks."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page}: expected the lines {BEGIN} and {END}; restore them")
    made = "\n\n".join([state(report), *(part(suite, page) for suite in report["suites"])])
    page.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", encoding="utf-8")


def state(report: Mapping[str, Any]) -> str:
    """Say where and how it was measured, and what that is worth."""
    found, names = report["machine"], report["versions"]
    quality = (
        "The machine was quiet."
        if found["quiet"]
        else "**Other jobs ran on the machine: times are too long, and ratios are unreliable.**"
    )
    if found["quick"]:
        quality += " **A quick run with small problems: no basis for claims.**"
    limit = 5 if found["quick"] else 30
    lines = [
        "| machine | |",
        "|---|---|",
        f"| processor | {found['processor']}, {found['cores']} cores, no GPU used |",
        f"| system | {found['system']} |",
        f"| load | {found['load_at_the_start']} at the start, {found['load_at_the_end']} at the "
        "end; a quiet machine has 0 at the start |",
        f"| run | {found['date']}, {found['minutes']} min (limit on a quiet machine: {limit}), "
        f"{found['processor_minutes']} min of processor time |",
        f"| versions | {', '.join(f'{name} {number}' for name, number in names.items())} |",
    ]
    legend = (
        "Below each peer: how many times as fast as the peer cl2cm is, and in brackets the peer's "
        "figure in the same run."
    )
    return "\n".join([quality, "", *lines, "", legend])


def part(suite: Mapping[str, Any], page: Path) -> str:
    """Return a suite's part of the page."""
    peers = [row for row in suite["rows"] if row["kind"] == "peer"]
    limits = [row for row in suite["rows"] if row["kind"] == "limit"]
    lines = [f"### {suite['title']}"]
    if peers:
        lines += ["", *peer_table(peers)]
    if limits:
        lines += ["", *limit_table(limits)]
    if image := growth(suite, peers, page):
        lines += ["", image]
    lines += [f"\nNot measured: {reason}." for reason in (*suite["left_out"], *suite["failed"])]
    return "\n".join(lines)


def peer_table(rows: Rows) -> list[str]:
    """Return tables of cases and peers, one for each set of peers."""
    cases: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        cases.setdefault(row["case"], {})[row["peer"]] = row
    lines: list[str] = []
    for peers in dict.fromkeys(tuple(by_peer) for by_peer in cases.values()):
        lines += [""] * bool(lines)
        lines.append(f"| measured | cl2cm | {' | '.join(peers)} |")
        lines.append("|---|--:|" + "--:|" * len(peers))
        for case, by_peer in cases.items():
            if tuple(by_peer) != peers:
                continue
            own = by_peer[peers[0]]
            cells = [f"{number(own['ours'])} {own['unit']}", *map(beside, by_peer.values())]
            lines.append(f"| {case} | {' | '.join(cells)} |")
    return lines


def beside(row: Mapping[str, Any]) -> str:
    """Return how many times as fast as a peer cl2cm is, and the peer's figure."""
    note = f"; {row['note']}" if row["note"] else ""
    return f"**{number(row['times'])}** ({number(row['theirs'])} {row['unit']}{note})"


def limit_table(rows: Rows) -> list[str]:
    lines = ["| measured | cl2cm | limit | kept |", "|---|--:|--:|---|"]
    for row in rows:
        bound = f"{'at most' if row['most'] else 'at least'} {number(row['limit'])} {row['unit']}"
        own = f"{number(row['ours'])} {row['unit']}".strip()
        kept = "yes" if row["kept"] else "**no**"
        lines.append(f"| {row['case']} | {own} | {bound.strip()} | {kept} |")
    return lines


def number(value: float) -> str:
    """Return three digits that mean something."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}" if digits else f"{round(value):,}"


def growth(suite: Mapping[str, Any], rows: Rows, page: Path) -> str:
    """Draw times as the problem grows, of cl2cm and of all peers; "" where nothing grows."""
    sized = [row for row in rows if row["size"] is not None]
    if len({row["size"] for row in sized}) < 2:
        return ""
    lines: dict[str, dict[float, float]] = {}
    for row in sized:
        own = row["case"].split(",")[0] if suite["name"] == "search" else ""
        lines.setdefault(f"cl2cm {own}".strip(), {})[row["size"]] = row["ours"]
        lines.setdefault(row["peer"], {})[row["size"]] = row["theirs"]
    unit = sized[0]["unit"]
    size = SIZES.get(suite["name"], "size")
    drawn = [
        Line(name, sorted(points.items())) for name, points in lines.items() if len(points) > 1
    ]
    title = f"{suite['title']}: {unit} over {size}"
    figure = line_chart(f"performance-{suite['name']}", title, drawn, size, unit, log=True)
    image = page.parent / "images" / f"{figure.name}.svg"
    image.parent.mkdir(exist_ok=True)
    image.write_text(standalone(figure), encoding="utf-8")
    return f"![{title}; both axes are logarithmic](images/{image.name})"
