"""The parts of the page that look into a model: a batch, words, vectors, single queries."""

from collections.abc import Sequence

import numpy as np

from cl2cm.evaluation.alignment.heat_map import to_svg
from cl2cm.evaluation.alignment.links import Alignment
from cl2cm.evaluation.report.blocks import Block, Drawn, Html, Section, slug
from cl2cm.evaluation.report.charts import Point, scatter_chart
from cl2cm.evaluation.report.gather import Material
from cl2cm.evaluation.report.matrices import HeatMap, heat_maps
from cl2cm.evaluation.report.measurements import IMAGES, Matrix, chained, likeness
from cl2cm.evaluation.report.svg import text_of
from cl2cm.evaluation.report.tables import Cell, Number, Table
from cl2cm.evaluation.report.thumbnails import ELSEWHERE, Thumbnail, Thumbnails

_LONGEST = 300  # characters of a caption


def transfer_section(found: Material) -> Section:
    """Return the similarities of one batch, by the teacher and by students."""
    title = "Transfer: similarities CL and CM of one batch"
    batch, learned = found.batch, found.learned
    code = next((c for c in found.languages if any(c in by for by in learned.values())), None)
    if batch is None or code is None:
        if "transfer" not in found.missing:
            found.lacks("transfer", "No model could be opened for its similarities.")
        return Section("transfer", title, [])
    main = "" if found.main is None else found.main.label
    labels = sorted(learned, key=lambda label: label != main)
    matrices = {label: learned[label][code] for label in labels if code in learned[label]}
    taught = found.taught.get(code)
    order = chained(next(iter(matrices.values())) if taught is None else taught)
    shown = [] if taught is None else [_shown("CL: captions and texts", taught, order)]
    shown += [_shown(f"CM: {label}", matrix, order) for label, matrix in matrices.items()]
    kind = "translations" if code in batch.translated else "human captions"
    blocks: list[Block] = [
        f"Similarities of {len(batch.items)} items of {found.split} with {kind} in {code}. CL: "
        "source caption i and text j by the cross-lingual network, which teaches. CM: image or "
        "video i and text j by the student. Each matrix has its own scale; items are ordered so "
        "that similar ones are neighbours. Where transfer works, CM has the pattern of CL."
    ]
    rows: list[list[Cell]] = []
    for label, by in learned.items():
        values = [(c, likeness(found.taught[c], by[c])) for c in by if c in found.taught]
        rows += [[label, c, Number(value, digits=3)] for c, value in values]
    text = f"{len(shown)} matrices of {len(order)} by {len(order)} cosines, bright on the diagonal."
    blocks.append(heat_maps("transfer", f"Similarities CL and CM, {code}", shown, text))
    if rows:
        caption = "Correlation of CM with CL outside of the diagonal: 1 where the pattern is equal"
        blocks.append(Table("transfer", caption, ("run", "language", "correlation"), rows))
    return Section("transfer", title, blocks)


def _shown(title: str, matrix: Matrix, order: Sequence[int]) -> HeatMap:
    values = matrix[np.ix_(order, order)]
    low, high = np.percentile(values, [1, 99]).tolist()
    return HeatMap(title, values, low, high)


def alignment_section(found: Material) -> Section:
    """Return the words of a caption and of its texts in other languages, aligned."""
    blocks: list[Block] = []
    if found.aligned:
        blocks.append(
            "Strength of each pair of words in the transport plan (Eq. 3), from white (none) to "
            "blue; framed pairs are linked. Rows: source caption. Columns: its text in the other "
            "language."
        )
    for code, one in found.aligned:
        title = f"Word alignment, {found.source} and {code}"
        blocks.append(Drawn(f"alignment-{slug(code)}", title, _with_text(one, title)))
    return Section("alignment", "Word alignments", blocks)


def _with_text(one: Alignment, title: str) -> str:
    """Return the heat map of an alignment with a text alternative."""
    links = ", ".join(f"{one.source[i]} – {one.target[j]}" for i, j in one.links)
    words = f"<title>{text_of(title)}</title><desc>Links: {text_of(links)}</desc>"
    head, end, rest = to_svg(one).partition(">")
    return f'{head} role="img"{end}{words}{rest}'


def map_section(found: Material) -> Section:
    """Return the map of vectors."""
    if not found.points:
        if "map" not in found.missing:
            found.lacks("map", "No model could be opened, or too few items have captions.")
        return Section("map", "Map of images and captions", [])
    names = list(dict.fromkeys(point.series for point in found.points))
    points = [
        Point(names.index(p.series), p.x, p.y, f"{p.series}: {p.text[:_LONGEST]}")
        for p in found.points
    ]
    count = sum(point.series == IMAGES for point in found.points)
    title = f"Map of {count} items and their captions"
    text = f"{len(points)} points of {', '.join(names)}; a point's title is its caption."
    chart = scatter_chart("map", title, points, names, None, text, height=520, size=3.2)
    label = "" if found.main is None else f" of {found.main.label}"
    words = (
        f"The vectors{label} by t-SNE: near points have similar vectors, distances between groups "
        "mean little. Where the languages mix, captions with one meaning are near each other."
    )
    return Section("map", "Map of images and captions", [words, chart])


def worst_section(found: Material, thumbnails: Thumbnails) -> Section:
    """Return the worst queries as cards, with thumbnails."""
    title = f"The {len(found.worst)} worst queries" if found.worst else "The worst queries"
    if not found.worst:
        return Section("worst", title, [])
    label = "" if found.main is None else f" of {found.main.label}"
    text = (
        f"Captions{label} whose image or video has the worst rank, with the item that took the "
        "first place. The ranks in other languages are the best of the same item's captions: low "
        "ones point to the words, high ones to the image."
    )
    pictures = {name for query in found.worst for name in (query["item"], query["first"])}
    elsewhere = sum(thumbnails.of(name).missing == ELSEWHERE for name in pictures)
    if elsewhere:
        found.lacks(
            "worst",
            f"{elsewhere} files lie outside of the manifest's folder or behind a link, so they are "
            "not shown; allow their folder with --media-root.",
        )
    cards = "\n".join(_card(query, thumbnails) for query in found.worst)
    return Section("worst", title, [text, Html(f'<ol class="cards">\n{cards}\n</ol>')])


def _card(query: dict[str, object], thumbnails: Thumbnails) -> str:
    code, caption = str(query["language"]), str(query["caption"])
    caption = caption if len(caption) <= _LONGEST else f"{caption[:_LONGEST]}…"
    others = query["elsewhere"]
    assert isinstance(others, dict)  # noqa: S101 - for the type checker
    ranks = ", ".join(f"{other} {rank}" for other, rank in others.items()) or "–"
    right, first = str(query["item"]), str(query["first"])
    return (
        f'<li><p class="query" lang="{text_of(code)}" dir="auto">{text_of(caption)}</p>'
        f'<div class="pair">{_picture("described", right, thumbnails.of(right))}'
        f"{_picture('found first', first, thumbnails.of(first))}</div>"
        f'<p class="small">{text_of(code)}: rank <b>{query["rank"]}</b> of {query["gallery"]}. '
        f"Other languages: {text_of(ranks)}</p></li>"
    )


def _picture(role: str, item: str, thumbnail: Thumbnail) -> str:
    name = item if len(item) <= 60 else f"{item[:60]}…"
    shown = (
        f'<img src="{thumbnail.url}" alt="{role}: {text_of(name)}">'
        if thumbnail.url
        else f'<span class="none">{text_of(thumbnail.missing)}</span>'
    )
    words = f'{role}<br><span class="id" dir="auto">{text_of(name)}</span>'
    return f"<figure>{shown}<figcaption>{words}</figcaption></figure>"
