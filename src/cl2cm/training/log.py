"""The training log: ``metrics.jsonl``, and the trackers that the user chose."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cl2cm.progress import say
from cl2cm.storage import storage_errors
from cl2cm.training.resume import Position
from cl2cm.training.trackers import Trackers


class Log:
    """``metrics.jsonl`` and trackers; after a resume no line stands twice.

    Args:
        run: the run folder.
        trackers: their names.
        settings: of the training, for the trackers.
    """

    def __init__(self, run: Path, trackers: tuple[str, ...], settings: Mapping[str, Any]) -> None:
        self.path = run / "metrics.jsonl"
        self._names, self._settings = trackers, settings

    def start(self, length: int) -> None:
        """Go on after the first ``length`` bytes."""
        with storage_errors(self.path):
            self.file = self.path.open("ab")
            there = os.fstat(self.file.fileno()).st_size
            if there < length:  # truncating would fill it with NUL bytes
                say(
                    f"{self.path}: {length - there:,} bytes of the log are missing; "
                    "it continues after them"
                )
            self.file.truncate(min(length, there))
            self.trackers = Trackers(self.path.parent, self._names, self._settings)

    def write(self, stage: str, position: Position, values: dict[str, float]) -> None:
        """One line, and one point a value."""
        line = {"stage": stage, "epoch": position.epoch, "step": position.total, **values}
        with storage_errors(self.path):
            self.file.write(json.dumps(line).encode() + b"\n")
        self.trackers.write(stage, position.total, values)

    def flush(self) -> int:
        """Bring all lines to the disk; returns the file's length in bytes."""
        with storage_errors(self.path):
            self.file.flush()
            os.fsync(self.file.fileno())
        return self.file.tell()

    def close(self) -> None:
        """Close all."""
        self.file.close()
        self.trackers.close()


class Unwritten(Log):
    """The log of a process that leaves writing to the first one."""

    def start(self, length: int) -> None:
        """Nothing is opened."""

    def write(self, stage: str, position: Position, values: dict[str, float]) -> None:
        """Nothing is written."""

    def flush(self) -> int:
        """There is nothing to bring to the disk."""
        return 0

    def close(self) -> None:
        """Nothing is open."""
