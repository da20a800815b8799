"""The command ``init``: inspect a folder and write a recipe and the commands for it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from cl2cm.cli.options import CaptionLanguage, Json, show, words
from cl2cm.errors import ConfigError

EXAMPLE = ("file,caption", "holiday/beach.jpg,two children build a sand castle")


def init(
    folder: Annotated[Path, typer.Argument(help="Folder with your images and videos.")],
    out: Annotated[
        Path, typer.Option(help="Output folder for the recipe, the run and the index.")
    ] = Path("my-search"),
    to: Annotated[
        str,
        typer.Option(
            help="Target languages, such as de,fr; empty: those of the installed engines."
        ),
    ] = "",
    engine: Annotated[
        str, typer.Option(help="Translation engine, as for translate; empty: an installed engine.")
    ] = "",
    language: CaptionLanguage = "en",
    as_json: Json = False,
) -> None:
    """Inspect a folder of images and write a recipe and commands.

    The commands lead from the folder to a search page and are also written to commands.sh.
    """
    from cl2cm.cli.own_data import FEW, TARGETS, engines_for, look_at, write_plan
    from cl2cm.translate.registry import open_translator

    if out.exists() and not out.is_dir():
        raise ConfigError("--out", expected="a folder", found=str(out), remedy="name another")
    if engine and not words(to):
        raise ConfigError(
            "--engine", expected="--to beside it", found="none", remedy="write --to de,fr"
        )
    found = look_at(folder, language)
    for code in words(to) if engine else ():
        open_translator(engine, found.source, code)  # a wrong name shows now, not three steps later
    result = {
        "folder": str(folder),
        "images": found.images,
        "videos": found.videos,
        "with_captions": found.described,
        "languages": list(found.languages),
    }
    line = (
        f"{folder}: {found.images} images, {found.videos} videos, {found.described} with captions"
    )
    if not found.described:
        help_ = _without_captions(folder, out)
        show({**result, "commands": []}, as_json=as_json, lines=[line, *help_])
        return
    wanted = words(to) or [code for code in TARGETS if code != found.source]
    engines = dict.fromkeys(wanted, engine) if engine else engines_for(found.source, wanted)
    commands = write_plan(found, engines, out)
    notes = [
        f"{line} ({', '.join(found.languages)})",
        *_translation_notes(engines, missing=[code for code in words(to) if code not in engines]),
    ]
    if found.described < FEW:
        notes.append(
            f"Few captions: {found.described} items have one, a few hundred teach a model more; "
            "with so few, nothing is measured."
        )
    notes += [f"Written: {out / 'recipe.toml'}, {out / 'commands.sh'}. Next:", ""]
    show(
        {**result, "engines": engines, "recipe": str(out / "recipe.toml"), "commands": commands},
        as_json=as_json,
        lines=[*notes, *(f"  {command}" for command in commands)],
    )


def _translation_notes(engines: Mapping[str, str], missing: Sequence[str]) -> Iterator[str]:
    """Return which engine translates into which languages, and what has no engine."""
    for spec in dict.fromkeys(engines.values()):
        codes = [code for code, by in engines.items() if by == spec]
        yield f"Translations by {spec}: {', '.join(codes)}"
    if missing:
        yield (
            f"No engine here for {', '.join(missing)}: docs/translation.md, then --engine NAME. "
            "Queries in languages without translations are understood, if less well."
        )
    if not engines:
        yield "No translations: the model learns from the captions alone (zero-shot)."


def _without_captions(folder: Path, out: Path) -> list[str]:
    return [
        f"No captions: write {folder / 'captions.csv'}, a line for each image, such as",
        *(f"  {row}" for row in EXAMPLE),
        "and run cl2cm init again; a few hundred captions are enough. Other forms: docs/data.md.",
        "To search now, with a model trained on drawings (photos are found less well):",
        "  cl2cm demo --no-serve",
        f"  cl2cm index cl2cm-demo/runs/cl2cm {folder} {out / 'index'}",
    ]
