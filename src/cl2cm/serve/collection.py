"""The index that is served, and the newer one that takes its place while requests go on.

A rebuilt index announces itself by its head file. It is opened beside the old one and then taken
for every request that begins; those that are under way finish on the one they began with.
"""

import time
from collections.abc import Callable
from pathlib import Path

from cl2cm.errors import CL2CMError
from cl2cm.index import Index
from cl2cm.index.metadata import METADATA
from cl2cm.progress import say
from cl2cm.search.searcher import Searcher
from cl2cm.types import SearchModel, StrPath

_AGAIN_SECONDS = 10.0

LoadModel = Callable[[StrPath], SearchModel]


class Collection:
    """A searcher that is renewed; ``searcher`` is the present one.

    Args:
        searcher: a model and its index.
        load_model: gives the model of a run, for a new index of another model; without it such an
            index is not taken.
    """

    def __init__(self, searcher: Searcher, load_model: LoadModel | None = None) -> None:
        self.searcher = searcher
        self._load_model = load_model
        self._seen: object = None  # the index may have changed since the searcher opened it
        self._told = ""  # why it is not used; that is told once
        self._again = 0.0  # when to look again all the same, by the monotonic clock

    def refresh(self) -> bool:
        """Take a newer index if there is one; the old one stays where the new one is unusable.

        Returns:
            Whether another index is served now.
        """
        found = _state(self.searcher.index.path)
        if found == self._seen and (not self._told or time.monotonic() < self._again):
            return False
        first, self._seen = self._seen is None, found
        try:
            index = Index.open(self.searcher.index.path, self.searcher.index.allowed)
            if first and index.generation == self.searcher.index.generation:
                index.close()
                return False
            self.searcher = Searcher(self._model_of(index), index)
        except CL2CMError as error:
            self._tell(str(error))
            return False
        self._told = ""
        say(f"serving the new index: {len(index):,} items")
        return True

    def _tell(self, error: str) -> None:
        if error != self._told:
            say(f"the changed index is not used, the old one still is: {error}")
        self._told, self._again = error, time.monotonic() + _AGAIN_SECONDS

    def _model_of(self, index: Index) -> SearchModel:
        same = index.model == self.searcher.model.fingerprint
        return self.searcher.model if same or not self._load_model else self._load_model(index.run)


def _state(folder: Path) -> tuple[int, int, int] | None:
    try:
        found = (folder / METADATA).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
