"""Vision backbones of Transformers behind the protocol of ``protocol.py``: CLIP and its like.

Pictures are prepared by ``media/images.py``, in the way that the model's image processor names; the
processor itself (and torchvision) is not needed.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel
from transformers.image_processing_base import ImageProcessingMixin

from cl2cm.encode.pretrained import LOADING, check_folder, check_weights, from_hub
from cl2cm.encode.protocol import Described, checked
from cl2cm.encode.text_loading import loading
from cl2cm.encode.trust import is_bare, is_hub_id
from cl2cm.errors import EncoderError
from cl2cm.media.images import EVENLY, Pixels, Preprocess
from cl2cm.types import Floats, Sampling

_RESAMPLES = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # as image processors number them


class HuggingFaceVision(Described):
    """A Transformers model with pooled or projected picture features, such as CLIP.

    Args:
        name: what it is called in messages and records.
        model: a folder, with a slash in its path, or an id on the hub.
        sampling: which frames of a film it is given.

    Raises:
        EncoderError: it cannot be found, or prepares pictures in another way than we do.
    """

    def __init__(self, name: str, model: str, sampling: Sampling = EVENLY) -> None:
        folder = _find_folder(name, model)
        with loading(name, folder, "vision model"):
            check_folder(folder)
            settings = ImageProcessingMixin.get_image_processor_dict(str(folder), **LOADING)[0]
            self._model, info = AutoModel.from_pretrained(
                str(folder),
                **LOADING,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
            check_weights(info, heads=True)
            self._model.eval()
        preprocess = _from_settings(settings, name)
        scale = settings.get("rescale_factor", 1 / 255)
        mean, std = (settings.get(key, 0.5) for key in ("image_mean", "image_std"))
        # (pixels · scale − mean) / std, as one product and one difference.
        self._factor = (scale / torch.tensor(std)).float().view(-1, 1, 1)
        self._offset = (torch.tensor(mean) / torch.tensor(std)).float().view(-1, 1, 1)
        fingerprint = _hash_model(self._model, settings)
        super().__init__(name, preprocess, fingerprint, 0, sampling)
        side = preprocess.size
        self.width = self.encode(np.zeros((1, side, side, 3), np.uint8)).shape[1]

    def encode(self, pixels: Pixels) -> Floats:
        """Features float32 [N, D_v] of frames uint8 [N, size, size, 3]."""
        self.check(pixels)
        with torch.inference_mode():
            channels = torch.from_numpy(pixels).permute(0, 3, 1, 2)
            values = channels * self._factor - self._offset
            run = getattr(self._model, "get_image_features", self._model)
            pooled: torch.Tensor = run(pixel_values=values).pooler_output
        features: Floats = pooled.flatten(1).numpy()
        return features


def _find_folder(name: str, model: str) -> Path:
    folder = Path(model).expanduser()
    if not is_bare(model) and folder.is_dir():
        return folder

    def failed(found: str, remedy: str) -> EncoderError:
        return EncoderError(name, expected="a vision model", found=found, remedy=remedy)

    if is_hub_id(model):
        return from_hub(model, ["*.json", "*.safetensors"], failed)
    raise failed("no such folder", "correct the id, or give a folder such as ./NAME")


def _from_settings(settings: Mapping[str, Any], name: str) -> Preprocess:
    """Our preprocessing from an image processor's settings; any other is refused."""
    resize = settings.get("size")
    cut = settings.get("crop_size", resize)
    short = resize.get("shortest_edge") if isinstance(resize, dict) else resize
    if isinstance(cut, dict):
        cut = cut.get("height") if cut.get("height") == cut.get("width") else None
    steps = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
    try:
        if not all(settings.get(step, True) for step in steps):
            raise ValueError("a step is left out")
        if short is None:
            raise ValueError("no shortest_edge")
        return checked(Preprocess(cut, short, _RESAMPLES[settings.get("resample", 3)]))
    except (KeyError, TypeError, ValueError) as error:
        raise EncoderError(
            name,
            expected="pictures scaled by their shorter side, cut, and normalised",
            found=f"size {resize}, crop_size {cut} ({error})",
            remedy="choose a CLIP-like model",
        ) from error


def _hash_model(model: torch.nn.Module, settings: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
