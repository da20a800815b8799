"""Trainings on two processes: what they give, who writes and prints, and how they end."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from cl2cm.cli.app import run
from cl2cm.errors import ConfigError, OtherSettingsError, ProcessError
from cl2cm.model.config import to_toml
from cl2cm.training.loop import train
from cl2cm.training.processes import Processes, _as_table, _from_table
from fixtures import several
from fixtures.several import launch

STOPPED_AT = 8  # of 3 steps in each of 2 epochs in each of 2 stages


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def shared(settings, tmp_path_factory):
    """Runs of two processes: as one process does it, unbroken, and killed and resumed."""
    folder = tmp_path_factory.mktemp("shared")
    short = {"epochs": 2, "log_to": []}
    exact = settings("cl2cm", train=short, network={"dropout": 0.0})
    (folder / "exact.toml").write_text(to_toml(exact))
    steps = settings("cl2cm", train={**short, "checkpoint_steps": 1, "grad_cache_chunks": 2})
    (folder / "steps.toml").write_text(to_toml(steps))
    killed = [["train", f"{folder}/steps.toml", "--out", f"{folder}/killed"]]
    (folder / "killed.json").write_text(json.dumps(killed))
    first = launch([several.__file__, folder / "killed.json"], KILLED=f"1:{STOPPED_AT}")
    shutil.copytree(folder / "killed", folder / "as-killed")
    rest = [
        ["train", f"{folder}/exact.toml", "--out", f"{folder}/exact", "--json"],
        ["train", f"{folder}/steps.toml", "--out", f"{folder}/unbroken", "--json"],
        [*killed[0], "--resume", "--json"],
        ["train", f"{folder}/exact.toml", "--out", f"{folder}/exact"],
    ]
    (folder / "rest.json").write_text(json.dumps(rest))
    return folder, exact, first, launch([several.__file__, folder / "rest.json"])


def test_two_processes_train_what_one_does(shared, tmp_path):
    folder, config, _, _ = shared
    train(config, tmp_path / "one")
    for one, two in zip(lines(tmp_path / "one"), lines(folder / "exact"), strict=True):
        assert one.keys() == two.keys()
        assert one == pytest.approx(two, abs=1e-5)
    for name in ("model.safetensors", "teacher.safetensors"):
        one, two = load_file(tmp_path / "one" / name), load_file(folder / "exact" / name)
        for key, value in one.items():
            assert_close(two[key], value, atol=1e-4, rtol=1e-4)


def test_a_killed_run_of_two_processes_resumes_to_the_same_bits(shared):
    folder, *_ = shared
    for name in ("model.safetensors", "teacher.safetensors"):
        whole, resumed = (load_file(folder / run / name) for run in ("unbroken", "killed"))
        for key, value in whole.items():
            assert torch.equal(value, resumed[key]), key
    assert lines(folder / "unbroken") == lines(folder / "killed")


def test_rank_0_alone_prints(shared):
    folder, _, _, (first, second) = shared
    results = [json.loads(line) for line in first.output.splitlines()]
    assert [result["run"] for result in results] == [
        f"{folder}/{name}" for name in ("exact", "unbroken", "killed")
    ]
    assert (second.output, second.errors) == ("", "")


def test_an_error_on_all_processes_is_printed_once(shared):
    _, _, _, (first, second) = shared
    assert (first.code, second.code) == (2, 2)
    errors = [line for line in first.errors.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "expected a new or empty folder" in errors[0]


def test_a_process_that_ends_leaves_one_line(shared):
    _, _, (first, second), _ = shared
    assert second.code == -9
    assert first.code == 2
    last = first.errors.splitlines()[-1]
    assert last.startswith("error: training across processes: expected 2 processes until the end")
    assert "--resume" in last
    assert sum(line.startswith("error: ") for line in first.errors.splitlines()) == 1
    assert "Traceback" not in first.errors


def test_another_number_of_processes_is_refused_on_resume(shared, tmp_path, capsys):
    folder, *_ = shared
    command = ["train", str(folder / "steps.toml"), "--out", str(folder / "as-killed"), "--resume"]
    assert run(command) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "expected 2 processes, as the run was started with, found 1 process" in error
    assert "torchrun --nproc-per-node 2 -m cl2cm train" in error


@pytest.mark.parametrize("schedule", ["two-stage", "joint"])
def test_a_stopped_run_in_chunks_resumes_to_the_same_bits(schedule, settings, tmp_path):
    config = settings(
        "cl2cm",
        teacher={"schedule": schedule, "epochs": 1},
        train={"epochs": 1, "checkpoint_steps": 1, "grad_cache_chunks": 3, "log_to": []},
    )
    train(config, tmp_path / "whole")
    state = tmp_path / "whole" / "state"
    assert not state.exists()
    with pytest.MonkeyPatch.context() as patch:
        from cl2cm.training.stages import Loop

        step, steps = Loop._step, []

        def stops(*args):
            steps.append(1)
            if len(steps) == 3:
                raise KeyboardInterrupt
            return step(*args)

        patch.setattr(Loop, "_step", stops)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run")
    train(config, tmp_path / "run", resume=True)
    for name in ("model.safetensors", "teacher.safetensors"):
        whole, resumed = (load_file(tmp_path / run / name) for run in ("whole", "run"))
        assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_a_run_of_one_process_is_refused_by_two(tmp_path, settings):
    from cl2cm.training.resume import Position, load_state, save_state

    method = torch.nn.Linear(2, 2)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    save_state(
        tmp_path / "state", config_hash="x", position=Position(), method=method, best={},
        optimizer=None, scaler=scaler,
    )  # fmt: skip
    with pytest.raises(OtherSettingsError, match=r"expected 1 process, .* found 2 processes"):
        load_state(tmp_path / "state", config_hash="x", processes=2)


def test_errors_travel_between_processes():
    error = ConfigError("train.lr", expected="a", found="b", remedy="c")
    again = _from_table(_as_table(error))
    assert type(again) is ConfigError
    assert str(again) == str(error)


def test_one_process_passes_results_and_errors_through():
    alone = Processes()
    assert alone.on_first(lambda: 3) == alone.together(lambda: 3, in_turn=True) == 3
    alone.check_equal("weights", "x")
    with pytest.raises(OSError, match="full"):
        alone.on_first(lambda: (_ for _ in ()).throw(OSError("full")))
    assert issubclass(ProcessError, Exception)
