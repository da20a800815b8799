"""Commands that make an index, ask it, and serve it."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cl2cm.cli.options import Features, Json, SkipBad, TextEncoder, VisionEncoder, encoders, show
from cl2cm.errors import ConfigError
from cl2cm.progress import say

Roots = Annotated[
    list[Path] | None,
    typer.Option("--media-root", help="A further folder that may be read; repeatable."),
]
Cleartext = Annotated[
    bool,
    typer.Option(
        "--allow-cleartext", help="Send credentials to a server on another machine without TLS."
    ),
]
ForeignBackend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        help="Backend of another package that an index of somebody else may use.",
        metavar="NAME",
    ),
]
ServerUrl = Annotated[str | None, typer.Option("--url", help="Of the server that holds the index.")]
if TYPE_CHECKING:
    from cl2cm.model.run_folder import Encoders


def index(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    source: Annotated[Path, typer.Argument(help="Folder of pictures and films, or manifest.")],
    out: Annotated[Path, typer.Argument(help="Index folder to make or to bring up to date.")],
    shots: Annotated[
        bool | None,
        typer.Option(
            "--shots/--no-shots",
            help="One vector for each shot of a film; by default where it is longer than 10 s.",
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file, not only those of another time.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Replace the index of another model.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the folder until Ctrl-C.")] = False,
    backend: Annotated[
        str | None,
        typer.Option(
            help="exact | faiss | qdrant | pgvector, or one of another package; kept.",
            metavar="NAME",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="Of the server, for qdrant and pgvector; a password is not kept."),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Stored as: float32 | float16 | int8; by default by size; kept.", metavar="NAME"
        ),
    ] = None,
    media_root: Roots = None,
    allow_cleartext: Cleartext = False,
    vision_encoder: VisionEncoder = "",
    features: Features = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Encode pictures and films into a search index; run again, only what is new or changed."""
    from cl2cm.cli.commands import index_source
    from cl2cm.data.scan import scan_folder
    from cl2cm.index import BackendOptions
    from cl2cm.index.update.update import UpdateOptions
    from cl2cm.index.update.watch import watch as follow

    def once() -> None:
        storage = BackendOptions(backend, dtype, url, allow_cleartext)
        options = UpdateOptions(verify=verify, rebuild=rebuild, backend=storage, wait=watch)
        lenient = skip_bad or watch  # what is still being written must not keep the rest waiting
        where = encoders("", vision_encoder, features)
        result = index_source(
            run,
            source,
            out,
            skip_bad=lenient,
            shots=shots,
            options=options,
            roots=media_root or (),
            encoders=where,
        )
        line = (
            f"{result['items']} items in {out}: {result['encoded']} encoded, "
            f"{result['kept']} kept, {result['dropped']} dropped; {len(result['skipped'])} skipped"
        )
        show(result, as_json=as_json, lines=[line])

    if not watch:
        once()
        return
    if not source.is_dir():
        raise ConfigError(
            "--watch", expected="a folder", found=str(source), remedy="give the pictures' folder"
        )
    try:
        follow(once, lambda: scan_folder(source), on_skip=lambda _, bad: say(f"not indexed: {bad}"))
    except KeyboardInterrupt:
        say("stopped; the index is whole")


def search(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    query: Annotated[
        str, typer.Argument(help="What to look for, in any language; -word leaves out.")
    ] = "",
    k: Annotated[int, typer.Option("-k", help="Number of hits, 1 to 1000.")] = 10,
    offset: Annotated[int, typer.Option(help="Hits to pass over.")] = 0,
    without: Annotated[
        list[str] | None, typer.Option(help="A term that shall not be there; may be repeated.")
    ] = None,
    like: Annotated[str, typer.Option(help="Id of an item to be like.")] = "",
    picture: Annotated[Path | None, typer.Option(help="A picture to be like.")] = None,
    weight: Annotated[float, typer.Option(help="Of the picture against the words, 0 to 1.")] = 0.5,
    literal: Annotated[
        bool, typer.Option("--literal", help="Take the words as they stand, hyphens and all.")
    ] = False,
    fold: Annotated[bool, typer.Option("--fold", help="Show near-duplicates once.")] = False,
    folder: Annotated[str | None, typer.Option(help="Only items of this folder.")] = None,
    media: Annotated[str | None, typer.Option(help="Only: picture | film.")] = None,
    since: Annotated[str | None, typer.Option(help="Only files of this day or later.")] = None,
    until: Annotated[str | None, typer.Option(help="Only files of this day or earlier.")] = None,
    min_bytes: Annotated[int | None, typer.Option(help="Only files of this size or more.")] = None,
    max_bytes: Annotated[int | None, typer.Option(help="Only files of this size or less.")] = None,
    queries: Annotated[
        Path | None, typer.Option(help="Search for each line of a file, instead.")
    ] = None,
    trec: Annotated[Path | None, typer.Option(help="With --queries: write a TREC run.")] = None,
    run: Annotated[
        Path | None, typer.Option(help="Run folder, where it is not the one of the index.")
    ] = None,
    backend: ForeignBackend = None,
    url: ServerUrl = None,
    allow_cleartext: Cleartext = False,
    text_encoder: TextEncoder = "",
    vision_encoder: VisionEncoder = "",
    as_json: Json = False,
) -> None:
    """Search an index with words in any language, a picture, or both."""
    from cl2cm.cli.commands import open_searcher
    from cl2cm.cli.lines import hit_lines
    from cl2cm.index import Allowed, Filter
    from cl2cm.search.query import Query, checked, parse_query

    if like and picture:
        raise ConfigError(
            "--like and --picture", expected="one of them", found="both", remedy="leave one out"
        )
    text, unwanted = (query, ()) if literal else parse_query(query)
    among = Filter(folder, media, since, until, min_bytes, max_bytes)  # type: ignore[arg-type]
    request = Query(
        text, (*unwanted, *(without or ())), like or picture, weight, k, offset, among, fold=fold
    )
    allowed = Allowed.of(url, cleartext=allow_cleartext, backends=_named(backend))
    where = encoders(text_encoder, vision_encoder)
    if queries is not None or trec is not None:
        opened = functools.partial(open_searcher, index, run, allowed, where)
        _search_file(opened, queries, request, trec=trec, as_json=as_json)
        return
    request = checked(request)
    result = open_searcher(index, run, allowed, where).search_timed(request)
    show(result.to_json(), as_json=as_json, lines=hit_lines(result))


def _search_file(
    opened: Callable[[], Any],  # a Searcher, which is not imported yet
    queries: Path | None,
    request: Any,  # noqa: ANN401 - a Query, too
    *,
    trec: Path | None,
    as_json: bool,
) -> None:
    import time

    from cl2cm.cli.lines import answer_lines
    from cl2cm.progress import track
    from cl2cm.search.batch import answers_json, read_queries, search_all, write_trec
    from cl2cm.search.query import check_numbers

    beside = request.texts or request.like is not None or request.fold or request.weight != 0.5
    if queries is None or beside:
        raise ConfigError(
            "--queries",
            expected="a file of queries, with -k, --offset and filters, and no query beside it",
            found="none" if queries is None else "both",
            remedy="write cl2cm search INDEX --queries FILE",
        )
    check_numbers(request)
    asked = read_queries(queries)
    searcher = opened()
    begin = time.monotonic()
    with track("search", len(asked)) as progress:
        answers = search_all(searcher, asked, request, progress=progress)
    if trec is not None:
        write_trec(trec, answers)
    show(answers_json(answers, begin), as_json=as_json, lines=answer_lines(answers))


def serve(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    title: Annotated[str, typer.Option(help="Name of the collection.")] = "cl2cm",
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token that clients must know; else $CL2CM_TOKEN."),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="A further host name of the service, such as a proxy's; repeatable."),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Address or network of a proxy before the service; from it alone the clients' "
            "addresses (X-Forwarded-For) are taken, to which limits apply; repeatable.",
        ),
    ] = None,
    root_path: Annotated[
        str, typer.Option(help="Path below which a proxy shows the service, such as /photos.")
    ] = "",
    media_root: Roots = None,
    run: Annotated[
        Path | None, typer.Option(help="Run folder, where it is not the one of the index.")
    ] = None,
    backend: ForeignBackend = None,
    url: ServerUrl = None,
    allow_cleartext: Cleartext = False,
    text_encoder: TextEncoder = "",
    vision_encoder: VisionEncoder = "",
) -> None:
    """Serve the search page and its API, on this machine alone unless told otherwise."""
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
            backends=_named(backend),
        ),
        where=encoders(text_encoder, vision_encoder),
    )


def _named(backend: str | None) -> tuple[str, ...]:
    return (backend,) if backend else ()


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
    run: Path | None = None,
    allowed: Any = None,  # noqa: ANN401 - an Allowed, which is not imported yet
    where: "Encoders | None" = None,
) -> None:
    """Serve an index until it is stopped."""
    from cl2cm.cli.commands import open_searcher
    from cl2cm.evaluation.alignment.aligner import Aligner
    from cl2cm.model.checkpoint import load
    from cl2cm.model.run_folder import AS_TRAINED
    from cl2cm.serve import LOOPBACK
    from cl2cm.serve import run as run_server

    if not host.strip():
        raise ConfigError("--host", expected="an address", found="none", remedy="use 127.0.0.1")
    where = where or AS_TRAINED
    searcher = open_searcher(index, run, allowed, where)
    if not searcher.index.ours and not searcher.index.allowed.roots:
        say(
            f"{index}: you did not make this index, or made it with an earlier version; images are "
            "shown from its own folder only, unless you name theirs with --media-root"
        )
    if host not in LOOPBACK and token is None:
        say("anyone who reaches this address can search and see every picture; --token-file FILE")
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
        align=Aligner(run or searcher.index.run, where),
        load_model=functools.partial(load, text_encoder=where.text, vision_encoder=where.vision),
        on_ready=say,
    )
