"""A method in a package of its own, as docs/extending.md shows it: installed, trained, compared."""

import json
import math
import os
import re
import subprocess
import sys

import pytest

import cl2cm.evaluation.bench.plan
from cl2cm.cli.app import run
from cl2cm.errors import ConfigError
from cl2cm.evaluation.bench.suites import Suite
from cl2cm.methods.dcot import Dcot
from cl2cm.methods.registry import METHODS, method_class, method_names
from cl2cm.methods.settings import checked, load_config
from cl2cm.model.config import parse_config, to_toml
from fixtures.plugins import LOSS, METHOD, importing, install_loss, install_method


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Gives ``install_method`` into a folder that this process imports from."""
    with importing(install_method, tmp_path / "site", monkeypatch) as installer:
        yield installer


def test_the_example_is_short():
    assert len(METHOD.strip().splitlines()) <= 50


def test_it_is_trained_and_evaluated_from_the_command_line(settings, small, tmp_path):
    """In processes of their own, and evaluated also where the package is not installed."""
    site = install_method(tmp_path / "site")
    (tmp_path / "run.toml").write_text(to_toml(settings("translate-train", train={"epochs": 30})))
    path = os.environ.get("PYTHONPATH")
    with_it = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), *([path] if path else [])])}

    def command(*args, environment=with_it):
        line = [sys.executable, "-m", "cl2cm", *map(str, args), "--json"]
        done = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    out = tmp_path / "run"
    sets = ["--set", "method=midpoint", "--set", "midpoint.weight=0.25"]
    trained = command("train", tmp_path / "run.toml", "--out", out, *sets)
    assert trained["method"] == "midpoint"
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert all("midpoint" in line for line in lines if "loss" in line)
    assert "[midpoint]\nweight = 0.25\nshare = 0.5" in (out / "config.toml").read_text()
    found = command("evaluate", out, small.manifest)["languages"]
    assert found["xx"]["text_to_vision"]["R@5"] > 2 * 100 * 5 / 24  # twice chance
    assert command("evaluate", out, small.manifest, environment=dict(os.environ)) == (
        command("evaluate", out, small.manifest)
    )


def test_it_takes_part_in_a_benchmark(installed, settings, small, tmp_path, monkeypatch, capsys):
    installed()
    base = settings("translate-train", train={"epochs": 1}).tables()
    suite = Suite(
        name="small", languages=("xx", "yy"), regimes={"last": {}},
        methods={"translate-train": {}, "dcot": {}}, ablations={}, default_regimes=("last",),
        single=(), seeds=1, base={k: dict(v) for k, v in base.items()}, tuned={}, quick={},
    )  # fmt: skip
    monkeypatch.setattr(cl2cm.evaluation.bench.plan, "load_suite", lambda name: suite)
    out = tmp_path / "bench"
    line = ["bench", "small", "--data", str(small.manifest), "--out", str(out), "--seeds", "0"]
    line += ["--methods", "translate-train,midpoint", "--set", "midpoint.weight=0.125", "--json"]
    assert run(line) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["method"] for row in rows} == {"translate-train", "midpoint"}
    kept = (out / "last" / "all" / "midpoint" / "0" / "config.toml").read_text()
    assert "weight = 0.125" in kept
    other = (out / "last" / "all" / "translate-train" / "0" / "config.toml").read_text()
    assert "midpoint" not in other
    assert run([*line, "--methods", "midpont"]) == 2
    assert "did you mean 'midpoint'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("midpoint.weight=-1", r"midpoint\.weight: expected 0 or more, found -1\.0"),
        ("midpoint.share=many", r"midpoint\.share: expected a number, found 'many'"),
        ("midpoint.wieght=1", r"midpoint\.wieght: .* did you mean 'weight'"),
        ("midpont.weight=1", r"midpont: expected a known setting.* did you mean 'midpoint'"),
        ("method=midpont", r"method: .* did you mean 'midpoint'"),
        ("teacher.alpha=-1", r"teacher\.alpha: expected 0 or more"),
    ],
)
def test_its_settings_are_checked_as_those_of_a_built_in_method(
    installed, tmp_path, setting, message
):
    installed()
    (tmp_path / "run.toml").write_text('method = "midpoint"\n')
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "run.toml", [setting])


def test_its_section_stands_in_the_file_of_another_method_without_effect(installed):
    installed()
    plain = checked(parse_config({"method": "dcot"}))
    assert checked(parse_config({"method": "dcot", "midpoint": {"weight": 1}})) == plain


def test_without_the_package_its_section_is_unknown():
    with pytest.raises(ConfigError, match="midpoint: expected a known setting"):
        checked(parse_config({"midpoint": {"weight": 1}}))


def test_nothing_is_imported_before_it_is_asked_for(installed):
    installed("raise RuntimeError('imported')\n")
    assert method_names() == [*METHODS, "midpoint"]
    assert method_class("dcot") is Dcot
    checked(parse_config({"method": "dcot", "midpoint": {"weight": 1}}))
    assert "my_methods" not in sys.modules


HEAD = """
from dataclasses import dataclass
from cl2cm.methods.base import Method, Stage
@dataclass(frozen=True)
class Good:
    x: int = 1
"""


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("def (", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = 1", "AttributeError"),
        ("Midpoint = 3", "no subclass of cl2cm.methods.base.Method"),
        ("class Midpoint:\n    name = 'midpoint'", "no subclass of cl2cm.methods.base.Method"),
        (HEAD + "class Midpoint(Method): pass", "the name '' in the class, 'midpoint' in the"),
        (HEAD + "class Midpoint(Method):\n name='midpoint'; targets='all'", "targets 'all'"),
        (HEAD + "class Midpoint(Method):\n name='midpoint'; sections=[Good]", "no mapping"),
        (
            HEAD + "class Midpoint(Method):\n name='midpoint'; sections={'train': Good}",
            "a section 'train', which every run has",
        ),
        (
            HEAD + "class Midpoint(Method):\n name='midpoint'; sections={'a-b': Good}",
            "a section 'a-b', which is no identifier",
        ),
        (
            HEAD + "class Midpoint(Method):\n name='midpoint'; sections={'mine': int}",
            "no dataclass",
        ),
        (
            HEAD + "class Midpoint(Method):\n name='midpoint'; sections={'mine': Good}",
            "an __init__ that does not take the setup and its sections",
        ),
        (
            HEAD + "@dataclass\nclass Bad:\n    x: list[float] = None\n"
            "class Midpoint(Method):\n name='midpoint'; sections={'mine': Bad}",
            r"a section 'mine' with x of the type list\[float\]",
        ),
        (
            HEAD + "@dataclass\nclass Bad:\n    x: int\n"
            "class Midpoint(Method):\n name='midpoint'; sections={'mine': Bad}",
            "x without a default",
        ),
        (
            HEAD + "@dataclass\nclass Bad:\n    x: 'Nowhere' = 1\n"
            "class Midpoint(Method):\n name='midpoint'; sections={'mine': Bad}",
            "'Nowhere' is not defined",
        ),
    ],
)
def test_a_broken_package_is_one_line(installed, tmp_path, code, message, capsys):
    installed(code)
    (tmp_path / "run.toml").write_text('method = "midpoint"\n')
    assert run(["train", str(tmp_path / "run.toml"), "--out", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "method 'midpoint' of the package my-methods 1.2" in line
    assert re.search(message, line)
    assert not (tmp_path / "out").exists()


STAGES = HEAD + "class Midpoint(Method):\n name='midpoint'\n def stages(self):\n  return "


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("[]", "stages with names of their own"),
        ("[Stage('a', 1, (self.student,), self.loss)] * 2", "stages with names of their own"),
        ("[Stage('a', 0, (self.student,), self.loss)]", "0 epochs"),
        ("[Stage('a', 1, (), self.loss)]", "no cross-modal or cross-lingual network"),
        ("[Stage('a', 1, (self.student.text,), self.loss)]", "no cross-modal or cross-lingual"),
        (
            "[Stage('a', 1, (__import__('copy').deepcopy(self.student),), self.loss)]",
            "no attribute",
        ),
    ],
)
def test_stages_that_cannot_be_trained_are_refused(installed, stages, message):
    from cl2cm.methods.build import build_method

    installed(STAGES + stages)
    config = parse_config({"method": "midpoint", "network": {"dim": 8, "heads": 2}})
    with pytest.raises(ConfigError, match=message):
        build_method(config, text_width=4, vision_width=4)


def test_a_built_in_name_means_the_built_in_method(installed, tmp_path, capfd):
    installed(METHOD.replace('"midpoint"', '"dcot"'), name="dcot")
    assert method_class("dcot") is Dcot
    assert method_names() == list(METHODS)
    (tmp_path / "run.toml").write_text('method = "dcot"\n')
    load_config(tmp_path / "run.toml")
    assert "the one of the package my-methods 1.2 is not used" in capfd.readouterr().err
    load_config(tmp_path / "run.toml", ["method=nrccr"])
    assert capfd.readouterr().err == ""


def test_of_two_packages_with_one_name_neither_is_used(installed):
    installed()
    installed(METHOD, value="their_methods:Midpoint", package="their-methods")
    with pytest.raises(ConfigError, match=r"my-methods 1\.2, their-methods 1\.2; uninstall"):
        method_class("midpoint")


def test_a_stopped_training_of_it_resumes_to_the_same_weights(
    installed, settings, tmp_path, monkeypatch
):
    from safetensors.torch import load_file

    from cl2cm.training.loop import train
    from cl2cm.training.stages import Loop

    installed()
    tree = {**settings("translate-train", train={"epochs": 2, "checkpoint_steps": 1}).tables()}
    config = checked(parse_config({**tree, "method": "midpoint", "midpoint": {"share": 0.2}}))
    train(config, tmp_path / "whole")
    step, steps = Loop._step, 0

    def stops(*args):
        nonlocal steps
        steps += 1
        if steps == 5:
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(Loop, "_step", stops)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "stopped")
    train(config, tmp_path / "stopped", resume=True)
    whole, resumed = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped")
    )
    assert load_file(tmp_path / "whole" / "model.safetensors")
    assert whole == resumed


# --- a loss of its own -----------------------------------------------------------------------


def test_a_loss_in_a_package_of_its_own_trains(settings, small, tmp_path, monkeypatch):
    from cl2cm.data.manifest import read_manifest
    from cl2cm.evaluation.evaluate import evaluate
    from cl2cm.model.checkpoint import load
    from cl2cm.training.loop import train

    assert len(LOSS.strip().splitlines()) <= 45
    with importing(install_loss, tmp_path / "site", monkeypatch) as installer:
        installer()
        tree = {**settings("translate-train", train={"epochs": 30}).tables()}
        train(checked(parse_config({**tree, "method": "sigmoid"})), tmp_path / "run")
        items = [e for e in read_manifest(small.manifest) if e.split == "test"]
        found = evaluate(load(tmp_path / "run"), items, languages=["xx"])
    assert found["xx"]["text_to_vision"]["R@5"] > 2 * 100 * 5 / 24  # twice chance


def test_the_loss_equals_one_written_as_loops(tmp_path, monkeypatch):
    import torch
    from torch.nn import functional as F

    with importing(install_loss, tmp_path / "site", monkeypatch) as installer:
        installer()
        from my_losses import sigmoid

        x, y = (F.normalize(torch.randn(5, 4, dtype=torch.float64), dim=-1) for _ in range(2))
        same = torch.eye(5, dtype=torch.bool)
        slow = 0.0
        for i in range(5):
            for j in range(5):
                sign = 1 if i == j else -1
                logit = sign * (float(x[i] @ y[j]) / 0.2 - 1)
                slow += math.log(1 + math.exp(-logit)) / 5
        assert float(sigmoid(x, y, same, tau=0.2, bias=-1.0)) == pytest.approx(slow)
        with pytest.raises(ConfigError, match="tau"):
            sigmoid(x, y, same, tau=0.0)
