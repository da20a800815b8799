"""What a program calls first, where more than one room is needed for it."""

from pathlib import Path

from cl2cm.index.folder import Index
from cl2cm.model.checkpoint import load
from cl2cm.search.searcher import Searcher
from cl2cm.types import StrPath


def open(index: StrPath, *, run: StrPath | None = None) -> Searcher:  # noqa: A001 - as in gzip
    """Open an index for search, with the model that made it.

    Args:
        index: the index folder.
        run: the run to encode queries with; by default the one that the index was made with.

    Returns:
        A searcher, safe to share between threads; in a ``with`` statement its files are closed at
        the end.

    Raises:
        VectorIndexError: no index, a damaged one, or one of another model than ``run``.
        CheckpointError: the run is gone or damaged.

    Example:
        >>> import cl2cm
        >>> for hit in cl2cm.open("index").search("red square", k=2):
        ...     print(hit.id, f"{hit.match:.0%}")
        red-square.png ...%
        ...
    """
    opened = Index.open(index)
    return Searcher(load(Path(run) if run is not None else opened.run), opened)
