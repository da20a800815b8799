"""The items that a command reads from a folder or a manifest, and what it skips."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from cl2cm.data.manifest import Skipped, read_manifest
from cl2cm.data.scan import LeftOut, Scan, check_name, survey_folder
from cl2cm.errors import ConfigError, ManifestError, MediaError, MissingExtraError
from cl2cm.media.kinds import PACKAGES, has_extra
from cl2cm.progress import say
from cl2cm.types import Example

_NAMED = 20  # broken items in a message


def is_lenient(source: Path, *, skip_bad: bool, strict: bool) -> bool:
    """Return whether a command continues after a broken item: in a folder, or if asked to.

    Raises:
        ConfigError: it is asked for both.
    """
    if skip_bad and strict:
        raise ConfigError(
            "--skip-bad and --strict", expected="one of them", found="both", remedy="remove one"
        )
    return skip_bad or (source.is_dir() and not strict)


def read_source(
    source: Path,
    *,
    skipped: Skipped | None = None,
    exclude: Sequence[str] = (),
) -> Scan:
    """Return the items of a folder of images and videos, or of a manifest.

    Args:
        source: folder or manifest.
        skipped: gets what does not fit; None: that is an error.
        exclude: patterns of files and folders to leave out of a folder.

    Raises:
        MediaError: no such folder, one without images, or with a folder in it that cannot be read.
        ManifestError: a manifest that does not fit the format, or is empty.
        MissingExtraError: files need an extra that is not installed, without ``skipped``.
        ConfigError: ``exclude`` and a manifest.
    """
    if source.is_dir():
        found = survey_folder(source, exclude=exclude)
        for extra in found.left_out.extras.values() if skipped is None else ():
            raise MissingExtraError(PACKAGES[extra], extra)
        if line := found.left_out.line():
            say(line)
        return found
    if not source.exists() and source.suffix not in (".jsonl", ".gz"):
        raise MediaError(
            str(source),
            expected="a folder of images and videos, or a manifest",
            found="no such file or folder",
            remedy="correct the path",
        )
    if exclude:
        raise ConfigError(
            "--exclude", expected="a folder", found=str(source), remedy="remove lines from the file"
        )
    examples = read_lines(source, skipped)
    if not examples:
        raise ManifestError(
            str(source), expected="at least one item", found="none", remedy="check the file"
        )
    return Scan(examples if skipped is None else _readable(examples, skipped), LeftOut())


def _readable(examples: list[Example], skipped: Skipped) -> list[Example]:
    """Return examples without the videos, where these cannot be read here."""
    if has_extra("video") or all(example.kind != "video" for example in examples):
        return examples
    for example in examples:
        if example.kind == "video":
            skipped.item(example.id, MissingExtraError(PACKAGES["video"], "video"))
    return [example for example in examples if example.kind != "video"]


def read_lines(manifest: Path, skipped: Skipped | None) -> list[Example]:
    """Return the examples of a manifest, whatever its source language; see `read_source`."""
    return list(
        read_manifest(
            manifest,
            source=None,
            skip_bad=skipped is not None,
            on_skip=skipped.item if skipped is not None else None,
        )
    )


def with_names(examples: list[Example], skipped: Skipped | None) -> list[Example]:
    """Return examples whose names are valid text; skip the others, or raise an error."""
    named = []
    for example in examples:
        try:
            check_name(example)
        except MediaError as error:
            if skipped is None:
                raise
            skipped.item(example.id, error)
        else:
            named.append(example)
    return named


def left_out_json(skipped: Skipped, left_out: LeftOut) -> dict[str, Any]:
    """Return the part of a JSON result that describes skipped items.

    ``skipped``: names of broken items, and of images and videos of formats that are not read
    here; ``broken``: how many of them are broken; ``left_out``: how many files of other formats
    there are, by suffix.
    """
    return {
        "skipped": [*skipped.names, *left_out.media],
        "broken": len(skipped.names),
        "left_out": dict(left_out.suffixes.most_common()),
    }


def finish(result: Mapping[str, Any], *, skip_bad: bool) -> None:
    """End a command that went on after broken items: with exit code 1, unless these are expected.

    Raises:
        typer.Exit: there are some, without ``skip_bad``.
    """
    if not result["broken"] or skip_bad:
        return
    names = result["skipped"][: result["broken"]]
    rest = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    say(
        f"{len(names):,} could not be read and were skipped: {', '.join(names[:_NAMED])}{rest}; "
        "everything else was done. Accept this with --skip-bad, or stop at the first with --strict"
    )
    raise typer.Exit(1)
