"""The page of a report: one HTML file without scripts that requests nothing.

Everything in it is either ours or escaped; its Content-Security-Policy allows styles and images
that are inside of the page, and nothing else.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby

from cl2cm.evaluation.report.blocks import Block, Drawn, Html, Section
from cl2cm.evaluation.report.svg import COLOURS, Figure, inline, series_style, text_of
from cl2cm.evaluation.report.tables import Table, html_table

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
_DARK = ("#58a6e0", "#ff8a3d", "#2fc79a", "#e3a0c6", "#e0b13c", "#8fd0f5", "#c98f80", "#aaaaaa")

_STYLE = (
    """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --soft: #5a5a5a; --line: #d5d5d5;
  --panel: #f5f6f8; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181b; --soft: #aab0b6;
  --line: #3a3f45; --panel: #1f2327; --link: #7db8f0; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 0 auto; padding: 1rem clamp(.8rem, 3vw, 2rem); max-width: 72rem;
  overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; border-top: 1px solid var(--line);
  padding-top: 1rem; }
p { max-width: 48rem; margin: .6rem 0; }
a { color: var(--link); }
nav ul { padding: 0; margin: .5rem 0; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem;
  list-style: none; }
.small, .ci, figcaption { color: var(--soft); font-size: .85rem; }
.missing { border-inline-start: 4px solid var(--soft); padding-inline-start: .7rem; }
.wide { overflow-x: auto; margin: .3rem 0 1rem; max-width: 100%; }
.wide:focus-visible { outline: 2px solid var(--link); }
table { border-collapse: collapse; font-size: .9rem; overflow-wrap: normal; }
.caption { font-weight: 600; margin: 1rem 0 0; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: start;
  vertical-align: top; }
th { font-weight: 600; }
td { max-width: 22rem; overflow-wrap: break-word; min-width: 3rem; }
td.n, th.n { text-align: end; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.n .ci { display: block; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }
.chart { margin: 1rem 0; min-width: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr));
  gap: 0 1.5rem; }
.chart > figcaption { color: var(--ink); font-weight: 600; font-size: 1rem; }
.chart svg { display: block; height: auto; }
.chart.light svg { background: #fff; }
svg text { fill: var(--ink); }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); } svg .plot { fill: none; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1rem;
  padding: 0; list-style-position: inside; }
.cards li { background: var(--panel); border-radius: .5rem; padding: .7rem; min-width: 0; }
.cards li::marker { font-size: .8rem; color: var(--soft); }
.query { margin: .2rem 0 .6rem; font-weight: 600; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .6rem; }
.pair figure { margin: 0; min-width: 0; }
.pair img, .none { width: 100%; max-width: 128px; height: 128px; object-fit: contain;
  background: #fff; border-radius: .3rem; }
.none { display: flex; align-items: center; text-align: center; font-size: .8rem; padding: .4rem;
  color: #444; }
.id { font-size: .75rem; }
@media (max-width: 30rem) { .cards { grid-template-columns: 1fr; } td { max-width: 12rem; } }
@media print { .wide { overflow: visible; } .cards li { break-inside: avoid; } }
"""
    + series_style([f"var(--s{number})" for number in range(len(COLOURS))])
    + ":root{"
    + "".join(f"--s{number}:{colour};" for number, colour in enumerate(COLOURS))
    + "}@media (prefers-color-scheme: dark){:root{"
    + "".join(f"--s{number}:{colour};" for number, colour in enumerate(_DARK))
    + "}}"
)


def page(
    title: str,
    facts: Sequence[str],
    parts: Sequence[Section],
    missing: Mapping[str, Sequence[str]],
) -> str:
    """Return the page.

    Args:
        title: of the page.
        facts: sentences below the title.
        parts: of the page.
        missing: name of a part → sentences about what it cannot show.
    """
    links = "".join(f'<li><a href="#{part.name}">{text_of(part.title)}</a></li>' for part in parts)
    body = "\n".join(_section(part, missing.get(part.name, ())) for part in parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{text_of(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{text_of(title)}</h1>
{"".join(f"<p>{text_of(fact)}</p>" for fact in facts)}
<nav aria-label="Contents"><ul>{links}</ul></nav>
</header>
<main>
{body}
</main>
</body>
</html>
"""


def _section(part: Section, missing: Sequence[str]) -> str:
    notes = "".join(f'<p class="missing">{text_of(sentence)}</p>\n' for sentence in missing)
    blocks = "\n".join(_grouped(part.blocks))
    return (
        f'<section id="{part.name}" aria-labelledby="{part.name}-head">\n'
        f'<h2 id="{part.name}-head">{text_of(part.title)}</h2>\n{notes}{blocks}\n</section>'
    )


def _grouped(blocks: Sequence[Block]) -> list[str]:
    """Return the blocks; several figures in a row stand side by side where there is room."""
    parts: list[str] = []
    for drawn, group in groupby(blocks, key=lambda block: isinstance(block, Figure | Drawn)):
        whole = [_block(block) for block in group]
        side_by_side = ['<div class="charts">', *whole, "</div>"]
        parts += side_by_side if drawn and len(whole) > 1 else whole
    return parts


def _block(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{text_of(block)}</p>"
    if isinstance(block, Html):
        return block.text
    if isinstance(block, Table):
        return html_table(block)
    if isinstance(block, Drawn):
        return _figure(block.title, block.svg, "chart light", "")
    return _figure(block.title, inline(block), "chart", _width(block))


def _figure(title: str, svg: str, kind: str, style: str) -> str:
    name = text_of(title)
    return (
        f'<figure class="{kind}"><figcaption>{name}</figcaption>'
        f'<div class="wide" tabindex="0" role="region" aria-label="{name}">'
        f"<div{style}>{svg}</div></div></figure>"
    )


def _width(figure: Figure) -> str:
    """Return the style of a chart: as wide as it is drawn, and never unreadably small."""
    least = min(figure.width, 480)
    return f' style="width:100%;min-width:{least:.0f}px;max-width:{figure.width:.0f}px"'
