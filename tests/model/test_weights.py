import pytest
import torch
from safetensors.torch import load_file, save_file

from cl2cm.errors import CheckpointError, NumberError, StorageError
from cl2cm.model.checkpoint import load, load_visual
from cl2cm.model.networks import build_student
from cl2cm.model.weights import load_weights, save_weights
from fixtures.runs import change_weights


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


def test_weights_are_written_whole_or_not_at_all(settings, tmp_path, monkeypatch):
    config = settings()
    student = build_student(config.network, text_width=4, vision_width=4)
    save_weights(student, tmp_path / "w.safetensors")
    before = (tmp_path / "w.safetensors").read_bytes()

    def full(_, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cl2cm.model.weights.save_file", full)
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
