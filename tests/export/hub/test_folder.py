"""A Hugging Face folder against its run, by its files and by sentence-transformers itself."""

import json
import re

import numpy as np
import pytest
import torch

import cl2cm
from cl2cm.cli.app import run as cli
from cl2cm.errors import ConfigError, ExportError
from cl2cm.export.hub import folder as folder_module
from cl2cm.export.hub.check import encode
from cl2cm.export.hub.folder import export_hub, write_text_side
from cl2cm.export.parity import parity_texts
from cl2cm.index.shortened import prefixes
from cl2cm.model.checkpoint import load
from cl2cm.text import in_case, normalise

INSTALL = "pip install sentence-transformers mteb"


@pytest.fixture(scope="module")
def model(trained):
    """The small run, whose head was given weights in every part."""
    model = load(trained)
    shake(model)
    return model


def shake(model):
    """Let no part of a head be zero, as parts are at the start of training."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.student.text.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.3)


@pytest.fixture(scope="module")
def texts(model):
    odd = ["\u200bred\u00ad circle", "cafe\u0301 red", "<s> red </s>", "red"]
    return [in_case(normalise(text), model.case) for text in [*parity_texts(), *odd]]


@pytest.fixture(scope="module")
def written(model, texts, tmp_path_factory):
    out = tmp_path_factory.mktemp("hub")
    write_text_side(out, model, texts)
    return out


def test_the_modules_give_the_vectors_of_the_run(written, model, texts):
    np.testing.assert_allclose(encode(written, texts), model.encode_text(texts), atol=1e-5)


def test_the_tokenizer_normalises_as_the_run(written, model):
    raw = ["\u200bred\u00ad circle", "cafe\u0301", "re\u0640d"]
    np.testing.assert_allclose(encode(written, raw), model.encode_text(raw), atol=1e-5)


@pytest.mark.parametrize(
    ("network", "text"),
    [
        ({"layers": 0}, {}),
        ({"layers": 0, "whitening": 0.1}, {}),
        ({"layers": 2, "dim": 64, "heads": 2}, {"lower_case": False}),
        ({"layers": 1, "dim": 16, "heads": 8}, {"freeze": "none", "prefix": "red: "}),
    ],
)
def test_heads_of_every_shape_have_an_exact_equivalent(network, text, settings, texts, tmp_path):
    from cl2cm.training.loop import train

    train(settings("zero-shot", network=network, text=text, train={"epochs": 1}), tmp_path / "run")
    model = load(tmp_path / "run")
    shake(model)
    (tmp_path / "out").mkdir()
    write_text_side(tmp_path / "out", model, texts)
    found = encode(tmp_path / "out", texts)
    np.testing.assert_allclose(found, model.encode_text(texts), atol=1e-5)


def test_sentence_transformers_loads_it_without_own_code(written, model, texts):
    sentence_transformers = pytest.importorskip("sentence_transformers", reason=INSTALL)
    loaded = sentence_transformers.SentenceTransformer(str(written), device="cpu")
    wanted = model.encode_text(texts)
    np.testing.assert_allclose(loaded.encode(texts), wanted, atol=1e-5)
    np.testing.assert_allclose(loaded.encode_query(texts), wanted, atol=1e-5)
    np.testing.assert_allclose(loaded.encode_document(texts[:3]), wanted[:3], atol=1e-5)
    np.testing.assert_allclose(loaded.encode(texts[0]), wanted[0], atol=1e-5)


def test_every_module_is_of_sentence_transformers(written):
    modules = json.loads((written / "modules.json").read_text("utf-8"))
    assert all(one["type"].startswith("sentence_transformers.models.") for one in modules)
    assert not [*written.rglob("*.py"), *written.rglob("*.bin")]


def test_the_command_writes_a_folder_with_card_and_both_sides(trained, small, tmp_path, capfd):
    out = tmp_path / "hub"
    assert cli(["export", str(trained), str(out), "--layout", "hf", "--json"]) == 0
    shown = capfd.readouterr()
    told = json.loads(shown.out)
    assert told["sentence_transformers"]["difference"] < 1e-5
    assert not re.search(r"\d+%\||it/s", shown.err)  # no progress bar of another package
    card = (out / "README.md").read_text("utf-8")
    head = card.split("---")[1]
    for word in ("library_name: sentence-transformers", "- 'en'", "- 'xx'"):
        assert word in head
    for word in (
        "Translation engines:\n  - mt (licence not recorded): xx, yy",
        "Backbones",
        "Limits",
    ):
        assert word in card
    model, inside = load(trained), cl2cm.load(out / "cl2cm")
    assert inside.fingerprint == model.fingerprint
    text = [in_case("red circle", model.case)]
    np.testing.assert_allclose(encode(out, text), inside.encode_text(text), atol=1e-5)
    export_hub(trained, out, precisions=["int8"])  # in its place
    with pytest.raises(ConfigError, match="one precision"):
        export_hub(trained, out, precisions=["int8", "fp32"])
    with pytest.raises(ConfigError, match="onnx or hf"):
        raise_error(["export", str(trained), str(out), "--layout", "zip"])


def raise_error(arguments):
    from cl2cm.cli.export import export

    export(arguments[1], arguments[2], layout=arguments[-1])


def test_a_folder_of_something_else_is_kept(trained, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="to replace"):
        export_hub(trained, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_modules_that_differ_are_refused_and_nothing_is_kept(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "encode", lambda folder, texts: np.zeros((len(texts), 32)))
    with pytest.raises(ExportError, match=r"to 0\.0001"):
        export_hub(trained, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_short_vectors_are_the_first_numbers_of_the_whole(model, texts, tmp_path):
    write_text_side(tmp_path, model, texts, dim=8)
    wanted = prefixes(model.encode_text(texts), 8)
    np.testing.assert_allclose(encode(tmp_path, texts), wanted, atol=1e-5)
