"""The JSON of a manifest line: one object, plain values, and what is wrong where it is not."""

import json
import math
import re
from collections import Counter
from typing import Any

from cl2cm.errors import ManifestError

LINE_LIMIT = 10 * 2**20  # bytes; a longer line is a damaged file, not an item
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class BadFieldError(Exception):
    """What is wrong with one field of a line; the reader adds file and line."""

    def __init__(self, field: str, expected: str, found: str, remedy: str) -> None:
        super().__init__(field)
        self.field, self.expected, self.found, self.remedy = field, expected, found, remedy

    def at(self, place: str) -> ManifestError:
        """Say the same of a line of a file, ``FILE:LINE``."""
        subject = f"{place}: {self.field}" if self.field else place
        return ManifestError(subject, expected=self.expected, found=self.found, remedy=self.remedy)


def _kind(value: object) -> str:
    names = {str: "a text", list: "a list", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def show(value: object) -> str:
    """Return a value as JSON for a message, cut where it is long."""
    if type(value) is float and not math.isfinite(value):
        return "NaN or infinity"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}…"


def decode_line(line: bytes) -> dict[str, Any]:
    """Return the object of a line.

    Raises:
        BadFieldError: it is too long, no UTF-8, or no JSON object.
    """
    remedy = "write one JSON object a line, in UTF-8"
    if len(line) > LINE_LIMIT:
        found = f"more than {LINE_LIMIT // 2**20} MB without a line end"
        raise BadFieldError("", "a line of one item", found, remedy)
    try:
        text = line.decode()
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise BadFieldError("", "UTF-8", f"byte {error.start} that is not", remedy) from None
    except RecursionError:
        raise BadFieldError("", "a JSON object", "deep nesting", remedy) from None
    except ValueError as error:
        found = f"what is not JSON ({error})" if line.strip() else "an empty line"
        raise BadFieldError("", "a JSON object", found, remedy) from None
    if type(value) is not dict:
        raise BadFieldError("", "a JSON object", _kind(value), remedy)
    if b"\\u" in line and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise BadFieldError("", "whole characters", "half a surrogate pair", remedy)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise BadFieldError(twice, "one value", "the key twice", "remove one of them")
    return value


def _no_constant(name: str) -> float:
    raise BadFieldError("", "numbers that JSON knows", name, "leave the value out")
