"""Vectors and what they stand for, in a folder, searched exactly.

``protocol.py`` says what a backend does, ``exact.py`` is the memory-mapped one, ``items.py`` keeps
ids, paths and captions in SQLite, and ``folder.py`` ties a backend, the items and the model's
fingerprint into one folder that is either whole or not there. Nothing here imports torch.
"""

from cl2cm.index.exact import ExactIndex
from cl2cm.index.folder import Index
from cl2cm.index.items import ItemStore
from cl2cm.index.protocol import VectorIndex

__all__ = ["ExactIndex", "Index", "ItemStore", "VectorIndex"]
