"""Limits on an untrusted ``tokenizer.json``, so that tokenisation always ends.

Its normaliser and pre-tokenizer may hold regular expressions, which are matched by backtracking,
and steps that lengthen a text, again and again: replacements, tables of replacements, bytes written
as characters. Its post-processor may repeat the text, its padding fill up any length. Expressions
must be of the simple form that tokenizers have: no repeated groups, no references, at most two
unbounded repetitions and six of any kind in each alternative, which bounds a match by the square of
the text's length.
"""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_STEPS = 32  # of normaliser and pre-tokenizer
MAX_GROWTH = 64  # times as long as the text may become
MAX_PIECES = 64  # of a post-processor's template
MAX_PADDING = 2**16  # tokens
MAX_PATTERN = 2000  # characters of an expression
MAX_UNBOUNDED, MAX_REPEATED = 2, 6  # repetitions in each alternative: without an end, in all
_UNICODE = 18  # characters that one becomes under a compatibility form
_FEW = 16  # a repetition of at most so many times counts as bounded
_PART = re.compile(
    r"\\[pPxuk]\{[^}]*\}|\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]"  # escapes and classes
    r"|\((?:\?[a-zA-Z-]*[:=!>]|\?<[=!])?"  # the beginning of a group
    r"|(?:[*+?]|\{\d*,?\d*\})[?+]?|[\s\S]"
)
_REPEAT = re.compile(r"\{(\d*)(,?)(\d*)\}")
MAX_FILE = 128 * 2**20  # bytes of a tokenizer.json; those of 250,000 pieces have 9 to 35 MB
_EXPRESSION = re.compile(rb'"Regex"\s*:\s*("(?:[^"\\]|\\.)*")')
_ESCAPED = re.compile(rb"\\u(?!00[01])")  # a letter, with which a key could be spelt otherwise


def open_tokenizer(path: Path) -> Any:  # noqa: ANN401 - tokenizers has no types
    """Open a ``tokenizer.json`` that cannot run out of time or memory.

    Its vocabulary is not parsed twice: expressions are looked for in the file before it is
    opened, and the steps of the opened tokenizer are checked before it sees a text.

    Raises:
        ValueError: it could run out of them, or is not a tokenizer.
    """
    from tokenizers import Tokenizer  # noqa: PLC0415 - heavy

    if path.stat().st_size > MAX_FILE:
        raise ValueError(f"a tokenizer of more than {MAX_FILE:,} bytes")
    data = path.read_bytes()
    if _ESCAPED.search(data):
        check_tokenizer(json.loads(data))
    for found in _EXPRESSION.finditer(data):
        check_pattern(json.loads(found[1]))
    try:
        tokenizer = Tokenizer.from_buffer(data)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ValueError(f"no tokenizer ({str(error)[:80]})") from None  # Rust's panics, too
    parts = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
    steps = {name: getattr(tokenizer, name) for name in parts}
    whole = {name: json.loads(one.__getstate__()) for name, one in steps.items() if one is not None}
    padding = tokenizer.padding or {}
    whole["padding"] = {"strategy": {"Fixed": padding.get("length")}} | padding
    check_tokenizer(whole)
    return tokenizer


def check_tokenizer(value: Any) -> None:  # noqa: ANN401 - whatever the file holds
    """Refuse a ``tokenizer.json`` that could run out of time or memory.

    Raises:
        ValueError: it could.
    """
    if not isinstance(value, dict):
        raise ValueError("tokenizer.json is no object")
    steps = [*_steps(value.get("normalizer")), *_steps(value.get("pre_tokenizer"))]
    if len(steps) > MAX_STEPS:
        raise ValueError(f"tokenizer.json has {len(steps)} steps, more than {MAX_STEPS}")
    for step in (*steps, *_steps(value.get("decoder"))):
        pattern = step.get("pattern")
        if isinstance(pattern, dict) and isinstance(pattern.get("Regex"), str):
            check_pattern(pattern["Regex"])
    growth = _growth(steps) * _repeats(value.get("post_processor"))
    if growth > MAX_GROWTH:
        raise ValueError(f"tokenizer.json makes texts up to {growth} times as long")
    _check_padding(value.get("padding"))


def check_pattern(pattern: str) -> None:
    """Refuse a regular expression that can take more than the square of a text's length.

    Raises:
        ValueError: it can, or it is longer than any tokenizer needs.
    """
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"a regular expression of {len(pattern)} characters")
    unbounded = repeated = depth = 0
    before = ""
    for match in _PART.finditer(pattern):
        part = match[0]
        depth += (part[0] == "(") - (part == ")")
        if part == "|" and depth == 0:
            unbounded = repeated = 0
        elif _is_repetition(part) and before:
            if before == ")" and part[0] != "?":
                raise ValueError(f"a repeated group in the expression {pattern[:60]!r}")
            unbounded += _is_unbounded(part)
            repeated += 1
            if unbounded > MAX_UNBOUNDED or repeated > MAX_REPEATED:
                raise ValueError(f"too many repetitions in the expression {pattern[:60]!r}")
        elif re.fullmatch(r"\\[1-9kg].*", part) or part.startswith("(?>"):
            raise ValueError(f"a reference in the expression {pattern[:60]!r}")
        before = part


def _growth(steps: list[dict[str, Any]]) -> int:
    """Return by which factor normaliser and pre-tokenizer may lengthen a text."""
    growth, forms = 1, 0
    for step in steps:
        kind = step.get("type")
        growth *= max(1, len(str(step.get("content") or "")))
        if kind == "ByteLevel":
            growth *= 2  # a byte beyond ASCII becomes a character of two bytes
        elif kind == "Precompiled":
            growth *= _longest_replacement(step.get("precompiled_charsmap"))
        elif kind in ("NFKC", "NFKD"):  # one after another they change nothing more
            growth *= _UNICODE if forms else 1
            forms += 1
    return growth


def _longest_replacement(charsmap: Any) -> int:  # noqa: ANN401
    """Return characters of the longest replacement in SentencePiece's table of them."""
    if not isinstance(charsmap, str):
        return 1
    table = base64.b64decode(charsmap, validate=False)
    replacements = table[4 + int.from_bytes(table[:4], "little") :].split(b"\0")
    return max(1, *(len(text.decode(errors="replace")) for text in replacements))


def _repeats(post_processor: Any) -> int:  # noqa: ANN401
    """Return how many times a post-processor gives the tokens of a text.

    Raises:
        ValueError: a template has too many pieces.
    """
    repeats = 1
    for step in _steps(post_processor):
        for pieces in (step.get("single"), step.get("pair")):
            if not isinstance(pieces, list):
                continue
            if len(pieces) > MAX_PIECES:
                raise ValueError(f"a template of {len(pieces)} pieces, more than {MAX_PIECES}")
            texts = sum(isinstance(piece, dict) and "Sequence" in piece for piece in pieces)
            repeats *= max(1, texts)
    return repeats


def _check_padding(padding: Any) -> None:  # noqa: ANN401
    if not isinstance(padding, dict):
        return
    strategy = padding.get("strategy")
    lengths = [padding.get("pad_to_multiple_of")]
    lengths += strategy.values() if isinstance(strategy, dict) else []
    if any(isinstance(length, int | float) and length > MAX_PADDING for length in lengths):
        raise ValueError(f"tokenizer.json pads texts to more than {MAX_PADDING} tokens")


def _is_repetition(part: str) -> bool:
    return part[0] in "*+?" or bool(_REPEAT.match(part))


def _is_unbounded(part: str) -> bool:
    if part[0] in "*+":
        return True
    match = _REPEAT.match(part)
    if match is None:
        return False
    low, comma, high = match.groups()
    last = high if comma else low
    return not last or int(last) > _FEW


def _steps(value: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    """Yield the steps of a normaliser or pre-tokenizer, including the steps of sequences."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            yield one
            for key in ("normalizers", "pretokenizers", "decoders", "processors"):
                if isinstance(one.get(key), list):
                    left += one[key]
