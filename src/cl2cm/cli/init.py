"""The command that looks at a folder of one's own and writes what to do."""

from pathlib import Path
from typing import Annotated

import typer

from cl2cm.cli.options import Json, show, words
from cl2cm.errors import ConfigError

EXAMPLE = ("file,caption", "holiday/beach.jpg,two children build a sand castle")


def init(
    folder: Annotated[Path, typer.Argument(help="Folder of your images and videos.")],
    out: Annotated[Path, typer.Option(help="Folder for the recipe and all that is made.")] = Path(
        "my-search"
    ),
    to: Annotated[
        str, typer.Option(help="Languages to translate into, such as de,fr; by default, by engine.")
    ] = "",
    engine: Annotated[
        str, typer.Option(help="Translation engine, as for translate; by default what is here.")
    ] = "",
    language: Annotated[str, typer.Option(help="Language of captions that name none.")] = "en",
    as_json: Json = False,
) -> None:
    """Look at a folder of your own images and write the commands and the recipe for it."""
    from cl2cm.cli.own_data import TARGETS, engines_for, look_at, write_plan

    if out.exists() and not out.is_dir():
        raise ConfigError("--out", expected="a folder", found=str(out), remedy="name another")
    if engine and not words(to):
        raise ConfigError(
            "--engine", expected="--to beside it", found="none", remedy="write --to de,fr"
        )
    found = look_at(folder, language)
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
    missing = [code for code in words(to) if code not in engines]
    commands = write_plan(found, engines, out)
    notes = [f"{line} ({', '.join(found.languages)})"]
    notes += [f"Translations: {code} by {spec}" for code, spec in engines.items()]
    if missing:
        notes.append(
            f"No engine here for {', '.join(missing)}: docs/translation.md, then --engine NAME. "
            "Queries in languages without translations are understood, if less well."
        )
    if not engines:
        notes.append("No translations: the model learns from the captions alone (zero-shot).")
    notes += [f"Written: {out / 'recipe.toml'}, {out / 'commands.sh'}. Next:", ""]
    show(
        {**result, "engines": engines, "recipe": str(out / "recipe.toml"), "commands": commands},
        as_json=as_json,
        lines=[*notes, *(f"  {command}" for command in commands)],
    )


def _without_captions(folder: Path, out: Path) -> list[str]:
    return [
        f"No captions: write {folder / 'captions.csv'}, a line for each image, such as",
        *(f"  {row}" for row in EXAMPLE),
        "and run cl2cm init again; a few hundred captions are enough. Other forms: docs/data.md.",
        "To search now, with a model trained on drawings (photos are found less well):",
        "  cl2cm demo --no-serve",
        f"  cl2cm index cl2cm-demo/runs/cl2cm {folder} {out / 'index'}",
    ]
