"""Search pictures and films in any language, without labelled pairs in it.

The public names are loaded when they are first used, so that ``import cl2cm`` costs nothing.
"""

from importlib import import_module
from typing import Any

from cl2cm.telemetry import switch_off

switch_off()  # before onnxruntime, transformers and others read their switches

_PUBLIC = {
    "CL2CMError": "cl2cm.errors",
    "Config": "cl2cm.config",
    "Example": "cl2cm.types",
    "FeatureStore": "cl2cm.features",
    "Hit": "cl2cm.types",
    "Index": "cl2cm.index",
    "RetrievalModel": "cl2cm.model",
    "Searcher": "cl2cm.search",
    "build_index": "cl2cm.index_building",
    "evaluate": "cl2cm.evaluation",
    "load": "cl2cm.checkpoint",
    "load_config": "cl2cm.config",
    "read_manifest": "cl2cm.manifest",
    "scan_folder": "cl2cm.index_building",
    "train": "cl2cm.training",
}

__all__ = sorted(_PUBLIC)  # noqa: PLE0605 - pinned by a test
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cl2cm' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
