"""Off-the-shelf models against the forward pass of Transformers, one by one and in batches."""

import io

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from cl2cm.model.checkpoint import load, load_visual
from fixtures import shelf
from fixtures.shelf import SIDE, TEXTS


def image_bytes(seed=0, size=(40, 31)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


IMAGES = [image_bytes(i, size) for i, size in enumerate([(40, 31), (24, 24), (24, 60), (70, 50)])]


def opened(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def unit(tensor):
    return F.normalize(tensor, dim=-1).detach().numpy()


def close(ours, theirs, atol=1e-5):
    assert_allclose(ours, theirs, atol=atol, rtol=0)


def check_alone(model, texts=TEXTS):
    """A vector does not depend on what else is in the batch."""
    together = model.encode_text(texts)
    for i, text in enumerate(texts):
        assert_allclose(model.encode_text([text])[0], together[i], atol=1e-6, rtol=0)
    assert_allclose(model.encode_text(texts[::-1])[::-1], together, atol=1e-6, rtol=0)
    images = model.encode_images(IMAGES)
    for i, image in enumerate(IMAGES):
        assert_allclose(model.encode_images([image])[0], images[i], atol=1e-6, rtol=0)
    for vectors in (together, images):
        assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert np.ptp(vectors[:4], axis=0).max() > 1e-3  # and it does depend on the text
    assert model.dim == together.shape[1] == images.shape[1]


def processed(folder, kind, images=IMAGES):
    return kind.from_pretrained(folder)([opened(i) for i in images], return_tensors="pt")


# --- Transformers ----------------------------------------------------------------------------


@pytest.mark.parametrize("legacy_eos", [False, True])
def test_clip(tmp_path, legacy_eos):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = shelf.write_clip(tmp_path / "clip", legacy_eos=legacy_eos)
    model = load(f"hf:{folder}")
    check_alone(model)
    theirs = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [*TEXTS, "RED Circle"]
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=20, return_tensors="pt")
    close(model.encode_text(texts), unit(theirs.get_text_features(**inputs).pooler_output))
    assert_array_equal(model.encode_text(["RED Circle"]), model.encode_text(["red circle"]))
    pixels = processed(folder, CLIPImageProcessorPil)
    close(model.encode_images(IMAGES), unit(theirs.get_image_features(**pixels).pooler_output))


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_siglip_takes_texts_in_lower_case_of_a_fixed_length_without_a_mask(tmp_path, kind):
    write = shelf.write_siglip if kind == "siglip" else shelf.write_siglip2
    folder = write(tmp_path / kind)
    model = load(f"hf:{folder}")
    check_alone(model)
    theirs = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(
        TEXTS, padding="max_length", truncation=True, max_length=10, return_tensors="pt"
    )
    wanted = unit(theirs.get_text_features(input_ids=inputs["input_ids"]).pooler_output)
    close(model.encode_text(TEXTS), wanted)
    assert_array_equal(model.encode_text(["RED Circle"]), model.encode_text(["red circle"]))
    assert {len(ids) for ids in model.backbone.tokenize(TEXTS)} == {10}


def test_siglip_images_are_stretched(tmp_path):
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    folder = shelf.write_siglip(tmp_path / "siglip")
    pixels = processed(folder, SiglipImageProcessorPil)
    theirs = AutoModel.from_pretrained(folder).eval()
    wanted = unit(theirs.get_image_features(**pixels).pooler_output)
    close(load(f"hf:{folder}").encode_images(IMAGES), wanted)


def test_naflex_images_are_stretched_to_the_largest_square_of_patches(tmp_path):
    from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

    folder = shelf.write_siglip2(tmp_path / "siglip2")
    squares = [image_bytes(7, (24, 24)), image_bytes(8, (60, 60))]
    pixels = processed(folder, Siglip2ImageProcessorPil, squares)
    assert pixels["spatial_shapes"].tolist() == [[3, 3], [3, 3]]
    theirs = AutoModel.from_pretrained(folder).eval()
    wanted = unit(theirs.get_image_features(**pixels).pooler_output)
    close(load(f"hf:{folder}").encode_images(squares), wanted)


def test_chinese_clip(tmp_path):
    from transformers import ChineseCLIPImageProcessorPil

    folder = shelf.write_chinese_clip(tmp_path / "chinese")
    model = load(f"hf:{folder}")
    check_alone(model)
    theirs = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(TEXTS, padding=True, truncation=True, max_length=52, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    close(model.encode_text(TEXTS), unit(theirs.get_text_features(**inputs).pooler_output))
    pixels = processed(folder, ChineseCLIPImageProcessorPil)
    close(model.encode_images(IMAGES), unit(theirs.get_image_features(**pixels).pooler_output))


# --- pairs of an image side and a multilingual text side ---------------------------------------


def mean(states, mask):
    weights = mask[..., None].float()
    return (states * weights).sum(1) / weights.sum(1)


def test_multilingual_clip(tmp_path):
    clip = shelf.write_clip(tmp_path / "clip")
    folder, transformer, linear = shelf.write_m_clip(tmp_path / "m-clip")
    model = load(f"hf:{clip}+{folder}")
    check_alone(model)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(TEXTS, padding=True, truncation=True, max_length=32, return_tensors="pt")
    states = transformer(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state
    close(model.encode_text(TEXTS), unit(linear(mean(states, inputs["attention_mask"]))))
    close(model.encode_images(IMAGES), load(f"hf:{clip}").encode_images(IMAGES))


@pytest.mark.parametrize("activation", ["linear.Identity", "activation.Tanh"])
def test_sentence_transformers(tmp_path, activation):
    clip = shelf.write_sentence_clip(tmp_path / "clip")
    folder, transformer, dense = shelf.write_sentence_text(
        tmp_path / "text", activation=f"torch.nn.modules.{activation}"
    )
    model = load(f"hf:{clip}+{folder}")
    check_alone(model)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(TEXTS, padding=True, truncation=True, max_length=16, return_tensors="pt")
    states = transformer(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state
    wanted = dense(mean(states, inputs["attention_mask"]))
    wanted = wanted.tanh() if activation.endswith("Tanh") else wanted
    close(model.encode_text(TEXTS), unit(wanted))
    alone = load(f"hf:{clip / '0_CLIPModel'}")
    close(model.encode_images(IMAGES), alone.encode_images(IMAGES))
    close(load(f"hf:{clip}").encode_text(TEXTS), alone.encode_text(TEXTS))


def test_prompts_of_sentence_transformers_are_put_before_queries(tmp_path):
    clip = shelf.write_sentence_clip(tmp_path / "clip")
    folder, *_ = shelf.write_sentence_text(tmp_path / "text")
    plain = load(f"hf:{clip}+{folder}")
    told = {"prompts": {"query": "one ", "document": ""}, "default_prompt_name": None}
    shelf.write_json(folder / "config_sentence_transformers.json", told)
    prompted = load(f"hf:{clip}+{folder}")
    close(prompted.encode_text(["red bar"]), plain.encode_text(["one red bar"]), atol=1e-6)
    assert prompted.fingerprint != plain.fingerprint


# --- open_clip -------------------------------------------------------------------------------


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_open_clip(tmp_path, quick_gelu):
    folder, theirs, _ = shelf.write_open_clip(tmp_path / "open", quick_gelu=quick_gelu)
    model = load(f"hf:{folder}")
    check_alone(model)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(TEXTS, padding=True, truncation=True, max_length=20, return_tensors="pt")
    close(model.encode_text(TEXTS), unit(theirs.get_text_features(**inputs).pooler_output))
    square = [image_bytes(5, (SIDE, SIDE))]
    pixels = torch.tensor(np.array(opened(square[0]))).permute(2, 0, 1)[None] / 255
    mean_, std = (torch.tensor(v)[:, None, None] for v in (shelf.CLIP_MEAN, shelf.CLIP_STD))
    wanted = theirs.get_image_features(pixel_values=(pixels - mean_) / std).pooler_output
    close(model.encode_images(square), unit(wanted))


def test_open_clip_with_a_multilingual_text_side(tmp_path):
    folder, _, (transformer, first, second) = shelf.write_open_clip(tmp_path / "open", hf_text=True)
    model = load(f"hf:{folder}")
    check_alone(model)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(TEXTS, padding=True, truncation=True, max_length=32, return_tensors="pt")
    states = transformer(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state
    pooled = mean(states, inputs["attention_mask"])
    close(model.encode_text(TEXTS), unit(second(F.gelu(first(pooled)))))


def test_open_clip_says_how_images_are_resized(tmp_path):
    cut, *_ = shelf.write_open_clip(tmp_path / "cut")
    squashed, *_ = shelf.write_open_clip(tmp_path / "squashed", squash=True)
    assert not load(f"hf:{cut}").vision.preprocess.stretch
    assert load(f"hf:{squashed}").vision.preprocess.stretch


# --- what they have in common ----------------------------------------------------------------


WRITERS = {
    "clip": shelf.write_clip,
    "siglip": shelf.write_siglip,
    "siglip2": shelf.write_siglip2,
    "open_clip": lambda folder: shelf.write_open_clip(folder)[0],
    "open_clip multilingual": lambda folder: shelf.write_open_clip(folder, hf_text=True)[0],
}


@pytest.mark.parametrize("name", WRITERS)
def test_an_index_is_made_without_the_text_side_under_the_same_name(tmp_path, name):
    folder = WRITERS[name](tmp_path / "model")
    visual, whole = load_visual(f"hf:{folder}"), load(f"hf:{folder}")
    assert visual.fingerprint == whole.fingerprint
    assert visual.run == whole.run == f"hf:{folder}"
    assert_array_equal(visual.encode_images(IMAGES), whole.encode_images(IMAGES))


def test_a_text_that_is_cut_is_told_once(tmp_path, capsys):
    model = load(f"hf:{shelf.write_siglip(tmp_path / 'siglip')}")
    model.encode_text(["red circle"])
    assert "cut" not in capsys.readouterr().err
    model.encode_text(["bar " * 30, "red circle"])
    assert "texts longer than 10 tokens are truncated, such as one of 31" in capsys.readouterr().err
    model.encode_text(["bar " * 40])
    assert "cut" not in capsys.readouterr().err
    last = model.backbone.tokenize(["bar " * 30])[0][-1]
    assert last == 1  # the end of text stays


def test_another_file_is_another_fingerprint(tmp_path):
    clip = shelf.write_clip(tmp_path / "clip")
    before = load(f"hf:{clip}").fingerprint
    (clip / "README.md").write_text("of no matter")
    assert load(f"hf:{clip}").fingerprint == before
    path = clip / "tokenizer_config.json"
    path.write_text(path.read_text().replace('"model_max_length": 77', '"model_max_length": 15'))
    assert load(f"hf:{clip}").fingerprint != before
