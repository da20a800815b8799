"""Unit vectors of many texts, images and videos, group by group."""

import torch
from torch import Tensor, nn

from cl2cm.encode.rows import StoredFeatures
from cl2cm.encode.tokens import TextSource
from cl2cm.model.networks import TextNetwork
from cl2cm.types import Frames, Tokens

TEXTS_AT_ONCE = 1024  # on a GPU
TEXTS_AT_ONCE_ON_CPU = 64  # smaller groups of similar length need less padding
PICTURES_AT_ONCE = 256  # videos have many frames


@torch.no_grad()
def sentence_vectors(network: TextNetwork, texts: TextSource, rows: Tensor) -> Tensor:
    """Return unit vectors [N, D] of the texts of rows int64 [N], in evaluation mode.

    Texts of similar length are encoded together, since padding costs as much as tokens.
    """
    training = network.training
    network.eval()
    device = next(network.parameters()).device
    at_once = TEXTS_AT_ONCE_ON_CPU if device.type == "cpu" else TEXTS_AT_ONCE
    order = texts.lengths(rows).argsort(stable=True)
    parts = [
        network.encode_text(to_device(texts.gather(rows[part]), device)).sentence.float().cpu()
        for part in order.split(at_once)
    ]
    network.train(training)
    found = torch.cat(parts)
    vectors = torch.empty_like(found)
    vectors[order] = found
    return vectors


@torch.no_grad()
def frame_vectors(head: nn.Module, frames: Frames) -> Tensor:
    """Return unit vectors [N, D] of frame features, in evaluation mode."""
    training = head.training
    head.eval()
    device = next((weight.device for weight in head.parameters()), torch.device("cpu"))
    vectors: Tensor = head(*(tensor.to(device) for tensor in frames)).float().cpu()
    head.train(training)
    return vectors


def picture_vectors(head: nn.Module, store: StoredFeatures, rows: Tensor) -> Tensor:
    """Return unit vectors [N, D] of the stored features of rows int64 [N], in evaluation mode."""
    parts = []
    for part in rows.split(PICTURES_AT_ONCE):
        frames = store.gather(part)
        parts.append(frame_vectors(head, Frames(frames.values, frames.mask)))
    return torch.cat(parts)


def to_device(tokens: Tokens, device: torch.device) -> Tokens:
    """Return tokens on a device."""
    values, mask, content = (tensor.to(device) for tensor in tokens[:3])
    return tokens._replace(values=values, mask=mask, content=content)
