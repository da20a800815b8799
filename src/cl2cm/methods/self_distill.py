"""A control for the teacher: Eq. 10 with a moving average of the student."""

import copy
from typing import ClassVar

import torch
from torch import Tensor

from cl2cm.losses.distillation import relation, relational_distillation
from cl2cm.methods.base import Losses, Method, Setup
from cl2cm.methods.cl2cm import TransferConfig
from cl2cm.model.networks import TextNetwork
from cl2cm.types import Batch


class SelfDistill(Method):
    """Eq. 10 with the relations of an exponential moving average of the student in place of R_CL.

    The average starts short, over t / (t + 10) at step t, and reaches ``transfer.decay``.
    """

    name = "self-distill"
    sections: ClassVar = {"transfer": TransferConfig}

    def __init__(self, setup: Setup, transfer: TransferConfig) -> None:
        super().__init__(setup)
        self.transfer = transfer
        student = setup.student
        self.average = TextNetwork(
            copy.deepcopy(student.text), copy.deepcopy(student.backbone)
        ).requires_grad_(requires_grad=False)
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def student_started(self) -> None:
        """Start the average anew, where the student starts."""
        state = self.student.state_dict()
        self.average.load_state_dict({name: state[name] for name in self.average.state_dict()})
        self.steps.zero_()

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the average towards the student."""
        self.steps += 1
        steps = int(self.steps)
        decay = min(self.transfer.decay, steps / (steps + 10))
        now = self.student.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(now[name], 1 - decay)

    def loss(self, batch: Batch) -> Losses:
        """Return Eq. 11 with the average's relation between S and T."""
        vision, source, target = self.encode(batch)
        losses = self.match_loss(batch, vision, source, target)
        with torch.no_grad():
            relations = relation(
                self.average.encode_text(batch.source).sentence,
                self.average.encode_text(batch.target).sentence,
                tau=self.transfer.tau_teacher,
            )
        rel = relational_distillation(
            relations, relation(vision, target.sentence, tau=self.transfer.tau_student)
        )
        losses["relation"] = rel.detach()
        losses["loss"] = losses["loss"] + self.transfer.beta * rel
        return losses
