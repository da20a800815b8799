"""Text distillation: translations regress onto an English text side trained with images.

Reimers, Gurevych: "Making Monolingual Sentence Embeddings Multilingual using Knowledge
Distillation", EMNLP 2020; Carlsson et al.: "Cross-lingual and Multilingual CLIP", LREC 2022.
"""

import copy

import torch
from torch import Tensor

from cl2cm.losses.distillation import text_regression
from cl2cm.methods.base import EncodeAll, Losses, Method, Setup, Stage, matching
from cl2cm.model.networks import TextNetwork, same_picture
from cl2cm.types import Batch


class TextDistill(Method):
    """First M(V, S) as ``zero-shot``; then the text side learns z_T -> z_S, the vision side rests.

    The second stage keeps z_S where it was, too, so that the source language does not drift.
    """

    name = "text-distill"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        student = setup.student
        self.english = TextNetwork(
            copy.deepcopy(student.text), copy.deepcopy(student.backbone)
        ).requires_grad_(requires_grad=False)
        self._fixed: Tensor | None = None  # frozen sentence vectors of all texts [texts, D]

    def stages(self) -> list[Stage]:
        """Return the images and source captions, then texts alone."""
        trained = (self.student,)
        return [
            Stage("cross-modal", self.epochs, trained, self.loss, end=self.keep_text_side),
            Stage("distillation", self.epochs, trained, self.regression_loss, begin=self.fix_goals),
        ]

    def keep_text_side(self) -> None:
        """Keep the text side that the images have trained."""
        state = self.student.state_dict()
        self.english.load_state_dict({name: state[name] for name in self.english.state_dict()})

    def fix_goals(self, encode_all: EncodeAll) -> None:
        """Compute once the vectors to regress onto."""
        device = next(self.student.parameters()).device
        self._fixed = encode_all(self.english).to(device)

    def loss(self, batch: Batch) -> Losses:
        """Return M(V, S)."""
        source = self.student.encode_text(batch.source).sentence
        vision = self.student.encode_frames(batch.vision)
        return {"loss": matching(vision, source, same_picture(batch.pictures), self.match)}

    def regression_loss(self, batch: Batch) -> Losses:
        """Return squared distance of both captions' vectors from the frozen ones of the source."""
        source = self.student.encode_text(batch.source).sentence
        goal = self.goal(batch)
        target = self.student.encode_text(batch.target).sentence
        return {"loss": text_regression(target, goal) + text_regression(source, goal)}

    @torch.no_grad()
    def goal(self, batch: Batch) -> Tensor:
        """Return the frozen vectors [B, D] of the source captions."""
        if self._fixed is None:
            return self.english.encode_text(batch.source).sentence
        return self._fixed[batch.source_texts]
