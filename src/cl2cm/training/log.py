"""What the loop tells of itself: ``metrics.jsonl`` and TensorBoard."""

import json
import os
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from cl2cm.progress import say
from cl2cm.storage import storage_errors
from cl2cm.training.resume import Position


class Log:
    """``metrics.jsonl`` and TensorBoard; after a resume no line stands twice."""

    def __init__(self, run: Path) -> None:
        self.path = run / "metrics.jsonl"

    def start(self, length: int) -> None:
        """Go on after the first ``length`` bytes."""
        with storage_errors(self.path):
            self.file = self.path.open("ab")
            there = os.fstat(self.file.fileno()).st_size
            if there < length:  # truncating would fill it with NUL bytes
                say(f"{self.path}: {length - there:,} bytes of the log are gone; it goes on after")
            self.file.truncate(min(length, there))
            self.board = SummaryWriter(str(self.path.parent / "tensorboard"))

    def write(self, stage: str, position: Position, values: dict[str, float]) -> None:
        """One line, and one point a value."""
        line = {"stage": stage, "epoch": position.epoch, "step": position.total, **values}
        with storage_errors(self.path):
            self.file.write(json.dumps(line).encode() + b"\n")
        for key, value in values.items():
            self.board.add_scalar(f"{stage}/{key}", value, position.total)

    def flush(self) -> int:
        """Bring all lines to the disk; returns the file's length in bytes."""
        with storage_errors(self.path):
            self.file.flush()
            os.fsync(self.file.fileno())
        return self.file.tell()

    def close(self) -> None:
        """Close both."""
        self.file.close()
        self.board.close()
