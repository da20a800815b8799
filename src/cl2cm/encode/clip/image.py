"""The image side of an off-the-shelf model: normalised pixels to features.

What its processor's settings say is kept: the size, whether the shorter side is scaled and the
centre cut out (CLIP) or both sides are scaled (SigLIP), the filter, mean and standard deviation.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cl2cm.encode.clip.layout import Layout, read_json
from cl2cm.encode.clip.open_clip import image_tower
from cl2cm.encode.pretrained import LOADING, check_weights
from cl2cm.encode.protocol import checked
from cl2cm.media.images import Preprocess

RESAMPLES = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # as image processors number them
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
_CLIP_TYPES = {"clip", "chinese_clip"}
NAFLEX = "siglip2"  # its images are sequences of patches
NAFLEX_GRID = {"patch_size": 16, "max_num_patches": 256, "resample": 2}  # where nothing is said


class ImageSide(NamedTuple):
    """A loaded image side.

    model: whole, in evaluation mode; run: pixel values float32 [N, 3, H, W], normalised, to
    features [N, D_v]; settings: of its image processor; fingerprint: computes the
    fingerprint of weights and settings, which takes a while.
    """

    model: nn.Module
    run: Callable[[Tensor], Tensor]
    settings: Mapping[str, Any]
    fingerprint: Callable[[], str]


def load_image_side(layout: Layout) -> ImageSide:
    """Load the image side of a model; one of Transformers brings its text side along.

    Raises:
        ValueError: a text side alone, or files that we do not read.
        Exception: whatever Transformers raises for damaged files.
    """
    layout.check()
    if layout.kind in ("sentence-transformers", "m-clip"):
        raise ValueError("a text side alone; name an image side before it: IMAGE_MODEL+TEXT_MODEL")
    if layout.kind == "open_clip":
        tower = image_tower(layout.folder)
        return ImageSide(
            tower.model,
            lambda values: tower.model(pixel_values=values).image_embeds,
            tower.settings,
            partial(_hash, tower.model, tower.settings),
        )
    return _of_transformers(layout)


def _of_transformers(layout: Layout) -> ImageSide:
    from transformers import AutoModel  # noqa: PLC0415 - heavy
    from transformers.image_processing_base import ImageProcessingMixin  # noqa: PLC0415

    settings = ImageProcessingMixin.get_image_processor_dict(str(layout.folder), **LOADING)[0]
    model, info = AutoModel.from_pretrained(
        str(layout.folder),
        **LOADING,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    check_weights(info, heads=True)
    model.eval()
    fingerprint = partial(_hash, model, settings)
    kind = layout.model_type or str(read_json(layout.folder / "config.json").get("model_type", ""))
    if kind in _CLIP_TYPES:
        settings = {"image_mean": CLIP_MEAN, "image_std": CLIP_STD, **settings}
    if kind == NAFLEX:
        settings = _square_grid(settings)
        run = _of_patches(model, int(settings["patch_size"]))
    else:
        call = getattr(model, "get_image_features", model)

        def run(values: Tensor) -> Tensor:
            pooled: Tensor = call(pixel_values=values).pooler_output
            return pooled

    return ImageSide(model, run, settings, fingerprint)


def _square_grid(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of SigLIP 2 NaFlex for squares: the largest square grid of patches."""
    whole = {**NAFLEX_GRID, **settings}
    side = math.isqrt(int(whole["max_num_patches"])) * int(whole["patch_size"])
    return {**whole, "size": {"height": side, "width": side}, "do_center_crop": False}


def _of_patches(model: Any, patch: int) -> Callable[[Tensor], Tensor]:  # noqa: ANN401
    """Run SigLIP 2 NaFlex on squares: rows of patches, each with its channels last."""

    def run(values: Tensor) -> Tensor:
        count, channels, side, _ = values.shape
        grid = side // patch
        cells = values.reshape(count, channels, grid, patch, grid, patch)
        patches = cells.permute(0, 2, 4, 3, 5, 1).reshape(count, grid * grid, -1)
        features: Tensor = model.get_image_features(
            pixel_values=patches,
            pixel_attention_mask=torch.ones(count, grid * grid, dtype=torch.int64),
            spatial_shapes=torch.tensor([[grid, grid]] * count),
        ).pooler_output
        return features

    return run


def preprocess_of(settings: Mapping[str, Any]) -> Preprocess:
    """Return our preprocessing from an image processor's settings.

    Raises:
        ValueError: the processor makes no squares, or leaves out a step.
    """
    size, cut = settings.get("size"), settings.get("crop_size")
    if not all(settings.get(step, True) for step in ("do_resize", "do_rescale", "do_normalize")):
        raise ValueError("a step is left out")
    resample = RESAMPLES.get(settings.get("resample", 3), "")
    short = size.get("shortest_edge") if isinstance(size, dict) else size
    whole = _square(size) if isinstance(size, dict) else None
    if short is not None and settings.get("do_center_crop", True):
        inside = _square(cut if cut is not None else size)
        if inside is None:
            raise ValueError("no square crop_size")
        return checked(Preprocess(inside, short, resample))
    cuts = cut is not None and settings.get("do_center_crop", True)
    if whole is not None and (not cuts or _square(cut) == whole):
        return checked(Preprocess(whole, None, resample, stretch=True))
    raise ValueError("no squares")


def _square(size: Any) -> int | None:  # noqa: ANN401 - whatever the file holds
    """Return the side of a square; a bare number means one."""
    if not isinstance(size, dict):
        return size if type(size) is int else None
    height, width = size.get("height"), size.get("width")
    return height if type(height) is int and height == width else None


def _hash(model: nn.Module, settings: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
