"""The command line: parse the arguments, call the library, print the result.

Results go to standard output (with ``--json`` one JSON object and nothing else), progress to
standard error. An expected error is one line. Exit code 2 means bad usage or input, 1 any other
failure. Heavy packages are imported only when a command runs.
"""

import itertools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

from cl2cm import __version__
from cl2cm.cli.add_language import add_language
from cl2cm.cli.bench import bench
from cl2cm.cli.data import encode, prepare, translate
from cl2cm.cli.examples import WithExamples, WithFormats
from cl2cm.cli.export import export
from cl2cm.cli.index import index
from cl2cm.cli.init import init
from cl2cm.cli.licences import licences
from cl2cm.cli.measure import compare, evaluate
from cl2cm.cli.models import models
from cl2cm.cli.options import (
    Json,
    TextEncoder,
    VisionEncoder,
    encoders,
    show,
)
from cl2cm.cli.report import report
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
    """Run the command line and return the exit code."""
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
    except (KeyboardInterrupt, typer.Abort):  # typer converts one to the other
        say(f"interrupted; finished work is kept: run the same command again{_resume(arguments)}")
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
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stderr.write(f"{message()}\n")
            return 2
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
    if message.startswith("Missing argument") and context is not None:
        names = " ".join(context.command.collect_usage_pieces(context)[1:])
        message = f"{message} Usage: cl2cm {context.info_name} {names}"
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
    """Search images and videos in many languages, trained with machine translations."""


def demo(
    out: Annotated[Path, typer.Option(help="Output folder for data, models and index.")] = Path(
        "cl2cm-demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Random seed for training.")] = 0,
    serve_page: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Serve the search page at the end.")
    ] = True,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    as_json: Json = False,
) -> None:
    """Run the full pipeline on bundled data and serve the result.

    Steps that are already done are skipped when the command is run again.
    """
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


def align(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    source: Annotated[str, typer.Argument(help="Text in the source language.")] = "",
    target: Annotated[str, typer.Argument(help="Its translation.")] = "",
    html: Annotated[
        Path | None, typer.Option(help="Write an HTML page with a heat map to this file.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option(help="Write the heat map as a PNG image to this file.")
    ] = None,
    gold: Annotated[
        bool, typer.Option("--gold", help="Measure the error rate on the bundled gold links.")
    ] = False,
    text_encoder: TextEncoder = "",
    vision_encoder: VisionEncoder = "",
    as_json: Json = False,
) -> None:
    """Show which words of two texts correspond."""
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
        typer.Option("--repair", help="Recreate what can be recreated, and add missing checksums."),
    ] = False,
    install_weights: Annotated[
        bool,
        typer.Option("--install-weights", help="Download and convert the pinned model weights."),
    ] = False,
    as_json: Json = False,
) -> int:
    """Show packages and weights, or verify a file or folder.

    With PATH, every byte is read and damage is listed; the exit code is 2 if there is any.
    """
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


_COMMANDS: tuple[tuple[Callable[..., int | None], type[TyperCommand]], ...] = (
    *((demo, WithExamples), (init, WithExamples), (prepare, WithExamples)),
    *((opens_models(translate), WithExamples), (opens_models(encode), WithFormats)),
    *((opens_models(train), WithMethods), (opens_models(add_language), WithExamples)),
    *((opens_models(evaluate), WithExamples), (opens_models(compare), WithExamples)),
    *((opens_models(bench), WithExamples), (opens_models(align), WithExamples)),
    (opens_models(report), WithExamples),
    *((opens_models(export), WithExamples), (opens_models(index), WithFormats)),
    (opens_models(search), AsksInWords),
    *(
        (opens_models(serve), WithExamples),
        (models, WithExamples),
        (opens_models(licences), WithExamples),
    ),
    (doctor, WithExamples),
)  # in the order in which data flows
for _command, _class in _COMMANDS:
    app.command(cls=_class)(_command)
