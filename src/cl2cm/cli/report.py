"""The command that shows runs and benchmarks as a page."""

from pathlib import Path
from typing import Annotated

import typer

from cl2cm.cli.options import (
    Features,
    Json,
    Languages,
    Roots,
    SkipBad,
    TextEncoder,
    VisionEncoder,
    encoders,
    show,
    words,
)


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Run folders, or folders or JSON results of cl2cm bench.", metavar="RUN"
        ),
    ],
    out: Annotated[Path, typer.Option(help="Write the page to this file.")] = Path("report.html"),
    manifest: Annotated[
        Path | None,
        typer.Option(help="Manifest with human captions.  [default: the one of the training]"),
    ] = None,
    split: Annotated[str, typer.Option(help="Split to report.")] = "test",
    languages: Languages = "",
    worst: Annotated[int, typer.Option(min=0, max=1000, help="Number of worst queries.")] = 100,
    files: Annotated[
        Path | None,
        typer.Option(help="Write figures as SVG and tables as CSV and LaTeX to this folder."),
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="With --files: figures as PNG, too.")] = False,
    media_root: Roots = None,
    text_encoder: TextEncoder = "",
    vision_encoder: VisionEncoder = "",
    features: Features = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Write an HTML page about runs: recall, curves, images, maps.

    It also shows word alignments, similarities within a batch and the worst queries. The page
    works offline: open the file in a browser.
    """
    from cl2cm.evaluation.report.gather import Choice
    from cl2cm.evaluation.report.write import report as write_report
    from cl2cm.evaluation.report.write import report_lines

    choice = Choice(
        split=split,
        languages=tuple(words(languages)),
        worst=worst,
        skip_bad=skip_bad,
        encoders=encoders(text_encoder, vision_encoder, features),
    )
    result = write_report(
        runs,
        out,
        manifest=manifest,
        choice=choice,
        files=files,
        png=png,
        media_roots=media_root or (),
    )
    show(result, as_json=as_json, lines=report_lines(result))
