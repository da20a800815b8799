"""The implementation of ``cl2cm init``: what a folder contains, and the commands it writes.

The commands are in the order in which one types them: weights, manifest, translations, training,
evaluation, index, search, page.
"""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from cl2cm.data.readers.folder import has_captions, read
from cl2cm.data.readers.reading import Options
from cl2cm.data.scan import scan_folder
from cl2cm.errors import CL2CMError
from cl2cm.storage import atomic_file
from cl2cm.translate.registry import open_translator
from cl2cm.types import Example

RECIPES = ("own",)  # names that ``cl2cm train`` knows without a file
ENGINES = ("apertium", "bergamot")  # that need no folder of weights
CHAINS = {("en", "fr"): "apertium:en-ca-fr", ("en", "it"): "apertium:en-ca-it"}
FEW = 50  # captioned items; of fewer there may be none to validate or test with
TARGETS = ("es", "ca", "pt", "fr", "it", "de")  # tried where the user names no language
# Training overfits after a number of steps, not of epochs (docs/results.md, small own data).
BATCH, STEPS, TEACHER_STEPS, LEAST_EPOCHS = 256, 40, 200, 5


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder contains.

    images, videos: their numbers; languages: of the captions, the most frequent first; described:
    items that have a caption; source: the language to train from; captions: in that language.
    """

    folder: Path
    images: int
    videos: int
    described: int
    languages: tuple[str, ...]
    source: str
    captions: int = 0


def look_at(folder: Path, language: str) -> Found:
    """Return what a folder contains.

    Args:
        folder: with images or videos, and a table of captions or texts beside them.
        language: of captions that name none.

    Raises:
        MediaError: no such folder, or neither image nor video in it.
        DatasetError: the captions do not fit.
    """
    items = scan_folder(folder)
    videos = sum(item.kind == "video" for item in items)
    described: Sequence[Example] = ()
    source = language
    if has_captions(folder):
        data = read(folder, Options(language=language))
        described, source = data.examples, data.source
    counts: dict[str, int] = {}
    for example in described:
        for code, captions in example.captions.items():
            counts[code] = counts.get(code, 0) + len(captions)
    languages = tuple(sorted(counts, key=lambda code: (-counts[code], code)))
    images = len(items) - videos
    return Found(folder, images, videos, len(described), languages, source, counts.get(source, 0))


def engines_for(source: str, targets: Iterable[str]) -> dict[str, str]:
    """Return an installed engine for each target language that has one."""
    chosen: dict[str, str] = {}
    for target in targets:
        for spec in (*ENGINES, CHAINS.get((source, target), "")):
            if spec and target != source and _opens(spec, source, target):
                chosen[target] = spec
                break
    return chosen


def _opens(spec: str, source: str, target: str) -> bool:
    try:
        open_translator(spec, source, target)
    except CL2CMError:
        return False
    return True


def commands(found: Found, engines: dict[str, str], out: Path) -> list[str]:
    """Return the commands that lead from a folder to a search page.

    Args:
        found: what is in the folder.
        engines: target language → engine; none: the model learns from the captions alone.
        out: folder of everything that is made.
    """
    prepared, translated = out / "data" / "manifest.jsonl", out / "translated.jsonl"
    manifest = translated if engines else prepared
    lines: list[list[object]] = [
        ["doctor", "--install-weights"],
        ["prepare", "folder", found.folder, out / "data", "--language", found.source],
        *_translate(engines, found.source, prepared, translated),
        ["train", out / "recipe.toml", "--out", out / "run"],
        *([["evaluate", out / "run", manifest]] if found.described >= FEW else []),
        ["index", out / "run", found.folder, out / "index", "--skip-bad"],  # or the script ends
        ["search", out / "index", "a dog in the snow"],
        ["serve", out / "index"],
    ]
    return [shlex.join(["cl2cm", *map(str, line)]) for line in lines]


def _translate(
    engines: dict[str, str], source: str, manifest: Path, out: Path
) -> Iterator[list[object]]:
    for spec in dict.fromkeys(engines.values()):
        targets = ",".join(target for target, engine in engines.items() if engine == spec)
        line: list[object] = ["translate", manifest, "--to", targets, "--engine", spec]
        yield [*line, "--source", source, "--out", out]
        manifest = out


def packaged(name: str) -> Path:
    """Return the path of a recipe in the package."""
    return Path(str(files("cl2cm") / "recipes" / f"{name}.toml"))


def epochs_for(captions: int, steps: int) -> int:
    """Return the epochs that make about so many steps of the packaged recipe's batches."""
    per_epoch = max(1, captions // BATCH)
    return max(LEAST_EPOCHS, round(steps / per_epoch))


def write_plan(found: Found, engines: dict[str, str], out: Path) -> list[str]:
    """Write ``recipe.toml`` and ``commands.sh`` into a folder; returns the commands.

    Raises:
        StorageError: the disk is full, read-only or closed to us.
    """
    text = packaged("own").read_text(encoding="utf-8")
    manifest = "translated.jsonl" if engines else "data/manifest.jsonl"
    text = text.replace('manifest = ""', f'manifest = "{manifest}"')
    text = text.replace('source = "en"', f'source = "{found.source}"')
    for key, steps in (("epochs = 40", TEACHER_STEPS), ("epochs = 8", STEPS)):
        text = text.replace(key, f"epochs = {epochs_for(found.captions, steps)}")
    if not engines:
        text = text.replace('method = "cl2cm"', 'method = "zero-shot"')
    lines = commands(found, engines, out)
    script = "\n".join(
        ["#!/bin/sh", "# Made by cl2cm init: from captions to search.", "set -e", ""]
    )
    script += "\n".join(lines) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    for name, content in (("recipe.toml", text), ("commands.sh", script)):
        with atomic_file(out / name) as file:
            file.write(content.encode())
    return lines
