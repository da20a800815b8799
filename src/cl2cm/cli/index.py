"""The command ``index``: build an index and keep it up to date."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cl2cm.cli.options import (
    Cleartext,
    Exclude,
    Features,
    Json,
    Model,
    Roots,
    SkipBad,
    Strict,
    VisionEncoder,
    encoders,
    show,
)
from cl2cm.errors import ConfigError
from cl2cm.progress import say


def index(
    run: Model,
    source: Annotated[
        Path | None, typer.Argument(help="Folder with images and videos, or manifest.")
    ] = None,
    out: Annotated[Path | None, typer.Argument(help="Index folder to create or update.")] = None,
    shots: Annotated[
        bool | None,
        typer.Option(
            "--shots/--no-shots",
            help="Store one vector per shot of a video.  [default: for videos longer than 10 s]",
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file, even if size and time are unchanged.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Replace an index that was made with another model.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Update the index whenever the folder changes, until Ctrl-C."),
    ] = False,
    backend: Annotated[
        str | None,
        typer.Option(
            help="exact, faiss, qdrant, pgvector or a plug-in; remembered.",
            metavar="NAME",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="Server URL for qdrant or pgvector; the password is not stored."),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Type of stored vectors: float32, float16 or int8; remembered.  "
            "[default: by size]",
            metavar="NAME",
        ),
    ] = None,
    dim: Annotated[
        int,
        typer.Option(
            help="Store the first N dimensions of each vector, for a run trained with "
            "match.smallest_dim; 0: all; remembered.",
            metavar="N",
        ),
    ] = 0,
    media_root: Roots = None,
    allow_cleartext: Cleartext = False,
    shard: Annotated[
        str,
        typer.Option(help="Index one part, such as 2/8, as one job of an array.", metavar="I/N"),
    ] = "",
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge the shards into the index without encoding.")
    ] = False,
    vision_encoder: VisionEncoder = "",
    features: Features = None,
    exclude: Exclude = None,
    skip_bad: SkipBad = False,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Build or update a search index of images and videos.

    Run it again after the folder has changed: only new and changed files are encoded. Broken
    files in a folder are listed and skipped; the exit code is then 1.
    """
    from cl2cm.cli.models import need_model

    if source is None or out is None:
        raise need_model(run, source)
    _check_shard(shard, merge=merge, watch=watch)
    if merge:
        _merge(out, rebuild=rebuild, as_json=as_json)
        return
    from cl2cm.cli.indexing import index_source
    from cl2cm.cli.sources import finish, is_lenient
    from cl2cm.index import BackendOptions
    from cl2cm.index.update.update import UpdateOptions

    def once() -> None:
        storage = BackendOptions(backend, dtype, url, allow_cleartext)
        options = UpdateOptions(verify=verify, rebuild=rebuild, backend=storage, wait=watch)
        # In a watched folder, what is still being written must not keep the rest waiting.
        lenient = is_lenient(source, skip_bad=skip_bad, strict=strict) or watch
        result = index_source(
            run,
            source,
            out,
            skip_bad=lenient,
            shots=shots,
            options=options,
            roots=media_root or (),
            encoders=encoders("", vision_encoder, features),
            exclude=exclude or (),
            shard=shard,
            dim=dim,
        )
        show(result, as_json=as_json, lines=[_line(result)])
        finish(result, skip_bad=skip_bad or watch)

    if watch:
        _watch(source, once, exclude or ())
    else:
        once()


def _check_shard(shard: str, *, merge: bool, watch: bool) -> None:
    chosen = [
        name
        for name, given in (("--shard", shard), ("--merge", merge), ("--watch", watch))
        if given
    ]
    if len(chosen) > 1:
        raise ConfigError(
            " and ".join(chosen), expected="one of them", found="both", remedy="remove one"
        )


def _merge(out: Path, *, rebuild: bool, as_json: bool) -> None:
    from cl2cm.index.update.shards import find_shards, merge_shards

    shards = find_shards(out)
    merged = merge_shards(out, rebuild=rebuild)
    result = {"index": str(out), "items": len(merged), "shards": len(shards)}
    show(result, as_json=as_json, lines=[f"{len(merged)} items in {out}, of {len(shards)} shards"])


def _line(result: Mapping[str, Any]) -> str:
    return (
        f"{result['items']} items in {result['index']}: {result['encoded']} encoded, "
        f"{result['kept']} kept, {result['dropped']} dropped; {len(result['skipped'])} skipped"
    )


def _watch(source: Path, update: Callable[[], None], exclude: Sequence[str]) -> None:
    """Update the index now and whenever the folder changes, until Ctrl-C."""
    from cl2cm.data.scan import survey_folder
    from cl2cm.index.update.watch import watch

    if not source.is_dir():
        raise ConfigError(
            "--watch",
            expected="a folder",
            found=str(source),
            remedy="pass the folder with the images",
        )
    try:
        watch(
            update,
            lambda: survey_folder(source, exclude=exclude).examples,
            on_skip=lambda _, bad: say(f"not indexed: {bad}"),
        )
    except KeyboardInterrupt:
        say("interrupted; the index is complete up to the last update")
