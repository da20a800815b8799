"""From a folder or a manifest to an index: find the files, encode them, write vectors and items."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from cl2cm.data.examples import examples_of
from cl2cm.errors import ConfigError, ManifestError, MediaError, OnSkip
from cl2cm.index import BackendOptions, Index
from cl2cm.index.layout import refuse_other_folder
from cl2cm.index.update.encode import encode_batches
from cl2cm.media.dates import date_taken
from cl2cm.progress import Advance
from cl2cm.types import Example, Floats, Item, StrPath, VisualModel


def confine(
    examples: Iterable[Example], roots: Sequence[Path], on_skip: OnSkip | None = None
) -> list[Example]:
    """Return examples whose resolved files are in folders that the user named.

    A manifest may come from anyone, and its paths may lead anywhere.

    Args:
        examples: from a manifest.
        roots: folders.
        on_skip: told id and error of each example whose file is elsewhere, which is then left out.

    Raises:
        MediaError: a file elsewhere, without ``on_skip``.
    """
    real = {root.resolve(): root.absolute() for root in roots}
    kept = []
    for example in examples:
        media = example.media
        path = None if media is None else media.path
        try:
            inside = None if path is None else _inside(path, real)
        except MediaError as error:
            if on_skip is None:
                raise
            on_skip(example.id, error)
            continue
        if media is None or inside is None or inside == path:
            kept.append(example)
        else:
            kept.append(example.with_media(replace(media, path=inside)))
    return kept


def _inside(path: Path, real: Mapping[Path, Path]) -> Path:
    """Return the file that a path means, in one of some folders by their real paths."""
    try:
        target = path.resolve()
    except (OSError, RuntimeError, ValueError):  # links in a circle, or a null character
        target = path.absolute()
    for root, named in real.items():
        if target.is_relative_to(root):
            return named / target.relative_to(root)
    raise MediaError(
        str(path),
        expected=f"a file in {' or '.join(str(root) for root in real.values())}",
        found=f"the path {target}" if target != path else "one elsewhere",
        remedy=f"if you trust the manifest, add --media-root {target.parent}",
    )


def build_index(
    model: VisualModel,
    examples: Iterable[Example] | StrPath,
    out: StrPath,
    *,
    run: StrPath | None = None,
    vectors: Floats | None = None,
    batch_size: int = 256,
    backend: BackendOptions | None = None,
    roots: Sequence[Path] | None = None,
    on_skip: OnSkip | None = None,
    progress: Advance | None = None,
) -> Index:
    """Encode images and videos and write their index.

    Args:
        model: encodes them.
        examples: from `scan_folder` or `read_manifest`; or the folder or manifest itself.
        out: the index folder; an index that is there is replaced once the new one is complete.
        run: the run or export that a search loads; by default the one that ``model`` was loaded
            from.
        vectors: unit vectors, float32 [N, D], if they are known already; nothing is encoded.
        batch_size: images given to the model at once.
        backend: what the index is searched with, where that should change.
        roots: folders that the files are in; see `Index.create`.
        on_skip: told id and error of each image that cannot be read, which is then left out;
            without it the first one is an error.
        progress: called with the number of examples just done.

    Raises:
        MediaError: an image that cannot be read, without ``on_skip``.
        ManifestError: an id twice.
        VectorIndexError: nothing to index, or a folder of something else at ``out``.
        ConfigError: no ``run``, and a model that was not loaded from one.

    Example:
        >>> import cl2cm
        >>> index = cl2cm.build_index(cl2cm.load("run"), "images", "new-index")
        >>> len(index)
        24
    """
    out, run = Path(out), _run_of(model, run)
    examples = examples_of(examples)
    check_examples(examples)
    refuse_other_folder(out.resolve())  # before the hours of work, not after them
    if vectors is None:
        kept: list[tuple[Example, Floats]] = []
        for done, batch in encode_batches(model, examples, batch_size, on_skip):
            kept += batch
            if progress:
                progress(done)
        examples = [example for example, _ in kept]
        vectors = np.array([vector for _, vector in kept], np.float32).reshape(-1, model.dim)
    items = [item_of(example) for example in examples]
    asked = asdict(backend or BackendOptions())
    return Index.create(out, vectors, items, model=model.fingerprint, run=run, roots=roots, **asked)


def _run_of(model: VisualModel, run: StrPath | None) -> StrPath:
    known = getattr(model, "run", None) if run is None else run
    if known is None:
        raise ConfigError(
            "run",
            expected="the run that the model was loaded from",
            found="a model made in memory",
            remedy="give run=",
        )
    return known


def item_of(example: Example, dates: Mapping[str, datetime | None] | None = None) -> Item:
    """Return the item of an example, with the size and the date of its file.

    Args:
        example: with a file, or with features.
        dates: id → when the image was taken; None: the file is asked.
    """
    path = example.path
    item = Item(
        example.id,
        str(path.absolute()) if path else "",
        example.start,
        example.end,
        example.captions,
        example.kind or "image",
    )
    if path is None or not path.is_file():
        return item
    file = path.stat()
    if dates is not None:
        taken = dates.get(example.id)
    else:
        taken = date_taken(path) if example.kind == "image" else None
    seconds = _seconds(taken)
    modified = file.st_mtime if seconds is None else seconds
    return replace(item, bytes=file.st_size, modified=modified)


def _seconds(taken: datetime | None) -> float | None:
    """Return the seconds of the epoch of a local time; None of one that the system cannot tell."""
    try:
        return None if taken is None else taken.timestamp()
    except (OverflowError, OSError, ValueError):
        return None


def check_examples(examples: Sequence[Example]) -> None:
    """Refuse two examples of one id.

    Raises:
        ManifestError: there are.
    """
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise ManifestError(
                f"item {example.id!r}",
                expected="a unique id for each item",
                found="the same id twice",
                remedy="give each item its own id",
            )
        seen.add(example.id)
