"""The command that lists off-the-shelf models, and the same list where a command lacks a model."""

from pathlib import Path
from typing import Any

from cl2cm.cli.options import Json, show
from cl2cm.errors import ConfigError
from cl2cm.progress import say
from cl2cm.types import is_model_spec


def models(as_json: Json = False) -> None:
    """List models that need no training: what each is for, how large it is, how to get it."""
    found = known_models()
    show({"models": found}, as_json=as_json, lines=model_lines(found))


def known_models() -> list[dict[str, Any]]:
    """The models that we name, as ``models --json`` prints them."""
    from cl2cm.encode.clip.catalogue import MODELS

    return [
        {
            "model": model.spec,
            "use": model.use,
            "languages": model.languages,
            "dim": model.dim,
            "megabytes": model.megabytes,
            "licence": model.licence,
            "here": model.here,
            "note": model.note,
        }
        for model in MODELS
    ]


def model_lines(found: list[dict[str, Any]]) -> list[str]:
    """The list for people."""
    lines = ["Models that need no training:", ""]
    for model in found:
        lines.append(f"  {model['model']}")
        lines.append(f"      {model['use']}; languages: {model['languages']}")
        state = "on this machine" if model["here"] else f"download {_size(model['megabytes'])}"
        lines.append(f"      {state}, {model['dim']} dimensions, licence: {model['licence']}")
        if model["note"]:
            lines.append(f"      {model['note']}")
    return [
        *lines,
        "",
        "Use one:     cl2cm index MODEL FOLDER INDEX --allow-hub    (fetches it once)",
        "Or fetch it: hf download OWNER/NAME    (both names of a pair A+B, one after the other)",
        "A folder:    cl2cm index hf:./MODEL_FOLDER FOLDER INDEX    (CLIP, SigLIP, open_clip, ...)",
        "Your own:    cl2cm train, where there are captions: see docs/models.md",
    ]


def _size(megabytes: int) -> str:
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes} MB"


def need_model(first: str, second: Path | None) -> ConfigError:
    """Return the error of ``cl2cm index`` with too few names; where the model is missing, tell all.

    Args:
        first: the first name of the command line.
        second: the second, if there is one.
    """
    if is_model_spec(first) or (Path(first) / "contract.json").is_file():
        given = f"{first} and {second}" if second else first
        return ConfigError(
            "cl2cm index",
            expected="a model, a folder of images and an index to make",
            found=f"no {'index' if second else 'folder'} behind {given}",
            remedy=f"write cl2cm index {first} {second or 'FOLDER'} INDEX",
        )
    for line in model_lines(known_models()):
        say(line)
    example = f"cl2cm index {known_models()[0]['model']} {first} {second or 'INDEX'} --allow-hub"
    return ConfigError(
        "cl2cm index",
        expected="a model before the folder",
        found=f"none before {first}",
        remedy=f"choose one of those above, such as: {example}",
    )
