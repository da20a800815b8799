import json
import shutil

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from safetensors.torch import load_file, save_file

from cl2cm.encode.vision import load_vision
from cl2cm.errors import CheckpointError, CL2CMError, NumberError, StorageError
from cl2cm.methods.build import build_method
from cl2cm.model.checkpoint import (
    CONTRACT_TEXTS,
    TOLERANCE,
    load,
    load_backbone,
    load_visual,
    load_weights,
    save_run,
    save_weights,
)
from cl2cm.model.config import load_config
from cl2cm.model.networks import build_student
from cl2cm.model.retrieval import RetrievalModel

TEXTS = ["red circle", "one square that is blue", "wolleyxx ssorcxx"]


@pytest.fixture
def run(trained, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def own_encoders(trained, small, tmp_path, monkeypatch):
    """A copy of run and encoders to spoil."""
    monkeypatch.setenv("CL2CM_MODEL_ROOTS", str(tmp_path))
    text = shutil.copytree(small.text, tmp_path / "text")
    vision = shutil.copytree(small.vision, tmp_path / "vision")
    run = shutil.copytree(trained, tmp_path / "run")
    path = run / "config.toml"
    words = path.read_text(encoding="utf-8")
    for old, new in ((small.text, text), (small.vision, vision)):
        words = words.replace(str(old), str(new))
    path.write_text(words, encoding="utf-8")
    return run, text, vision


def change_contract(run, change):
    path = run / "contract.json"
    contract = json.loads(path.read_text(encoding="utf-8"))
    change(contract)
    path.write_text(json.dumps(contract), encoding="utf-8")


def change_weights(run, name, change):
    state = load_file(run / "model.safetensors")
    state[name] = change(state[name])
    save_file(state, run / "model.safetensors")


def test_a_run_is_safetensors_and_text(trained):
    files = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    board = {name for name in files if name.startswith("tensorboard/")}
    assert files - board == {
        "config.toml",
        "contract.json",
        "metrics.jsonl",
        "model.safetensors",
        "provenance.json",
        "teacher.safetensors",
    }
    for name in files - board:
        if name.endswith(".safetensors"):
            load_file(trained / name)
        else:
            (trained / name).read_text(encoding="utf-8")


def test_the_contract_says_how_texts_are_fed(trained):
    contract = json.loads((trained / "contract.json").read_text(encoding="utf-8"))
    model = load(trained)
    assert [example["text"] for example in contract["examples"]] == list(CONTRACT_TEXTS)
    assert [e["ids"] for e in contract["examples"]] == model.backbone.tokenize(CONTRACT_TEXTS)
    assert contract["tokenizer"] == model.backbone.tokenizer_hash
    assert contract["vision"]["fingerprint"] == model.vision.fingerprint
    vectors = np.array([e["vector"] for e in contract["examples"]], dtype=np.float32)
    np.testing.assert_allclose(vectors, model.encode_text(CONTRACT_TEXTS), atol=1e-5, rtol=0)


def save(config, folder):
    """Save a run of fresh weights; returns its model."""
    torch.manual_seed(3)
    backbone, vision = load_backbone(config), load_vision(config.vision.encoder)
    method = build_method(
        config,
        text_width=backbone.width,
        vision_width=vision.width,
        backbone=None if config.text.freeze == "all" else backbone,
    )
    for name, parameter in method.named_parameters():
        if parameter.requires_grad and ".layer." not in name:
            torch.nn.init.normal_(parameter, std=0.3)
        elif parameter.requires_grad:
            parameter.data.mul_(1.3)
    model = RetrievalModel(method.student, backbone, vision, fingerprint="f", dim=32)
    save_run(
        folder,
        config,
        (method.student, method.teacher),
        (backbone, vision),
        {"config": config.hash, "validation_SumR": {}},
    )
    return model, method


@pytest.mark.parametrize("freeze", ["all", "embeddings", "none", 1])
@pytest.mark.parametrize("layers", [0, 2])
def test_a_round_trip_gives_the_same_vectors(freeze, layers, settings, small, tmp_path):
    config = settings(text={"freeze": freeze}, network={"layers": layers})
    model, method = save(config, tmp_path / "run")
    again = load(tmp_path / "run")
    assert_array_equal(again.encode_text(TEXTS), model.encode_text(TEXTS))
    features = torch.rand(3, 2, model.vision.width)
    assert_array_equal(again.encode_features(features), model.encode_features(features))
    assert load_config(tmp_path / "run" / "config.toml") == config
    assert any(key.startswith("backbone.") for key in again.student.state_dict()) == (
        freeze != "all"
    )
    if freeze != "all":
        untrained = load_backbone(config).state_dict()
        changed = [
            name
            for name, value in again.student.backbone.state_dict().items()
            if not torch.equal(value, untrained[name])
        ]
        assert changed, "the trained backbone is what was saved"
    teacher = load_file(tmp_path / "run" / "teacher.safetensors")
    for name, value in method.teacher.state_dict().items():
        assert torch.equal(value, teacher[name])


def test_the_fingerprint_names_the_weights(trained, run):
    assert load(trained).fingerprint == load(run).fingerprint
    change_weights(run, "vision.linear.bias", lambda x: x + 0.1)
    provenance = json.loads((run / "provenance.json").read_text())
    del provenance["model"]
    (run / "provenance.json").write_text(json.dumps(provenance))
    assert load(run).fingerprint != load(trained).fingerprint


def test_a_changed_tokenizer_is_refused(own_encoders):
    run, text, _ = own_encoders
    load(run)
    path = text / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["red"], vocabulary["blue"] = vocabulary["blue"], vocabulary["red"]
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(CheckpointError, match="tokenizer: expected the one that it was trained"):
        load(run)


def test_changed_text_weights_are_refused(own_encoders):
    run, text, _ = own_encoders
    state = load_file(text / "model.safetensors")
    name = next(iter(state))
    save_file(state | {name: state[name] + 1e-3}, text / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="text backbone: expected the one"):
        load(run)


def test_a_changed_preprocessing_is_refused(own_encoders):
    run, _, vision = own_encoders
    preprocess = json.loads((vision / "preprocess.json").read_text())
    (vision / "preprocess.json").write_text(json.dumps(preprocess | {"resample": "bilinear"}))
    with pytest.raises(CheckpointError, match="vision backbone: expected the one"):
        load(run)


@pytest.mark.parametrize(
    ("old", "new"), [('prefix = ""', 'prefix = "red "'), ("max_tokens = 16", "max_tokens = 15")]
)
def test_another_way_of_feeding_texts_is_refused(old, new, run):
    path = run / "config.toml"
    words = path.read_text(encoding="utf-8")
    assert old in words
    path.write_text(words.replace(old, new), encoding="utf-8")
    with pytest.raises(CheckpointError, match="text backbone: expected the one"):
        load(run)


def test_the_contract_says_how_capitals_are_read(run):
    assert load(run).case == "lower"  # no caption of the small world has a capital
    shouted, said = load(run).encode_text(["RED CIRCLE", "red circle"])
    np.testing.assert_array_equal(shouted, said)
    change_contract(run, lambda c: c.pop("case"))
    assert load(run).case == "keep"  # as of earlier versions
    change_contract(run, lambda c: c.update(case="upper"))
    with pytest.raises(CheckpointError, match="a rule of capitals"):
        load(run)


def test_changed_ids_are_refused(run):
    change_contract(run, lambda c: c["examples"][1]["ids"].append(5))
    with pytest.raises(CheckpointError, match=r"tokens of 'Ein Hund im Schnee\.'"):
        load(run)


@pytest.mark.parametrize("value", [TOLERANCE * 3, float("nan")])
def test_changed_vectors_are_refused(run, value):
    def change(contract):
        contract["examples"][2]["vector"][0] += value

    change_contract(run, change)
    with pytest.raises(CheckpointError, match="vectors of the contract's texts"):
        load(run)


def test_vectors_of_another_machine_are_accepted(run):
    def change(contract):
        contract["examples"][2]["vector"][0] += TOLERANCE / 3

    change_contract(run, change)
    load(run)


def test_changed_weights_of_the_text_side_are_refused(run):
    change_weights(run, "text.linear.bias", lambda x: x + 0.1)
    with pytest.raises(CheckpointError, match="vectors of the contract's texts"):
        load(run)


def test_the_vision_side_alone_makes_the_same_vectors(trained, small, monkeypatch):
    pictures = sorted(small.manifest.parent.rglob("*.png"))[:3]
    whole = load(trained)

    def never(*_, **__):
        raise AssertionError("the text backbone was read")

    monkeypatch.setattr("cl2cm.model.checkpoint.load_backbone", never)
    side = load_visual(trained)
    assert (side.fingerprint, side.dim) == (whole.fingerprint, whole.dim)
    assert pictures
    assert_array_equal(side.encode_visual(pictures), whole.encode_visual(pictures))


@pytest.mark.parametrize("name", ["vision.linear.weight", "text.linear.weight"])
def test_the_vision_side_alone_refuses_changed_weights(name, run):
    change_weights(run, name, lambda weights: weights + 1)
    with pytest.raises(CheckpointError, match="the weights of training"):
        load_visual(run)


def test_changed_weights_of_the_vision_side_are_refused(run):
    change_weights(run, "vision.linear.bias", lambda x: x + 0.1)
    with pytest.raises(CheckpointError, match="expected the weights of training, found others"):
        load(run)


@pytest.mark.parametrize("damage", ["cut", "gone", "shape", "name", "no safetensors"])
def test_damaged_weights_are_refused(damage, run):
    path = run / "model.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    elif damage == "gone":
        path.unlink()
    elif damage == "shape":
        change_weights(run, "text.linear.bias", lambda x: x[:-1].clone())
    elif damage == "name":
        state = load_file(path)
        save_file({f"x{key}": value for key, value in state.items()}, path)
    else:
        path.write_text("weights")
    with pytest.raises(CheckpointError, match="weights that do not fit") as caught:
        load(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("contract.json", content) for content in (None, "", "{", "[]", "{}")),
        *(("config.toml", content) for content in (None, "{", "[[train]]", "metod = 'cl2cm'")),
    ],
)
def test_damaged_settings_are_refused(name, content, run):
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_text(content)
    with pytest.raises(CheckpointError, match="unreadable settings"):
        load(run)


def test_what_is_no_finished_run_is_refused(run, tmp_path):
    with pytest.raises(
        CheckpointError,
        match=r"no such folder; .*make a run with cl2cm train|no provenance\.json; make it with",
    ):
        load(tmp_path / "nowhere")
    (run / "provenance.json").unlink()
    with pytest.raises(CheckpointError, match=r"no provenance\.json"):
        load(run)
    (run / "state").mkdir()
    with pytest.raises(CheckpointError, match="still to be finished; run cl2cm train with"):
        load(run)


def test_the_provenance_comes_last(settings, tmp_path, monkeypatch):
    """A kill while a run is saved leaves no run."""
    monkeypatch.setattr(
        "cl2cm.model.checkpoint.contract", lambda *_: (_ for _ in ()).throw(OSError(28))
    )
    with pytest.raises(OSError):  # noqa: PT011
        save(settings(), tmp_path / "run")
    with pytest.raises(CheckpointError):
        load(tmp_path / "run")


def test_weights_are_written_whole_or_not_at_all(settings, tmp_path, monkeypatch):
    config = settings()
    student = build_student(config.network, text_width=4, vision_width=4)
    save_weights(student, tmp_path / "w.safetensors")
    before = (tmp_path / "w.safetensors").read_bytes()

    def full(_, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cl2cm.model.checkpoint.save_file", full)
    with pytest.raises(StorageError, match="full disk"):
        save_weights(student, tmp_path / "w.safetensors")
    assert (tmp_path / "w.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
    other = build_student(config.network, text_width=4, vision_width=4)
    load_weights(other, tmp_path / "w.safetensors")
    for name, value in student.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_written_nor_read(value, settings, tmp_path, run):
    student = build_student(settings().network, text_width=4, vision_width=4)
    with torch.no_grad():
        next(student.vision.parameters())[0] = value
    with pytest.raises(NumberError, match="expected finite weights"):
        save_weights(student, tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()
    change_weights(run, "vision.linear.bias", lambda bias: bias * value)
    for read in (load, load_visual):
        with pytest.raises(CheckpointError, match=r"NaN or infinity in .*linear\.bias"):
            read(run)


def test_encoders_may_be_elsewhere(own_encoders, trained, tmp_path):
    run, text, vision = own_encoders
    moved = {"text_encoder": f"hf:{tmp_path / 'a'}", "vision_encoder": f"onnx:{tmp_path / 'b'}"}
    text.rename(tmp_path / "a")
    vision.rename(tmp_path / "b")
    with pytest.raises(CL2CMError):
        load(run)
    assert_array_equal(load(run, **moved).encode_text(TEXTS), load(trained).encode_text(TEXTS))
    seen = load_visual(run, vision_encoder=moved["vision_encoder"])
    assert seen.fingerprint == load(trained).fingerprint
    with pytest.raises(CheckpointError, match="leave --features out"):
        load(run, **moved | {"vision_encoder": f"features:{tmp_path}"})
