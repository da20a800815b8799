"""The command ``serve``: the search page and its API."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cl2cm.cli.options import (
    Cleartext,
    ForeignBackend,
    OtherModel,
    Roots,
    ServerUrl,
    TextEncoder,
    VisionEncoder,
    encoders,
    named_backends,
)
from cl2cm.errors import ConfigError
from cl2cm.progress import Stages, say
from cl2cm.types import StrPath, is_model_spec

if TYPE_CHECKING:
    from cl2cm.model.encoders import Encoders


def serve(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "cl2cm",
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the access token.  [default: $CL2CM_TOKEN]"),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Additional host name to accept, such as a proxy's; repeatable."),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Address or network of a reverse proxy whose X-Forwarded-For is trusted, so that "
            "limits apply to each client; repeatable.",
        ),
    ] = None,
    root_path: Annotated[
        str, typer.Option(help="Path prefix that a reverse proxy uses, such as /photos.")
    ] = "",
    media_root: Roots = None,
    run: OtherModel = None,
    backend: ForeignBackend = None,
    url: ServerUrl = None,
    allow_cleartext: Cleartext = False,
    text_encoder: TextEncoder = "",
    vision_encoder: VisionEncoder = "",
) -> None:
    """Serve the search page and its API.

    Only this machine can reach the service unless --host names another address.
    """
    from cl2cm.index import Allowed
    from cl2cm.serve import read_token

    serve_index(
        index,
        host,
        port,
        title=title,
        token=read_token(token_file),
        names=name or (),
        proxies=proxy or (),
        root_path=root_path,
        run=run,
        allowed=Allowed.of(
            url,
            tuple(media_root or ()),
            cleartext=allow_cleartext,
            backends=named_backends(backend),
        ),
        where=encoders(text_encoder, vision_encoder),
    )


def serve_index(
    index: Path,
    host: str,
    port: int,
    *,
    examples: Sequence[tuple[str, str]] = (),
    title: str = "cl2cm",
    token: str | None = None,
    names: Sequence[str] = (),
    proxies: Sequence[str] = (),
    root_path: str = "",
    run: StrPath | None = None,
    allowed: Any = None,  # noqa: ANN401 - an Allowed, which is not imported yet
    where: "Encoders | None" = None,
) -> None:
    """Serve an index until interrupted."""
    stage = Stages()
    stage("loading the program")
    from cl2cm.cli.indexing import open_searcher
    from cl2cm.export.load import load
    from cl2cm.model.encoders import AS_TRAINED
    from cl2cm.serve import LOOPBACK
    from cl2cm.serve import run as run_server

    if not host.strip():
        raise ConfigError("--host", expected="an address", found="none", remedy="use 127.0.0.1")
    where = where or AS_TRAINED
    searcher = open_searcher(index, run, allowed, where, on_stage=stage)
    made_by = run or searcher.index.run
    if not searcher.index.ours and not searcher.index.allowed.roots:
        say(
            f"{index}: you did not make this index, or made it with an earlier version; images are "
            "shown from its own folder only, unless you name theirs with --media-root"
        )
    if host not in LOOPBACK and token is None:
        say(
            "anyone who reaches this address can search and see every image; "
            "require a token with --token-file"
        )
    stage("starting the service")
    run_server(
        searcher,
        host=host,
        port=port,
        names=names,
        proxies=proxies,
        root_path=root_path,
        title=title,
        examples=examples,
        token=token,
        align=_aligner(made_by, where),
        load_model=functools.partial(load, text_encoder=where.text, vision_encoder=where.vision),
        on_ready=say,
    )


def _aligner(model: StrPath, where: "Encoders") -> Any:  # noqa: ANN401 - an Aligner
    """Return what aligns words, where the model is a run."""
    from cl2cm.export.contract import is_export

    if is_model_spec(model) or is_export(model):
        return None
    from cl2cm.evaluation.alignment.aligner import Aligner

    return Aligner(Path(model), where)
