"""A run, an export or an off-the-shelf model as an encoder of ``mteb``.

    import cl2cm, mteb
    from cl2cm.export.mteb_encoder import MtebEncoder

    encoder = MtebEncoder(cl2cm.load("run"))
    results = mteb.evaluate(encoder, tasks=mteb.get_tasks(["XM3600T2IRetrieval"]))

Prefix, case and length of texts are the model's own, so the prompts of a task are not used.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cl2cm.errors import ConfigError, MissingExtraError
from cl2cm.text import is_blank
from cl2cm.types import Floats, StrPath


class Model(Protocol):
    """What is needed of a model; see ``cl2cm.load``."""

    run: StrPath | None

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    @property
    def dim(self) -> int: ...  # noqa: D102

    def encode_text(self, texts: Sequence[str]) -> Floats: ...  # noqa: D102

    def encode_visual(self, items: Sequence[Any]) -> Floats: ...  # noqa: D102


class MtebEncoder:
    """The encoder; it implements ``mteb.models.EncoderProtocol``.

    Args:
        model: from ``cl2cm.load``.
        name: OWNER/NAME in mteb's results; "": cl2cm and the name of the model's folder.
    """

    def __init__(self, model: Model, name: str = "") -> None:
        self.model = model
        self.name = name or f"cl2cm/{Path(str(model.run or 'model')).name}"

    def encode(self, inputs: Iterable[Mapping[str, Any]], **_task: Any) -> Floats:  # noqa: ANN401
        """Return vectors float32 [N, D] of N inputs: unit vectors, and zeros for empty texts.

        An input with both text and image gets the sum of both vectors, as a unit vector.

        Args:
            inputs: batches with a list of ``text``, of ``image`` or of both.

        Raises:
            ConfigError: a batch has neither.
        """
        parts = [self._batch(batch) for batch in inputs]
        return np.concatenate(parts) if parts else np.zeros((0, self.model.dim), np.float32)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:  # noqa: ANN401
        """Return the scores of all pairs, a tensor [N, M]."""
        return _tensor(embeddings1) @ _tensor(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:  # noqa: ANN401
        """Return the scores of pairs in the same rows, a tensor [N]."""
        return (_tensor(embeddings1) * _tensor(embeddings2)).sum(-1)

    @cached_property
    def mteb_model_meta(self) -> Any:  # noqa: ANN401
        """What mteb writes into its results.

        Raises:
            MissingExtraError: mteb is not installed.
        """
        try:
            from mteb.models.model_meta import ModelMeta  # noqa: PLC0415 - an extra
        except ImportError:
            raise MissingExtraError("mteb", "mteb") from None
        about = {
            "name": self.name,
            "revision": self.model.fingerprint[:16],
            "embed_dim": self.model.dim,
            "similarity_fn_name": "cosine",
            "modalities": ["text", "image"],
            "framework": ["PyTorch"],
        }
        return ModelMeta.create_empty(overwrites=about)

    def _batch(self, batch: Mapping[str, Any]) -> Floats:
        sides = []
        if "text" in batch:
            sides.append(self._texts(batch["text"]))
        if "image" in batch:
            sides.append(self.model.encode_visual(list(batch["image"])))
        if not sides:
            raise ConfigError(
                "mteb task",
                expected="inputs with text or image",
                found=", ".join(batch) or "none",
                remedy="choose a task of texts and images",
            )
        total = np.sum(sides, axis=0)
        lengths = np.linalg.norm(total, axis=1, keepdims=True)
        vectors: Floats = (total / np.maximum(lengths, 1e-12)).astype(np.float32)
        return vectors

    def _texts(self, texts: Sequence[str]) -> Floats:
        vectors = np.zeros((len(texts), self.model.dim), np.float32)
        rows = [row for row, text in enumerate(texts) if not is_blank(text)]
        if rows:
            vectors[rows] = self.model.encode_text([texts[row] for row in rows])
        return vectors


def _tensor(values: Any) -> Any:  # noqa: ANN401 - an array or a tensor
    import torch  # noqa: PLC0415 - mteb needs it, exports do not

    return torch.as_tensor(values, dtype=torch.float32)
