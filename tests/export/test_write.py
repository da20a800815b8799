"""Exports against their run: every precision, alone and in batches, images and films."""

import json

import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import cl2cm
from cl2cm.errors import ConfigError, ExportError, QueryError
from cl2cm.export import precision, runtime, write
from cl2cm.export.load import load
from cl2cm.export.model import ExportedModel, load_export
from cl2cm.export.parity import ODD, WORDS, parity_images, parity_texts
from cl2cm.export.precision import blocks
from cl2cm.export.runtime import Reader
from cl2cm.text import CASES, in_case
from fixtures import world


@pytest.fixture(scope="module")
def model(trained):
    return load(trained)


def world_texts(small):
    examples = list(cl2cm.read_manifest(small.manifest))
    return sorted({c for e in examples for texts in e.captions.values() for c in texts})


@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-5), ("fp16", 2e-3), ("int8", 2e-2)])
def test_texts_have_the_vectors_of_the_run(precision, most, exports, model, small):
    texts = [*world_texts(small), *parity_texts()]
    vectors = load_export(exports / precision).encode_text(texts)
    np.testing.assert_allclose(vectors, model.encode_text(texts), atol=most)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_text_has_one_vector_alone_and_in_any_batch(precision, exports, small):
    export = load_export(exports / precision)
    texts = [*world_texts(small)[:20], *parity_texts()[::9]]
    together = export.encode_text(texts)
    alone = np.concatenate([export.encode_text([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(export.encode_text(texts[::-1])[::-1], together, atol=1e-6)


@pytest.mark.parametrize("rule", CASES)
def test_capitals_of_a_query_are_read_as_the_run_reads_them(rule, trained, tmp_path, monkeypatch):
    """The contract's rule of the run is the export's, whatever backbone is behind it."""
    model = load(trained)
    monkeypatch.setattr(model, "case", rule)
    monkeypatch.setattr(write, "load", lambda run: model)
    (made,) = write.export_run(trained, tmp_path / "export")
    export = load_export(made.path)
    texts = ["RED CIRCLE", "Red Circle", "red circle", "KIRMIZI İNEK", "I"]
    assert [export.reader.ids(text) for text in texts] == model.query_ids(texts)
    np.testing.assert_allclose(export.encode_text(texts), model.encode_text(texts), atol=1e-5)


@example("KIRMIZI İNEK Ş I", "capitals")
@example("I", "lower")
@given(st.text(max_size=20), st.sampled_from(CASES))
def test_the_reader_that_stands_alone_has_the_same_rules_of_case(text, rule):
    assert runtime.in_case(text, rule) == in_case(text, rule)


def test_images_of_every_shape_have_the_vectors_of_the_run(exports, model):
    images = [*parity_images(world.SIZE), world.draw("red", "circle", 1)]
    found = load_export(exports / "int8").encode_visual(images)
    np.testing.assert_allclose(found, model.encode_visual(images), atol=1e-5)


def test_films_are_not_images_of_one_frame(exports, model):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 5, world.SIZE, world.SIZE, 3)).astype(np.uint8)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]], bool)
    import torch

    features = model.vision.encode(frames.reshape(-1, *frames.shape[2:])).reshape(3, 5, -1)
    wanted = model.encode_features(torch.from_numpy(features), torch.from_numpy(mask))
    found = load_export(exports / "fp32").reader.encode_frames(frames, mask)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("text", ["", "  ", "\u200b", "\u00ad"])
def test_empty_texts_are_refused_as_by_the_run(text, exports, model):
    for one in (model, load_export(exports / "fp32")):
        with pytest.raises(QueryError, match="some words"):
            one.encode_text([text])
        with pytest.raises(QueryError, match="a list of texts"):
            one.encode_text("red")
        assert one.encode_text([]).shape == (0, 32)


def test_ids_are_those_of_the_run(exports, model):
    reader = load_export(exports / "fp32").reader
    for text in [*ODD, *WORDS.values(), *parity_texts()]:
        assert reader.ids(text) == model.backbone.tokenize([text])[0]


def test_the_reader_alone_does_the_same(exports, small):
    reader, export = Reader(exports / "int8"), load_export(exports / "int8")
    texts = world_texts(small)[:5]
    np.testing.assert_array_equal(reader.encode_text(texts), export.encode_text(texts))
    paths = sorted((small.manifest.parent / "images").iterdir())[:5]
    np.testing.assert_allclose(reader.encode_images(paths), export.encode_images(paths), atol=1e-6)


def test_vectors_of_a_manifest_by_id(exports, small, tmp_path):
    export = load_export(exports / "fp32")
    examples = [e for e in cl2cm.read_manifest(small.manifest) if e.split == "test"][:3]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    bad = cl2cm.Example(id="bad", split="test", image=broken)
    skipped = []
    found = export.vectors_by_id(
        [*examples, bad], skip_bad=True, on_skip=lambda name, _: skipped.append(name)
    )
    assert (list(found), skipped) == ([e.id for e in examples], ["bad"])
    with pytest.raises(cl2cm.CL2CMError, match=r"broken\.png"):
        export.vectors_by_id([bad])


def test_smaller_precisions_are_smaller(exports):
    sizes = [
        sum(f.stat().st_size for f in (exports / p).iterdir() if f.name.startswith("text."))
        for p in ("fp32", "fp16", "int8")
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < 0.7 * sizes[0]


def test_blocks_of_eight_bits_by_a_slow_loop():
    matrix = np.random.default_rng(1).normal(size=(70, 3)).astype(np.float32)
    packed, scales = blocks(matrix)
    assert packed.shape == (3, 5, 16)
    for column in range(3):
        for row in range(70):
            block, at = divmod(row, 16)
            value = (int(packed[column, block, at]) - 128) * scales[column, block]
            assert abs(value - matrix[row, column]) <= scales[column, block] / 2 + 1e-7


def test_the_contract_says_what_was_measured(exports):
    contract = json.loads((exports / "int8" / "contract.json").read_text("utf-8"))
    assert contract["parity"]["texts"] >= 60
    assert contract["parity"]["image_difference"] < 1e-4
    assert contract["parity"]["batch_difference"] < 1e-4
    card = (exports / "int8" / "card.md").read_text("utf-8")
    for word in ("Data", "Translation engines", "Licences", "Limits", "Method: cl2cm", "xx, yy"):
        assert word in card


def test_a_graph_that_differs_is_refused_and_nothing_is_kept(trained, tmp_path, monkeypatch):
    def wrong(model, **more):
        graph = text(model, **more)
        (norm,) = [t for t in graph.graph.initializer if t.name.endswith("head.linear.bias")]
        values = onnx.numpy_helper.to_array(norm) + 0.1
        norm.CopyFrom(onnx.numpy_helper.from_array(values, norm.name))
        return graph

    text = write.text_graph
    monkeypatch.setattr(write, "text_graph", wrong)
    with pytest.raises(ExportError, match=r"to 0\.0001, found a difference of"):
        write.export_run(trained, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_vector_that_depends_on_its_batch_is_refused(trained, tmp_path, monkeypatch):
    encode = ExportedModel.encode_text

    def leaky(self, texts):
        return encode(self, texts) + (0.01 if len(texts) == 1 else 0)

    monkeypatch.setattr(ExportedModel, "encode_text", leaky)
    with pytest.raises(ExportError, match="alone and in a batch"):
        write.export_run(trained, tmp_path / "out")


def test_a_folder_of_something_else_is_kept(trained, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="an export to replace"):
        write.export_run(trained, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(ConfigError, match="fp32, fp16, int8"):
        write.export_run(trained, tmp_path / "out", precisions=("int4",))


def test_another_precision_of_images_is_another_space(trained, tmp_path, exports, monkeypatch):
    monkeypatch.setattr(precision, "SMALL", 256)
    write.export_run(trained, tmp_path / "out", vision_precision="fp16")
    made = load_export(tmp_path / "out")
    assert made.contract["model"] == load_export(exports / "int8").fingerprint
    assert made.fingerprint != made.contract["model"]
    images = parity_images(world.SIZE)
    exact = load_export(exports / "fp32").encode_visual(images)
    difference = np.abs(made.encode_visual(images) - exact).max()
    assert 0 < difference < 1e-2


# --- other encoders ----------------------------------------------------------------------------


def short_run(settings, run, **sections):
    from cl2cm.training.loop import train

    train(settings("translate-train", train={"epochs": 1}, **sections), run)
    return run


def test_a_run_on_stored_features_has_a_graph_of_features(small, settings, tmp_path):
    import torch

    from cl2cm.encode.encoding import encode_pictures
    from cl2cm.encode.vision import load_vision
    from cl2cm.errors import EncoderError

    examples = list(cl2cm.read_manifest(small.manifest))
    encode_pictures(examples, load_vision(f"onnx:{small.vision}"), tmp_path / "store")
    run = short_run(
        settings, tmp_path / "run", vision={"encoder": f"features:{tmp_path / 'store'}"}
    )
    write.export_run(run, tmp_path / "out")
    export, model = load_export(tmp_path / "out"), load(run)
    features = np.random.default_rng(0).normal(size=(3, 2, world.WIDTH)).astype(np.float32)
    mask = np.array([[True, True], [True, False], [True, False]])
    wanted = model.encode_features(torch.from_numpy(features), torch.from_numpy(mask))
    np.testing.assert_allclose(export.reader.encode_frames(features, mask), wanted, atol=1e-5)
    with pytest.raises(EncoderError, match="trained on stored features"):
        export.encode_visual([world.draw("red", "bar", 0)])


def test_a_trained_text_backbone_is_exported_as_trained(settings, tmp_path, small):
    run = short_run(
        settings, tmp_path / "run", text={"freeze": "none"}, network={"layers": 2, "whitening": 0.1}
    )
    write.export_run(run, tmp_path / "out")
    texts = world_texts(small)[:10]
    found = load_export(tmp_path / "out").encode_text(texts)
    np.testing.assert_allclose(found, load(run).encode_text(texts), atol=1e-5)


def test_a_vision_model_of_transformers_is_put_into_the_graph(settings, tmp_path):
    from fixtures.shelf import write_clip

    write_clip(tmp_path / "clip")
    run = short_run(settings, tmp_path / "run", vision={"encoder": f"hf:{tmp_path / 'clip'}"})
    write.export_run(run, tmp_path / "out")
    images = [world.draw("red", "bar", 0), world.draw("blue", "cross", 1)]
    found = load_export(tmp_path / "out").encode_visual(images)
    np.testing.assert_allclose(found, load(run).encode_visual(images), atol=1e-5)
