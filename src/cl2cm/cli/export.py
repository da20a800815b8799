"""The command that writes a run as ONNX graphs."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cl2cm.cli.options import Json, Model, show, words
from cl2cm.errors import ConfigError


def export(
    run: Model,
    out: Annotated[Path, typer.Argument(help="Output folder.")],
    precision: Annotated[
        str,
        typer.Option(
            help="Precision of the text side: fp32, fp16 or int8; or several, such as fp32,int8, "
            "each in its own folder.",
        ),
    ] = "fp32",
    vision_precision: Annotated[
        str,
        typer.Option(help="Precision of the vision side; if not fp32, build the index again."),
    ] = "fp32",
    dim: Annotated[
        int,
        typer.Option(
            help="Keep the first N dimensions of each vector, for a run trained with "
            "match.smallest_dim; 0: all.",
            metavar="N",
        ),
    ] = 0,
    manifest: Annotated[
        Path | None, typer.Option(help="Measure the loss in recall on this manifest.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the manifest.")] = "val",
    layout: Annotated[
        str,
        typer.Option(
            help="onnx, or hf: a Hugging Face folder with a model card, a text side for "
            "sentence-transformers, and the ONNX graphs in its folder cl2cm.",
        ),
    ] = "onnx",
    as_json: Json = False,
) -> None:
    """Write a run as ONNX graphs, or as a Hugging Face folder.

    ONNX graphs run without torch. An export whose vectors differ from the run is discarded.
    """
    if layout not in ("onnx", "hf"):
        raise ConfigError(
            "--layout", expected="onnx or hf", found=repr(layout), remedy="choose one"
        )
    precisions = words(precision)
    if not precisions:
        raise ConfigError(
            "--precision", expected="fp32, fp16 or int8", found="nothing", remedy="leave it out"
        )
    from cl2cm.data.examples import examples_of

    examples = [] if manifest is None else examples_of(manifest, split=split)
    settings: dict[str, Any] = {
        "precisions": precisions,
        "vision_precision": vision_precision,
        "dim": dim,
        "examples": examples,
        "recall": functools.partial(_sums_of_recalls, examples) if examples else None,
    }
    result: dict[str, Any] = {"run": str(run)}
    if layout == "hf":
        from cl2cm.export.hub.folder import export_hub

        hub = export_hub(run, out, **settings)
        result["exports"] = [_json(hub.export)]
        result["sentence_transformers"] = {"difference": hub.difference}
        lines = [
            *_lines(hub.export),
            f"  its text side for sentence-transformers differs by at most {hub.difference:.1e}; "
            f"to publish it: hf upload OWNER/NAME {out}",
        ]
    else:
        from cl2cm.export.write import export_run

        made = export_run(run, out, **settings)
        result["exports"] = [_json(one) for one in made]
        lines = [line for one in made for line in _lines(one)]
    show(result, as_json=as_json, lines=lines)


def _sums_of_recalls(examples: Sequence[Any], model: Any) -> dict[str, float]:  # noqa: ANN401
    """Return the SumR of a run or an export in each language of the examples."""
    from cl2cm.evaluation.evaluate import evaluate

    return {code: scores["SumR"] for code, scores in evaluate(model, examples).items()}


def _json(one: Any) -> dict[str, Any]:  # noqa: ANN401 - an Exported, which is not imported yet
    return {
        "path": str(one.path),
        "precision": one.precision,
        "bytes": one.size,
        "parity": one.parity._asdict(),
        "recall": one.recall,
    }


def _lines(one: Any) -> list[str]:  # noqa: ANN401 - an Exported
    parity = one.parity
    lines = [
        f"{one.path}: {one.precision}, {one.size / 1e6:.0f} MB; differs from the run by at most "
        f"{parity.text_difference:.1e} on {parity.texts} texts and {parity.image_difference:.1e} "
        f"on {parity.images} images"
    ]
    if one.recall:
        losses = {name: row["loss"] for name, row in one.recall.items()}
        mean = sum(losses.values()) / len(losses)
        each = ", ".join(f"{name} {loss:.2f}" for name, loss in losses.items())
        lines.append(f"  loss of SumR: mean {mean:.2f} ({each})")
    return lines
