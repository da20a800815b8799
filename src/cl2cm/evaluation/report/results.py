"""Read the results of a benchmark, which may come from anyone: its JSON and the ranks of its runs.

``cl2cm bench`` writes ``results.json`` into its folder, and prints the same with ``--json``. Beside
it lie the runs, REGIME/all/METHOD/SEED, each with ``ranks-SPLIT.npz``.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from cl2cm.errors import ConfigError
from cl2cm.evaluation.ranks import Ranks
from cl2cm.metrics import CUTOFFS
from cl2cm.storage import open_confined, read_regular

RECALLS = tuple(f"{side} R@{k}" for side in ("t2v", "v2t") for k in CUTOFFS)
_MOST_JSON = 2**26  # bytes
_MOST_ROWS = 10_000  # a run and language each
_MOST_RANKS = 2**28  # bytes of all arrays of a file
_LONGEST = 100  # letters of a name
_WORDS = ("regime", "table", "method", "language")
_NUMBERS = ("SumR", *RECALLS, "queries", "gallery")


def read_results(path: Path) -> dict[str, Any]:
    """Return the object of ``bench --json`` from a file, with the parts that a report needs.

    Raises:
        ConfigError: the file is something else.
    """
    try:
        found = json.loads(read_regular(path, _MOST_JSON))
        rows = [_row(row) for row in found["rows"]]
        mrv = [
            {
                "regime": str(row["regime"])[:_LONGEST],
                "method": str(row["method"])[:_LONGEST],
                "MRV": _number(row["MRV"]),
            }
            for row in found.get("mrv", ())
        ]
        suite = str(found["suite"])[:_LONGEST]
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        found = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise _wrong(path, str(found)) from None
    if not 0 < len(rows) <= _MOST_ROWS:
        raise _wrong(path, f"{len(rows):,} rows")
    return {"suite": suite, "rows": rows, "mrv": mrv}


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    words = {key: str(row[key])[:_LONGEST] for key in _WORDS}
    return {**words, "seed": int(row["seed"]), **{key: _number(row[key]) for key in _NUMBERS}}


def _number(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} where a number belongs")
    return float(value)


def _wrong(path: Path, found: str) -> ConfigError:
    return ConfigError(
        str(path),
        expected="the results of cl2cm bench",
        found=found[:200],
        remedy="name the folder of a benchmark, or the output of cl2cm bench --json",
    )


def read_run_ranks(root: Path, run: Path, split: str) -> dict[str, Ranks] | None:
    """Return the ranks per language that a run of a benchmark left, or None.

    Args:
        root: folder of the benchmark; nothing outside of it is read.
        run: folder of the run in it.
        split: whose captions were ranked.
    """
    try:
        with open_confined(run / f"ranks-{split}.npz", [root]) as file:
            with ZipFile(file) as archive:
                if sum(member.file_size for member in archive.infolist()) > _MOST_RANKS:
                    return None
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                languages = [str(code) for code in arrays["languages"]]
                read = {
                    code: Ranks(*(arrays[f"{code}/{part}"] for part in Ranks._fields))
                    for code in languages
                }
    except (OSError, ValueError, KeyError, TypeError, BadZipFile, EOFError):
        return None
    return read if all(map(_is_whole, read.values())) else None


def _is_whole(ranks: Ranks) -> bool:
    """Whether arrays are ranks at all."""
    captions, pictures, rows, ids = ranks
    if any(part.ndim != 1 for part in ranks) or ids.dtype.kind != "U":
        return False
    if any(part.dtype.kind != "i" for part in (captions, pictures, rows)):
        return False
    return bool(
        len(captions) == len(rows) > 0
        and len(pictures) == len(ids)
        and captions.min() >= 1
        and pictures.min() >= 1
        and np.array_equal(np.unique(rows), np.arange(len(pictures)))
    )
