"""Commands that measure finished runs on a manifest: one run, or two against each other."""

from pathlib import Path
from typing import Annotated

import typer

from cl2cm.cli.options import (
    Features,
    Json,
    SkipBad,
    TextEncoder,
    VisionEncoder,
    encoders,
    for_both,
    show,
    words,
)


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    manifest: Annotated[Path, typer.Argument(help="Manifest with human captions.")],
    split: Annotated[str, typer.Option(help="Split to report.")] = "test",
    languages: Annotated[str, typer.Option(help="Languages, such as de,fr; empty: all.")] = "",
    trec: Annotated[
        Path | None,
        typer.Option(help="Write ranked lists for trec_eval to this file; qrels go beside it."),
    ] = None,
    depth: Annotated[
        int, typer.Option(min=0, help="Items in each list of --trec; 0: the whole gallery.")
    ] = 0,
    per_query: Annotated[
        Path | None,
        typer.Option(help="Write ranks of each query to this file, .jsonl or .csv."),
    ] = None,
    top: Annotated[
        int, typer.Option(min=0, help="Best items of each query in --per-query; 0: all.")
    ] = 10,
    leak_check: Annotated[
        bool, typer.Option("--leak-check/--no-leak-check", help="Look for pictures in two splits.")
    ] = True,
    text_encoder: TextEncoder = "",
    vision_encoder: VisionEncoder = "",
    features: Features = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Measure a run: R@1, R@5, R@10, median rank, mAP and SumR, per language."""
    from cl2cm.cli.evaluation import evaluate_manifest, evaluation_lines

    result = evaluate_manifest(
        run,
        manifest,
        split=split,
        languages=words(languages),
        trec=trec,
        depth=depth,
        per_query=per_query,
        top=top,
        leak_check=leak_check,
        skip_bad=skip_bad,
        encoders=encoders(text_encoder, vision_encoder, features),
    )
    show(result, as_json=as_json, lines=evaluation_lines(result))


def compare(
    run_a: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder A.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder B.")],
    manifest: Annotated[Path, typer.Argument(help="Manifest with human captions.")],
    split: Annotated[str, typer.Option(help="Split to report.")] = "test",
    languages: Annotated[str, typer.Option(help="Languages, such as de,fr; empty: all.")] = "",
    features: Annotated[
        list[Path] | None,
        typer.Option(help="As of evaluate, for both runs; given twice, for A and for B."),
    ] = None,
    text_encoder: Annotated[
        list[str] | None, typer.Option(help="As of evaluate; given twice, for A and for B.")
    ] = None,
    vision_encoder: Annotated[
        list[str] | None, typer.Option(help="As of evaluate; given twice, for A and for B.")
    ] = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Test whether two runs differ: SumR per language, paired bootstrap, Holm over languages."""
    from cl2cm.evaluation.compare import compare as compare_runs
    from cl2cm.evaluation.compare import comparison_lines

    texts = for_both("--text-encoder", text_encoder, "")
    visions = for_both("--vision-encoder", vision_encoder, "")
    stored = for_both("--features", features, None)
    where = [encoders(*one) for one in zip(texts, visions, stored, strict=True)]
    result = compare_runs(
        (run_a, run_b),
        manifest,
        split=split,
        languages=words(languages),
        skip_bad=skip_bad,
        encoders=(where[0], where[1]),
    )
    show(result, as_json=as_json, lines=comparison_lines(result))
