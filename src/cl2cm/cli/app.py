"""The command line: parse, call, print. Every command is thin; the work is in the library.

Results go to standard output (with ``--json`` one JSON object and nothing else), progress to
standard error. An expected error is one line; exit code 2 is bad usage or input, 1 any other
failure. Nothing heavy is imported before a command runs.
"""

import itertools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from cl2cm import __version__
from cl2cm.cli.data import encode, prepare, translate
from cl2cm.cli.export import export
from cl2cm.cli.index import index
from cl2cm.cli.init import init
from cl2cm.cli.measure import compare, evaluate
from cl2cm.cli.models import models
from cl2cm.cli.options import (
    Json,
    SkipBad,
    TextEncoder,
    VisionEncoder,
    encoders,
    numbers,
    show,
    words,
)
from cl2cm.cli.search import AsksInWords, search
from cl2cm.cli.serve import serve, serve_index
from cl2cm.cli.train import WithMethods, train
from cl2cm.cli.trust import opens_models
from cl2cm.errors import CL2CMError, ConfigError, missing_extra
from cl2cm.progress import say
from cl2cm.storage import storage_error

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    except ImportError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        say(f"error: {missing}")
        return 2
    except (KeyboardInterrupt, typer.Abort):  # typer makes the one of the other
        say(
            f"stopped; what was done so far is kept: run the same command again{_resume(arguments)}"
        )
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
        say(f"error: {_usage(error, ' '.join(message().split()), list(arguments))}")
        return 2
    return result if isinstance(result, int) else 0


def _resume(arguments: Sequence[str]) -> str:
    new = arguments[:1] == ["train"] and "--resume" not in arguments
    return " with --resume" if new else ""


def _usage(error: Exception, message: str, arguments: list[str]) -> str:
    """Return an error of usage with the value that was typed and the help to look at."""
    option = re.match(r"Invalid value for '([^']+)': ", message)
    names = option[1].split(" / ") if option else []
    for name, value in itertools.pairwise(arguments):
        if name in names:
            message = f"{message} ({name} {value})"
    context = getattr(error, "ctx", None)
    command = getattr(context, "info_name", None) if getattr(context, "parent", None) else None
    return f"{message} See: cl2cm {command} --help" if command else f"{message} See: cl2cm --help"


def _version(asked: bool) -> None:
    if asked:
        print(f"cl2cm {__version__}")  # noqa: T201 - the result
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Search images and videos in any language, without labelled pairs in it."""


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
    from cl2cm.cli.demo import QUERIES, run_demo

    if out.exists() and not out.is_dir():  # before anything is fetched
        raise ConfigError(
            f"--out {out}",
            expected="a folder",
            found="a file in its path",
            remedy="choose another place",
        )
    result = run_demo(out, seed=seed)
    seconds = sum(result["seconds"].values())
    show(
        result,
        as_json=as_json,
        lines=[f'done in {seconds:.0f} s; search with: cl2cm search {result["index"]} "a dog"'],
    )
    if serve_page:
        serve_index(Path(result["index"]), host, port, examples=QUERIES)


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
        str, typer.Option(help="Such as cl2cm,dcot; or ablations; empty: those of the suite.")
    ] = "",
    regimes: Annotated[
        str, typer.Option(help="Such as aligned,weak; empty: the suite's choice.")
    ] = "",
    languages: Annotated[str, typer.Option(help="Target languages, such as de; empty: all.")] = "",
    seeds: Annotated[str, typer.Option(help="Such as 0,1,2; empty: the suite's number.")] = "",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting of every run.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Short runs, two seeds.")] = False,
    single: Annotated[
        bool, typer.Option("--single/--no-single", help="Also one model a language.")
    ] = True,
    split: Annotated[str, typer.Option(help="Split to report.")] = "test",
    jobs: Annotated[int, typer.Option(min=0, help="Runs at a time; 0: one a core.")] = 0,
    csv: Annotated[Path | None, typer.Option(help="Write the rows to this file.")] = None,
    trec: Annotated[bool, typer.Option("--trec", help="Write a TREC run in each folder.")] = False,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Compare methods on a data set, over seeds, with statistics; a stopped one goes on."""
    from cl2cm.evaluation.bench.plan import Choice
    from cl2cm.evaluation.bench.plan import bench as run_bench
    from cl2cm.evaluation.bench.table import table_lines

    choice = Choice(
        methods=tuple(words(methods)),
        regimes=tuple(words(regimes)),
        languages=tuple(words(languages)),
        seeds=tuple(numbers("--seeds", seeds)),
        quick=quick,
        single=single,
        split=split,
        settings=tuple(settings or ()),
        skip_bad=skip_bad,
    )
    where = out or Path("bench") / (f"{suite}-quick" if quick else suite)
    result = run_bench(suite, data, where, choice, jobs=jobs, csv=csv, trec=trec)
    show(result, as_json=as_json, lines=table_lines(result))


def align(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    source: Annotated[str, typer.Argument(help="A text.")] = "",
    target: Annotated[str, typer.Argument(help="Its translation.")] = "",
    html: Annotated[Path | None, typer.Option(help="Write a page with a heat map.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write a picture of the heat map.")] = None,
    gold: Annotated[
        bool, typer.Option("--gold", help="Measure against gold links instead of two texts.")
    ] = False,
    text_encoder: TextEncoder = "",
    vision_encoder: VisionEncoder = "",
    as_json: Json = False,
) -> None:
    """Show which words of two texts belong together, by optimal transport."""
    from cl2cm.evaluation.alignment.gold import gold_lines, gold_report
    from cl2cm.evaluation.alignment.view import align_command

    if gold == bool(source or target) or bool(source) != bool(target):
        raise ConfigError(
            "texts",
            expected="two texts, or --gold alone",
            found=f"{bool(source) + bool(target)} texts{' and --gold' if gold else ''}",
            remedy='write cl2cm align RUN "a dog" "ein Hund"',
        )
    if gold:
        report = gold_report(run, encoders(text_encoder, vision_encoder))
        show(report, as_json=as_json, lines=gold_lines(report))
        return
    where = encoders(text_encoder, vision_encoder)
    result, lines = align_command(run, source, target, html=html, png=png, encoders=where)
    show(result, as_json=as_json, lines=lines)


def doctor(
    path: Annotated[
        Path | None,
        typer.Argument(help="Run, export, feature store, index, manifest or model to verify."),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Make again what can be, and add missing checksums."),
    ] = False,
    install_weights: Annotated[
        bool, typer.Option("--install-weights", help="Fetch and convert the offline weights.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Show what is installed and which weights are here; or read all of PATH and name damage."""
    if path is not None:
        from cl2cm.cli.verify import report_lines, verify_path

        found = verify_path(path, repair=repair)
        show(found.as_json(), as_json=as_json, lines=report_lines(found))
        return 2 if found.damaged else 0
    if repair:
        raise ConfigError("--repair", expected="a path", found="none", remedy="name what to repair")
    from cl2cm.cli.doctor import lines, report

    if install_weights:
        from cl2cm.encode.pinned_weights import install_weights as install

        install(tell=say)
    installed = report()
    show(installed, as_json=as_json, lines=lines(installed))
    return 0


class WithFormats(TyperCommand):
    """A command whose help ends with the formats of images and videos that are read."""

    def get_help(self, ctx: Any) -> str:  # noqa: ANN401 - a context of the click in typer
        """Return the help, ending with the formats."""
        from cl2cm.media.kinds import supported

        self.epilog = f"Formats: {supported()}."
        return super().get_help(ctx)


_COMMANDS: tuple[tuple[Callable[..., int | None], type[TyperCommand]], ...] = (
    *((demo, TyperCommand), (init, TyperCommand), (prepare, TyperCommand)),
    *((opens_models(translate), TyperCommand), (opens_models(encode), WithFormats)),
    (opens_models(train), WithMethods),
    *((opens_models(evaluate), TyperCommand), (opens_models(compare), TyperCommand)),
    (opens_models(bench), TyperCommand),
    *((opens_models(align), TyperCommand), (opens_models(export), TyperCommand)),
    *((opens_models(index), WithFormats), (opens_models(search), AsksInWords)),
    *((opens_models(serve), TyperCommand), (models, TyperCommand)),
    (doctor, TyperCommand),
)  # in the order in which data flows
for _command, _class in _COMMANDS:
    app.command(cls=_class)(_command)
