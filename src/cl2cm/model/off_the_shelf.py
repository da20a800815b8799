"""Off-the-shelf models used instead of a trained run, without additional heads.

The vector of an image or a text is what the model gives, normalised; a video's is the mean of its
frames' unit vectors. All else, batches, stores and search, is as for a trained model.
"""

from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional as F

from cl2cm.encode.clip.pairs import (
    Pair,
    absolute_pair,
    find_text,
    load_image,
    load_text,
    pair_fingerprint,
    parse_pair,
)
from cl2cm.encode.clip.text import TextSide
from cl2cm.encode.vision_hf import HuggingFaceVision
from cl2cm.model.networks import CrossModalNetwork, MeanOfFrames
from cl2cm.model.retrieval import RetrievalModel, VisualSide
from cl2cm.types import Encoded, Tokens

if TYPE_CHECKING:
    from cl2cm.encode.text import TextBackbone


class PairNetwork(CrossModalNetwork):
    """The student's place: the text side by itself, and the mean of frames.

    Args:
        text: makes a vector of the ids of a text.
    """

    def __init__(self, text: TextSide) -> None:
        nn.Module.__init__(self)
        self.backbone = text
        self.vision = MeanOfFrames()

    def encode_text(self, tokens: Tokens) -> Encoded:
        """Encode ids; the sentence vectors alone mean something."""
        assert self.backbone is not None, "its text side"  # noqa: S101
        sentence = F.normalize(self.backbone(tokens.values, tokens.mask), dim=-1)
        nothing = torch.zeros(len(sentence), 1, dtype=torch.bool)
        return Encoded(sentence, sentence[:, None], nothing, nothing.to(sentence.dtype))


def load_pair(spec: str, *, text_encoder: str = "", vision_encoder: str = "") -> RetrievalModel:
    """Load an off-the-shelf model for search or evaluation.

    Args:
        spec: ``hf:MODEL``, or ``hf:IMAGE_MODEL+TEXT_MODEL``.
        text_encoder: ``hf:MODEL`` in the place of the text side, or "".
        vision_encoder: the same of the image side.

    Raises:
        EncoderError: it cannot be found, or its sides do not fit each other.
        WeightsError: its files are absent or damaged.
    """
    pair = _sides(spec, text_encoder, vision_encoder)
    return pair_model(pair, load_image(pair))


def pair_model(pair: Pair, vision: HuggingFaceVision) -> RetrievalModel:
    """Load the text side of a pair whose image side is loaded.

    Raises:
        EncoderError: as `load_pair`.
        WeightsError: as `load_pair`.
    """
    text = load_text(pair, vision)
    name = pair_fingerprint(pair)
    backbone = cast("TextBackbone", text)  # it is asked for ids and the padding token alone
    model = RetrievalModel(PairNetwork(text), backbone, vision, fingerprint=name, dim=vision.width)
    model.run = pair.spec
    return model


def load_pair_visual(spec: str, *, vision_encoder: str = "") -> VisualSide:
    """Load the image side of an off-the-shelf model, for indexing; of the text side, hashes.

    Raises:
        EncoderError: as `load_pair`.
        WeightsError: as `load_pair`.
    """
    pair = _sides(spec, "", vision_encoder)
    vision = load_image(pair)
    find_text(pair, vision.width)  # there is one, and it fits
    name = pair_fingerprint(pair)
    model = VisualSide(MeanOfFrames(), vision, fingerprint=name, dim=vision.width)
    model.run = pair.spec
    return model


def _sides(spec: str, text: str, vision: str) -> Pair:
    """Return the sides of a spec, with replacements; paths are absolute."""
    pair = parse_pair(spec)
    if text:
        pair = Pair(pair.image, parse_pair(text).image)
    if vision:
        pair = Pair(parse_pair(vision).image, pair.text or pair.image)
    return absolute_pair(pair)
