"""The command that adds a language to a finished run."""

from pathlib import Path
from typing import Annotated

import typer

from cl2cm.cli.options import (
    Features,
    Json,
    Resume,
    SkipBad,
    TextEncoder,
    VisionEncoder,
    encoders,
    show,
)


def add_language(
    run: Annotated[Path, typer.Argument(help="Finished run, or an off-the-shelf model: hf:MODEL.")],
    manifest: Annotated[
        Path, typer.Argument(help="Manifest with machine translations into the new language.")
    ],
    language: Annotated[str, typer.Option(help="Language to add, such as pt.")],
    out: Annotated[Path, typer.Option(help="Folder of the new run.")],
    text_only: Annotated[
        bool,
        typer.Option("--text-only", help="Train on texts only; no images are needed."),
    ] = False,
    max_regression: Annotated[
        float,
        typer.Option(min=0, help="Largest accepted drop of SumR in a learned language."),
    ] = 1.0,
    evaluate_on: Annotated[
        Path | None,
        typer.Option(help="Manifest with human captions to measure on.  [default: MANIFEST]"),
    ] = None,
    split: Annotated[str, typer.Option(help="Split to measure on.")] = "val",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a setting: train.epochs=3; repeatable."),
    ] = None,
    resume: Resume = False,
    text_encoder: TextEncoder = "",
    vision_encoder: VisionEncoder = "",
    features: Features = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Teach a run or a pretrained model another language.

    The language is learned from machine translations; the image side stays bit-identical. All
    languages are measured before and after; the exit code is 1 if a learned language gets worse by
    more than --max-regression.
    """
    from cl2cm.cli.sources import read_lines
    from cl2cm.data.manifest import Skipped
    from cl2cm.evaluation.before_after import (
        before_after_lines,
        before_and_after,
        check_measurable,
    )
    from cl2cm.methods.new_language import NewLanguage, known_languages, language_config
    from cl2cm.training.loop import train

    changes = [*(settings or ()), *(["data.skip_bad=true"] if skip_bad else [])]
    where = encoders(text_encoder, vision_encoder, features)
    new = NewLanguage(run, language, manifest, text_only, tuple(changes), where)
    examples = read_lines(manifest, Skipped() if skip_bad else None)
    config = language_config(new, examples)
    learned = known_languages(run)
    measured_on = evaluate_on or manifest
    measured = read_lines(measured_on, Skipped() if skip_bad else None) if evaluate_on else examples
    check_measurable(measured, learned, measured_on, split)
    provenance = train(config, out, resume=resume, init_from=run)
    result = before_and_after(
        (run, out),
        measured_on,
        split=split,
        language=language,
        learned=learned,
        max_regression=max_regression,
        skip_bad=skip_bad,
        encoders=where,
    )
    value = {"run": str(out), "from": str(run), "language": language, **result}
    value["seconds"] = provenance["seconds"]
    show(value, as_json=as_json, lines=before_after_lines(result))
    if result["worse"]:
        raise typer.Exit(1)
