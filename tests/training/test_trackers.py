"""Trackers beside metrics.jsonl: what they are told, that no host is asked, and what is missing."""

import importlib.util
import json
import sys

import pytest
import torch
from safetensors.torch import load_file

from cl2cm.cli.app import run
from cl2cm.errors import ConfigError, MissingExtraError
from cl2cm.model.config import parse_config, to_toml
from cl2cm.training.loop import train
from cl2cm.training.stages import Loop
from fixtures.trackers import MLFLOW, WANDB


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """Packages of these names that write down what they are told."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "wandb.py").write_text(WANDB)
    (site / "mlflow.py").write_text(MLFLOW)
    monkeypatch.syspath_prepend(str(site))
    for name in ("wandb", "mlflow"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in ("WANDB_MODE", "WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    yield site
    for name in ("wandb", "mlflow"):
        sys.modules.pop(name, None)


def logged(settings, names, **train):
    return settings("translate-train", train={"epochs": 2, "log_to": names, **train})


def told(folder):
    return [json.loads(line) for line in (folder / "wandb.jsonl").read_text().splitlines()]


def points(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        (f"{line['stage']}/{key}", value, line["step"])
        for line in lines
        for key, value in line.items()
        if key not in ("stage", "epoch", "step")
    ]


def stopped(config, out):
    """Train until the second epoch is to be validated."""
    real, seen = Loop._validate, []

    def stop(*arguments):
        seen.append(1)
        if len(seen) > 1:
            raise KeyboardInterrupt
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_validate", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, out)


def test_wandb_is_told_everything_offline(fakes, settings, tmp_path):
    train(logged(settings, ["wandb"]), tmp_path / "run")
    lines = told(tmp_path / "run")
    what, first = lines[0]
    assert what == "init"
    assert (first["mode"], first["project"], first["name"]) == ("offline", "cl2cm", "run")
    assert first["dir"] == str(tmp_path / "run")
    assert first["resume"] is None
    assert first["config"]["train.epochs"] == 2
    assert first["config"]["method"] == "translate-train"
    assert lines[-1] == ["finish", {}]
    assert ["metric", {"name": "cross-modal/*", "step": "cross-modal/step"}] in lines
    found = [
        (key, value, values["cross-modal/step"])
        for what, values in lines
        if what == "log"
        for key, value in values.items()
        if key != "cross-modal/step"
    ]
    assert found == points(tmp_path / "run")
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_mlflow_is_told_everything_in_the_run_folder(fakes, settings, tmp_path):
    train(logged(settings, ["tensorboard", "mlflow"]), tmp_path / "run")
    import mlflow

    folder = tmp_path / "run" / "mlflow"
    assert [f"sqlite:///{folder / 'mlflow.db'}"] == mlflow.URIS
    (place,) = [line[2] for line in mlflow.LINES if line[0] == "experiment"]
    assert place == {"artifact_location": (folder / "artifacts").as_uri()}
    assert ["param", "train.epochs", "2"] in mlflow.LINES
    found = [tuple(line[1:]) for line in mlflow.LINES if line[0] == "metric"]
    assert found == points(tmp_path / "run")
    assert mlflow.LINES[-1] == ["end", "r0"]
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_the_users_own_variables_name_a_host(fakes, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    train(logged(settings, ["wandb", "mlflow"]), tmp_path / "run")
    import mlflow

    first = told(tmp_path / "run")[0][1]
    assert (first["mode"], first["project"], first["resume"]) == ("online", "mine", "allow")
    assert mlflow.URIS == ["http://127.0.0.1:9"]
    assert not (tmp_path / "run" / "mlflow").exists()


def test_a_resumed_training_goes_on_in_the_same_run(fakes, settings, tmp_path):
    config = logged(settings, ["wandb", "mlflow"])
    stopped(config, tmp_path / "run")
    train(config, tmp_path / "run", resume=True)
    import mlflow

    ids = [values["id"] for what, values in told(tmp_path / "run") if what == "init"]
    assert len(ids) == 2
    assert len(set(ids)) == len(mlflow.RUNS) == 1
    assert ["again", "r0"] in mlflow.LINES


def test_another_place_for_curves_is_no_other_training(fakes, settings, tmp_path):
    none, both = logged(settings, []), logged(settings, ["tensorboard", "mlflow"])
    assert none.training == both.training
    first = train(none, tmp_path / "run")
    assert train(both, tmp_path / "run", resume=True) == first
    names = {"config.toml", "contract.json", "metrics.jsonl", "model.safetensors"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names | {"provenance.json"}
    stopped(none, tmp_path / "other")
    train(both, tmp_path / "other", resume=True)
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "other"))
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_extra_is_told_before_anything_is_computed(name, settings, tmp_path):
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    with pytest.raises(MissingExtraError, match=rf"pip install 'cl2cm\[{name}\]'"):
        train(logged(settings, [name]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_package_that_misses_another_says_so_itself(fakes, settings, tmp_path):
    (fakes / "wandb.py").write_text("import no_such_package")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        train(logged(settings, ["wandb"]), tmp_path / "run")


def test_a_tracker_that_does_not_open_is_an_error(fakes, settings, tmp_path):
    (fakes / "wandb.py").write_text(WANDB + "def init(**_): raise RuntimeError('no key\\nmore')\n")
    with pytest.raises(
        ConfigError, match=r"train\.log_to: wandb: expected .*, found no key; check"
    ):
        train(logged(settings, ["wandb"]), tmp_path / "run")


def test_one_that_fails_later_does_not_end_the_training(fakes, settings, tmp_path, capsys):
    code = WANDB.replace('self.tell("log", **values)', 'raise RuntimeError("gone")')
    (fakes / "wandb.py").write_text(code)
    train(logged(settings, ["wandb", "tensorboard"]), tmp_path / "run")
    assert capsys.readouterr().err.count("warning: wandb stopped logging: gone") == 1
    assert points(tmp_path / "run")


def test_an_unknown_tracker_is_refused(settings):
    with pytest.raises(
        ConfigError, match=r"train\.log_to: expected some of 'tensorboard', 'wandb'"
    ):
        logged(settings, ["neptune"])


def test_from_the_command_line(fakes, settings, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(settings("translate-train", train={"epochs": 1})))
    command = ["train", str(recipe), "--out", str(tmp_path / "run"), "--set"]
    assert run([*command, "train.log_to=tensorboard,mlflow"]) == 0
    assert "mlflow" in sys.modules


def test_a_method_may_have_a_setting_of_that_name():
    one, two = (parse_config({"method": "x", "x": {"log_to": value}}) for value in (["a"], ["b"]))
    assert one.training != two.training
