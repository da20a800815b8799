"""The command ``search``."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cl2cm.cli.examples import WithExamples
from cl2cm.cli.options import (
    Cleartext,
    ForeignBackend,
    Json,
    OtherModel,
    ServerUrl,
    TextEncoder,
    VisionEncoder,
    encoders,
    named_backends,
    show,
)
from cl2cm.errors import ConfigError, MediaError, VectorIndexError
from cl2cm.progress import say


class AsksInWords(WithExamples):
    """A command whose query may begin with a hyphen: ``cl2cm search INDEX "-red heart"``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - of typer
        """Parse a command line after its words are told from its options."""
        options = {name: option for option in self.params for name in option.opts}
        return super().parse_args(ctx, _words_last(list(args), options))


def _words_last(arguments: list[str], options: dict[str, Any]) -> list[str]:
    """Put what is not an option behind ``--``, in its order.

    Args:
        arguments: of the command line.
        options: the parameters of the command, by all their names.
    """
    first: list[str] = []
    words: list[str] = []
    while arguments:
        argument = arguments.pop(0)
        if argument == "--":
            words += arguments
            break
        name = argument.partition("=")[0]
        if argument.startswith("--") or re.fullmatch(r"-[kh]|-k=?-?[0-9]+", argument):
            first.append(argument)
            takes_value = name in options and not getattr(options[name], "is_flag", False)
            if takes_value and "=" not in argument and arguments:
                first.append(arguments.pop(0))
        else:
            words.append(argument)
    return [*first, "--", *words]


def search(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    query: Annotated[
        list[str] | None,
        typer.Argument(help='Query, in any language; -word or -"two words" excludes a term.'),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Number of hits to return, 1 to 1000.")] = 10,
    offset: Annotated[int, typer.Option(help="Number of hits to skip.")] = 0,
    without: Annotated[list[str] | None, typer.Option(help="Term to exclude; repeatable.")] = None,
    like: Annotated[str, typer.Option(help="Find items similar to the item with this id.")] = "",
    picture: Annotated[
        Path | None,
        typer.Option("--image", "--picture", help="Find items similar to this image file."),
    ] = None,
    weight: Annotated[
        float, typer.Option(help="Weight of the image relative to the text, 0 to 1.")
    ] = 0.5,
    literal: Annotated[
        bool,
        typer.Option(
            "--literal", help="Search for the text as written: a hyphen excludes nothing."
        ),
    ] = False,
    fold: Annotated[bool, typer.Option("--fold", help="Show near-duplicates once.")] = False,
    folder: Annotated[
        str | None, typer.Option(help="Only items in this folder or below it.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Only items with this text in their file or folder name; without a query, list "
            "them.",
            metavar="TEXT",
        ),
    ] = None,
    min_match: Annotated[
        float | None,
        typer.Option(
            help="Only hits with at least this match, 0 to 1.  [default: 0.2 with --sort, else 0]"
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help="newest or oldest: sort the best hits by date instead of match.", metavar="ORDER"
        ),
    ] = None,
    media: Annotated[
        str | None, typer.Option(help="Only this kind: image or video.", metavar="KIND")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Only items taken on this day or later, such as 2024-01-31: EXIF date, else the "
            "file's modification time, in local time."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Only items taken on this day or earlier.")
    ] = None,
    min_bytes: Annotated[int | None, typer.Option(help="Only files of at least this size.")] = None,
    max_bytes: Annotated[int | None, typer.Option(help="Only files of at most this size.")] = None,
    queries: Annotated[Path | None, typer.Option(help="Search for each line of this file.")] = None,
    trec: Annotated[
        Path | None, typer.Option(help="Write the results of --queries as a TREC run to this file.")
    ] = None,
    run: OtherModel = None,
    backend: ForeignBackend = None,
    url: ServerUrl = None,
    allow_cleartext: Cleartext = False,
    text_encoder: TextEncoder = "",
    vision_encoder: VisionEncoder = "",
    as_json: Json = False,
) -> None:
    """Search an index by text in any language, by image, or both."""
    from cl2cm.cli.hit_lines import hit_lines, none_found
    from cl2cm.cli.indexing import open_searcher
    from cl2cm.index import Allowed, Filter
    from cl2cm.search.query import Query, checked, parse_query

    if like and picture:
        raise ConfigError(
            "--like and --image", expected="one of them", found="both", remedy="remove one"
        )
    if picture is not None and not picture.is_file():
        found = "a folder" if picture.is_dir() else "no such file"
        raise MediaError(
            f"--image {picture}", expected="an image", found=found, remedy="correct the path"
        )
    typed = " ".join(query or ())
    _check_index(index, typed)
    text, unwanted = (typed, ()) if literal else parse_query(typed)
    among = Filter(folder, media, since, until, min_bytes, max_bytes, name)  # type: ignore[arg-type]
    request = Query(
        text, (*unwanted, *(without or ())), like or picture or None, weight, k, offset, among,
        fold=fold, min_match=min_match, sort=sort,  # type: ignore[arg-type]
    )  # fmt: skip
    allowed = Allowed.of(url, cleartext=allow_cleartext, backends=named_backends(backend))
    where = encoders(text_encoder, vision_encoder)
    if queries is not None or trec is not None:
        opened = functools.partial(open_searcher, index, run, allowed, where)
        _search_file(opened, queries, request, trec=trec, as_json=as_json)
        return
    request = checked(request)
    searcher = open_searcher(index, run, allowed, where)
    result = searcher.search_timed(request)
    if not result.hits:
        say(none_found(request, searcher.index))
    answer = result.to_json() if as_json else {}  # it tells the language, which takes a while
    show(answer, as_json=as_json, lines=hit_lines(result))


def _check_index(index: Path, query: str) -> None:
    """Refuse what is not a folder before anything else is said of the query.

    Raises:
        VectorIndexError: there is no such folder.
    """
    if index.is_dir() or index.exists():  # a file is refused when it is opened
        return
    like = "" if query else ", such as: cl2cm search INDEX 'a dog in the snow'"
    raise VectorIndexError(
        str(index),
        expected="the folder of an index",
        found="no such folder",
        remedy=f"name the folder that cl2cm index made{like}",
    )


def _search_file(
    opened: Callable[[], Any],  # a Searcher, which is not imported yet
    queries: Path | None,
    request: Any,  # noqa: ANN401 - a Query, too
    *,
    trec: Path | None,
    as_json: bool,
) -> None:
    import time

    from cl2cm.cli.hit_lines import answer_lines
    from cl2cm.progress import track
    from cl2cm.search.batch import answers_json, read_queries, search_all, write_trec
    from cl2cm.search.query import check_numbers
    from cl2cm.storage import check_writable

    beside = (
        request.texts
        or request.like is not None
        or request.fold
        or request.sort
        or request.weight != 0.5
    )
    if queries is None or beside:
        raise ConfigError(
            "--queries",
            expected="a file of queries, with -k, --offset and filters, and no query beside it",
            found="none" if queries is None else "both",
            remedy="write cl2cm search INDEX --queries FILE",
        )
    check_numbers(request)
    asked = read_queries(queries)
    if trec is not None:
        check_writable(trec)
    searcher = opened()
    begin = time.monotonic()
    with track("search", len(asked)) as progress:
        answers = search_all(searcher, asked, request, progress=progress)
    if trec is not None:
        write_trec(trec, answers)
    show(answers_json(answers, begin), as_json=as_json, lines=answer_lines(answers))
