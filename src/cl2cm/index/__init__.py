"""The search index: vectors and their items, in a folder or on a server.

``folder.py`` is an index that is open, ``write.py`` writes one and ``update/`` brings it up to
date. ``metadata.py`` reads and writes ``index.json``, whose fields are in ``metadata_fields.py``;
``layout.py`` knows which files of a folder are an index's, ``generation.py`` hands them to a
backend. ``parts.py`` searches an index of several parts, ``merge.py`` makes one of shards.
``protocol.py`` says what an open backend answers; ``backends/`` has a file for each backend and a
registry of their names, and ``backend_choice.py`` chooses among them. ``items.py`` keeps ids, paths
and captions in SQLite (``records.py`` turns them into columns), ``filter.py`` says which of them
may be hits. What a folder may not do, since anyone may have made it, is in ``seal.py``,
``allowed.py``, ``address.py``, ``media.py`` and ``database.py``. Nothing here imports torch.
"""

from cl2cm.index.allowed import Allowed
from cl2cm.index.backend_choice import BackendConfig, BackendOptions
from cl2cm.index.backends.exact import ExactIndex
from cl2cm.index.filter import Filter, Order
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
    "Order",
    "VectorIndex",
]
