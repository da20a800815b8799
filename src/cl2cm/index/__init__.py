"""Vectors and the items that they stand for, in a folder or on a server, searched for the nearest.

``protocol.py`` says what a backend does; ``backends/`` has them: ``exact.py`` is the memory-mapped
one (``codes.py``: how it stores), ``faiss.py`` and ``qdrant.py`` find candidates that
``rescoring.py`` scores, ``pgvector.py`` is a server of its own, ``registry.py`` knows them by name.
``items.py`` keeps ids, paths and captions in SQLite, ``filter.py`` says which of them may be hits,
and ``folder.py`` ties a backend, the items and the model's fingerprint into one folder that is
either whole or not there. What a folder may not do, since anyone may have made it, is in
``seal.py``, ``allowed.py``, ``address.py``, ``media.py`` and ``database.py``. ``update/`` makes an
index and brings it up to date. Nothing here imports torch.
"""

from cl2cm.index.allowed import Allowed
from cl2cm.index.backends.exact import ExactIndex
from cl2cm.index.backends.registry import Backend, Choice
from cl2cm.index.filter import Filter
from cl2cm.index.folder import Index
from cl2cm.index.items import ItemStore
from cl2cm.index.protocol import VectorIndex

__all__ = [
    "Allowed",
    "Backend",
    "Choice",
    "ExactIndex",
    "Filter",
    "Index",
    "ItemStore",
    "VectorIndex",
]
