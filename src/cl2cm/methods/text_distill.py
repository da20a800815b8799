"""Text distillation: translations regress onto the English text side, which pictures trained.

Reimers, Gurevych: "Making Monolingual Sentence Embeddings Multilingual using Knowledge
Distillation", EMNLP 2020; Carlsson et al.: "Cross-lingual and Multilingual CLIP", LREC 2022.
"""

import copy

import torch
from torch import Tensor

from cl2cm.losses.distillation import text_regression
from cl2cm.methods.base import EncodeAll, Losses, Method, Stage, matching
from cl2cm.model.config import Config
from cl2cm.model.networks import CrossLingualNetwork, CrossModalNetwork, TextNetwork, same_picture
from cl2cm.types import Batch


class TextDistill(Method):
    """First M(V, S) as ``zero-shot``; then the text side learns z_T -> z_S, the vision side rests.

    The second stage keeps z_S where it was, too, so that the source language does not drift.
    """

    name = "text-distill"

    def __init__(
        self, config: Config, student: CrossModalNetwork, teacher: CrossLingualNetwork | None
    ) -> None:
        super().__init__(config, student, teacher)
        self.english = TextNetwork(
            copy.deepcopy(student.text), copy.deepcopy(student.backbone)
        ).requires_grad_(requires_grad=False)
        self._fixed: Tensor | None = None  # frozen sentence vectors of all texts [texts, D]

    def stages(self, config: Config) -> list[tuple[Stage, int]]:
        """Pictures and source captions, then texts alone."""
        return [("cross-modal", config.train.epochs), ("distillation", config.train.epochs)]

    def end(self, stage: Stage) -> None:
        """Keep the text side that the pictures have trained."""
        if stage == "cross-modal":
            state = self.student.state_dict()
            self.english.load_state_dict({name: state[name] for name in self.english.state_dict()})

    def begin(self, stage: Stage, encode_all: EncodeAll) -> None:
        """The vectors to regress onto are computed once."""
        self._fixed = None
        if stage == "distillation":
            device = next(self.student.parameters()).device
            self._fixed = encode_all(self.english).to(device)

    def loss(self, batch: Batch, stage: Stage) -> Losses:
        """M(V, S), or the regression."""
        source = self.student.encode_text(batch.source).sentence
        if stage == "cross-modal":
            vision = self.student.encode_frames(batch.vision)
            return {"loss": matching(vision, source, same_picture(batch.pictures), self.match)}
        goal = self.goal(batch)
        target = self.student.encode_text(batch.target).sentence
        return {"loss": text_regression(target, goal) + text_regression(source, goal)}

    @torch.no_grad()
    def goal(self, batch: Batch) -> Tensor:
        """Frozen vectors [B, D] of the source captions."""
        if self._fixed is None:
            return self.english.encode_text(batch.source).sentence
        return self._fixed[batch.source_texts]
