import pytest
import torch
from numpy.testing import assert_array_equal
from safetensors.torch import load_file

from cl2cm.encode.vision import load_vision
from cl2cm.errors import CheckpointError, CL2CMError
from cl2cm.methods.build import build_method
from cl2cm.model.checkpoint import load, load_backbone, load_visual, save_run
from cl2cm.model.config import load_config
from cl2cm.model.retrieval import RetrievalModel
from fixtures.runs import change_record, change_weights

TEXTS = ["red circle", "one square that is blue", "wolleyxx ssorcxx"]


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
    change_record(run / "provenance.json", lambda provenance: provenance.pop("model"))
    assert load(run).fingerprint != load(trained).fingerprint


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


def test_the_provenance_comes_last(settings, tmp_path, monkeypatch):
    """A kill while a run is saved leaves no run."""
    monkeypatch.setattr(
        "cl2cm.model.checkpoint.contract", lambda *_: (_ for _ in ()).throw(OSError(28))
    )
    with pytest.raises(OSError):  # noqa: PT011
        save(settings(), tmp_path / "run")
    with pytest.raises(CheckpointError):
        load(tmp_path / "run")


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
    with pytest.raises(CheckpointError, match="remove --features"):
        load(run, **moved | {"vision_encoder": f"features:{tmp_path}"})
