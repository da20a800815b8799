"""Search images and videos in many languages, trained with machine translations.

Example:
    >>> import cl2cm
    >>> hits = cl2cm.open("index").search("red square", k=3)
    >>> [hit.id for hit in hits]
    ['red-square.png', ...]

The public names are loaded when they are first used, so that ``import cl2cm`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from cl2cm.telemetry import switch_off

if TYPE_CHECKING:
    from cl2cm.data.manifest import read_manifest
    from cl2cm.data.scan import scan_folder
    from cl2cm.encode.store import FeatureStore
    from cl2cm.errors import CL2CMError
    from cl2cm.evaluation.evaluate import evaluate
    from cl2cm.export.load import load
    from cl2cm.index.allowed import Allowed
    from cl2cm.index.filter import Filter
    from cl2cm.index.folder import Index
    from cl2cm.index.update.build import build_index
    from cl2cm.methods.settings import load_config
    from cl2cm.model.config import Config
    from cl2cm.model.retrieval import RetrievalModel
    from cl2cm.search.query import Query
    from cl2cm.search.searcher import Searcher
    from cl2cm.training.loop import train
    from cl2cm.types import Example, Hit, StrPath

switch_off()  # before onnxruntime, transformers and others read their switches

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
        "evaluate": "evaluation.evaluate",
        "load": "export.load",
        "load_config": "methods.settings",
        "read_manifest": "data.manifest",
        "scan_folder": "data.scan",
        "train": "training.loop",
    }

    def __getattr__(name):  # noqa: ANN001, ANN202
        if name not in _MODULES:
            raise AttributeError(f"module 'cl2cm' has no attribute {name!r}", name=name)
        try:
            return getattr(import_module(f"cl2cm.{_MODULES[name]}"), name)
        except ImportError as error:
            from cl2cm.errors import missing_extra  # noqa: PLC0415

            raise (missing_extra(error) or error) from None


def __dir__() -> list[str]:
    return [*__all__, "__all__", "__doc__", "__file__", "__name__", "__path__", "__version__"]


def open(  # noqa: A001 - as in gzip
    index: "StrPath", *, run: "StrPath | None" = None, allowed: "Allowed | None" = None
) -> "Searcher":
    """Open an index for search, with the model that made it.

    Args:
        index: the index folder.
        run: the run to encode queries with; by default the one that the index was made with.
        allowed: what the index may reach outside its folder; by default what the environment says.

    Returns:
        A searcher, safe to share between threads; in a ``with`` statement its files are closed at
        the end.

    Raises:
        VectorIndexError: no index, a damaged one, one of another model than ``run``, or one on a
            server that the user did not allow.
        CheckpointError: the run is gone or damaged.

    Example:
        >>> import cl2cm
        >>> for hit in cl2cm.open("index").search("red square", k=2):
        ...     print(hit.id, f"{hit.match:.0%}")
        red-square.png ...%
        ...
    """
    from cl2cm.index.folder import Index  # noqa: PLC0415
    from cl2cm.search.searcher import Searcher  # noqa: PLC0415

    opened = Index.open(index, allowed)
    load_any = import_module(
        "cl2cm.export.load"
    ).load  # a layer above the service, which imports us
    return Searcher(load_any(opened.run if run is None else run), opened)
