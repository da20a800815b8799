import json
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from cl2cm.errors import CheckpointError, StorageError
from cl2cm.training import resume
from cl2cm.training.resume import Position, load_state, save_state

SCALER = torch.amp.GradScaler("cpu", enabled=False)


class Training:
    """A small one, with dropout, so that the random state counts."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.method = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
        self.optimizer = torch.optim.AdamW(
            [{"params": self.method[0].parameters(), "lr": 0.1, "peak": 0.1},
             {"params": self.method[2].parameters(), "lr": 0.2, "peak": 0.2}],
        )  # fmt: skip
        self.position = Position()

    def step(self, count=1):
        for _ in range(count):
            loss = self.method(torch.randn(5, 3)).square().sum()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.position.step += 1
        return self

    def save(self, folder, *, key="k", best=None, optimizer=True):
        save_state(
            folder,
            config_hash=key,
            position=self.position,
            method=self.method,
            best=best or {},
            optimizer=self.optimizer if optimizer else None,
            scaler=SCALER,
        )

    def restore(self, state):
        self.position = state.position
        self.method.load_state_dict(state.part("method"))
        state.restore_optimizer(self.optimizer)
        state.restore_random()
        return self


def weights(training):
    return {key: value.clone() for key, value in training.method.state_dict().items()}


def test_a_restored_training_goes_on_to_the_same_bits(tmp_path):
    first = Training().step(3)
    first.save(tmp_path)
    first.step(4)
    second = Training(seed=9).restore(load_state(tmp_path, config_hash="k")).step(4)
    for key, value in weights(first).items():
        assert torch.equal(value, weights(second)[key]), key
    assert first.position == second.position


def test_everything_of_the_optimiser_comes_back(tmp_path):
    first = Training().step(3)
    first.save(tmp_path)
    second = Training(seed=9).restore(load_state(tmp_path, config_hash="k"))
    before, after = first.optimizer.state_dict(), second.optimizer.state_dict()
    assert before["param_groups"] == after["param_groups"]
    assert before["state"].keys() == after["state"].keys() == {0, 1, 2, 3}
    for number, moments in before["state"].items():
        assert moments.keys() == after["state"][number].keys() == {"step", "exp_avg", "exp_avg_sq"}
        for name, value in moments.items():
            assert_close(after["state"][number][name], value, rtol=0, atol=0)


def test_the_random_state_comes_back(tmp_path):
    training = Training()
    training.save(tmp_path)
    expected = torch.rand(4)
    torch.manual_seed(77)
    load_state(tmp_path, config_hash="k").restore_random()
    assert torch.equal(torch.rand(4), expected)


def test_position_and_best_weights_come_back(tmp_path):
    training = Training()
    training.position = Position(1, 2, 3, 40, 512.5, 1, [300.25], 1234)
    best = {"student.a": torch.randn(2, 3), "teacher.b": torch.tensor(4)}
    training.save(tmp_path, best=best, optimizer=False)
    state = load_state(tmp_path, config_hash="k")
    assert state.position == Position(1, 2, 3, 40, 512.5, 1, [300.25], 1234)
    assert_close(state.part("best"), best, rtol=0, atol=0)
    assert state.part("optimizer") == {}


def test_nothing_saved_is_no_state(tmp_path):
    assert load_state(tmp_path / "state", config_hash="k") is None


def test_other_settings_are_refused(tmp_path):
    Training().save(tmp_path, key="k")
    with pytest.raises(CheckpointError, match="found other ones; resume with the same"):
        load_state(tmp_path, config_hash="other")


def test_old_states_are_removed(tmp_path):
    training = Training()
    for _ in range(3):
        training.step().save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-0-3", "current.json"]
    assert [path.suffix for path in sorted((tmp_path / "0-0-3").iterdir())] == [
        ".json",
        ".safetensors",
    ]


def killed(*_):
    raise KeyboardInterrupt


def test_a_kill_before_the_new_state_is_current_keeps_the_older(tmp_path, monkeypatch):
    training = Training().step()
    training.save(tmp_path)
    kept = weights(training)
    real = resume.write_record

    def write_record(path, value):
        if path.name == "current.json":
            raise KeyboardInterrupt
        real(path, value)

    monkeypatch.setattr(resume, "write_record", write_record)
    with pytest.raises(KeyboardInterrupt):
        training.step().save(tmp_path)
    assert (tmp_path / "0-0-2").exists()
    state = load_state(tmp_path, config_hash="k")
    assert state.position.step == 1
    assert_close(state.part("method"), kept, rtol=0, atol=0)
    monkeypatch.undo()
    Training(seed=5).restore(state).step().save(tmp_path)  # the same place again
    assert load_state(tmp_path, config_hash="k").position.step == 2


def test_a_kill_while_a_state_is_written_keeps_the_older(tmp_path, monkeypatch):
    training = Training().step()
    training.save(tmp_path)
    monkeypatch.setattr(resume, "save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        training.step().save(tmp_path)
    assert load_state(tmp_path, config_hash="k").position.step == 1
    monkeypatch.undo()
    training.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-0-2", "current.json"]


def test_a_kill_while_old_states_are_removed_loses_nothing(tmp_path, monkeypatch):
    training = Training().step()
    training.save(tmp_path)
    real = resume.shutil.rmtree

    def rmtree(path, **options):
        if path.name == "0-0-1":
            raise KeyboardInterrupt
        real(path, **options)

    monkeypatch.setattr(resume.shutil, "rmtree", rmtree)
    with pytest.raises(KeyboardInterrupt):
        training.step().save(tmp_path)
    assert load_state(tmp_path, config_hash="k").position.step == 2


def test_a_full_disk_keeps_the_older(tmp_path, monkeypatch):
    training = Training().step()
    training.save(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resume, "save_file", full)
    with pytest.raises(StorageError, match="full disk"):
        training.step().save(tmp_path)
    assert load_state(tmp_path, config_hash="k").position.step == 1


@pytest.mark.parametrize(
    "damage",
    ["other name", "no name", "no folder", "json", "keys", "position", "weights", "cut"],
)
def test_damage_is_told(damage, tmp_path):
    Training().step().save(tmp_path)
    current, state = tmp_path / "current.json", tmp_path / "0-0-1" / "state.json"
    tensors = state.with_suffix(".safetensors")
    meta = json.loads(state.read_text())
    if damage == "other name":
        current.write_text('{"state": "0-0-9"}')
    elif damage == "no name":
        current.write_text('{"state": 3}')
    elif damage == "no folder":
        tensors.unlink()
    elif damage == "json":
        state.write_text("not json")
    elif damage == "keys":
        del meta["config"], meta["checksum"]
        state.write_text(json.dumps(meta))
    elif damage == "position":
        other = deepcopy(meta)
        del other["checksum"]
        other["position"]["epochs"] = other["position"].pop("epoch")
        state.write_text(json.dumps(other))
    elif damage == "weights":
        tensors.write_bytes(b"\xff" * 400)
    else:
        tensors.write_bytes(tensors.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="a damaged one") as caught:
        load_state(tmp_path, config_hash="k")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "{", '{"state": "0-0-9", "checksum": "0"}'])
def test_without_a_sound_name_of_the_current_state_the_latest_is_taken(content, tmp_path):
    training = Training()
    training.step().save(tmp_path)
    current = tmp_path / "current.json"
    current.unlink() if content is None else current.write_text(content)
    assert load_state(tmp_path, config_hash="k").position.step == 1


def test_what_is_left_of_states_is_no_fresh_start(tmp_path):
    Training().step().save(tmp_path)
    (tmp_path / "current.json").unlink()
    (tmp_path / "0-0-1" / "state.json").unlink()
    with pytest.raises(CheckpointError, match="none that is complete; remove the folder"):
        load_state(tmp_path, config_hash="k")


def test_a_log_that_is_shorter_than_it_was_is_not_filled_up(tmp_path, capsys):
    from cl2cm.training.log import Log

    log = Log(tmp_path, (), {})
    log.path.write_bytes(b"{}\n")
    log.start(100)
    log.close()
    assert log.path.read_bytes() == b"{}\n"
    assert "97 bytes of the log are missing" in capsys.readouterr().err
