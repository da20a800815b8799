import io
import json

import numpy as np
import onnx
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from cl2cm.encode.vision import encode_paths, load_vision
from cl2cm.errors import EncoderError, MediaError, WeightsError

SIZE = 24


def noise(count, height=SIZE, width=SIZE, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def tiny_onnx(folder, *, width=8, inputs="pixels", outputs="features", seed=0):
    """Convolution, mean over the picture: pixels → features, as OnnxVision wants it."""
    weights = np.random.default_rng(seed).normal(size=(width, 3, 3, 3)).astype(np.float32) / 255
    nodes = [
        helper.make_node("Cast", [inputs], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "w"], ["y"]),
        helper.make_node("Relu", ["y"], ["z"]),
        helper.make_node("GlobalAveragePool", ["z"], ["p"]),
        helper.make_node("Flatten", ["p"], [outputs]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(inputs, TensorProto.UINT8, ["N", "H", "W", 3])],
        [helper.make_tensor_value_info(outputs, TensorProto.FLOAT, ["N", width])],
        [numpy_helper.from_array(weights, "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "model.onnx")
    (folder / "preprocess.json").write_text(json.dumps({"size": SIZE}))
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A CLIP of a few thousand parameters, saved as Transformers does."""
    from transformers import CLIPConfig, CLIPModel

    small = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**small, "num_hidden_layers": 1, "vocab_size": 9},
        vision_config={
            **small,
            "num_hidden_layers": 2,
            "image_size": SIZE,
            "patch_size": 8,
            "projection_dim": 12,
        },
        projection_dim=12,
    )
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder)
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": SIZE},
        "crop_size": {"height": SIZE, "width": SIZE},
        "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(params=["onnx", "hf"])
def encoder(request, tmp_path, clip):
    spec = f"onnx:{tiny_onnx(tmp_path / 'tiny')}" if request.param == "onnx" else f"hf:{clip}"
    return load_vision(spec, threads=1)


def test_says_what_it_is(encoder):
    assert encoder.size == SIZE
    assert encoder.width in (8, 12)
    assert json.loads(encoder.preprocessing)["size"] == SIZE
    assert len(encoder.fingerprint) == 64
    features = encoder.encode(noise(3))
    assert features.shape == (3, encoder.width)
    assert features.dtype == np.float32


def test_features_do_not_depend_on_batch_mates(encoder):
    pixels = noise(64)
    together = encoder.encode(pixels)
    alone = np.concatenate([encoder.encode(pixels[i : i + 1]) for i in range(len(pixels))])
    assert_allclose(together, alone, atol=1e-5, rtol=0)
    order = np.random.default_rng(1).permutation(64)
    assert_allclose(encoder.encode(pixels[order]), together[order], atol=1e-5, rtol=0)
    assert np.ptp(together, axis=0).min() > 1e-3  # and they do depend on the picture


@pytest.mark.parametrize(
    "pixels",
    [noise(1, 23, 24), noise(1).astype(np.float32), noise(1)[0], noise(1).transpose(0, 3, 1, 2)],
)
def test_refuses_other_frames(encoder, pixels):
    with pytest.raises(EncoderError, match="load them with the encoder's own preprocess"):
        encoder.encode(pixels)


def test_encodes_files_in_order(encoder, tmp_path):
    paths = []
    for number, pixels in enumerate(noise(10, 30, 40)):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    done = []
    result = encode_paths(encoder, paths, batch_size=4, progress=done.append)
    one_by_one = [encode_paths(encoder, [path]).features for path in paths]
    assert_allclose(result.features, np.concatenate(one_by_one), atol=1e-5, rtol=0)
    assert result.kept == list(range(10))
    assert result.failures == []
    assert done == [4, 4, 2]


def test_broken_files_are_listed_only_when_asked(encoder, tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(noise(1)[0]).save(good)
    bad.write_bytes(good.read_bytes()[:99])
    paths = [bad, good, bad, bad, good, tmp_path / "none.png"]
    done = []
    result = encode_paths(encoder, paths, batch_size=2, skip_bad=True, progress=done.append)
    assert result.kept == [1, 4]
    assert [row for row, _ in result.failures] == [0, 2, 3, 5]
    assert "bad.png" in str(result.failures[0][1])
    assert result.features.shape == (2, encoder.width)
    assert sum(done) == 6
    with pytest.raises(MediaError, match=r"bad\.png"):
        encode_paths(encoder, paths)


def test_nothing_in_nothing_out(encoder):
    assert encode_paths(encoder, []).features.shape == (0, encoder.width)
    broken = encode_paths(encoder, [b"x"], skip_bad=True)
    assert broken.features.shape == (0, encoder.width)
    assert [row for row, _ in broken.failures] == [0]


# --- ONNX ------------------------------------------------------------------------------------


def test_onnx_by_name_in_the_cache(tmp_path):
    folder = tiny_onnx(tmp_path / "models/tiny")
    by_name = load_vision("onnx:tiny", cache=tmp_path)
    assert by_name.fingerprint == load_vision(f"onnx:{folder}").fingerprint
    assert by_name.name == "onnx:tiny"


def test_onnx_against_torch(tmp_path):
    folder = tiny_onnx(tmp_path)
    weights = numpy_helper.to_array(onnx.load(folder / "model.onnx").graph.initializer[0])
    x = torch.from_numpy(noise(5)).permute(0, 3, 1, 2).float()
    wanted = torch.nn.functional.conv2d(x, torch.tensor(weights)).relu().mean((2, 3))
    torch.testing.assert_close(
        torch.from_numpy(load_vision(f"onnx:{folder}").encode(noise(5))), wanted
    )


def test_fingerprint_names_weights_and_preprocessing(tmp_path):
    def fingerprint(folder):
        return load_vision(f"onnx:{folder}").fingerprint

    first = fingerprint(tiny_onnx(tmp_path / "a"))
    assert first == fingerprint(tiny_onnx(tmp_path / "b"))
    assert first != fingerprint(tiny_onnx(tmp_path / "c", seed=1))
    (tmp_path / "b/preprocess.json").write_text(json.dumps({"size": SIZE, "resize": 30}))
    assert first != fingerprint(tmp_path / "b")


@pytest.mark.parametrize("file", ["model.onnx", "preprocess.json"])
def test_onnx_files_absent_or_damaged(tmp_path, file):
    path = tiny_onnx(tmp_path) / file
    whole = path.read_bytes()
    for damage in (b"", b"\xff\xfe", whole[: len(whole) // 2]):
        path.write_bytes(damage)
        with pytest.raises(WeightsError, match="damaged"):
            load_vision(f"onnx:{tmp_path}")
    path.unlink()
    with pytest.raises(WeightsError, match="doctor --install-weights"):
        load_vision(f"onnx:{tmp_path}")


@pytest.mark.parametrize(
    "preprocess",
    [
        [],
        {},
        {"size": 0},
        {"size": 24.5},
        {"size": 24, "resize": 20},
        {"size": 24, "resample": "nearest"},
        {"size": 24, "colour": "grey"},
    ],
)
def test_impossible_preprocessing(tmp_path, preprocess):
    (tiny_onnx(tmp_path) / "preprocess.json").write_text(json.dumps(preprocess))
    with pytest.raises(WeightsError, match=r"preprocess\.json"):
        load_vision(f"onnx:{tmp_path}")


@pytest.mark.parametrize("names", [{"inputs": "image"}, {"outputs": "logits"}])
def test_other_graph(tmp_path, names):
    with pytest.raises(EncoderError, match="expected pixels uint8"):
        load_vision(f"onnx:{tiny_onnx(tmp_path, **names)}")


@pytest.mark.parametrize("spec", ["", "onnx", "onnx:", "hf:", "features:", "tf:x"])
def test_unknown_spec(spec):
    with pytest.raises(EncoderError, match="expected onnx:DIR, hf:ID or features:PATH"):
        load_vision(spec)


# --- Hugging Face ----------------------------------------------------------------------------


def test_clip_against_transformers(clip):
    from transformers import CLIPVisionModelWithProjection
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    picture = Image.fromarray(noise(1, 40, 31)[0])
    file = io.BytesIO()
    picture.save(file, "PNG")
    values = CLIPImageProcessorPil.from_pretrained(clip)(picture, return_tensors="pt")
    with torch.no_grad():
        wanted = CLIPVisionModelWithProjection.from_pretrained(clip)(**values).image_embeds
    result = encode_paths(load_vision(f"hf:{clip}"), [file.getvalue()])
    torch.testing.assert_close(torch.from_numpy(result.features), wanted, atol=1e-5, rtol=1e-5)


def copy_of(clip, folder, **changes):
    for file in clip.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return load_vision(f"hf:{folder}")


def test_clip_settings(clip, tmp_path):
    changed = copy_of(clip, tmp_path, image_mean=[0, 0, 0], size=30)
    assert (changed.size, changed.preprocess.resize) == (SIZE, 30)
    plain = load_vision(f"hf:{clip}")
    assert changed.fingerprint != plain.fingerprint
    assert not np.array_equal(changed.encode(noise(1)), plain.encode(noise(1)))
    assert_array_equal(plain.encode(noise(1)), load_vision(f"hf:{clip}").encode(noise(1)))


@pytest.mark.parametrize(
    "changes",
    [
        {"do_center_crop": False},
        {"do_normalize": False},
        {"resample": 0},
        {"crop_size": {"height": 24, "width": 20}},
        {"crop_size": 40},
    ],
)
def test_clip_of_another_preparation(clip, tmp_path, changes):
    with pytest.raises(EncoderError, match="images scaled to a square"):
        copy_of(clip, tmp_path, **changes)


def test_no_such_model(tmp_path):
    with pytest.raises(EncoderError, match="expected a vision model") as caught:
        load_vision(f"hf:{tmp_path}")
    assert "\n" not in str(caught.value)


@pytest.mark.weights("efficientnet-lite0", "efficientnet-lite2")
@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite2"])
def test_real_weights_do_not_depend_on_batch_mates(name):
    encoder = load_vision(f"onnx:{name}", threads=1)
    pixels = noise(8, encoder.size, encoder.size)
    assert encoder.width == 1280
    alone = np.concatenate([encoder.encode(pixels[i : i + 1]) for i in range(8)])
    assert_allclose(encoder.encode(pixels), alone, atol=1e-5, rtol=0)
