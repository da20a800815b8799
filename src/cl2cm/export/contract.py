"""What an export promises, and whether its files keep it.

``contract.json`` names every file with its size and hash, says how texts and images are fed, and
holds a few texts with the ids and vectors that must come out. An export may come from anyone:
opening it executes no code and reads regular files inside the folder alone.

    text.onnx, text.weights      ids, mask → unit vector; large weights are in a file of their own
    vision.onnx, vision.weights  frames, mask → unit vector
    tokenizer.json               of the library ``tokenizers``
    contract.json                written last
    card.md                      for people
"""

import json
import re
from pathlib import Path
from typing import Any

from cl2cm.encode.onnx_files import check_graph
from cl2cm.encode.trust import check_inside
from cl2cm.errors import ExportError, WeightsError
from cl2cm.storage import sha256_file
from cl2cm.text import CASES
from cl2cm.types import StrPath

KIND, FORMAT = "cl2cm-export", 1
CONTRACT = "contract.json"
TEXT_FILES = ("text.onnx", "tokenizer.json")
VISION_FILES = ("vision.onnx",)
OPTIONAL = ("text.weights", "vision.weights", "card.md")
MAX_CONTRACT = 2**22  # bytes
MAX_EXAMPLES, MAX_EXAMPLE = 64, 4096  # and characters of each
MAX_SIDE, MAX_TOKENS, MAX_DIM = 4096, 8192, 8192
_CLASS = re.compile(r"\[[^\[\]]{1,2000}\]")  # one class of characters, which cannot backtrack
_AGAIN = "restore the folder, or export the run again"


def is_export(folder: StrPath) -> bool:
    """Return whether a folder is meant to be an export; nothing in it is opened."""
    path = Path(folder)
    graphs = any((path / name).is_file() for name in ("text.onnx", "vision.onnx"))
    return graphs and not (path / "config.toml").exists()


def read_contract(folder: Path) -> dict[str, Any]:
    """Return the contract of an export, whose form is as it should be.

    Raises:
        ExportError: there is none, or a damaged one.
        CheckpointError: a file of the folder is a link that leads out, or no regular file.
    """
    path = folder / CONTRACT
    for name in (CONTRACT, *TEXT_FILES, *VISION_FILES, *OPTIONAL):
        check_inside(folder / name, folder)
    try:
        if path.stat().st_size > MAX_CONTRACT:
            raise ValueError(f"more than {MAX_CONTRACT:,} bytes")
        contract = json.loads(path.read_text(encoding="utf-8"))
        _check_form(contract)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"key {error} is missing" if isinstance(error, KeyError) else error
        raise ExportError(
            str(path), expected="the contract of an export", found=f"{reason}", remedy=_AGAIN
        ) from None
    return dict(contract)


def check_sizes(folder: Path, contract: dict[str, Any], names: tuple[str, ...]) -> None:
    """Refuse an export without its files, or with files of other sizes.

    Raises:
        ExportError: there is one.
    """
    for name in names:
        path = folder / name
        wanted = contract["files"][name]["bytes"]
        found = path.stat().st_size if path.is_file() else None
        if found != wanted:
            raise ExportError(
                str(path),
                expected=f"{wanted:,} bytes",
                found="no such file" if found is None else f"{found:,}",
                remedy=_AGAIN,
            )


def check_hash(folder: Path, contract: dict[str, Any], name: str) -> None:
    """Refuse a file that is not as it was exported.

    Raises:
        ExportError: it is another.
    """
    wanted = contract["files"][name]["sha256"]
    try:
        hashed = sha256_file(folder / name)
        found = f"another one ({hashed[:12]})"
    except OSError as error:
        hashed, found = "", error.strerror or str(error)
    if hashed != wanted:
        raise ExportError(
            str(folder / name),
            expected=f"the file that was exported (sha256 {wanted[:12]})",
            found=found,
            remedy=_AGAIN,
        )


def check_side(folder: Path, contract: dict[str, Any], side: str) -> tuple[str, ...]:
    """Check what the graph of a side refers to; returns the names of the side's files.

    Raises:
        ExportError: it has loops, or weights that the contract does not name.
    """
    try:
        beside = [path.name for path in check_graph(folder / f"{side}.onnx")]
    except WeightsError as error:
        raise ExportError(
            error.subject, expected=error.expected, found=error.found, remedy=_AGAIN
        ) from None
    if strange := [name for name in beside if name != f"{side}.weights"]:
        raise ExportError(
            str(folder / f"{side}.onnx"),
            expected=f"weights in {side}.weights",
            found=f"weights in {strange[0]!r}",
            remedy=_AGAIN,
        )
    names = (f"{side}.onnx", *beside)
    if missing := [name for name in names if name not in contract["files"]]:
        raise ExportError(
            str(folder / CONTRACT),
            expected=f"a hash of {missing[0]}",
            found="none",
            remedy=_AGAIN,
        )
    return names


def _check_form(contract: Any) -> None:  # noqa: ANN401 - whatever the file holds
    if contract["kind"] != KIND:
        raise ValueError(f"{contract['kind']!r} in place of {KIND!r}")
    if contract["format"] != FORMAT:
        raise ValueError(f"format {contract['format']!r}; this version reads {FORMAT}")
    _whole("dim", contract["dim"], MAX_DIM)
    _texts(contract["model"], contract["fingerprint"])
    for name in (*TEXT_FILES, *VISION_FILES):
        about = contract["files"][name]
        _texts(about["sha256"])
        _whole("bytes", about["bytes"], 2**40)
    _check_text(contract["text"])
    _check_vision(contract["vision"])
    examples = contract["examples"]
    if not 1 <= len(examples) <= MAX_EXAMPLES:
        raise ValueError(f"{len(examples)} examples")
    for example in examples:
        _texts(example["text"])
        if len(example["text"]) > MAX_EXAMPLE or len(example["vector"]) != contract["dim"]:
            raise ValueError("an example that is too long, or whose vector has another width")
        numbers = [*example["ids"], *example["vector"]]
        if not all(isinstance(one, int | float) for one in numbers):
            raise ValueError("an example without numbers")


def _check_text(text: Any) -> None:  # noqa: ANN401
    _whole("max_tokens", text["max_tokens"], MAX_TOKENS)
    _whole("pad", text["pad"], 2**31, least=0)
    _texts(text["prefix"])
    if len(text["prefix"]) > MAX_EXAMPLE or not isinstance(text["lower_case"], bool):
        raise ValueError("a prefix that is too long, or lower_case that is neither true nor false")
    if text["case"] not in CASES:
        raise ValueError(f"case {text['case']!r}")
    normal = text["normalisation"]
    if normal["form"] not in ("NFC", "NFKC") or not _CLASS.fullmatch(normal["remove"]):
        raise ValueError("a normalisation of texts that this version does not know")
    re.compile(normal["remove"])


def _check_vision(vision: Any) -> None:  # noqa: ANN401
    if vision["input"] not in ("pixels", "features"):
        raise ValueError(f"frames of kind {vision['input']!r}")
    how = vision["preprocess"]
    if vision["input"] == "pixels":
        _whole("size", how["size"], MAX_SIDE)
        _whole("shorter_side", how["shorter_side"], MAX_SIDE, least=how["size"])
        if how["resample"] not in ("bicubic", "bilinear", "lanczos"):
            raise ValueError(f"resample {how['resample']!r}")
        if not isinstance(how["stretch"], bool):
            raise ValueError("stretch that is neither true nor false")
    sampling = vision["sampling"]
    if sampling["kind"] not in ("uniform", "fps", "scenes"):
        raise ValueError(f"sampling {sampling['kind']!r}")
    _whole("frames", sampling["frames"], 10_000)
    if not isinstance(sampling["fps"], int | float) or not 0 < sampling["fps"] <= 1000:
        raise ValueError(f"fps {sampling['fps']!r}")


def _whole(name: str, value: Any, most: int, *, least: int = 1) -> None:  # noqa: ANN401
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} = {value!r}")


def _texts(*values: Any) -> None:  # noqa: ANN401
    if not all(isinstance(value, str) for value in values):
        raise TypeError("a number or list where a text should be")
