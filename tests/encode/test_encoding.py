import dataclasses
import os
import random

import pytest
import torch
from torch.testing import assert_close

from cl2cm.encode import steps
from cl2cm.encode.encoding import (
    encode_pictures,
    encode_texts,
    find_pictures,
    media_path,
    picture_key,
    store_folder,
)
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.vision import encode_paths, load_vision
from cl2cm.errors import ManifestError, MediaError
from cl2cm.types import Example
from fixtures import world

TEXTS = [
    *(world.caption(colour, shape, language, number)
      for colour in world.COLOURS
      for shape in world.SHAPES
      for language in ("en", "xx")
      for number in (0, 1)),
    "",
    "words that nobody knows",
]  # fmt: skip


@pytest.fixture(scope="module")
def backbone(small):
    return TextBackbone.load(f"hf:{small.text}", max_tokens=16)


@pytest.fixture(scope="module")
def vision(small):
    return load_vision(f"onnx:{small.vision}", threads=1)


@pytest.fixture
def examples(tmp_path):
    made = []
    for number, colour in enumerate(world.COLOURS):
        path = tmp_path / f"{colour}.png"
        world.draw(colour, "cross", number).save(path)
        made.append(Example(id=colour, split="train", image=path))
    return made


def refuse(*_, **__):
    raise AssertionError("encoded again")


@pytest.mark.parametrize("at_once", [4096, 40, 1])
def test_stored_states_are_those_of_a_text_alone(at_once, backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "TOKENS_AT_ONCE", at_once)
    texts = random.Random(at_once).sample(TEXTS, len(TEXTS))
    store = encode_texts(texts, backbone, tmp_path / "store")
    for row in random.Random(0).sample(range(len(texts)), 25):
        (ids,) = backbone.tokenize([texts[row]])
        with torch.no_grad():
            alone = backbone(torch.tensor([ids]), torch.ones(1, len(ids)) > 0)
        found = store.gather(torch.tensor([store.row(texts[row])]))
        assert_close(found.values, alone, atol=2e-3, rtol=1e-3)  # float16
        assert found.content[0].tolist() == [i not in backbone.special.ids for i in ids]


def test_texts_are_encoded_once(backbone, tmp_path, monkeypatch):
    first = encode_texts(TEXTS, backbone, tmp_path / "store")
    monkeypatch.setattr(TextBackbone, "forward", refuse)
    again = encode_texts(TEXTS, backbone, tmp_path / "store")
    rows = torch.arange(len(TEXTS))
    assert_close(again.gather(rows).values, first.gather(rows).values, rtol=0, atol=0)


def test_texts_go_to_the_cache_by_content_and_encoder(backbone, small, tmp_path, monkeypatch):
    monkeypatch.setenv("CL2CM_CACHE", str(tmp_path))
    folders = {
        encode_texts(TEXTS[:3], backbone).folder,
        encode_texts(TEXTS[:4], backbone).folder,
        encode_texts(
            TEXTS[:3], TextBackbone.load(f"hf:{small.text}", max_tokens=16, layer=1)
        ).folder,
    }
    assert len(folders) == 3
    assert {folder.parent for folder in folders} == {tmp_path / "features"}


def test_places_of_stores(tmp_path):
    one = store_folder(tmp_path, "text", "f" * 64, ["a", "b"])
    assert one == store_folder(tmp_path, "text", "f" * 64, ["a", "b"])
    assert one.parent == tmp_path
    others = [
        store_folder(tmp_path, "vision", "f" * 64, ["a", "b"]),
        store_folder(tmp_path, "text", "e" * 64, ["a", "b"]),
        store_folder(tmp_path, "text", "f" * 64, ["b", "a"]),
    ]
    assert len({one, *others}) == 4


def test_stored_features_are_those_of_the_pictures(examples, vision, tmp_path):
    store = encode_pictures(examples, vision, tmp_path / "store")
    assert store.ids == [example.id for example in examples]
    expected, _, _ = encode_paths(vision, [example.image for example in examples])
    found = store.gather(torch.arange(len(examples)))
    assert found.values.shape == (len(examples), 1, world.WIDTH)
    assert_close(found.values[:, 0], torch.from_numpy(expected), atol=1e-3, rtol=1e-3)


def test_pictures_are_encoded_once_and_found(examples, vision, tmp_path, monkeypatch):
    assert find_pictures(examples, vision, tmp_path / "root") is None
    first = encode_pictures(examples, vision, root=tmp_path / "root")
    monkeypatch.setattr(steps, "encode_paths", refuse)
    assert encode_pictures(examples, vision, root=tmp_path / "root").folder == first.folder
    assert find_pictures(examples, vision, tmp_path / "root").folder == first.folder
    assert find_pictures(examples[1:], vision, tmp_path / "root") is None


@pytest.mark.parametrize("change", ["size", "time", "id"])
def test_a_changed_picture_gets_another_store(change, examples, vision, tmp_path):
    first = encode_pictures(examples, vision, root=tmp_path / "root")
    path = examples[2].image
    status = path.stat()
    if change == "size":
        path.write_bytes(path.read_bytes() + b" ")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    else:
        examples[2] = dataclasses.replace(examples[2], id="another")
    assert find_pictures(examples, vision, tmp_path / "root") is None
    assert encode_pictures(examples, vision, root=tmp_path / "root").folder != first.folder


def test_another_preprocessing_gets_another_store(examples, small, vision, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.onnx").write_bytes((small.vision / "model.onnx").read_bytes())
    (other / "preprocess.json").write_text('{"size": 16, "resize": 18}')
    first = encode_pictures(examples, vision, root=tmp_path / "root")
    second = encode_pictures(examples, load_vision(f"onnx:{other}"), root=tmp_path / "root")
    assert first.folder != second.folder


def break_picture(examples, number=1):
    path = examples[number].image
    path.write_bytes(path.read_bytes()[:60])
    return examples[number].id


def test_a_broken_picture_stops_unless_it_is_skipped(examples, vision, tmp_path):
    bad = break_picture(examples)
    with pytest.raises(MediaError):
        encode_pictures(examples, vision, tmp_path / "store")
    told = []
    store = encode_pictures(
        examples, vision, tmp_path / "store", skip_bad=True, on_skip=lambda *x: told.append(x)
    )
    assert [(name, type(error)) for name, error in told] == [(bad, MediaError)]
    assert [store.has(e.id) for e in examples] == [e.id != bad for e in examples]
    left = [e for e in examples if e.id != bad]
    expected, _, _ = encode_paths(vision, [e.image for e in left])
    found = store.gather(torch.tensor([store.row(e.id) for e in left])).values[:, 0]
    assert_close(found, torch.from_numpy(expected), atol=1e-3, rtol=1e-3)


def test_a_skipped_picture_is_no_feature_for_those_who_do_not_skip(examples, vision, tmp_path):
    bad = break_picture(examples)
    root = tmp_path / "root"
    encode_pictures(examples, vision, root=root, skip_bad=True)
    with pytest.raises(MediaError, match=bad):
        encode_pictures(examples, vision, root=root)
    assert find_pictures(examples, vision, root) is None
    assert not encode_pictures(examples, vision, root=root, skip_bad=True).has(bad)


def test_media_path(tmp_path):
    film = tmp_path / "a.mp4"
    assert media_path(Example(id="a", split="test", video=film)) == film
    with pytest.raises(ManifestError, match="item 'a': expected an image or a video"):
        media_path(Example(id="a", split="test", features="a"))
    assert picture_key(Example(id="a", split="test", video=film)) == "a\t-"


def test_a_picture_whose_features_are_not_finite_is_named_or_skipped(
    examples, vision, tmp_path, monkeypatch
):
    plain = type(vision).encode
    calls = []

    def overflowing(self, pixels):
        features = plain(self, pixels).copy()
        if not calls:
            features[1] = 1e6  # too large for half precision
        calls.append(len(pixels))
        return features

    monkeypatch.setattr(type(vision), "encode", overflowing)
    with pytest.raises(MediaError, match="expected finite features"):
        encode_pictures(examples, vision, tmp_path / "a")
    calls.clear()
    told = []
    store = encode_pictures(
        examples, vision, tmp_path / "b", skip_bad=True, on_skip=lambda name, _: told.append(name)
    )
    assert told == [examples[1].id]
    assert [store.has(example.id) for example in examples].count(False) == 1
