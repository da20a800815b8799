"""What the commands of the command line share: how a result is printed, and options of several."""

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
        help="Run or export folder, or an off-the-shelf model: hf:MODEL; see cl2cm models."
    ),
]
OtherModel = Annotated[
    str | None,
    typer.Option("--run", help="Run, export or hf:MODEL, where it is not the one of the index."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
TextEncoder = Annotated[
    str, typer.Option(help="Where the run's text encoder is by now, such as hf:DIR.")
]
VisionEncoder = Annotated[
    str, typer.Option(help="Where the run's vision encoder is by now, such as onnx:DIR.")
]
Features = Annotated[
    Path | None,
    typer.Option(help="For a run trained on features: where those of these items are."),
]
# Of every command that reads a manifest: lines that do not fit, and items whose file or features
# cannot be read, are named and left out; without it the first of them is an error.
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="List broken items and leave them out.")]
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

# Of the commands that read a folder, where one broken file does not stop the rest.
Strict = Annotated[
    bool, typer.Option("--strict", help="Stop at the first broken item of a folder, too.")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        help="Leave files or folders out, by a pattern as in .gitignore; repeatable. Patterns that "
        "last belong into a file .cl2cmignore.",
        metavar="PATTERN",
    ),
]


def encoders(text: str = "", vision: str = "", features: Path | None = None) -> "Encoders":
    """Where the encoders of a run are, by the options above."""
    from cl2cm.model.encoders import Encoders

    if vision and features is not None:
        raise ConfigError(
            "--vision-encoder and --features",
            expected="one of them",
            found="both",
            remedy="leave one out",
        )
    return Encoders(text, vision if features is None else f"features:{features}")


def for_both(option: str, values: Sequence[T] | None, default: T) -> tuple[T, T]:
    """Return the values of an option for two runs: given once it is for both."""
    given = list(values or ()) or [default]
    if len(given) > 2:
        raise ConfigError(
            option, expected="once or twice", found=f"{len(given)} times", remedy="leave some out"
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
    except UnicodeEncodeError:  # not UTF-8, or a file name that is no text
        escaped = text.encode(encoding, "backslashreplace").decode(encoding)
        text = json.dumps(value) if as_json else escaped
    print(text, flush=True)  # noqa: T201 - the result


def words(text: str) -> list[str]:
    """Words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def numbers(option: str, text: str) -> list[int]:
    """Whole numbers between commas."""
    for word in words(text):
        if not (word.isascii() and word.isdigit()):
            raise ConfigError(
                option, expected="numbers such as 0,1,2", found=repr(text), remedy="correct it"
            )
    return [int(word) for word in words(text)]


def named_backends(backend: str | None) -> tuple[str, ...]:
    """Backends of other packages that the user allows by ``--backend``."""
    return (backend,) if backend else ()
