"""The implementation of ``cl2cm translate``, and its report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.cells import cell_len, set_cell_size

from cl2cm.data.manifest import Skipped, read_manifest
from cl2cm.data.prepare import dataset_of
from cl2cm.errors import ConfigError
from cl2cm.translate.cache import TranslationCache
from cl2cm.translate.manifest import (
    ENCODER,
    Column,
    Order,
    Place,
    score_examples,
    translate_examples,
)
from cl2cm.translate.record import read_translation_record, write_out
from cl2cm.translate.scoring import Scored, Sentence
from cl2cm.types import Example

WORST = 50
_QUANTILES = (5, 25, 50, 75, 95)
_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH = 46  # of a text in the table


def translate_manifest(
    manifest: Path,
    *,
    languages: Sequence[str] = (),
    engine: str = "",
    out: Path | None = None,
    source: str = "en",
    back: bool = False,
    back_engine: str = "",
    jobs: int = 0,
    cache: Path | None = None,
    report: bool = False,
    encoder: str = ENCODER,
    skip_bad: bool = False,
) -> dict[str, Any]:
    """Translate a manifest's captions into a new manifest, or score those that it has, or both.

    Args:
        manifest: with captions in the source language.
        languages: to translate into; without an engine, those to report.
        engine: as on the command line; "" translates nothing.
        out: the new manifest; may be the old one.
        source: language of the captions.
        back: also translate the translations back, by the same engine or by ``back_engine``.
        back_engine: engine of the way back.
        jobs: batches at a time; 0: as suits the engine.
        cache: SQLite file; by default in the user's cache folder.
        report: score the translations, and store the scores where there is an ``out``.
        encoder: for the scores; ``none`` leaves cosines out.
        skip_bad: leave out lines that do not fit.

    Returns:
        Of each new column an account under ``translations``; the ``report``, or None; and the
        places of the lines that were ``skipped``.

    Raises:
        ConfigError: the options do not go together.
        CL2CMError: whatever is wrong with manifest, engine, encoder or cache.
    """
    _check_options(languages, engine, out, report=report, back=back or bool(back_engine))
    turned = (back_engine or engine) if back or back_engine else ""
    order = Order(tuple(dict.fromkeys(languages)), engine, source, turned, jobs)
    skipped = Skipped()
    lines = read_manifest(manifest, source=source, skip_bad=skip_bad, on_skip=skipped.item)
    examples = list(lines)
    record = read_translation_record(manifest)
    record.setdefault("dataset", dataset_of(manifest))
    accounts: list[dict[str, Any]] = []
    quality = shown = None
    with TranslationCache(cache) as kept:
        if engine:
            examples, accounts = translate_examples(examples, order, kept)
        if report:
            examples, found, quality = score_examples(
                examples, source=source, languages=order.languages, encoder=encoder, cache=kept
            )
            shown = make_report(examples, found)
    if out is not None:
        write_out(out, examples, record, accounts, source=source, quality=quality)
    return {
        "manifest": str(manifest),
        "out": None if out is None else str(out),
        "translations": accounts,
        "report": shown,
        "skipped": skipped.names,
    }


def _check_options(
    languages: Sequence[str], engine: str, out: Path | None, *, report: bool, back: bool
) -> None:
    def refuse(what: str, expected: str, found: str, remedy: str) -> None:
        raise ConfigError(what, expected=expected, found=found, remedy=remedy)

    if engine and not languages:
        refuse("--to", "languages such as de,fr", "none", "name them")
    if engine and out is None:
        refuse("--out", "the manifest to write", "none", "name it")
    if not engine and back:
        refuse("--back", "an --engine to translate with", "none", "name one")
    if not engine and not report:
        refuse("--engine", "an engine, or --report", "neither", "write --engine apertium")


def make_report(
    examples: Sequence[Example], found: Mapping[Column, Mapping[Place, tuple[Sentence, Scored]]]
) -> dict[str, Any]:
    """Return the distribution of scores in each column, and the worst of all sentences."""
    worst = sorted(
        (scored.score, column, place)
        for column, places in found.items()
        for place, (_, scored) in places.items()
    )[:WORST]
    return {
        "columns": [_distribution(examples, column, found[column]) for column in found],
        "worst": [
            {
                "score": round(score, 4),
                "language": language,
                "column": name,
                "id": examples[i].id,
                "caption": j,
                "source": found[language, name][i, j][0].source,
                "translation": found[language, name][i, j][0].translation,
                "parts": _rounded(found[language, name][i, j][1]),
            }
            for score, (language, name), (i, j) in worst
        ],
    }


def _rounded(scored: Scored) -> dict[str, float | None]:
    parts = scored.parts._asdict()
    return {key: None if part is None else round(part, 4) for key, part in parts.items()}


def _distribution(
    examples: Sequence[Example],
    column: Column,
    places: Mapping[Place, tuple[Sentence, Scored]],
) -> dict[str, Any]:
    language, name = column
    scores = np.asarray([scored.score for _, scored in places.values()])
    total = sum(len(e.translations.get(language, {}).get(name, ())) for e in examples)
    quantiles = np.percentile(scores, _QUANTILES).tolist() if len(scores) else []
    return {
        "language": language,
        "column": name,
        "sentences": len(scores),
        "empty": total - len(scores),
        "mean": round(float(scores.mean()), 4) if len(scores) else None,
        "quantiles": {f"{q}": round(x, 4) for q, x in zip(_QUANTILES, quantiles, strict=False)},
        "histogram": np.histogram(scores, bins=10, range=(0, 1))[0].tolist(),
    }


def result_lines(result: Mapping[str, Any]) -> list[str]:
    """Return a result of ``translate_manifest`` for people."""
    lines = [
        f"{made['language']}  {made['column']}: {made['texts']} texts, {made['translated']} "
        f"translated now, {made['cached']} before, {made['empty']} empty; {made['rate']:.0f}/s"
        for made in result["translations"]
    ]
    if result["report"] is not None:
        lines += report_lines(result["report"])
    return [*lines, result["out"]] if result["out"] else lines


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """Return a report as two tables: the distributions, and the worst sentences."""
    names = [f"{c['language']} {c['column']}" for c in report["columns"]]
    width = max(map(len, names), default=0)
    head = f"{'column':{width}}  sentences   empty    mean" + "".join(
        f"{f'{q} %':>7}" for q in _QUANTILES
    )
    lines = [f"{head}  0 to 1"]
    for name, column in zip(names, report["columns"], strict=True):
        mean = "–" if column["mean"] is None else f"{column['mean']:.3f}"
        cells = "".join(f"{x:7.3f}" for x in column["quantiles"].values())
        bars = _bars(column["histogram"])
        counts = f"{column['sentences']:9}  {column['empty']:6}"
        lines.append(f"{name:{width}}  {counts}  {mean:>6}{cells}  {bars}")
    lines += ["", f"the worst {len(report['worst'])}:"]
    lines += [
        f"{one['score']:.3f}  {one['language']:5} {_cut(one['source'])}  {_cut(one['translation'])}"
        f"  {one['id']}[{one['caption']}]"
        for one in report["worst"]
    ]
    return lines


def _bars(histogram: Sequence[int]) -> str:
    most = max(*histogram, 1)
    return "".join(" " if not count else _BLOCKS[min(7, count * 8 // most)] for count in histogram)


def _cut(text: str) -> str:
    """Return a text padded or cut to its cell; a Chinese character is as wide as two letters."""
    if cell_len(text) > _WIDTH:
        return set_cell_size(text, _WIDTH - 1) + "…"
    return set_cell_size(text, _WIDTH)
