"""Which files an index may lead to: where its images and videos are, and its run.

The paths of items are untrusted. So a file is looked at only below a root: a folder that the user
named when the index was made (they are in ``index.json``, under the user's seal), or names now
(allowed.py), or the index folder itself.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

from cl2cm.errors import MediaError, VectorIndexError
from cl2cm.index.allowed import Allowed
from cl2cm.index.metadata import is_ours
from cl2cm.storage import open_confined
from cl2cm.types import Item, StrPath, is_model_spec


def roots_of(folder: Path, metadata: Mapping[str, Any], allowed: Allowed) -> tuple[Path, ...]:
    """Return the folders in which the files of an index may be read.

    Args:
        folder: of the index.
        metadata: its ``index.json``.
        allowed: what the user says now.
    """
    found = [folder, *(Path(os.path.abspath(root)) for root in allowed.roots)]  # noqa: PTH100
    if is_ours(metadata):
        for root in metadata.get("roots", ()):
            found += _candidates(folder, metadata, root)
    return tuple(dict.fromkeys(found))


def media_path(
    folder: Path, metadata: Mapping[str, Any], item: Item, roots: Sequence[Path]
) -> Path:
    """Return the absolute path of an item's file, which may have gone since.

    It is beside the index if the two moved together, else where it was. Paths outside the roots are
    not accessed.

    Raises:
        VectorIndexError: the item was indexed from features, without a file.
    """
    if not item.path:
        raise VectorIndexError(
            f"item {item.id!r}",
            expected="an image or video",
            found="only features",
            remedy="index the images themselves to see them",
        )
    here, *then = _candidates(folder, metadata, item.path)
    for candidate in (here, *then):
        if any(candidate.is_relative_to(root) for root in roots) and candidate.exists():
            return candidate
    return here


def open_media(item: Item, path: Path, roots: Sequence[Path]) -> BufferedReader:
    """Open an item's file, a regular file below a root that no link leads to.

    Raises:
        MediaError: there is none; the text does not tell whether it exists.
    """
    try:
        return open_confined(path, roots)
    except FileNotFoundError as error:
        raise MediaError(
            f"item {item.id!r}",
            expected="a file in a folder of media that you allowed",
            found="none",
            remedy="restore the file, index again, or name its folder with --media-root",
        ) from error


def folders_of(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Return the folders of some files, without those within another of them."""
    kept: list[Path] = []
    for folder in sorted({path.parent for path in paths}, key=lambda path: path.parts):
        if not kept or not folder.is_relative_to(kept[-1]):
            kept.append(folder)
    return tuple(kept)


def portable_path(path: str, folder: Path) -> str:
    """Make a path beside or beneath the index relative: the two move together."""
    home = folder.parent
    beneath = home != Path(home.anchor) and f"{path}{os.sep}".startswith(f"{home}{os.sep}")
    return os.path.relpath(path, folder) if beneath else path


def run_paths(run: StrPath, folder: Path) -> dict[str, str]:
    """Return where a run is, or which off-the-shelf model it is, as ``index.json`` holds it."""
    if is_model_spec(run):
        return {"spec": str(run)}
    absolute = Path(run).absolute()
    try:
        relative = os.path.relpath(absolute, folder)
    except ValueError:  # another drive, on Windows
        relative = str(absolute)
    return {"absolute": str(absolute), "relative": relative}


def run_of(folder: Path, metadata: Mapping[str, Any]) -> StrPath:
    """Return the run that made an index: beside it if it moved along, else where it was.

    Of an index that an off-the-shelf model made, the model's spec.

    Raises:
        VectorIndexError: the run or model folder has moved or is gone; somebody else's index, whose
            run is not beside it, or which names an off-the-shelf model.
    """
    paths: dict[str, str] = metadata["run"]
    if "spec" in paths:
        return _own_spec(folder, metadata, paths["spec"])
    beside = Path(os.path.normpath(folder / paths["relative"]))
    if is_ours(metadata):
        if beside.exists():
            return beside
        if not (known := Path(paths["absolute"])).exists():
            raise _gone(folder, str(known))
        return known
    home = folder.parent
    if home != Path(home.anchor):
        for at in (beside, Path(os.path.normpath(paths["absolute"]))):
            if at.is_relative_to(home) and at.resolve().is_relative_to(home.resolve()):
                return at
    raise VectorIndexError(
        str(folder),
        expected="its run beside it, since you did not make the index, or with an earlier version",
        found=repr(paths["absolute"]),
        remedy="if you trust that run, pass it with --run",
    )


def _own_spec(folder: Path, metadata: Mapping[str, Any], spec: str) -> str:
    """Return the model's spec if the user named it, when the index was made."""
    if not is_ours(metadata):
        raise VectorIndexError(
            str(folder),
            expected="a model that you name, since you did not make the index",
            found=repr(spec),
            remedy=f"if you trust that model, pass it: --run {spec}",
        )
    for name in spec.removeprefix("hf:").split("+"):
        if Path(name).is_absolute() and not Path(name).exists():
            raise _gone(folder, name)
    return spec


def _gone(folder: Path, run: str) -> VectorIndexError:
    return VectorIndexError(
        str(folder),
        expected=f"its run or model in {run}",
        found="no such folder",
        remedy="if it was moved, pass its new path with --run (in Python: run=)",
    )


def _candidates(folder: Path, metadata: Mapping[str, Any], path: str) -> list[Path]:
    """Return where a stored path may lead: from where the index is, and from where it was made."""
    made = Path(metadata["folder"])
    bases = [folder] if Path(path).is_absolute() else [folder, made]
    return list(dict.fromkeys(Path(os.path.normpath(base / path)) for base in bases))
