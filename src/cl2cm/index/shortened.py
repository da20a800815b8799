"""A model whose vectors are the prefixes of another's, made unit vectors again.

Its vectors are a space of their own: an index of one width is never searched with another.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cl2cm.errors import ConfigError
from cl2cm.storage import sha256_text
from cl2cm.types import Floats, VisualModel

_OF_VECTORS = {"encode_text", "encode_visual", "encode_images", "encode_examples"}
_OF_VECTORS |= {"encode_features", "known_vectors", "vectors_by_id"}


def prefix_fingerprint(fingerprint: str, dim: int) -> str:
    """Return the name of the space of prefixes of a model's vectors."""
    return sha256_text(f"{fingerprint} dim {dim}")


def prefixes(vectors: Floats, dim: int) -> Floats:
    """Return the first ``dim`` numbers of vectors [..., D], as unit vectors [..., dim]."""
    short = vectors[..., :dim]
    lengths = np.linalg.norm(short, axis=-1, keepdims=True)
    made: Floats = (short / np.maximum(lengths, 1e-12)).astype(np.float32)
    return made


class Shortened:
    """The model; all that is not about vectors is the other's."""

    def __init__(self, model: VisualModel, dim: int) -> None:
        self._model, self._dim = model, dim

    @property
    def fingerprint(self) -> str:
        """Name of the space of short vectors."""
        return prefix_fingerprint(self._model.fingerprint, self._dim)

    @property
    def dim(self) -> int:
        """Width of a short vector."""
        return self._dim

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the model has
        found = getattr(self._model, name)
        if name not in _OF_VECTORS:
            return found

        def short(*given: Any, **named: Any) -> Any:  # noqa: ANN401
            made = found(*given, **named)
            if isinstance(made, Mapping):
                return {key: prefixes(vector, self._dim) for key, vector in made.items()}
            return None if made is None else prefixes(made, self._dim)

        return short


def shortened(model: Any, dim: int) -> Any:  # noqa: ANN401 - a model, and one with the same calls
    """Return a model with vectors of a width; the model itself where that is its own, or 0.

    Raises:
        ConfigError: it has no vectors of that width.
    """
    if dim in (0, model.dim):
        return model
    if not 8 <= dim < model.dim:
        raise ConfigError(
            "--dim",
            expected=f"8 to {model.dim}, the width of the model's vectors",
            found=str(dim),
            remedy="choose a width that the model was trained for (match.smallest_dim)",
        )
    return Shortened(model, dim)


def fitting(model: Any, space: str, dim: int) -> Any:  # noqa: ANN401
    """Return a model for vectors of a space: its prefixes, where they are in that space."""
    if 8 <= dim < model.dim and prefix_fingerprint(model.fingerprint, dim) == space:
        return Shortened(model, dim)
    return model
