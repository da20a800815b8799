"""Vectors and what they stand for, in a folder or on a server, searched for what is nearest.

``protocol.py`` says what a backend does, ``exact.py`` is the memory-mapped one (``codes.py``: how
it stores), ``faiss_index.py`` and ``qdrant_index.py`` find candidates that ``rescoring.py`` scores,
``postgres.py`` is a server of its own. ``items.py`` keeps ids, paths and captions in SQLite,
``filter.py`` says which may be hits, ``backends.py`` has the four by name, and ``folder.py`` ties
one of them, the items and the model's fingerprint into one folder that is either whole or not
there. What a folder may not do, since anyone may have made it, is in ``seal.py``, ``allowed.py``,
``address.py``, ``media.py`` and ``database.py``. Nothing here imports torch.
"""

from cl2cm.index.allowed import Allowed
from cl2cm.index.backends.exact import ExactIndex
from cl2cm.index.backends.registry import BackendConfig, BackendOptions
from cl2cm.index.filter import Filter
from cl2cm.index.folder import Index
from cl2cm.index.items import ItemStore
from cl2cm.index.protocol import VectorIndex

__all__ = [
    "Allowed",
    "BackendConfig",
    "BackendOptions",
    "ExactIndex",
    "Filter",
    "Index",
    "ItemStore",
    "VectorIndex",
]
