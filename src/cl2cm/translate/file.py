"""Existing translations as a table: source text, tab, translation.

The name of the file may hold ``{source}`` and ``{target}``, which become the languages' codes.
"""

from collections.abc import Sequence
from pathlib import Path

from cl2cm.errors import ConfigError, DatasetError
from cl2cm.storage import read_regular, sha256_file, storage_errors
from cl2cm.text import is_blank, one_line


class FileTranslator:
    """A table; ``""`` for a text that it does not have.

    Args:
        path: UTF-8, one pair a line; white space in a text counts as one blank.
        source: language of the first column.
        target: language of the second.

    Raises:
        ConfigError: there is no such file.
        DatasetError: a line that is not a pair, or a text with two translations.
    """

    licence = "unknown"
    batch = 10_000
    own_threads = False

    def __init__(self, path: Path, source: str, target: str) -> None:
        if not path.is_file():
            raise ConfigError(
                f"engine file:{path}",
                expected="a file of lines SOURCE<tab>TRANSLATION",
                found="no such file",
                remedy="correct its name",
            )
        self.name, self.source, self.target = path.stem.removesuffix(f".{target}"), source, target
        try:
            with storage_errors(path):
                self.version = sha256_file(path)[:12]
                self._known = _read(path)
        except OSError as error:
            found = (error.strerror or str(error)).lower()
            raise DatasetError(
                str(path), expected="a table that can be read", found=found, remedy="replace it"
            ) from error

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Return the translation of each text, in order; ``""`` where the table has none."""
        return [self._known.get(one_line(text), "") for text in texts]


def open_translator(argument: str, source: str, target: str) -> FileTranslator:
    """Return the table ``argument``, for a direction."""
    name = argument.replace("{source}", source).replace("{target}", target)
    return FileTranslator(Path(name).expanduser(), source, target)


def _read(path: Path) -> dict[str, str]:
    known: dict[str, str] = {}
    # Not splitlines: a caption may hold one of the rarer line separators.
    lines = read_regular(path).removesuffix(b"\n").split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            cells = line.decode().removesuffix("\r").removeprefix("\ufeff").split("\t")
        except UnicodeDecodeError:
            raise _bad(path, number, "UTF-8", "other bytes") from None
        if len(cells) != 2 or is_blank(cells[0]):
            found = f"{len(cells)} columns" if len(cells) != 2 else "no source text"
            raise _bad(path, number, "SOURCE<tab>TRANSLATION", found)
        text, translation = map(one_line, cells)
        if known.setdefault(text, translation) != translation:
            raise _bad(path, number, "one translation of a text", f"another of {text[:40]!r}")
    return known


def _bad(path: Path, number: int, expected: str, found: str) -> DatasetError:
    return DatasetError(
        f"{path}:{number}", expected=expected, found=found, remedy="correct the line"
    )
