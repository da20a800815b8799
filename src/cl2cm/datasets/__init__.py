"""Readers of official data sets: each turns files as published into a manifest.

A reader is found by name and imported only when it is used.
"""

import difflib
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from cl2cm.errors import ConfigError

# Name → module with a function ``prepare``, a Reader.
DATASETS = {"openmoji": "cl2cm.datasets.openmoji"}


class Reader(Protocol):
    """Turns a data set as published into a folder with a manifest."""

    def __call__(self, out: Path, *, source: Path | None = None) -> Path:
        """Read ``source``, or what the reader fetches itself; return the manifest in ``out``."""
        ...


def prepare_dataset(name: str, source: Path | None, out: Path) -> Path:
    """Turn an official data set into a manifest.

    Args:
        name: one of ``DATASETS``.
        source: file or folder as its publisher ships it; None where the reader fetches it.
        out: folder to make.

    Returns:
        Path of the manifest.

    Raises:
        ConfigError: no such data set, or ``out`` holds something else.
        CL2CMError: whatever the reader finds wrong with its files.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, 1)
        raise ConfigError(
            f"data set {name!r}",
            expected=f"one of {', '.join(sorted(DATASETS))}",
            found="no reader of that name",
            remedy=f"did you mean {near[0]!r}?" if near else "choose one of them",
        )
    reader = cast("Reader", import_module(DATASETS[name]).prepare)
    return reader(out, source=source)
