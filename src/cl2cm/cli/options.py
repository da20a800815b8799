"""Options that several commands share, and how results are printed."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cl2cm.errors import ConfigError
from cl2cm.progress import plain, plain_json

if TYPE_CHECKING:
    from cl2cm.model.encoders import Encoders

T = TypeVar("T")
Model = Annotated[
    str,
    typer.Argument(
        help="Run or export folder, or off-the-shelf model hf:MODEL (see cl2cm models)."
    ),
]
OtherModel = Annotated[
    str | None,
    typer.Option(
        "--run", help="Run, export or hf:MODEL to use instead of the one recorded in the index."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
TextEncoder = Annotated[
    str, typer.Option(help="Current location of the run's text encoder, such as hf:DIR.")
]
VisionEncoder = Annotated[
    str, typer.Option(help="Current location of the run's vision encoder, such as onnx:DIR.")
]
Features = Annotated[
    Path | None,
    typer.Option(help="Stored features of these items, for a run trained on features."),
]
# For commands that read a manifest: invalid lines, and items whose file or features cannot be
# read, are listed and skipped; without it the first of them is an error.
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="List broken items and skip them.")]
Languages = Annotated[str, typer.Option(help="Languages, such as de,fr; empty: all.")]
CaptionLanguage = Annotated[str, typer.Option(help="Language of captions without a language code.")]
EvaluatedSplit = Annotated[str, typer.Option("--split", help="Split to evaluate.")]
LeakCheck = Annotated[
    bool,
    typer.Option("--leak-check/--no-leak-check", help="Check for images that occur in two splits."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Resume an interrupted run.")]
Roots = Annotated[
    list[Path] | None,
    typer.Option("--media-root", help="Allow reading another folder; repeatable."),
]
Cleartext = Annotated[
    bool,
    typer.Option("--allow-cleartext", help="Send credentials to another machine without TLS."),
]
ForeignBackend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        help="Allow this plug-in backend for an index that you did not make.",
        metavar="NAME",
    ),
]
ServerUrl = Annotated[
    str | None, typer.Option("--url", help="URL of the server that holds the index.")
]

# For commands that read a folder, where one broken file does not stop the rest.
Strict = Annotated[
    bool, typer.Option("--strict", help="Stop at the first broken item, also in a folder.")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        help="Skip files and folders that match a .gitignore pattern; repeatable. Put permanent "
        "patterns into a file .cl2cmignore.",
        metavar="PATTERN",
    ),
]


def encoders(text: str = "", vision: str = "", features: Path | None = None) -> "Encoders":
    """Return where the encoders of a run are, from the options above."""
    from cl2cm.model.encoders import Encoders

    if vision and features is not None:
        raise ConfigError(
            "--vision-encoder and --features",
            expected="one of them",
            found="both",
            remedy="remove one",
        )
    return Encoders(text, vision if features is None else f"features:{features}")


def for_both(option: str, values: Sequence[T] | None, default: T) -> tuple[T, T]:
    """Return the values of an option for two runs; one value applies to both."""
    given = list(values or ()) or [default]
    if len(given) > 2:
        raise ConfigError(
            option, expected="once or twice", found=f"{len(given)} times", remedy="remove some"
        )
    return given[0], given[-1]


def show(value: dict[str, Any], *, as_json: bool, lines: Sequence[str]) -> None:
    """Print a result: as JSON, or as lines for people."""
    found = plain_json(json.dumps(value, ensure_ascii=False))
    text = found if as_json else "\n".join(plain(line) for line in lines)
    if not text:
        return
    encoding = sys.stdout.encoding
    try:
        text.encode(encoding)
    except UnicodeEncodeError:  # not UTF-8, or a file name that is not text
        escaped = text.encode(encoding, "backslashreplace").decode(encoding)
        text = json.dumps(value) if as_json else escaped
    print(text, flush=True)  # noqa: T201 - the result


def words(text: str) -> list[str]:
    """Return the words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def numbers(option: str, text: str) -> list[int]:
    """Return the whole numbers between commas."""
    for word in words(text):
        if not (word.isascii() and word.isdigit()):
            raise ConfigError(
                option, expected="numbers such as 0,1,2", found=repr(text), remedy="correct it"
            )
    return [int(word) for word in words(text)]


def named_backends(backend: str | None) -> tuple[str, ...]:
    """Return the plug-in backends that ``--backend`` allows."""
    return (backend,) if backend else ()
