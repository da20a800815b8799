"""The manifest format: JSON Lines, one visual item per line ("The task" of method.md).

Training and evaluation read their triples (V, S, T) from here, so the reader is strict: a line is
either wholly understood or an error with file, line, field and remedy. Reading streams; a manifest
of any length takes the memory of its ids.
"""

import difflib
import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cl2cm.data.gzip_reading import open_gzip
from cl2cm.data.line_json import LINE_LIMIT, BadFieldError
from cl2cm.data.lines import parse, serialise
from cl2cm.errors import CL2CMError, ManifestError, OnSkip
from cl2cm.progress import say
from cl2cm.storage import atomic_file
from cl2cm.types import Example, StrPath


class Skipped:
    """What a command leaves out with ``--skip-bad``: everything is named once, when it is met.

    Attributes:
        names: ids of items, and places of lines (``FILE:LINE``).
    """

    def __init__(self) -> None:
        self.names: list[str] = []

    def item(self, name: str, error: CL2CMError) -> None:
        """Note an item whose file or features cannot be read, or a line that does not fit."""
        if name not in self.names:
            self.names.append(name)
            say(f"skipped: {error}" if name == error.subject else f"skipped {name}: {error}")


def read_manifest(
    path: StrPath,
    *,
    source: str | None = "en",
    skip_bad: bool = False,
    on_skip: OnSkip | None = None,
) -> Iterator[Example]:
    """Read a manifest line by line.

    Args:
        path: a ``.jsonl`` or ``.jsonl.gz`` file.
        source: language that the ``translations`` are made from; each of their lists is as
            long as its captions. None: whichever language that may be, of each item.
        skip_bad: leave out lines that do not fit; damage of the whole file is still an error.
        on_skip: called with place and error of every line left out.

    Yields:
        Examples in the order of the file, their paths absolute. The images need not exist.

    Raises:
        ManifestError: the file or a line does not fit the format.

    Example:
        >>> import cl2cm
        >>> examples = list(cl2cm.read_manifest("manifest.jsonl"))
        >>> examples[0].id, examples[0].split, examples[0].captions["en"][0]
        ('red-circle-0', 'train', 'red circle')
    """
    path = Path(path)
    folder = path.parent.resolve()
    seen: dict[str, int] = {}
    number = 0
    for number, line in enumerate(_lines(path), start=1):
        try:
            example = parse(line, folder, source)
            _check_new(example.id, number, seen)
        except BadFieldError as bad:
            error = bad.at(f"{path}:{number}")
            if not skip_bad:
                raise error from None
            if on_skip is not None:
                on_skip(error.subject, error)
            continue
        yield example
    if number == 0:
        raise ManifestError(
            str(path), expected="one item per line", found="no line", remedy="write it again"
        )


def write_manifest(path: StrPath, examples: Iterable[Example], *, source: str = "en") -> None:
    """Write a manifest, whole or not at all; equal examples give equal bytes.

    Args:
        path: ``.jsonl`` or ``.jsonl.gz``.
        examples: their paths absolute; written relative to the folder of ``path``.
        source: language that the ``translations`` are made from.

    Raises:
        ManifestError: an example that could not be read back.
        StorageError: the disk is full, read-only or closed to us.
    """
    path = Path(path)
    compressed = _is_gzip(path)
    folder = path.parent.resolve()
    seen: dict[str, int] = {}
    with ExitStack() as stack:
        file = stack.enter_context(atomic_file(path))
        write = file.write
        if compressed:
            packed = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
            write = stack.enter_context(packed).write
        for number, example in enumerate(examples, start=1):
            try:
                _check_new(example.id, number, seen)
                write(serialise(example, folder, source) + b"\n")
            except BadFieldError as bad:
                raise bad.at(f"{path}:{number}") from None


def summarise(examples: Iterable[Example]) -> dict[str, Any]:
    """Count items, captions and translations, by split and language.

    Returns:
        ``{"items": n, "splits": {split: {"items": n, "captions": {language: n},
        "translations": {language: {engine: n}}}}}``; unknown (null) translations do not count.
    """
    splits: dict[str, dict[str, Any]] = {}
    for example in examples:
        empty: dict[str, Any] = {"items": 0, "captions": {}, "translations": {}}
        counts = splits.setdefault(example.split, empty)
        counts["items"] += 1
        for language, texts in example.captions.items():
            counts["captions"][language] = counts["captions"].get(language, 0) + len(texts)
        for language, engines in example.translations.items():
            by_engine = counts["translations"].setdefault(language, {})
            for engine, made in engines.items():
                known = sum(text is not None for text in made)
                by_engine[engine] = by_engine.get(engine, 0) + known
    return {"items": sum(counts["items"] for counts in splits.values()), "splits": splits}


def split_of_manifest(examples: Sequence[Example], split: str, path: Path) -> list[Example]:
    """Return the items of a split.

    Raises:
        ManifestError: there is none.
    """
    chosen = [example for example in examples if example.split == split]
    if not chosen:
        there = sorted({example.split for example in examples})
        raise ManifestError(
            str(path),
            expected=f"items of the split {split!r}",
            found=f"splits {', '.join(there) or 'none'}",
            remedy="choose another --split",
        )
    return chosen


def _check_new(identity: str, number: int, seen: dict[str, int]) -> None:
    if (first := seen.setdefault(identity, number)) != number:
        found = f"the id of line {first} again"
        raise BadFieldError("id", "an id that no other line has", found, "rename one of the two")


def _check_there(path: Path) -> None:
    """Say that a path leads nowhere, or to a folder, before its name is looked at."""
    if path.is_dir():
        there = [path / name for name in ("manifest.jsonl", "manifest.jsonl.gz")]
        named = next((str(file) for file in there if file.is_file()), "")
        raise ManifestError(
            str(path),
            expected="a manifest, a file whose name ends in .jsonl or .jsonl.gz",
            found="a folder",
            remedy=f"name the manifest in it: {named}"
            if named
            else f"make one of it: cl2cm prepare folder {path} OUT",
        )
    with _file_errors(path):
        try:
            path.stat()
        except FileNotFoundError:
            beside = [path.parent / name for name in _names_beside(path)]
            remedy = f"did you mean {beside[0]}?" if beside else "check the path"
            raise ManifestError(
                str(path),
                expected="a file or folder",
                found="no such file or folder",
                remedy=remedy,
            ) from None


def _names_beside(path: Path) -> list[str]:
    """Names in the folder of a path that are nearly its own."""
    try:
        names = [other.name for other in path.parent.iterdir()]
    except OSError:
        return []
    return difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)


def _is_gzip(path: Path) -> bool:
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return path.name.endswith(".gz")
    table = path.suffix in (".csv", ".tsv", ".txt", ".json")
    raise ManifestError(
        str(path),
        expected="a name that ends in .jsonl or .jsonl.gz",
        found=f"the name {path.name!r}",
        remedy=f"make a manifest of it: cl2cm prepare folder {path} OUT"
        if table
        else "rename it, or name another file",
    )


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ManifestError(
            str(path),
            expected="a complete gzip file",
            found=f"a damaged one ({error})",
            remedy="fetch or write it again",
        ) from error
    except OSError as error:
        raise ManifestError(
            str(path),
            expected="a readable file",
            found=(error.strerror or str(error)).lower(),
            remedy="check the path and its permissions",
        ) from error


def _lines(path: Path) -> Iterator[bytes]:
    """Yield lines without their end; of an overlong one, only what shows that it is."""
    _check_there(path)
    compressed = _is_gzip(path)
    with _file_errors(path):
        opened = open_gzip(path) if compressed else path.open("rb")
    with opened as file:
        while True:
            with _file_errors(path):
                line = rest = file.readline(LINE_LIMIT + 1)
                while len(rest) > LINE_LIMIT and not rest.endswith(b"\n"):
                    rest = file.readline(LINE_LIMIT + 1)
            if not line:
                return
            yield line.removesuffix(b"\n")
