"""Search pictures and films in any language, without labelled pairs in it.

The public names are loaded when they are first used, so that ``import cl2cm`` costs nothing.
"""

from importlib import import_module
from typing import Any

from cl2cm.telemetry import switch_off

switch_off()  # before onnxruntime, transformers and others read their switches

_PUBLIC = {
    "CL2CMError": "cl2cm.errors",
    "Config": "cl2cm.model.config",
    "Example": "cl2cm.types",
    "FeatureStore": "cl2cm.encode.store",
    "Hit": "cl2cm.types",
    "Index": "cl2cm.index",
    "RetrievalModel": "cl2cm.model.retrieval",
    "Searcher": "cl2cm.search.searcher",
    "build_index": "cl2cm.index.update.build",
    "evaluate": "cl2cm.evaluation.retrieval",
    "load": "cl2cm.model.checkpoint",
    "load_config": "cl2cm.model.config",
    "read_manifest": "cl2cm.data.manifest",
    "scan_folder": "cl2cm.data.scan",
    "train": "cl2cm.training.loop",
}

__all__ = sorted(_PUBLIC)  # noqa: PLE0605 - pinned by a test
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cl2cm' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
