"""The data of a training: batches, a validation set, and the backbones of the run."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cl2cm.encode.feature_files import FeatureFiles
from cl2cm.encode.protocol import VisionEncoder
from cl2cm.encode.rows import StoredFeatures
from cl2cm.encode.steps import text_states
from cl2cm.encode.store import FeatureStore
from cl2cm.encode.text import TextBackbone
from cl2cm.methods.base import Method
from cl2cm.metrics import metrics
from cl2cm.model.networks import CrossModalNetwork, TextNetwork, masked_mean
from cl2cm.model.vectors import picture_vectors, sentence_vectors
from cl2cm.model.whitening import Whitening
from cl2cm.training.batches import Batches
from cl2cm.training.validation import Validation

WHITENING_TEXTS = 4096  # whose states are computed for it, where they are not stored


class Stores(NamedTuple):
    """Feature stores that hold at least what a run needs, to be shared between runs."""

    text: FeatureStore
    vision: StoredFeatures


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Batches, validation set and backbones of a run.

    Attributes:
        batches: of the training split.
        validation: what epochs are measured on.
        texts: number of distinct texts.
        backbone: the text backbone.
        encoder: the vision backbone, or the features that stand for one.
        provenance: what the data were.
        left_out: split → ids of its items that nothing could be learned from, or measured on.
        goals: vectors [texts, D] of the text side of the off-the-shelf model that the training
            starts from; zero except for source captions.
        teacher_note: what a cross-lingual stage is not measured on, for the user; may be empty.
    """

    batches: Batches
    validation: Validation
    texts: int
    backbone: TextBackbone
    encoder: VisionEncoder | FeatureFiles
    provenance: dict[str, Any]
    left_out: dict[str, list[str]]
    teacher_note: str
    goals: Tensor | None = None

    def all_sentences(self, network: TextNetwork) -> Tensor:
        """Return unit vectors [texts, D] of all texts."""
        return sentence_vectors(network, self.batches.sentences, torch.arange(self.texts))

    @torch.no_grad()
    def fit_whitening(self, method: Method, *, ridge: float) -> None:
        """Fit every Whitening of a method to the mean states of the training texts.

        One that is fixed came with the weights that the training starts from.

        A backbone that is trained is asked for at most ``WHITENING_TEXTS`` of them.
        """
        layers = [m for m in method.modules() if isinstance(m, Whitening) and not m.fixed]
        if not layers:
            return
        pairs = self.batches.pairs
        rows = torch.from_numpy(np.unique(np.concatenate([pairs.source, pairs.target])))
        if self.batches.means is not None:
            means = self.batches.means.gather(rows).values.squeeze(1)
        else:
            picked = rows[:: max(1, len(rows) // WHITENING_TEXTS)]
            means = torch.cat([self._mean_states(part) for part in picked.split(64)])
        for layer in layers:
            layer.fit(means, ridge=ridge)

    def _mean_states(self, rows: Tensor) -> Tensor:
        tokens = self.batches.text.gather(rows)
        if not tokens.values.is_floating_point():
            tokens = text_states(self.backbone, tokens)
        normal = nn.functional.layer_norm(tokens.values, tokens.values.shape[-1:])
        return masked_mean(normal, tokens.mask)

    def sum_of_recalls(self, network: TextNetwork) -> dict[str, float]:
        """Return the validation SumR of each language that was measured.

        Of images and videos, as ``evaluate`` computes it; of source captions for the teacher.
        """
        result, texts = {}, self.batches.sentences
        has_vision = isinstance(network, CrossModalNetwork)
        for language, asked in self.validation[0 if has_vision else 1].items():
            text = sentence_vectors(network, texts, asked.texts)
            if isinstance(network, CrossModalNetwork):
                gallery = picture_vectors(network.vision, self.batches.vision, asked.gallery)
            else:
                gallery = sentence_vectors(network, texts, asked.gallery)
            result[language] = float(metrics(text.numpy(), gallery.numpy(), asked.answers)["SumR"])
        return result
