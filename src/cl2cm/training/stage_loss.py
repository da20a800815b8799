"""The loss of one step of a stage, as a module that processes can share."""

import warnings

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cl2cm.methods.base import Losses, Stage
from cl2cm.model.vectors import to_device
from cl2cm.training.processes import Group, Processes
from cl2cm.types import Batch, Frames


class StageLoss(nn.Module):
    """The losses of a batch and of the same pairs in other languages, with the networks trained."""

    def __init__(self, stage: Stage, device: torch.device) -> None:
        super().__init__()
        self.networks = nn.ModuleList(stage.trained)
        self.stage = stage
        self.device = device

    def forward(self, batch: Batch) -> Losses:
        """Return the losses of a step."""
        return mean_losses(
            [self.stage.loss(on_device(one, self.device)) for one in (batch, *batch.also)]
        )


def shared_loss(
    stage: Stage, device: torch.device, processes: Processes, group: Group
) -> StageLoss | DistributedDataParallel:
    """Return the loss of a stage, whose gradients are averaged over all processes."""
    loss = StageLoss(stage, device)
    if processes.count == 1:
        return loss
    # A batch may have no video for the layers of videos, or leave a network of a stage unused. A
    # weight that is always unused keeps torch from warning of a search that finds none.
    loss.never_used = nn.Parameter(torch.zeros(1, device=device))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the new name is not in torch 2.10
        return DistributedDataParallel(
            loss, process_group=group, find_unused_parameters=True, broadcast_buffers=False
        )


def mean_losses(parts: list[Losses]) -> Losses:
    """Return the mean of each loss over the target languages of a step; some may lack a part."""
    if len(parts) == 1:
        return parts[0]
    names = {name for part in parts for name in part}
    return {
        name: torch.stack([part[name] for part in parts if name in part]).mean()
        for name in sorted(names)
    }


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Return a batch on a device."""
    if device.type == "cpu":
        return batch
    return batch._replace(
        vision=Frames(*(t.to(device) for t in batch.vision)),
        source=to_device(batch.source, device),
        target=to_device(batch.target, device),
        other=None if batch.other is None else to_device(batch.other, device),
        words=None
        if batch.words is None
        else (to_device(batch.words[0], device), to_device(batch.words[1], device)),
        back=None if batch.back is None else to_device(batch.back, device),
        has_back=None if batch.has_back is None else batch.has_back.to(device),
        confidence=None if batch.confidence is None else batch.confidence.to(device),
        other_confidence=None
        if batch.other_confidence is None
        else batch.other_confidence.to(device),
        pictures=batch.pictures.to(device),
        source_texts=batch.source_texts.to(device),
        target_texts=batch.target_texts.to(device),
    )
