"""The parts of the page, in the order in which they are read."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cl2cm.evaluation.alignment.heat_map import to_svg
from cl2cm.evaluation.alignment.links import Alignment
from cl2cm.evaluation.report.charts import (
    Estimate,
    HeatMap,
    Line,
    Point,
    estimate_chart,
    heat_maps,
    line_chart,
    scatter_chart,
)
from cl2cm.evaluation.report.gather import Material
from cl2cm.evaluation.report.measurements import IMAGES, Matrix, chained, likeness
from cl2cm.evaluation.report.recall import FOUND, spearman
from cl2cm.evaluation.report.results import RECALLS
from cl2cm.evaluation.report.svg import Figure, text_of
from cl2cm.evaluation.report.tables import Cell, Number, Table
from cl2cm.evaluation.report.thumbnails import Thumbnail, Thumbnails

_LONGEST = 300  # characters of a caption


class Drawn(NamedTuple):
    """A figure that is made elsewhere, whole: its name, its title and its SVG."""

    name: str
    title: str
    svg: str


class Html(NamedTuple):
    """A piece of the page itself."""

    text: str


Block = str | Html | Figure | Drawn | Table  # a str is a paragraph


class Section(NamedTuple):
    """A part of the page.

    Attributes:
        name: of its anchor, and of what is missing.
        title: its heading.
        blocks: its content.
    """

    name: str
    title: str
    blocks: list[Block]


def sections(found: Material, thumbnails: Thumbnails) -> list[Section]:
    """Return all parts of the page; each says what it cannot show."""
    return [
        _runs(found),
        _recall(found),
        _curves(found),
        _consistency(found),
        _transfer(found),
        _alignment(found),
        _map(found),
        _quality(found),
        _worst(found, thumbnails),
    ]


def _runs(found: Material) -> Section:
    rows: list[list[Cell]] = []
    for label in found.subjects.labels:
        runs = found.subjects.of(label)
        first = runs[0]
        data = first.provenance.get("data", {})
        learned = first.provenance.get("learned") or data.get("languages", [])
        seconds = first.provenance.get("seconds")
        rows.append(
            [
                label,
                "–" if first.config is None else first.config.method,
                ", ".join(str(run.seed) for run in runs if run.seed is not None)
                or ("–" if first.config is None else str(first.config.train.seed)),
                ", ".join(map(str, learned))[:200] or "–",
                "–" if first.config is None else first.config.text.encoder,
                "–" if first.config is None else first.config.vision.encoder,
                Number(seconds if isinstance(seconds, int | float) else None, digits=0),
            ]
        )
    heads = ("run", "method", "seeds", "languages learned", "text encoder", "vision encoder")
    table = Table("runs", "Runs", (*heads, "seconds of training"), rows)
    return Section("runs", "Runs", [table])


def _recall(found: Material) -> Section:
    charts: list[Block] = []
    for side, name in (("t2v", "text to image"), ("v2t", "image to text")):
        panels: dict[str, dict[str, dict[str, Estimate]]] = {}
        for key in RECALLS:
            if not key.startswith(side):
                continue
            panel = panels.setdefault(f"{key[4:]} (%)", {})
            for row in found.recall:
                ends = row[key]["ci95"] or (None, None)
                one = Estimate(row[key]["value"], *ends)
                panel.setdefault(row["label"], {})[row["language"]] = one
        if found.recall:
            title = f"Recall, {name}, with 95 % intervals"
            charts.append(
                estimate_chart(f"recall-{side}", title, panels, found.languages, "language")
            )
    heads = ("language", "run", "seeds", "SumR", *RECALLS, "queries", "gallery")
    order = {code: place for place, code in enumerate(found.languages)}
    rows: list[list[Cell]] = [
        [
            row["language"],
            row["label"],
            Number(row["seeds"], digits=0),
            Number(row["SumR"]),
            *(Number(row[key]["value"], *(row[key]["ci95"] or ())) for key in RECALLS),
            Number(row["queries"], digits=0),
            Number(row["gallery"], digits=0),
        ]
        for row in sorted(found.recall, key=lambda row: order[row["language"]])
    ]
    caption = f"Recall in percent on {found.split}, by language, with 95 % intervals"
    text = (
        "A caption searches its image or video (text to image, t2v), and an image or video "
        "searches its captions (image to text, v2t). SumR is the sum of the six recalls. The "
        "intervals are bootstrap intervals over images and videos, and over seeds where there are "
        "several."
    )
    return Section("recall", "Recall", [text, *charts, Table("recall", caption, heads, rows)])


def _curves(found: Material) -> Section:
    blocks: list[Block] = []
    stages = dict.fromkeys(stage for c in found.curves.values() for stage in c.validation)
    for stage in stages:
        lines = [
            Line(label, curves.validation[stage])
            for label, curves in found.curves.items()
            if curves.validation.get(stage)
        ]
        title = f"Validation, {stage} stage: SumR, mean over languages"
        blocks.append(line_chart(f"validation-{_slug(stage)}", title, lines, "epoch", "SumR"))
    stages = dict.fromkeys(stage for c in found.curves.values() for stage in c.losses)
    for stage in stages:
        lines = [
            Line(label, curves.losses[stage]["loss"])
            for label, curves in found.curves.items()
            if curves.losses.get(stage, {}).get("loss")
        ]
        if lines:
            title = f"Training loss, {stage} stage"
            blocks.append(line_chart(f"loss-{_slug(stage)}", title, lines, "step", "loss"))
    main = None if found.main is None else found.main.label
    for stage, named in found.curves[main].losses.items() if main in found.curves else ():
        if len(named) > 2:
            parts = [Line(name, points) for name, points in named.items()]
            title = f"Parts of the loss of {main}, {stage} stage"
            blocks.append(line_chart(f"parts-{_slug(stage)}", title, parts, "step", "loss"))
    if blocks:
        text = "Losses of different methods have different parts, so compare their shapes alone."
        blocks.insert(0, text)
    return Section("curves", "Losses and validation", blocks)


def _consistency(found: Material) -> Section:
    rows: list[list[Cell]] = [
        [
            row["label"],
            Number(row["MRV"]),
            *(Number(row[key]) for key in ("in_all", "in_some", "in_none")),
            Number(row["images"], digits=0),
        ]
        for row in found.consistency
    ]
    if not rows:
        found.lacks("consistency", "No run has ranks in two languages.")
        return Section("consistency", "Consistency across languages", [])
    heads = ("run", "MRV", "found in all (%)", "in some (%)", "in none (%)", "images")
    caption = "Rank consistency across languages"
    text = (
        "Mean rank variance (MRV): how differently the languages rank the same image or video; 0 "
        "where all agree. An item is found in a language where its captions there have a mean rank "
        f"of at most {FOUND}; the shares are of the items with captions in all languages."
    )
    blocks: list[Block] = [text, Table("consistency", caption, heads, rows)]
    if found.correlations is not None and found.main is not None:
        codes, values = found.correlations
        off = values[~np.eye(len(values), dtype=bool)]
        title = f"Correlation of the ranks in two languages, {found.main.label}"
        blocks.append(
            heat_maps(
                "consistency",
                title,
                [HeatMap("", values, float(min(off.min(), 0.0)), 1.0)],
                f"Spearman's correlation, from {off.min():.2f} to {off.max():.2f} between two "
                "different languages.",
                labels=codes,
                unit="Spearman's correlation",
            )
        )
    return Section("consistency", "Consistency across languages", blocks)


def _transfer(found: Material) -> Section:
    title = "Transfer: similarities CL and CM of one batch"
    batch, learned = found.batch, found.learned
    code = next((c for c in found.languages if any(c in by for by in learned.values())), None)
    if batch is None or code is None:
        if "transfer" not in found.missing:
            found.lacks("transfer", "No model could be opened for its similarities.")
        return Section("transfer", title, [])
    matrices = {label: by[code] for label, by in learned.items() if code in by}
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


def _alignment(found: Material) -> Section:
    blocks: list[Block] = []
    if found.aligned:
        blocks.append(
            "Strength of each pair of words in the transport plan (Eq. 3), from white (none) to "
            "blue; framed pairs are linked. Rows: source caption. Columns: its text in the other "
            "language."
        )
    for code, one in found.aligned:
        title = f"Word alignment, {found.source} and {code}"
        blocks.append(Drawn(f"alignment-{_slug(code)}", title, _with_text(one, title)))
    return Section("alignment", "Word alignments", blocks)


def _with_text(one: Alignment, title: str) -> str:
    """Return the heat map of an alignment with a text alternative."""
    links = ", ".join(f"{one.source[i]} – {one.target[j]}" for i, j in one.links)
    words = f"<title>{text_of(title)}</title><desc>Links: {text_of(links)}</desc>"
    head, end, rest = to_svg(one).partition(">")
    return f'{head} role="img"{end}{words}{rest}'


def _map(found: Material) -> Section:
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


def _quality(found: Material) -> Section:
    title = "Translation quality and recall"
    quality = found.quality
    rows = [
        (row["label"], row["language"], row["t2v R@10"]["value"])
        for row in found.recall
        if quality is not None and row["language"] in quality.means
    ]
    if quality is None or not rows:
        sentence = "The manifest has neither scored translations nor items with both a translation "
        found.lacks("quality", f"{sentence}and a human caption in one language.")
        return Section("quality", title, [])
    labels = list(dict.fromkeys(label for label, _, _ in rows))
    points = [
        Point(labels.index(label), quality.means[code], value, f"{label}, {code}")
        for label, code, value in rows
    ]
    table: list[list[Cell]] = []
    for label in labels:
        own = [(code, value) for other, code, value in rows if other == label]
        ordered = spearman([quality.means[c] for c, _ in own], [v for _, v in own])
        table += [
            [
                label,
                code,
                Number(quality.means[code], digits=3),
                Number(quality.counts[code], digits=0),
                Number(value),
                Number(ordered, digits=2),
            ]
            for code, value in own
        ]
    text = f"{len(quality.means)} languages: {', '.join(quality.means)}."
    axes = (f"mean {quality.measure} of the translations", "t2v R@10 (%)")
    heads = ("run", "language", quality.measure, "translations", "t2v R@10", "Spearman of the run")
    return Section(
        "quality",
        title,
        [
            f"Mean {quality.measure} of each language's translations, and the recall of its human "
            "captions. With so few languages this is a hint, not a test.",
            scatter_chart("quality", title, points, labels, axes, text, height=260),
            Table("quality", title, heads, table),
        ],
    )


def _worst(found: Material, thumbnails: Thumbnails) -> Section:
    title = f"The {len(found.worst)} worst queries" if found.worst else "The worst queries"
    if not found.worst:
        if "worst" not in found.missing:
            found.lacks("worst", "Every query has found its image or video in the first place.")
        return Section("worst", title, [])
    label = "" if found.main is None else f" of {found.main.label}"
    text = (
        f"Captions{label} whose image or video has the worst rank, with the item that took the "
        "first place. The ranks in other languages are the best of the same item's captions: low "
        "ones point to the words, high ones to the image."
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


def _slug(text: str) -> str:
    """Return a text as a part of a file's name."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text)[:60]
