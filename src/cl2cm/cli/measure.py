"""Commands that evaluate one finished run, or compare two, on a manifest."""

from pathlib import Path
from typing import Annotated

import typer

from cl2cm.cli.options import (
    EvaluatedSplit,
    Features,
    Json,
    Languages,
    LeakCheck,
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
    split: EvaluatedSplit = "test",
    languages: Languages = "",
    trec: Annotated[
        Path | None,
        typer.Option(help="Write ranked lists for trec_eval to this file, and qrels beside it."),
    ] = None,
    depth: Annotated[
        int, typer.Option(min=0, help="Length of each list in --trec; 0: the whole gallery.")
    ] = 0,
    per_query: Annotated[
        Path | None,
        typer.Option(help="Write the ranks of each query to this .jsonl or .csv file."),
    ] = None,
    top: Annotated[
        int, typer.Option(min=0, help="Number of best items that --per-query lists; 0: all.")
    ] = 10,
    dim: Annotated[
        int,
        typer.Option(
            help="Measure with the first N dimensions of each vector, for a run trained with "
            "match.smallest_dim; 0: all.",
            metavar="N",
        ),
    ] = 0,
    leak_check: LeakCheck = True,
    text_encoder: TextEncoder = "",
    vision_encoder: VisionEncoder = "",
    features: Features = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Measure the retrieval quality of a run, per language.

    The result has R@1, R@5, R@10, median rank and mAP in both directions, and SumR.
    """
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
        dim=dim,
    )
    show(result, as_json=as_json, lines=evaluation_lines(result))


def compare(
    run_a: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder A.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder B.")],
    manifest: Annotated[Path, typer.Argument(help="Manifest with human captions.")],
    split: EvaluatedSplit = "test",
    languages: Languages = "",
    features: Annotated[
        list[Path] | None,
        typer.Option(help="Stored features, as for evaluate; pass twice for A and B."),
    ] = None,
    text_encoder: Annotated[
        list[str] | None,
        typer.Option(help="Text encoder, as for evaluate; pass twice for A and B."),
    ] = None,
    vision_encoder: Annotated[
        list[str] | None,
        typer.Option(help="Vision encoder, as for evaluate; pass twice for A and B."),
    ] = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Test whether two runs differ in retrieval quality.

    Reports SumR per language with a paired bootstrap, corrected by Holm over the languages.
    """
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
