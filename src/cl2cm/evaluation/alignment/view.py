"""Show an alignment: as a table, an HTML page, or a heat map in SVG or PNG.

All show the strength of each pair of words (``link_strength``): source words are rows, target
words are columns, both in the order of their text; links are marked.
"""

import io
import shutil
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cl2cm.evaluation.alignment.heat_map import resvg, shade, write_png
from cl2cm.evaluation.alignment.links import Alignment, align
from cl2cm.model.encoders import AS_TRAINED, Encoders
from cl2cm.storage import atomic_file, check_writable

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Word alignment</title>
<style>
body {{ font: 16px/1.4 system-ui, sans-serif; margin: 2rem; color: #1a1a1a; background: #fff; }}
table {{ border-collapse: collapse; }}
thead th {{ writing-mode: vertical-rl; text-align: start; padding: .4rem .2rem; }}
tbody th {{ text-align: end; padding: .2rem .6rem; }}
th {{ font-weight: normal; white-space: nowrap; }}
td {{ width: 2.2rem; height: 2.2rem; text-align: center; font-size: .75rem;
  border: 1px solid #ddd; }}
td.link {{ outline: 3px solid #c2410c; outline-offset: -3px; font-weight: bold; }}
</style>
</head>
<body>
<p dir="auto">{source}</p>
<p dir="auto">{target}</p>
<table>
<caption>Strength of each pair of words in percent, by the {side}; links are framed.</caption>
<thead><tr><td></td>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""


def align_command(
    run: Path,
    source: str,
    target: str,
    *,
    html: Path | None = None,
    png: Path | None = None,
    encoders: Encoders = AS_TRAINED,
) -> tuple[dict[str, Any], list[str]]:
    """Align two texts and show them.

    Args:
        run: a finished run.
        source: a text.
        target: its translation.
        html: write a page here.
        png: write a heat map here.
        encoders: where they are by now.

    Returns:
        The object of ``align --json``, and lines for people.

    Raises:
        CheckpointError: no finished run, or a damaged one.
        QueryError: a text without words, or one that is too long.
        MissingExtraError: a heat map is wanted, and resvg is not installed.
        MediaError: a heat map is wanted, and no font here has the letters.
        StorageError: a file cannot be written.
    """
    if png is not None:
        resvg()  # before the work
    for path in (html, png):
        if path is not None:
            check_writable(path)
    found = align(run, source, target, encoders)
    if html is not None:
        write_html(found, html)
    if png is not None:
        write_png(found, png)
    files = {name: str(path) for name, path in (("html", html), ("png", png)) if path is not None}
    return {"run": str(run), **to_json(found), **files}, to_lines(found)


def to_json(found: Alignment) -> dict[str, Any]:
    """Return words, links by number and by word, and strengths."""
    return {
        "side": found.side,
        "source": list(found.source),
        "target": list(found.target),
        "links": [
            {
                "source": i,
                "target": j,
                "words": [found.source[i], found.target[j]],
                "strength": round(float(found.strength[i, j]), 4),
            }
            for i, j in found.links
        ],
        "strength": [[round(value, 4) for value in row] for row in found.strength.tolist()],
    }


def to_lines(found: Alignment, width: int | None = None) -> list[str]:
    """Return a table in percent with links marked ``*``; a wide table numbers the target words.

    Args:
        found: the alignment.
        width: columns of the terminal; None asks it.
    """
    width = width or shutil.get_terminal_size((100, 24)).columns
    lines = _render(_table(found, found.target), 10_000)
    notes = []
    if max(Text(line).cell_len for line in lines) > width:
        numbers = [str(j + 1) for j in range(len(found.target))]
        lines = _render(_table(found, numbers), 10_000)
        names = zip(numbers, found.target, strict=True)
        notes = _render(Text("  ".join(f"{number} {word}" for number, word in names)), width)
    if found.side == "student":
        notes.append("the run has no cross-lingual network: read by the student's text side")
    return [*lines, *notes]


def _table(found: Alignment, heads: Iterable[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for head in heads:
        table.add_column(Text(head), justify="right", no_wrap=True)
    links = set(found.links)
    for i, word in enumerate(found.source):
        cells = []
        for j, value in enumerate(found.strength[i].tolist()):
            mark = "*" if (i, j) in links else " "
            cells.append(f"{100 * value:.0f}{mark}" if value >= 0.05 or mark == "*" else "· ")
        table.add_row(Text(word), *cells)
    return table


def _render(content: Table | Text, width: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(content)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def to_html(found: Alignment) -> str:
    """Return a page that is alone: no script, no request, every word escaped."""
    links = set(found.links)
    rows = []
    for i, word in enumerate(found.source):
        cells = "".join(
            _cell(value, linked=(i, j) in links, words=(word, found.target[j]))
            for j, value in enumerate(found.strength[i].tolist())
        )
        rows.append(f'<tr><th scope="row" dir="auto">{escape(word)}</th>{cells}</tr>')
    return _PAGE.format(
        source=escape(" ".join(found.source)),
        target=escape(" ".join(found.target)),
        side=escape(found.side),
        head="".join(f'<th scope="col" dir="auto">{escape(word)}</th>' for word in found.target),
        rows="\n".join(rows),
    )


def _cell(value: float, *, linked: bool, words: tuple[str, str]) -> str:
    title = escape(f"{words[0]} – {words[1]}: {100 * value:.0f} %")
    name = ' class="link"' if linked else ""
    text = f"{100 * value:.0f}" if value >= 0.05 else ""
    return f'<td{name} style="background: {shade(value)}" title="{title}">{text}</td>'


def write_html(found: Alignment, path: Path) -> None:
    """Write the page of ``to_html``.

    Raises:
        StorageError: it cannot be written.
    """
    with atomic_file(path) as file:
        file.write(to_html(found).encode("utf-8", "replace"))
