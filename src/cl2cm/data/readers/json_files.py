"""JSON of data sets: values are read by type, and errors name their position.

What is asked for and not there, or of another kind, is an error with the place in the file:
``captions.json: images[12].filename``, or ``test.jsonl:7: sentences[0]``.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cl2cm.data.readers.reading import bad_line, numbered_lines
from cl2cm.errors import DatasetError

_UNFIT_NAME = re.compile(r"[\x00-\x1f\x7f/\\]")
_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "a truth value",
    type(None): "null",
    int: "a number",
    float: "a number",
}


@dataclass(frozen=True, slots=True)
class Record:
    """A value in a JSON file.

    Attributes:
        value: the value itself.
        file: its file, with the line where each line is a value of its own.
        path: keys and numbers on the way to it; empty for the outermost.
    """

    value: object
    file: str
    path: str = ""

    def get(self, key: str) -> "Record":
        """Return the value of a key.

        Raises:
            DatasetError: this is not an object, or has no such key.
        """
        found = self.find(key)
        if found is None:
            raise self.at(key).bad("it to be there", "no such key")
        return found

    def find(self, key: str) -> "Record | None":
        """Return the value of a key, None if there is none.

        Raises:
            DatasetError: this is not an object.
        """
        if type(self.value) is not dict:
            raise self._other("an object")
        return self.at(key, self.value[key]) if key in self.value else None

    def fields(self) -> Iterator[tuple[str, "Record"]]:
        """Yield every key with its value.

        Raises:
            DatasetError: this is not an object.
        """
        if type(self.value) is not dict:
            raise self._other("an object")
        for key, value in self.value.items():
            yield key, self.at(key, value)

    def items(self) -> Iterator["Record"]:
        """Yield the values of a list.

        Raises:
            DatasetError: this is not a list.
        """
        if type(self.value) is not list:
            raise self._other("a list")
        for number, value in enumerate(self.value):
            yield Record(value, self.file, f"{self.path}[{number}]")

    def text(self) -> str:
        """Return a non-empty text without surrounding white space.

        Raises:
            DatasetError: this is something else, or holds half a surrogate pair.
        """
        if type(self.value) is not str:
            raise self._other("a text")
        if not self.value.strip():
            raise self.bad("a text", "a blank one")
        try:
            self.value.encode()
        except UnicodeEncodeError:
            raise self.bad("whole characters", "half a surrogate pair") from None
        return self.value.strip()

    def name(self) -> str:
        """Return a text that names a file in a folder, or an id.

        Raises:
            DatasetError: this is something else, a path, or holds control characters.
        """
        text = self.text()
        if _UNFIT_NAME.search(text) or text in {".", ".."}:
            raise self.bad("a plain name", json.dumps(text[:40]))
        return text

    def number(self) -> int:
        """Return a whole number, 0 or more.

        Raises:
            DatasetError: this is something else.
        """
        if type(self.value) is not int:
            raise self._other("a whole number")
        if self.value < 0:
            raise self.bad("a number, 0 or more", str(self.value)[:40])
        return self.value

    def texts(self) -> tuple[str, ...]:
        """Return a list of texts, at least one.

        Raises:
            DatasetError: this is something else.
        """
        found = tuple(item.text() for item in self.items())
        if not found:
            raise self.bad("at least one text", "none")
        return found

    def at(self, key: str, value: object = None) -> "Record":
        """Return the place of a key below this one."""
        return Record(value, self.file, f"{self.path}.{key}" if self.path else key)

    def bad(self, expected: str, found: str, remedy: str = "fetch the file again") -> DatasetError:
        """Return the error of this value."""
        place = f"{self.file}: {self.path}" if self.path else self.file
        return DatasetError(place, expected=expected, found=found, remedy=remedy)

    def _other(self, expected: str) -> DatasetError:
        return self.bad(expected, _KINDS.get(type(self.value), "something else"))


def read_json(path: Path) -> Record:
    """Return a JSON file (gzip by its name), UTF-8, whole in memory.

    Raises:
        DatasetError: the file cannot be read or is not JSON; the error names the line.
    """
    lines = [text for _, text in numbered_lines(path)]
    try:
        return Record(_parse("\n".join(lines)), str(path))
    except json.JSONDecodeError as error:
        raise bad_line(path, error.lineno, "JSON", _complaint(error)) from None
    except (ValueError, RecursionError) as error:
        raise Record(None, str(path)).bad("JSON", _complaint(error)) from None


def read_json_lines(path: Path) -> Iterator[Record]:
    """Yield a file of JSON values, one per line (gzip by its name), UTF-8.

    Raises:
        DatasetError: the file cannot be read, or a line is not JSON.
    """
    for number, line in numbered_lines(path):
        yield parse_json(line, f"{path}:{number}")


def parse_json(text: str, place: str) -> Record:
    """Return the JSON value in one place, such as a line of a file.

    Raises:
        DatasetError: it is not JSON; the error names the place.
    """
    try:
        return Record(_parse(text), place)
    except (ValueError, RecursionError) as error:
        found = _complaint(error) if text.strip() else "an empty line"
        raise Record(None, place).bad("a JSON value", found) from None


def _parse(text: str) -> object:
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice[:40]!r} twice")
    return value


def _complaint(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "deep nesting"
    if isinstance(error, json.JSONDecodeError):
        return f"what is not ({error.msg} at column {error.colno})"
    return f"what is not ({error})"
