"""The registry of backends: built-in ones and plug-ins.

No backend is imported before it is asked for by its name, and only a name is ever taken from an
index: which code it stands for is decided by this table and by the packages that are installed.
"""

import inspect
import re
from typing import cast

from cl2cm.index.backends.base import Backend
from cl2cm.index.backends.quantization import DTYPES
from cl2cm.plugins import Registry

BACKENDS = {
    "exact": "exact:ExactBackend",  # every row compared; no further package
    "faiss": "faiss:FaissBackend",  # flat, HNSW or IVF-PQ by size
    "qdrant": "qdrant:QdrantBackend",  # on a server by URL, or in this process
    "pgvector": "pgvector:PostgresBackend",  # PostgreSQL by URL
}  # name -> module of this package, and class in it

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_KIND = re.compile(r"[a-z]{1,20}")


def load_backend(name: str) -> Backend:
    """Return the backend of a name.

    Raises:
        ConfigError: there is none of that name, or its package is broken.
    """
    kind = cast("type[Backend]", REGISTRY.load(name))
    with REGISTRY.guarded(name):
        return kind()


def has_server(name: str) -> bool:
    """Return whether a backend can use a server; a plug-in is not imported for this."""
    return load_backend(name).server != "none" if name in BACKENDS else is_name(name)


def is_name(name: str) -> bool:
    """Return whether a text is a valid name of a backend."""
    return _NAME.fullmatch(name) is not None


def is_kind(kind: str) -> bool:
    """Return whether a text is a valid kind of file."""
    return _KIND.fullmatch(kind) is not None


def _flaw(found: object, name: str) -> str:
    """Return what keeps an object from being a backend; empty if it is one."""
    if not (isinstance(found, type) and issubclass(found, Backend)):
        return f"{found!r:.80}, no subclass of {Backend.__module__}.{Backend.__name__}"
    if not is_name(name) or getattr(found, "name", None) != name:
        return f"the name {getattr(found, 'name', None)!r:.80}"
    if inspect.isabstract(found):
        return f"no method {' and no method '.join(sorted(found.__abstractmethods__))}"
    if not (_are_texts(found.dtypes) and found.dtypes and set(found.dtypes) <= set(DTYPES)):
        return f"the dtypes {found.dtypes!r:.80}, not a tuple of {', '.join(DTYPES)}"
    files = found.files
    if not (_are_texts(files) and all(map(is_kind, files)) and len({*files, "place"}) > len(files)):
        return f"the files {files!r:.80}, not a tuple of different words other than 'place'"
    if found.server not in ("none", "optional", "required"):
        return f"the server {found.server!r:.80}, not 'none', 'optional' or 'required'"
    return ""


def _are_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(one, str) for one in value)


REGISTRY = Registry("backend", "cl2cm.backends", "--backend", __package__, BACKENDS, _flaw)
backend_names = REGISTRY.names
warn_of_shadowed = REGISTRY.warn_of_shadowed
