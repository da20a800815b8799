"""Search images and videos in any language, without labelled pairs in it.

Example:
    >>> import cl2cm
    >>> hits = cl2cm.open("index").search("red square", k=3)
    >>> [hit.id for hit in hits]
    ['red-square.png', ...]

The public names are loaded when they are first used, so that ``import cl2cm`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl2cm.api import open  # noqa: A004 - of the package, as in gzip
    from cl2cm.data.manifest import read_manifest
    from cl2cm.data.scan import scan_folder
    from cl2cm.encode.store import FeatureStore
    from cl2cm.errors import CL2CMError
    from cl2cm.evaluation.retrieval import evaluate
    from cl2cm.index.filter import Filter
    from cl2cm.index.folder import Index
    from cl2cm.index.update.build import build_index
    from cl2cm.model.checkpoint import load
    from cl2cm.model.config import Config, load_config
    from cl2cm.model.retrieval import RetrievalModel
    from cl2cm.search.query import Query
    from cl2cm.search.searcher import Searcher
    from cl2cm.training.loop import train
    from cl2cm.types import Example, Hit

__all__ = [
    "CL2CMError",
    "Config",
    "Example",
    "FeatureStore",
    "Filter",
    "Hit",
    "Index",
    "Query",
    "RetrievalModel",
    "Searcher",
    "build_index",
    "evaluate",
    "load",
    "load_config",
    "open",
    "read_manifest",
    "scan_folder",
    "train",
]
__version__ = "0.1.0"

if not TYPE_CHECKING:  # a type checker would take every name for Any
    _MODULES = {
        "CL2CMError": "errors",
        "Config": "model.config",
        "Example": "types",
        "FeatureStore": "encode.store",
        "Filter": "index.filter",
        "Hit": "types",
        "Index": "index.folder",
        "Query": "search.query",
        "RetrievalModel": "model.retrieval",
        "Searcher": "search.searcher",
        "build_index": "index.update.build",
        "evaluate": "evaluation.retrieval",
        "load": "model.checkpoint",
        "load_config": "model.config",
        "open": "api",
        "read_manifest": "data.manifest",
        "scan_folder": "data.scan",
        "train": "training.loop",
    }

    def __getattr__(name):  # noqa: ANN001, ANN202
        if name not in _MODULES:
            raise AttributeError(f"module 'cl2cm' has no attribute {name!r}", name=name)
        return getattr(import_module(f"cl2cm.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__all__", "__doc__", "__file__", "__name__", "__path__", "__version__"]
