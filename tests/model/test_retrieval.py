import random

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.testing import assert_close

from cl2cm.data.manifest import read_manifest
from cl2cm.encode.tokens import TokenIds
from cl2cm.errors import MediaError, QueryError
from cl2cm.model import retrieval as model_module
from cl2cm.model import vectors as vectors_module
from cl2cm.model.checkpoint import load
from cl2cm.model.vectors import frame_vectors, sentence_vectors
from cl2cm.types import Example, Frames, Tokens
from fixtures import world

TEXTS = [
    *(world.caption(colour, shape, language, number)
      for colour in world.COLOURS
      for shape in world.SHAPES
      for language, number in (("en", 0), ("en", 1), ("xx", 0))),
    "red " * 40,
    "nobody knows",
]  # fmt: skip


@pytest.fixture(scope="module")
def model(trained):
    return load(trained)


@pytest.fixture(scope="module")
def examples(small):
    return list(read_manifest(small.manifest))


def test_a_text_alone_and_in_a_batch_of_64(model):
    for seed in range(3):
        chosen = random.Random(seed).sample(TEXTS, 64)
        together = model.encode_text(chosen)
        for i in (0, 31, 63):
            assert_allclose(together[i], model.encode_text([chosen[i]])[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("padding", [1, 7, 16])
def test_any_padding_gives_the_same_vector(model, padding):
    ids = model.backbone.tokenize(TEXTS[:8])
    tokens = model.tokens(ids)
    states = torch.nn.functional.pad(tokens.values, (0, 0, 0, padding), value=3.0)
    masks = [torch.nn.functional.pad(mask, (0, padding)) for mask in tokens[1:3]]
    with torch.no_grad():
        padded = model.student.encode_text(Tokens(states, *masks)).sentence
    assert_allclose(padded.numpy(), model.encode_text(TEXTS[:8]), atol=1e-5, rtol=0)


def test_the_order_is_kept_whatever_the_batches(model, monkeypatch):
    whole = model.encode_text(TEXTS)
    order = random.Random(1).sample(range(len(TEXTS)), len(TEXTS))
    monkeypatch.setattr(model_module, "TOKENS_AT_ONCE", 30)
    shuffled = model.encode_text([TEXTS[i] for i in order])
    assert_allclose(shuffled, whole[order], atol=1e-5, rtol=0)
    assert np.abs(whole[0] - whole[1]).max() > 1e-3, "texts differ"


def test_vectors_are_unit_float32(model, examples):
    texts, pictures = model.encode_text(TEXTS), model.encode_examples(examples)
    for vectors in (texts, pictures):
        assert vectors.dtype == np.float32
        assert vectors.shape[1] == model.dim == 32
        assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_an_empty_text_is_refused(model, text):
    with pytest.raises(QueryError, match="an empty text"):
        model.encode_text(["red circle", text])


def test_nothing_gives_nothing(model):
    assert model.encode_text([]).shape == (0, 32)
    assert model.encode_visual([]).shape == (0, 32)
    assert model.encode_examples([]).shape == (0, 32)


def test_stored_and_fresh_pictures_agree(model, examples):
    chosen = random.Random(0).sample(examples, 30)
    stored = model.encode_examples(chosen)
    fresh = model.encode_visual([example.image for example in chosen])
    assert_allclose(stored, fresh, atol=2e-3, rtol=0)  # the store is float16
    assert_allclose(fresh[3], model.encode_visual([chosen[3].image])[0], atol=1e-5, rtol=0)
    assert np.abs(stored[0] - stored[1]).max() > 1e-2, "pictures differ"


def test_a_broken_picture(model, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(MediaError):
        model.encode_visual([tmp_path / "bad.png"])
    with pytest.raises(MediaError):
        model.encode_examples([Example(id="bad", split="test", image=tmp_path / "bad.png")])


def test_a_picture_is_found_by_its_caption(model, examples):
    chosen = [example for example in examples if example.split == "test"]
    texts = model.encode_text([example.captions["en"][0] for example in chosen])
    best = (texts @ model.encode_examples(chosen).T).argmax(1)
    assert np.mean(best == np.arange(len(chosen))) > 0.3  # chance is 1 in 24


def test_encoding_all_leaves_the_training_mode_and_takes_no_dropout(model, monkeypatch):
    student = model.student
    texts = TokenIds(model.backbone.tokenize(TEXTS), model.backbone.special)
    states = type("States", (), {"gather": lambda _, rows: model.tokens(
        [texts.ids[row] for row in rows.tolist()]), "lengths": lambda _, rows: texts.lengths(rows)})()  # fmt: skip
    rows = torch.tensor([3, 0, 7])
    frames = Frames(torch.rand(2, 3, world.WIDTH), torch.ones(2, 3) > 0)
    monkeypatch.setattr(vectors_module, "TEXTS_AT_ONCE_ON_CPU", 2)
    try:
        student.train()
        first, second = (sentence_vectors(student, states, rows) for _ in range(2))
        assert_close(frame_vectors(student.vision, frames), frame_vectors(student.vision, frames))
        assert student.training
    finally:
        student.eval()
    assert_close(first, second)
    assert not first.requires_grad
    expected = model.encode_text([TEXTS[i] for i in rows.tolist()])
    assert_allclose(first.numpy(), expected, atol=1e-5, rtol=0)
    sentence_vectors(student, states, rows)
    assert not student.training


def test_features_without_a_mask_are_all_valid(model):
    values = torch.rand(3, 2, world.WIDTH)
    assert_array_equal(
        model.encode_features(values), model.encode_features(values, torch.ones(3, 2) > 0)
    )
