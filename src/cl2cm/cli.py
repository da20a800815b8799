"""The command line: parse, call, print. Every command is thin; the work is in the library.

Results go to standard output (with ``--json`` one JSON object and nothing else), progress to
standard error. An expected error is one line; exit code 2 is bad usage or input, 1 any other
failure. Nothing heavy is imported before a command runs.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cl2cm.errors import CL2CMError, ConfigError
from cl2cm.progress import say
from cl2cm.storage import storage_error

app = typer.Typer(
    help="Search pictures and films in any language, without labelled pairs in it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="List broken items and leave them out.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    try:
        result = app(list(arguments), standalone_mode=False)
    except CL2CMError as error:
        say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        say("stopped; what was done so far is kept: run the same command again")
        return 130
    except typer.Abort:
        return 130
    except OSError as error:
        known = storage_error(Path(error.filename or "output"), error)
        if known is None:
            raise
        say(f"error: {known}")
        return 2
    except Exception as error:
        message = getattr(error, "format_message", None)  # typer's errors of usage have it
        if message is None:
            raise
        say(f"error: {' '.join(message().split())} See: cl2cm --help")
        return 2
    return result if isinstance(result, int) else 0


def show(value: dict[str, Any], *, as_json: bool, lines: Sequence[str]) -> None:
    """Print a result: as JSON, or as lines for people."""
    text = json.dumps(value, ensure_ascii=False) if as_json else "\n".join(lines)
    encoding = sys.stdout.encoding
    try:
        text.encode(encoding)
    except UnicodeEncodeError:  # not UTF-8, or a file name that is no text
        escaped = text.encode(encoding, "backslashreplace").decode(encoding)
        text = json.dumps(value) if as_json else escaped
    print(text, flush=True)  # noqa: T201 - the result


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, models and index.")] = Path(
        "cl2cm-demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of training.")] = 0,
    serve_page: Annotated[
        bool, typer.Option("--serve/--no-serve", help="End with the search page.")
    ] = True,
    host: Annotated[str, typer.Option(help="Address of the page.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page.")] = 8000,
    as_json: Json = False,
) -> None:
    """Go the whole way on the embedded data, then serve the search page."""
    from cl2cm.demo import QUERIES, run_demo

    result = run_demo(out, seed=seed)
    seconds = sum(result["seconds"].values())
    show(
        result,
        as_json=as_json,
        lines=[f'done in {seconds:.0f} s; search with: cl2cm search {result["index"]} "a dog"'],
    )
    if serve_page:
        _serve(Path(result["index"]), host, port, examples=QUERIES)


@app.command()
def prepare(
    dataset: Annotated[
        str, typer.Argument(help="Name of the data set, such as multi30k; or folder.")
    ],
    source: Annotated[
        str, typer.Argument(help="Its files as published; '-' where cl2cm fetches them.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    task: Annotated[
        int | None, typer.Option(help="Where there is more than one: multi30k has 1 and 2.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures or films, where it is another.")
    ] = None,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Items stand for stored features of their ids.")
    ] = False,
    split: Annotated[str, typer.Option(help="Split of items whose files name none.")] = "test",
    language: Annotated[str, typer.Option(help="Language of captions that name none.")] = "en",
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Say what is missing, and go on.")
    ] = False,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Let a picture of one's own be in two splits.")
    ] = False,
    leak_check: Annotated[
        bool, typer.Option("--leak-check/--no-leak-check", help="Look for pictures in two splits.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Turn an official data set, or a folder of your own, into a manifest."""
    from cl2cm.datasets import prepare_dataset
    from cl2cm.datasets.reading import Options
    from cl2cm.manifest import read_manifest, summarise

    manifest = prepare_dataset(
        dataset,
        None if source == "-" else Path(source),
        out,
        Options(task=task, images=images, no_images=no_images, split=split, language=language),
        allow_partial=allow_partial,
        allow_leaks=allow_leaks,
        leak_check=leak_check,
    )
    counts = summarise(read_manifest(manifest))
    show(
        {"manifest": str(manifest), **counts},
        as_json=as_json,
        lines=[str(manifest), json.dumps(counts, ensure_ascii=False, indent=2)],
    )


@app.command()
def translate(
    manifest: Annotated[Path, typer.Argument(help="Manifest with captions.")],
    to: Annotated[str, typer.Option("--to", help="Languages, such as de,fr.")] = "",
    engine: Annotated[
        str,
        typer.Option(
            help="apertium, apertium:en-ca-fr, bergamot, ct2:FOLDER, hf:NAME or file:TABLE.tsv."
        ),
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Manifest to write.")] = None,
    source: Annotated[str, typer.Option(help="Language of the captions.")] = "en",
    back: Annotated[bool, typer.Option("--back", help="Also translate back.")] = False,
    back_engine: Annotated[
        str, typer.Option(help="Engine of the way back, where it is another.")
    ] = "",
    jobs: Annotated[
        int, typer.Option(min=0, help="Batches at a time; 0: as suits the engine.")
    ] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="SQLite file of what was translated before.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Score the translations and show the worst.")
    ] = False,
    encoder: Annotated[
        str, typer.Option(help="Of the scores' cosines, as for encode; none leaves them out.")
    ] = "hf:multilingual-e5-small",
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Translate captions into a new manifest, or score the translations that it has."""
    from cl2cm.translation_report import result_lines, translate_manifest

    result = translate_manifest(
        manifest,
        languages=_words(to),
        engine=engine,
        out=out,
        source=source,
        back=back,
        back_engine=back_engine,
        jobs=jobs,
        cache=cache,
        report=report,
        encoder=encoder,
        skip_bad=skip_bad,
    )
    show(result, as_json=as_json, lines=result_lines(result))


@app.command()
def encode(
    source: Annotated[Path, typer.Argument(help="Manifest, or folder of pictures.")],
    out: Annotated[Path, typer.Option(help="Feature store to make.")],
    encoder: Annotated[
        str, typer.Option(help="onnx:NAME, hf:NAME; NAME is a model of the cache, or a folder.")
    ] = "onnx:efficientnet-lite2",
    side: Annotated[
        str, typer.Option(help="vision | text; by default text for hf:, vision for onnx:.")
    ] = "",
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Run a backbone over pictures or captions and keep its features."""
    from cl2cm.commands import encode_store

    chosen = side or ("text" if encoder.startswith("hf:") else "vision")
    result = encode_store(source, out, encoder, side=chosen, skip_bad=skip_bad)
    show(
        result,
        as_json=as_json,
        lines=[
            f"{result['items']} items of width {result['width']} in {out}, "
            f"{result['rate']:.1f}/s; {len(result['skipped'])} skipped"
        ],
    )


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="Settings, a TOML file.")],
    out: Annotated[Path, typer.Option(help="Run folder to make.")] = Path("runs/run"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: train.epochs=3.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    as_json: Json = False,
) -> None:
    """Train a model: cl2cm, translate-train, or another method of docs/method.md."""
    from cl2cm.config import load_config
    from cl2cm.methods import method_class
    from cl2cm.training import train as train_run

    loaded = load_config(config, settings or ())
    method_class(loaded.method)
    provenance = train_run(loaded, out, resume=resume)
    best = ", ".join(f"{k} {v:.1f}" for k, v in provenance["validation_SumR"].items())
    show({"run": str(out), **provenance}, as_json=as_json, lines=[f"{out}: SumR on val: {best}"])


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    manifest: Annotated[Path, typer.Argument(help="Manifest with human captions.")],
    split: Annotated[str, typer.Option(help="Split to report.")] = "test",
    languages: Annotated[str, typer.Option(help="Languages, such as de,fr; empty: all.")] = "",
    trec: Annotated[Path | None, typer.Option(help="Write TREC runs to this file.")] = None,
    leak_check: Annotated[
        bool, typer.Option("--leak-check/--no-leak-check", help="Look for pictures in two splits.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Measure a run: R@1, R@5, R@10, median rank, mAP and SumR, per language."""
    from cl2cm.commands import evaluate_manifest, evaluation_lines

    result = evaluate_manifest(
        run,
        manifest,
        split=split,
        languages=_words(languages),
        trec=trec,
        leak_check=leak_check,
    )
    show(result, as_json=as_json, lines=evaluation_lines(result))


@app.command()
def bench(
    suite: Annotated[str, typer.Argument(help="flickr8k-multi | openmoji.")],
    data: Annotated[
        Path | None,
        typer.Option(envvar="CL2CM_DATA", help="Folder with the suite's manifest and pictures."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of runs; by default bench/SUITE.")
    ] = None,
    methods: Annotated[
        str, typer.Option(help="Such as cl2cm,dcot; or ablations; empty: all.")
    ] = "",
    regimes: Annotated[
        str, typer.Option(help="Such as aligned,weak; empty: the suite's choice.")
    ] = "",
    languages: Annotated[str, typer.Option(help="Target languages, such as de; empty: all.")] = "",
    seeds: Annotated[str, typer.Option(help="Such as 0,1,2; empty: the suite's number.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Short runs, two seeds.")] = False,
    single: Annotated[
        bool, typer.Option("--single/--no-single", help="Also one model a language.")
    ] = True,
    split: Annotated[str, typer.Option(help="Split to report.")] = "test",
    jobs: Annotated[int, typer.Option(min=0, help="Runs at a time; 0: one a core.")] = 0,
    csv: Annotated[Path | None, typer.Option(help="Write the rows to this file.")] = None,
    trec: Annotated[bool, typer.Option("--trec", help="Write a TREC run in each folder.")] = False,
    as_json: Json = False,
) -> None:
    """Compare methods on a data set, over seeds, with statistics; a stopped one goes on."""
    from cl2cm.bench import Choice
    from cl2cm.bench import bench as run_bench
    from cl2cm.bench_table import table_lines

    choice = Choice(
        methods=tuple(_words(methods)),
        regimes=tuple(_words(regimes)),
        languages=tuple(_words(languages)),
        seeds=tuple(_numbers("--seeds", seeds)),
        quick=quick,
        single=single,
        split=split,
    )
    where = out or Path("bench") / (f"{suite}-quick" if quick else suite)
    result = run_bench(suite, data, where, choice, jobs=jobs, csv=csv, trec=trec)
    show(result, as_json=as_json, lines=table_lines(result))


@app.command()
def align(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    source: Annotated[str, typer.Argument(help="A text.")] = "",
    target: Annotated[str, typer.Argument(help="Its translation.")] = "",
    html: Annotated[Path | None, typer.Option(help="Write a page with a heat map.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write a picture of the heat map.")] = None,
    gold: Annotated[
        bool, typer.Option("--gold", help="Measure against gold links instead of two texts.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show which words of two texts belong together, by optimal transport."""
    from cl2cm.alignment_gold import gold_lines, gold_report
    from cl2cm.alignment_view import align_command

    if gold == bool(source or target) or bool(source) != bool(target):
        raise ConfigError(
            "texts",
            expected="two texts, or --gold alone",
            found=f"{bool(source) + bool(target)} texts{' and --gold' if gold else ''}",
            remedy='write cl2cm align RUN "a dog" "ein Hund"',
        )
    if gold:
        report = gold_report(run)
        show(report, as_json=as_json, lines=gold_lines(report))
        return
    result, lines = align_command(run, source, target, html=html, png=png)
    show(result, as_json=as_json, lines=lines)


@app.command()
def index(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    source: Annotated[Path, typer.Argument(help="Folder of pictures and films, or manifest.")],
    out: Annotated[Path, typer.Argument(help="Index folder to make or replace.")],
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
        typer.Option(help="exact | faiss | qdrant | pgvector; kept from then on.", metavar="NAME"),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="Of the server, for qdrant and pgvector; a password is not kept."),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="Stored as: float16 | int8 | float32; kept.", metavar="NAME"),
    ] = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Encode pictures and films into a search index; run again, only what is new or changed."""
    from cl2cm.commands import index_source
    from cl2cm.index import Choice
    from cl2cm.index_building import scan_folder
    from cl2cm.indexing import Care
    from cl2cm.indexing import watch as follow

    def once() -> None:
        care = Care(verify=verify, rebuild=rebuild, choice=Choice(backend, dtype, url))
        result = index_source(run, source, out, skip_bad=skip_bad, shots=shots, care=care)
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
        follow(once, lambda: scan_folder(source), on_bad=lambda bad: say(f"not indexed: {bad}"))
    except KeyboardInterrupt:
        say("stopped; the index is whole")


@app.command()
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
    as_json: Json = False,
) -> None:
    """Search an index with words in any language, a picture, or both."""
    from cl2cm.commands import open_searcher
    from cl2cm.index import Filter
    from cl2cm.query import Query, checked, parse_query
    from cl2cm.search_lines import hit_lines

    text, unwanted = (query, ()) if literal else parse_query(query)
    among = Filter(folder, media, since, until, min_bytes, max_bytes)  # type: ignore[arg-type]
    request = Query(
        text, (*unwanted, *(without or ())), like or picture, weight, k, offset, among, fold=fold
    )
    if queries is not None or trec is not None:
        _search_file(index, queries, request, trec=trec, run=run, as_json=as_json)
        return
    request = checked(request)
    result = open_searcher(index, run).search_timed(request)
    show(result.to_json(), as_json=as_json, lines=hit_lines(result))


def _search_file(
    index: Path,
    queries: Path | None,
    request: Any,  # noqa: ANN401 - a Query, which is not imported yet
    *,
    trec: Path | None,
    run: Path | None,
    as_json: bool,
) -> None:
    import time

    from cl2cm.batch_search import answers_json, read_queries, search_all, write_trec
    from cl2cm.commands import open_searcher
    from cl2cm.progress import track
    from cl2cm.search_lines import answer_lines

    if queries is None or request.texts or request.like is not None:
        raise ConfigError(
            "--queries",
            expected="a file of queries, and no query beside it",
            found="none" if queries is None else "both",
            remedy="write cl2cm search INDEX --queries FILE",
        )
    asked = read_queries(queries)
    searcher = open_searcher(index, run)
    begin = time.monotonic()
    with track("search", len(asked)) as progress:
        answers = search_all(searcher, asked, request, progress=progress)
    if trec is not None:
        write_trec(trec, answers)
    show(answers_json(answers, begin), as_json=as_json, lines=answer_lines(answers))


@app.command()
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
) -> None:
    """Serve the search page and its API, on this machine alone unless told otherwise."""
    from cl2cm.serve import read_token

    _serve(index, host, port, title=title, token=read_token(token_file), names=name or ())


@app.command()
def doctor(
    install_weights: Annotated[
        bool, typer.Option("--install-weights", help="Fetch and convert the offline weights.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what is installed, which weights are here, and what each extra would add."""
    from cl2cm.doctor import lines, report

    if install_weights:
        from cl2cm.encoders.offline import install_weights as install

        install(progress=say)
    found = report()
    show(found, as_json=as_json, lines=lines(found))


def _words(text: str) -> list[str]:
    """Words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(option: str, text: str) -> list[int]:
    """Whole numbers between commas."""
    for word in _words(text):
        if not (word.isascii() and word.isdigit()):
            raise ConfigError(
                option, expected="numbers such as 0,1,2", found=repr(text), remedy="correct it"
            )
    return [int(word) for word in _words(text)]


def _serve(
    index: Path,
    host: str,
    port: int,
    *,
    examples: Sequence[tuple[str, str]] = (),
    title: str = "cl2cm",
    token: str | None = None,
    names: Sequence[str] = (),
) -> None:
    from cl2cm.aligner import Aligner
    from cl2cm.checkpoint import load
    from cl2cm.commands import open_searcher
    from cl2cm.serve import LOOPBACK
    from cl2cm.serve import run as run_server

    if not host.strip():
        raise ConfigError("--host", expected="an address", found="none", remedy="use 127.0.0.1")
    searcher = open_searcher(index)
    if host not in LOOPBACK and token is None:
        say("anyone who reaches this address can search and see every picture; --token-file FILE")
    run_server(
        searcher,
        host=host,
        port=port,
        names=names,
        title=title,
        examples=examples,
        token=token,
        align=Aligner(searcher.index.run),
        load_model=load,
        on_ready=say,
    )
