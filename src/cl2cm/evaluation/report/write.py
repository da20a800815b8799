"""The implementation of ``cl2cm report``, callable from Python."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cl2cm.errors import ConfigError
from cl2cm.evaluation.alignment.heat_map import resvg
from cl2cm.evaluation.report.blocks import Drawn, Section
from cl2cm.evaluation.report.gather import Choice, Material, gather
from cl2cm.evaluation.report.measurements import likeness
from cl2cm.evaluation.report.page import page
from cl2cm.evaluation.report.sections import sections
from cl2cm.evaluation.report.subjects import find_manifest, read_subjects
from cl2cm.evaluation.report.svg import Figure, standalone
from cl2cm.evaluation.report.tables import Table, csv_table, latex_table
from cl2cm.evaluation.report.thumbnails import Thumbnails
from cl2cm.progress import say
from cl2cm.storage import atomic_file, check_ending, check_writable

LARGE = 15_000_000  # bytes of a page that browsers still open at once


def report(
    runs: Sequence[str],
    out: Path,
    *,
    manifest: Path | None = None,
    choice: Choice | None = None,
    files: Path | None = None,
    png: bool = False,
    media_roots: Sequence[Path] = (),
) -> dict[str, Any]:
    """Measure runs, write the page, and return the object of ``report --json``.

    Args:
        runs: run folders, exports, off-the-shelf models, folders or results of a benchmark.
        out: the page.
        manifest: with human captions; None: the one that the runs were trained on.
        choice: split, languages and number of queries.
        files: folder for the figures and tables as files.
        png: write the figures as PNG, too.
        media_roots: folders with files that may be shown, beside the manifest's own.

    Raises:
        CL2CMError: a run cannot be opened, the manifest not be read, or the page not be written.
    """
    choice = choice or Choice()
    _check_outputs(out, files, png=png)
    subjects = read_subjects(runs, choice.split)
    path = find_manifest(subjects, manifest)
    found = gather(subjects, path, choice)
    roots = [*([path.resolve().parent] if path is not None else []), *media_roots]
    say(f"draw the page and the thumbnails of {len(found.worst)} queries")
    parts = sections(found, Thumbnails(found.examples, roots))
    text = page(_title(found), _facts(found, path), parts, found.missing)
    content = text.encode("utf-8", "replace")
    with atomic_file(out) as file:
        file.write(content)
    if len(content) > LARGE:
        say(f"{out} has {len(content) / 1e6:.0f} MB; show fewer queries with --worst")
    written = _write_files(parts, files, png=png) if files is not None else []
    return _json(found, path) | {"out": str(out), "bytes": len(content), "files": written}


def _check_outputs(out: Path, files: Path | None, *, png: bool) -> None:
    """Refuse what could not be written, before anything is computed."""
    check_ending("--out", out, (".html", ".htm"))
    if png and files is None:
        raise ConfigError(
            "--png", expected="a folder for the images", found="none", remedy="add --files FOLDER"
        )
    check_writable(out)
    if files is not None:
        check_writable(files / "recall.csv")
    if png:
        resvg("report")


def _title(found: Material) -> str:
    return f"Report: {', '.join(found.subjects.labels)}"[:120]


def _facts(found: Material, manifest: Path | None) -> list[str]:
    data = "From the results of a benchmark alone."
    if manifest is not None:
        count = len(found.examples)
        data = f"Measured on the split {found.split} of {manifest}: {count} images and videos."
    facts = [f"{data} Languages: {', '.join(found.languages)}. Source: {found.source}."]
    if found.main is not None:
        facts.append(f"Single queries, alignments and the map are of {found.main.label}.")
    if found.skipped.names:
        facts.append(f"{len(found.skipped.names)} items could not be read and were left out.")
    return facts


def _json(found: Material, manifest: Path | None) -> dict[str, Any]:
    """Return all figures of the page."""
    quality = found.quality
    return {
        "split": found.split,
        "manifest": None if manifest is None else str(manifest),
        "languages": found.languages,
        "runs": [
            {"label": run.label, "run": run.spec or None, "seed": run.seed}
            for run in found.subjects.runs
        ],
        "recall": found.recall,
        "consistency": found.consistency,
        "transfer": [
            {"label": label, "language": code, "correlation": likeness(found.taught[code], matrix)}
            for label, by in found.learned.items()
            for code, matrix in by.items()
            if code in found.taught
        ],
        "quality": None if quality is None else quality._asdict(),
        "worst": found.worst,
        "missing": found.missing,
        "skipped": found.skipped.names,
    }


def _write_files(parts: Sequence[Section], folder: Path, *, png: bool) -> list[str]:
    """Write each figure as SVG, each table as CSV and LaTeX; return their paths."""
    written = []
    for block in (block for part in parts for block in part.blocks):
        if isinstance(block, Table):
            contents = {
                f"{block.name}.csv": csv_table(block).encode("utf-8", "replace"),
                f"{block.name}.tex": latex_table(block).encode("utf-8", "replace"),
            }
        elif isinstance(block, Figure | Drawn):
            svg = block.svg if isinstance(block, Drawn) else standalone(block)
            contents = {f"{block.name}.svg": svg.encode("utf-8", "replace")}
            if png:
                drawn = resvg("report").svg_to_bytes(svg_string=svg, zoom=2, background="#ffffff")
                contents[f"{block.name}.png"] = bytes(drawn)
        else:
            continue
        for name, content in contents.items():
            with atomic_file(folder / name) as file:
                file.write(content)
            written.append(str(folder / name))
    return written


def report_lines(result: dict[str, Any]) -> list[str]:
    """Return a result for people."""
    lines = [f"{result['out']}: {result['bytes'] / 1e6:.1f} MB"]
    if result["files"]:
        lines.append(f"{len(result['files'])} files in {Path(result['files'][0]).parent}")
    lines += [f"not shown: {text}" for texts in result["missing"].values() for text in texts]
    return lines
