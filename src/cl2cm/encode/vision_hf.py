"""Vision backbones of Transformers behind the protocol of ``protocol.py``: CLIP, SigLIP and others.

Images are prepared by ``media/images.py``, in the way that the model's image processor names; the
processor itself (and torchvision) is not needed. ``clip/layout.py`` says which folders are read.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from cl2cm.encode.clip.image import load_image_side, preprocess_of
from cl2cm.encode.clip.layout import find_model, layout_of
from cl2cm.encode.protocol import Described
from cl2cm.encode.text_loading import loading
from cl2cm.errors import EncoderError
from cl2cm.media.images import EVENLY, Pixels, Preprocess
from cl2cm.types import Floats, Sampling


class HuggingFaceVision(Described):
    """A Transformers model with pooled or projected image features, such as CLIP.

    Args:
        name: what it is called in messages and records.
        model: a folder, with a slash in its path, or an id on the hub.
        sampling: which frames of a video it is given.

    Raises:
        EncoderError: it cannot be found, or prepares images in another way than we do.
    """

    def __init__(self, name: str, model: str, sampling: Sampling = EVENLY) -> None:
        def failed(found: str, remedy: str) -> EncoderError:
            return EncoderError(name, expected="a vision model", found=found, remedy=remedy)

        folder = find_model(model, failed)
        with loading(name, folder, "vision model"):
            side = load_image_side(layout_of(folder))
            settings = side.settings
            scale = settings.get("rescale_factor", 1 / 255)
            mean, std = (
                torch.tensor(settings.get(key, 0.5)) for key in ("image_mean", "image_std")
            )
            # (pixels · scale − mean) / std, as one product and one difference.
            self._factor = (scale / std).float().view(-1, 1, 1)
            self._offset = (mean / std).float().view(-1, 1, 1)
        preprocess = _preprocess(name, settings)
        self._side = side
        super().__init__(name, preprocess, side.fingerprint, 0, sampling)
        size = preprocess.size
        self.width = self.encode(np.zeros((1, size, size, 3), np.uint8)).shape[1]

    @property
    def model(self) -> nn.Module:
        """The model of Transformers, with the text side that may have come along."""
        return self._side.model

    def encode(self, pixels: Pixels) -> Floats:
        """Return features float32 [N, D_v] of frames uint8 [N, size, size, 3]."""
        self.check(pixels)
        with torch.inference_mode():
            features: Floats = self.features(torch.from_numpy(pixels)).numpy()
        return features

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return features [N, D_v] of pixels uint8 [N, size, size, 3]."""
        channels = pixels.permute(0, 3, 1, 2)
        return self._side.run(channels * self._factor - self._offset).flatten(1)


def _preprocess(name: str, settings: Mapping[str, Any]) -> Preprocess:
    try:
        return preprocess_of(settings)
    except (KeyError, TypeError, ValueError) as error:
        size, cut = settings.get("size"), settings.get("crop_size")
        raise EncoderError(
            name,
            expected="images scaled to a square, or by the shorter side and cropped; normalised",
            found=f"size {size}, crop_size {cut} ({error})",
            remedy="choose a model like CLIP or SigLIP",
        ) from error
