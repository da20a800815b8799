import io
import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.nn import functional as F

from cl2cm.encode import efficientnet
from cl2cm.encode.efficientnet import build_graph, read_state, write_efficientnet
from cl2cm.encode.vision import load_vision
from cl2cm.errors import WeightsError
from fixtures.small_weights import VARIANT, efficientnet_file, efficientnet_state

# Of the picture below: the first eight features, and the mean of all.
REFERENCE = {
    "efficientnet-lite0": ([1.5465, 0, 0.1503, 0, 0, 0, 0, 0.0164], 0.09087),
    "efficientnet-lite2": ([0, 0.0235, 0.0626, 0, 0.0053, 0.322, 0.0198, 0.0117], 0.13019),
}


def noise(count, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def reference(state, pixels):
    """The same network, layer by layer in torch."""

    def conv(x, name, norm, stride=1, groups=1, relu=True):
        weight = state[f"{name}.weight"]
        side, kernel = x.shape[-1], weight.shape[-1]
        padding = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        before, after = padding // 2, padding - padding // 2
        x = F.conv2d(F.pad(x, (before, after, before, after)), weight, None, stride, 0, 1, groups)
        x = F.batch_norm(
            x,
            state[f"{norm}.running_mean"],
            state[f"{norm}.running_var"],
            state[f"{norm}.weight"],
            state[f"{norm}.bias"],
            eps=1e-3,
        )
        return F.relu6(x) if relu else x

    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128
    x = conv(x, "_conv_stem", "_bn0", stride=2)
    strides = (1, 2, 1, 2, 2, 1, 2, 1)  # the second stage has two blocks
    for number, stride in enumerate(strides):
        prefix, before = f"_blocks.{number}.", x
        if f"{prefix}_expand_conv.weight" in state:
            x = conv(x, f"{prefix}_expand_conv", f"{prefix}_bn0")
        x = conv(x, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride, groups=x.shape[1])
        x = conv(x, f"{prefix}_project_conv", f"{prefix}_bn2", relu=False)
        if stride == 1 and x.shape[1] == before.shape[1]:
            x = x + before
    return conv(x, "_conv_head", "_bn1").mean((2, 3)).numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("efficientnet")
    write_efficientnet(path, efficientnet_file(efficientnet_state()), VARIANT, "small.pth")
    return path


@pytest.mark.parametrize("size", [31, 32, 33])
def test_the_graph_is_the_network(size, tmp_path):
    variant = VARIANT._replace(size=size)
    state = efficientnet_state(seed=size)
    write_efficientnet(tmp_path, efficientnet_file(state), variant, "small.pth")
    encoder = load_vision(f"onnx:{tmp_path}", threads=1)
    pixels = noise(5, size)
    expected = reference(state, pixels)
    assert np.ptp(expected) > 0.5
    assert_allclose(encoder.encode(pixels), expected, atol=2e-5 * np.abs(expected).max())


def test_features_do_not_depend_on_the_batch(folder):
    encoder = load_vision(f"onnx:{folder}", threads=1)
    pixels = noise(4, VARIANT.size)
    together = encoder.encode(pixels)
    alone = np.concatenate([encoder.encode(pixels[i : i + 1]) for i in range(4)])
    assert_allclose(together, alone, atol=1e-5)


def test_the_folder_says_how_pictures_are_prepared(folder):
    preprocess = json.loads((folder / "preprocess.json").read_bytes())
    assert preprocess == {"size": 31, "resize": 31, "resample": "bicubic"}
    words = efficientnet.describe_input(VARIANT)
    assert words["pixels"].startswith("uint8 [N, 31, 31, 3], red green blue")
    assert words["normalisation"] == "(pixel - 127) / 128, in the graph"


def test_the_same_weights_give_the_same_bytes(folder):
    state = {key: value.float().numpy() for key, value in efficientnet_state().items()}
    again = build_graph(state, VARIANT, "small.pth").SerializeToString(deterministic=True)
    assert (folder / "model.onnx").read_bytes() == again


def test_nothing_but_tensors_is_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "evil"), "w"))

    file = io.BytesIO()
    torch.save({"a": Evil()}, file)
    with pytest.raises(WeightsError, match="expected a state dict, found a damaged file"):
        read_state(file.getvalue(), "small.pth")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("length", [0, 10, 1000])
def test_a_truncated_file_is_refused(length, tmp_path):
    data = efficientnet_file(efficientnet_state())[:length]
    with pytest.raises(WeightsError, match=r"small\.pth: expected a state dict"):
        write_efficientnet(tmp_path, data, VARIANT, "small.pth")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("change", ["missing", "channels", "repeats"])
def test_other_weights_are_refused(change, tmp_path):
    state, variant = efficientnet_state(), VARIANT
    if change == "missing":
        del state["_blocks.3._bn1.running_var"]
    elif change == "channels":
        state["_conv_head.weight"] = torch.zeros(20, 7, 1, 1)
    else:
        variant = VARIANT._replace(repeats=(1, 2, 2, 2, 1, 1, 1))
    with pytest.raises(WeightsError, match="expected the weights of an EfficientNet-Lite"):
        write_efficientnet(tmp_path, efficientnet_file(state), variant, "small.pth")
    assert not any(tmp_path.iterdir())


@pytest.mark.weights("efficientnet-lite0", "efficientnet-lite2")
@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite2"])
def test_the_real_weights_see_what_they_saw(name):
    encoder = load_vision(f"onnx:{name}", threads=1)
    rows, columns = np.indices((encoder.size, encoder.size))
    picture = np.stack([rows % 256, columns % 256, (rows // 8 + columns // 8) % 2 * 255], -1)
    features = encoder.encode(picture[None].astype(np.uint8))
    assert features.shape == (1, 1280)
    first, mean = REFERENCE[name]
    assert_allclose(features[0, :8], first, atol=2e-3)
    assert_allclose(features.mean(), mean, rtol=1e-3)
