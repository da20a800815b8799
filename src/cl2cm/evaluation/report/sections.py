"""The parts of the page, in the order in which they are read."""

import numpy as np

from cl2cm.evaluation.report.blocks import Block, Section, slug
from cl2cm.evaluation.report.charts import (
    Estimate,
    Line,
    Point,
    estimate_chart,
    line_chart,
    scatter_chart,
)
from cl2cm.evaluation.report.curves import finite
from cl2cm.evaluation.report.gather import Material
from cl2cm.evaluation.report.looks import (
    alignment_section,
    map_section,
    transfer_section,
    worst_section,
)
from cl2cm.evaluation.report.matrices import HeatMap, heat_maps
from cl2cm.evaluation.report.quality import Quality
from cl2cm.evaluation.report.recall import FOUND, SEEDS, spearman
from cl2cm.evaluation.report.results import RECALLS
from cl2cm.evaluation.report.tables import Cell, Number, Table
from cl2cm.evaluation.report.thumbnails import Thumbnails


def sections(found: Material, thumbnails: Thumbnails) -> list[Section]:
    """Return all parts of the page; each says what it cannot show."""
    return [
        _runs(found),
        _recall(found),
        _curves(found),
        _consistency(found),
        transfer_section(found),
        alignment_section(found),
        map_section(found),
        _quality(found),
        worst_section(found, thumbnails),
    ]


def _runs(found: Material) -> Section:
    rows: list[list[Cell]] = []
    for label in found.subjects.labels:
        runs = found.subjects.of(label)
        first = runs[0]
        learned = first.provenance.get("learned") or first.data.get("languages")
        learned = learned if isinstance(learned, list) else []
        seconds = finite(first.provenance.get("seconds"))
        rows.append(
            [
                label,
                "–" if first.config is None else first.config.method,
                ", ".join(str(run.seed) for run in runs if run.seed is not None)
                or ("–" if first.config is None else str(first.config.train.seed)),
                ", ".join(map(str, learned))[:200] or "–",
                "–" if first.config is None else first.config.text.encoder,
                "–" if first.config is None else first.config.vision.encoder,
                Number(seconds, digits=0),
            ]
        )
    heads = ("run", "method", "seeds", "languages learned", "text encoder", "vision encoder")
    table = Table(
        "runs", "Method, languages and encoders of each run", (*heads, "seconds of training"), rows
    )
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
        f"at least {SEEDS}."
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
        blocks.append(line_chart(f"validation-{slug(stage)}", title, lines, "epoch", "SumR"))
    stages = dict.fromkeys(stage for c in found.curves.values() for stage in c.losses)
    for stage in stages:
        lines = [
            Line(label, curves.losses[stage]["loss"])
            for label, curves in found.curves.items()
            if curves.losses.get(stage, {}).get("loss")
        ]
        if lines:
            title = f"Training loss, {stage} stage"
            blocks.append(line_chart(f"loss-{slug(stage)}", title, lines, "step", "loss"))
    main = None if found.main is None else found.main.label
    for stage, named in found.curves[main].losses.items() if main in found.curves else ():
        if len(named) > 2:
            parts = [Line(name, points) for name, points in named.items()]
            title = f"Parts of the loss of {main}, {stage} stage"
            blocks.append(line_chart(f"parts-{slug(stage)}", title, parts, "step", "loss"))
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
    table = [
        line
        for label in labels
        for line in _quality_rows(label, quality, {c: v for other, c, v in rows if other == label})
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
            scatter_chart(
                "quality",
                "Recall over the quality of the translations",
                points,
                labels,
                axes,
                text,
                height=260,
                tags=list(quality.means.items()),
            ),
            Table("quality", "Quality, recall, and their correlation", heads, table),
        ],
    )


def _quality_rows(label: str, quality: Quality, recalls: dict[str, float]) -> list[list[Cell]]:
    """Return the rows of one run: its t2v R@10 by language, and how the quality orders them."""
    order = spearman([quality.means[code] for code in recalls], list(recalls.values()))
    return [
        [
            label,
            code,
            Number(quality.means[code], digits=3),
            Number(quality.counts[code], digits=0),
            Number(recall),
            Number(order, digits=2),
        ]
        for code, recall in recalls.items()
    ]
