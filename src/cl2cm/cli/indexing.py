"""The implementation of ``cl2cm index``, and how commands open an index."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cl2cm.cli.sources import left_out_json, read_source
from cl2cm.data.manifest import Skipped
from cl2cm.data.scan import LeftOut
from cl2cm.errors import OnSkip, VectorIndexError
from cl2cm.export.contract import read_contract
from cl2cm.export.load import AnyVisual, load, load_visual, opens_export
from cl2cm.export.model import ExportedModel
from cl2cm.index import Allowed, BackendOptions, Index
from cl2cm.index.metadata import check_path, read_metadata
from cl2cm.index.shortened import fitting, shortened
from cl2cm.index.update.build import confine
from cl2cm.index.update.shards import Shard
from cl2cm.index.update.update import (
    Update,
    UpdateOptions,
    has_index_of,
    replace_index,
    update_index,
)
from cl2cm.media.shots import LONG, split_films
from cl2cm.model.encoders import AS_TRAINED, Encoders
from cl2cm.progress import track
from cl2cm.search.searcher import Searcher
from cl2cm.types import Example, Floats, StrPath, is_model_spec


def index_source(
    run: StrPath,
    source: Path,
    out: Path,
    *,
    skip_bad: bool = False,
    shots: bool | None = None,
    options: UpdateOptions | None = None,
    roots: Sequence[Path] = (),
    encoders: Encoders = AS_TRAINED,
    exclude: Sequence[str] = (),
    shard: str = "",
    dim: int = 0,
) -> dict[str, Any]:
    """Index a folder or a manifest; in an existing index, encode only new and changed files.

    If training has cached the features of all images, a first index is made of them.

    Args:
        run: finished run, export, or off-the-shelf model: ``hf:MODEL``.
        source: folder or manifest.
        out: index to make or replace.
        skip_bad: leave broken items out.
        shots: whether to store one vector per shot of a video; None: if it is longer than 10 s.
        options: how an existing index is updated.
        roots: folders that a manifest may lead to, besides its own.
        encoders: where the run's vision encoder or features are by now.
        exclude: patterns of files and folders to leave out of a folder.
        shard: ``2/8``: the second of eight ranges of the items, whose index is beside ``out``.
        dim: width of the stored vectors; 0: as in the existing index, else as in the model.
    """
    part = Shard.parse(shard) if shard else None
    for path in (Path(run), out):
        check_path(path)
    _check_model(run, encoders)
    skipped = Skipped()
    bad = skipped.item if skip_bad else None
    found = read_source(source, skipped=skipped if skip_bad else None, exclude=exclude)
    examples = found.examples
    folder = source.absolute() if source.is_dir() else None
    if folder is not None:  # whose files are all below it
        roots = (folder,)
    else:
        roots = (source.parent.resolve(), *(root.resolve() for root in roots))
        examples = confine(examples, roots, bad)
    options = replace(options or UpdateOptions(), roots=roots, folder=folder)
    loaded = load_visual(run, vision_encoder=encoders.vision)
    model = _short(loaded, out if part is None else part.folder(out), dim)
    examples = _entries(loaded, examples, shots, bad)
    if part is not None:
        options = replace(options, backend=_same_dtype(options.backend, len(examples) * model.dim))
        part.begin(out)
        ids, whole = [example.id for example in examples], out
        examples, out = list(part.of(examples)), part.folder(out)
        if not examples:  # fewer items than shards
            part.finish(whole, ids)
            return _result(out, model, skipped, found.left_out)
    vectors = _cached_vectors(loaded, model, examples, out)
    if vectors is not None:
        update = replace_index(model, examples, vectors, out, run=model.run or run, options=options)
    else:
        with track("index", len(examples)) as advance:
            update = update_index(
                model,
                examples,
                out,
                run=model.run or run,
                options=options,
                on_skip=bad,
                progress=advance,
            )
    if part is not None:
        part.finish(whole, ids)
    return _result(out, model, skipped, found.left_out, update)


def _entries(
    loaded: AnyVisual, examples: list[Example], shots: bool | None, on_skip: OnSkip | None
) -> list[Example]:
    """Return what gets a vector of its own: images, videos, and the shots of long videos."""
    if not isinstance(loaded, ExportedModel):
        if on_skip is not None:
            examples = loaded.known(examples, on_skip)
        if loaded.stored:
            return examples
    if shots is False:
        return examples
    return split_films(examples, longer_than=0.0 if shots else LONG, on_skip=on_skip)


def _cached_vectors(
    loaded: AnyVisual,
    model: Any,  # noqa: ANN401 - the loaded model, or its shortened form
    examples: Sequence[Example],
    out: Path,
) -> Floats | None:
    """Return the vectors of a first index from cached features, if all of them are there.

    An update encodes only the few items that are new, unless the features are all there is.
    """
    if isinstance(loaded, ExportedModel) or (not loaded.stored and has_index_of(model, out)):
        return None
    vectors: Floats | None = model.known_vectors(examples)
    return vectors


def _result(
    out: Path,
    model: Any,  # noqa: ANN401 - a model, or alike
    skipped: Skipped,
    left_out: LeftOut,
    update: Update | None = None,
) -> dict[str, Any]:
    """Return what the command says; without an update, that there was nothing to do."""
    return {
        "index": str(out),
        "items": len(update.index) if update else 0,
        "encoded": update.encoded if update else 0,
        "kept": update.kept if update else 0,
        "dropped": update.dropped if update else 0,
        **left_out_json(skipped, left_out),
        "model": model.fingerprint,
        "dim": model.dim,
    }


def _same_dtype(backend: BackendOptions, values: int) -> BackendOptions:
    """Return options with the number format that the whole index would have by its size."""
    return replace(backend, dtype=backend.resolve({}, values).dtype)


def _short(model: AnyVisual, out: Path, dim: int) -> Any:  # noqa: ANN401 - the model, or alike
    """Return the model with vectors of the given width, or of the existing index's width."""
    if dim:
        return shortened(model, dim)
    try:
        metadata = read_metadata(out)
    except VectorIndexError:
        return model
    return fitting(model, metadata["model"], metadata["dim"])


def _check_model(run: StrPath, encoders: Encoders) -> None:
    """Refuse a wrong run or export before any image is looked at."""
    if is_model_spec(run):
        return
    if opens_export(run, encoders.text, encoders.vision):
        read_contract(Path(run))
        return
    from cl2cm.model.run_folder import read_run  # loads torch

    read_run(Path(run), encoders, text=False)


def open_searcher(
    index: Path,
    run: StrPath | None = None,
    allowed: Allowed | None = None,
    encoders: Encoders = AS_TRAINED,
    on_stage: Callable[[str], None] | None = None,
) -> Searcher:
    """Return a searcher on an index, with the model of its run.

    Args:
        index: the folder.
        run: the run, export or off-the-shelf model, where it is not the one of the index.
        allowed: what the index may reach outside its folder; see `Index.open`.
        encoders: where the run's encoders are by now.
        on_stage: called with what begins, as each part may take seconds.

    Raises:
        VectorIndexError: no index, another model's, or a server that the user did not allow.
        CheckpointError: its run is gone or damaged.
    """
    tell = on_stage or (lambda _: None)
    tell(f"opening the index {index}")
    opened = Index.open(index, allowed)
    place = run or opened.run
    tell(f"loading the model {place}")
    model = load(place, text_encoder=encoders.text, vision_encoder=encoders.vision)
    tell(f"comparing scores of {len(opened):,} items")
    return Searcher(model, opened)
