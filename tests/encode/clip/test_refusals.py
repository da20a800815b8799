"""Model folders that are another kind than they say, or that ask for something elsewhere."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from cl2cm.encode.clip.layout import layout_of
from cl2cm.encode.clip.pairs import absolute_pair, parse_pair, side_of
from cl2cm.encode.clip.weights import fill
from cl2cm.errors import CL2CMError, EncoderError
from cl2cm.model.checkpoint import load
from cl2cm.model.off_the_shelf import MeanOfFrames
from fixtures import shelf


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def clip(tmp_path):
    return shelf.write_clip(tmp_path / "clip")


@pytest.fixture
def open_clip(tmp_path):
    return shelf.write_open_clip(tmp_path / "open")[0]


@pytest.fixture
def text(tmp_path):
    return shelf.write_sentence_text(tmp_path / "text")[0]


def refused(spec, words):
    with pytest.raises(CL2CMError, match=words) as caught:
        load(spec)
    assert "\n" not in str(caught.value)


# --- open_clip -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "changes", "words"),
    [
        ("vision_cfg", {"timm_model_name": "vit_base_patch16_siglip_224"}, "timm_model_name"),
        ("vision_cfg", {"layers": [3, 4, 6, 3]}, "layers"),
        ("vision_cfg", {"attentional_pool": True}, "attentional_pool"),
        ("vision_cfg", {"width": 2**40}, "width"),
        ("vision_cfg", {"width": 2**19}, "do not fit"),
        ("vision_cfg", {"layers": 10**6}, "layers"),
        ("vision_cfg", {"image_size": 48}, "do not fit"),
        ("text_cfg", {"layers": 3}, "do not fit"),
        ("text_cfg", {"pool_type": "last"}, "pool_type"),
        ("text_cfg", {"no_causal_mask": True}, "no_causal_mask"),
    ],
)
def test_open_clip_of_another_kind(open_clip, side, changes, words):
    path = open_clip / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"][side] |= changes
    path.write_text(json.dumps(config))
    refused(f"hf:{open_clip}", words)


@pytest.mark.parametrize(
    "preprocess", [{"resize_mode": "longest"}, {"interpolation": "nearest"}, {"size": 30}]
)
def test_open_clip_of_another_preprocessing(open_clip, preprocess):
    path = open_clip / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["preprocess_cfg"] |= preprocess
    path.write_text(json.dumps(config))
    refused(f"hf:{open_clip}", "resize_mode|resample|size")


def test_open_clip_names_a_base_model_that_is_not_fetched(tmp_path):
    folder, *_ = shelf.write_open_clip(tmp_path / "open", hf_text=True)
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"]["hf_model_name"] = "evil/model-with-code"
    path.write_text(json.dumps(config))
    refused(f"hf:{folder}", "the base model 'evil/model-with-code'")
    config["model_cfg"]["text_cfg"] |= {"hf_model_name": "roberta", "hf_pooler_type": "attentional"}
    path.write_text(json.dumps(config))
    refused(f"hf:{folder}", "the pooling 'attentional'")


def test_weights_that_are_missing_or_too_many(open_clip):
    path = open_clip / "open_clip_model.safetensors"
    whole = load_file(path)
    some = {n: t for n, t in whole.items() if n != "visual.transformer.resblocks.1.ln_1.bias"}
    save_file(some, path)
    refused(f"hf:{open_clip}", "do not fit its configuration")
    save_file(whole | {"visual.attn_pool.query": torch.zeros(1)}, path)
    refused(f"hf:{open_clip}", "a tower with attn_pool")
    path.rename(open_clip / "open_clip_pytorch_model.bin")
    refused(f"hf:{open_clip}", "docs/models.md")


def test_no_memory_is_taken_for_what_settings_claim():
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    claimed = CLIPTextConfig(vocab_size=2**30, hidden_size=2**12)
    with pytest.raises(ValueError, match="do not fit"):
        fill(CLIPTextModelWithProjection, claimed, {"text_projection.weight": torch.zeros(2, 2)})


# --- sentence-transformers and Multilingual-CLIP -----------------------------------------------


@pytest.mark.parametrize("path", ["..", "../clip", "/etc", "a/b", "~", 5, None])
def test_modules_elsewhere(text, clip, path):
    modules = json.loads((text / "modules.json").read_text())
    modules[2]["path"] = path
    (text / "modules.json").write_text(json.dumps(modules))
    refused(f"hf:{clip}+{text}", "modules.json")


@pytest.mark.parametrize(
    "modules",
    [
        {},
        [],
        ["x"],
        [{"type": "a.Transformer", "path": ""}],
        [{"type": "a.Transformer", "path": ""}] * 9,
        [{"type": "a.Transformer", "path": ""}, {"type": "evil.Module", "path": "1_Pooling"}],
        [{"type": "a.Asym", "path": ""}, {"type": "a.Pooling", "path": "1_Pooling"}],
        [
            {"type": "a.Transformer", "path": ""},
            {"type": "a.Pooling", "path": "1_Pooling"},
            {"type": "a.LSTM", "path": "2_Dense"},
        ],
    ],
)
def test_modules_of_another_kind(text, clip, modules):
    (text / "modules.json").write_text(json.dumps(modules))
    refused(f"hf:{clip}+{text}", "modul")


def test_settings_of_modules_that_we_do_not_know(text, clip):
    pooling, dense = text / "1_Pooling" / "config.json", text / "2_Dense" / "config.json"
    before = pooling.read_text()
    change(pooling, pooling_mode_cls_token=True)
    refused(f"hf:{clip}+{text}", "the pooling")
    pooling.write_text(json.dumps({"pooling_mode": "weightedmean"}))
    refused(f"hf:{clip}+{text}", "the pooling 'weightedmean'")
    pooling.write_text(before)
    change(dense, activation_function="os.system")
    refused(f"hf:{clip}+{text}", "the activation 'os.system'")


def test_modules_are_checked_like_the_folder_itself(text, clip):
    change(text / "2_Dense" / "config.json", quantization_config={"x": 1})
    refused(f"hf:{clip}+{text}", "quantization_config")


def test_a_pipe_among_the_modules_is_refused(text, clip):
    (text / "2_Dense" / "config.json").unlink()
    os.mkfifo(text / "2_Dense" / "config.json")
    refused(f"hf:{clip}+{text}", "no regular file")


def test_multilingual_clip_of_another_base(tmp_path, clip):
    folder, *_ = shelf.write_m_clip(tmp_path / "m")
    for base in ("distilbert-base-multilingual-cased", "t5-base", "../other"):
        change(folder / "config.json", modelBase=base)
        refused(f"hf:{clip}+{folder}", "the base model")
    (folder / "tokenizer.json").unlink()
    refused(f"hf:{clip}+{folder}", "tokenizer")


# --- layouts and specs -----------------------------------------------------------------------


def test_layouts(tmp_path, clip, open_clip, text):
    assert layout_of(clip).kind == "transformers"
    assert layout_of(open_clip).kind == "open_clip"
    assert layout_of(text).kind == "sentence-transformers"
    assert layout_of(shelf.write_m_clip(tmp_path / "m")[0]).kind == "m-clip"
    image = layout_of(shelf.write_sentence_clip(tmp_path / "st"))
    assert (image.kind, image.folder.name, image.two_sided) == ("transformers", "0_CLIPModel", True)
    for name in open_clip.iterdir():  # both layouts in one folder, as on the hub
        if not (clip / name.name).exists():
            (clip / name.name).write_bytes(name.read_bytes())
    assert layout_of(clip).kind == "transformers"


def test_specs(tmp_path, clip, monkeypatch):
    assert parse_pair("hf:a/b") == ("a/b", "")
    assert parse_pair("hf:a/b+c/d") == ("a/b", "c/d")
    plus = shelf.write_clip(tmp_path / "clip+more")
    assert parse_pair(f"hf:{plus}") == (str(plus), "")
    assert parse_pair(f"hf:{plus}+{clip}") == (str(plus), str(clip))
    assert parse_pair(f"hf:{clip}+a/b") == (str(clip), "a/b")
    monkeypatch.chdir(tmp_path)
    assert absolute_pair(parse_pair("hf:./clip+a/b")).spec == f"hf:{clip}+a/b"
    for spec in ("hf:", "hf:+", "onnx:x", "run", ""):
        with pytest.raises(EncoderError, match="expected hf:MODEL"):
            parse_pair(spec)
    for spec in ("hf:a/b+", "hf:+a/b", "hf:a\0/b", "hf:/" + "a" * 5000, "hf:~nobody/x", "hf:a+b+c"):
        with pytest.raises(CL2CMError):
            load(spec)


def test_sides_of_encoders(clip, text, open_clip):
    assert side_of(f"hf:{clip}") == side_of(f"hf:{open_clip}") == "vision"
    assert side_of(f"hf:{text}") == side_of("hf:multilingual-e5-small") == "text"
    assert side_of("onnx:efficientnet-lite2") == side_of("features:x") == "vision"


# --- videos ----------------------------------------------------------------------------------


def test_a_video_is_the_mean_of_its_frames():
    head, frames = MeanOfFrames(), torch.randn(2, 3, 8)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    found = head(frames, mask)
    whole = torch.nn.functional.normalize(frames, dim=-1)
    torch.testing.assert_close(
        found[0], torch.nn.functional.normalize(whole[0].mean(0), dim=-1), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(found[1], whole[1, 0], atol=1e-6, rtol=0)
    torch.testing.assert_close(head(frames[1:, :1], mask[1:, :1])[0], found[1])
