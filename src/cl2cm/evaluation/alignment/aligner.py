"""Word alignment of text pairs by a run, which is loaded on first use."""

import threading
from pathlib import Path
from typing import Any

from cl2cm.evaluation.alignment.links import align_texts, load_reader
from cl2cm.evaluation.alignment.view import to_json
from cl2cm.evaluation.alignment.words import Reader
from cl2cm.model.encoders import AS_TRAINED, Encoders


class Aligner:
    """Aligns texts by a run's network; safe to share between threads.

    Args:
        run: a finished run.
        encoders: where they are by now.
    """

    def __init__(self, run: Path, encoders: Encoders = AS_TRAINED) -> None:
        self._run = run
        self._encoders = encoders
        self._reader: Reader | None = None
        self._lock = threading.Lock()

    def __call__(self, source: str, target: str) -> dict[str, Any]:
        """Give the object of ``cl2cm align --json``, without the run's name.

        Raises:
            CheckpointError: no finished run, or a damaged one.
            QueryError: a text without words, or one that is too long.
        """
        with self._lock:
            if self._reader is None:
                self._reader = load_reader(self._run, encoders=self._encoders)
            return to_json(align_texts(self._reader, source, target))
