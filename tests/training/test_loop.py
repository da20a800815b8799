import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from cl2cm.cli.evaluation import evaluate_manifest
from cl2cm.errors import (
    CheckpointError,
    ConfigError,
    LanguageError,
    NumberError,
    OtherSettingsError,
)
from cl2cm.methods.registry import METHODS, method_class
from cl2cm.methods.translate_train import TranslateTrain
from cl2cm.model.checkpoint import load, load_backbone
from cl2cm.model.config import to_toml
from cl2cm.storage import read_record
from cl2cm.training.loading import load_training_data
from cl2cm.training.loop import train, train_again
from cl2cm.training.optimization import choose_device, learning_rate
from cl2cm.training.stage_loss import mean_losses
from cl2cm.training.stages import Loop

FRESH = [name for name in METHODS if not method_class(name).keeps_vision]  # need no earlier run


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", FRESH)
def test_every_method_learns(method, settings, small, tmp_path):
    match = {"smoothing": 0.1} if method == "smoothing" else {}
    config = settings(method, train={"epochs": 20}, teacher={"epochs": 5}, match=match)
    train(config, tmp_path / "run")
    result = evaluate_manifest(tmp_path / "run", small.manifest, split="test")["languages"]
    chance = 100 * 5 / 24
    assert result["en"]["text_to_vision"]["R@5"] > 2.5 * chance
    if method_class(method).targets != "none":
        assert result["xx"]["text_to_vision"]["R@5"] > 2.5 * chance
        assert result["yy"]["vision_to_text"]["R@5"] > 2.5 * chance


def test_the_loss_falls(trained):
    losses = [line["loss"] for line in lines(trained) if "loss" in line]
    stage = [line["stage"] for line in lines(trained) if "loss" in line]
    assert stage[0] == "cross-lingual"
    assert stage[-1] == "cross-modal"
    student = [x for x, s in zip(losses, stage, strict=True) if s == "cross-modal"]
    assert student[-1] < 0.7 * student[0]


def test_a_run_repeats_to_the_bit(settings, tmp_path):
    for name in ("a", "b"):
        train(settings("cl2cm"), tmp_path / name)
    first, second = (load_file(tmp_path / n / "model.safetensors") for n in ("a", "b"))
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@pytest.mark.parametrize(
    ("schedule", "freeze"), [("two-stage", "all"), ("joint", "all"), ("two-stage", "embeddings")]
)
def test_a_stopped_run_resumes_to_the_same_bits(schedule, freeze, settings, tmp_path, monkeypatch):
    config = settings(
        "cl2cm",
        teacher={"schedule": schedule, "epochs": 2},
        train={"epochs": 2, "checkpoint_steps": 2, "batch_size": 12},
        text={"freeze": freeze},
    )
    train(config, tmp_path / "whole")
    step, steps = Loop._step, 0

    def stops(*args):
        nonlocal steps
        steps += 1
        if steps % 6 == 0:
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(Loop, "_step", stops)
    run = tmp_path / "stopped"
    while not (run / "provenance.json").exists():
        with suppress(KeyboardInterrupt):
            train(config, run, resume=steps > 0)
    assert steps > 18
    assert_same_run(tmp_path / "whole", run)


def test_a_killed_process_resumes_to_the_same_bits(settings, tmp_path):
    config = settings(
        "cl2cm",
        teacher={"epochs": 20},
        train={"epochs": 25, "checkpoint_steps": 1, "threads": 1},
    )
    (tmp_path / "config.toml").write_text(to_toml(config))
    command = [sys.executable, "-m", "cl2cm", "train", str(tmp_path / "config.toml"), "--out"]
    run = tmp_path / "killed"
    process = subprocess.Popen([*command, str(run)], stderr=subprocess.DEVNULL)
    while newest(run) == b"" and process.poll() is None:
        time.sleep(0.002)
    time.sleep(0.25)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    assert not (run / "provenance.json").exists(), "it was finished before it was killed"
    assert newest(run)
    train(config, run, resume=True)
    train(config, tmp_path / "whole")
    assert_same_run(tmp_path / "whole", run)


def assert_same_run(first, second):
    for name in ("model.safetensors", "teacher.safetensors"):
        a, b = load_file(first / name), load_file(second / name)
        assert a.keys() == b.keys()
        for key, value in a.items():
            assert torch.equal(value, b[key]), key
    assert lines(first) == lines(second)
    assert not (second / "state").exists()


def newest(run):
    try:
        return (run / "state" / "current.json").read_bytes()
    except OSError:
        return b""


def test_frozen_layers_stay_and_others_move(settings, small, tmp_path):
    config = settings("translate-train", text={"freeze": 1}, train={"epochs": 1})
    train(config, tmp_path / "run")
    before = load_file(small.text / "model.safetensors")
    after = load_file(tmp_path / "run" / "model.safetensors")
    moved = {
        name: not torch.equal(value, found)
        for name, value in before.items()
        for key, found in after.items()
        if key.startswith("backbone.") and key.endswith("." + name)
    }
    assert len(moved) == len(before)
    for name, changed in moved.items():
        assert changed == ("encoder.layer.1." in name), name


def test_an_embedding_does_not_depend_on_batch_mates(trained):
    model = load(trained)
    texts = ["red circle", "one square that is blue", "wolleyxx ssorcxx"] * 22
    together = model.encode_text(texts)
    for i in range(3):
        alone = model.encode_text([texts[i]])[0]
        assert_close(torch.tensor(together[i]), torch.tensor(alone), atol=1e-5, rtol=0)


def test_a_reloaded_model_gives_identical_vectors(trained):
    first, second = load(trained), load(trained)
    texts = ["red circle", "blue bar"]
    assert (first.encode_text(texts) == second.encode_text(texts)).all()
    assert first.fingerprint == second.fingerprint


def test_refuses_to_write_over_a_folder(settings, tmp_path):
    (tmp_path / "something").write_text("precious")
    with pytest.raises(CheckpointError, match="new or empty folder"):
        train(settings(), tmp_path)
    assert (tmp_path / "something").read_text() == "precious"


def test_resume_with_other_settings_is_refused(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "cl2cm.training.loop._finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        train(settings(train={"epochs": 1}), tmp_path / "run")
    with pytest.raises(OtherSettingsError, match=r"found train.epochs: 1 → 2; .*prolonged"):
        train(settings(train={"epochs": 2}), tmp_path / "run", resume=True)
    (tmp_path / "run" / "config.toml").unlink()  # as a run that was stopped in cl2cm 0.1.0
    with pytest.raises(OtherSettingsError, match="found other ones"):
        train(settings(train={"epochs": 2}), tmp_path / "run", resume=True)


@pytest.fixture
def finished(settings, small, tmp_path):
    """A short run, its settings, and a manifest of its own."""
    folder = shutil.copytree(small.manifest.parent, tmp_path / "data")
    manifest = folder / small.manifest.name
    config = settings("translate-train", data={"manifest": str(manifest)}, train={"epochs": 1})
    train(config, tmp_path / "run")
    return config, tmp_path / "run", manifest


@pytest.mark.parametrize(
    ("section", "values", "found"),
    [
        ("train", {"epochs": 50}, "train.epochs: 1 → 50"),
        ("match", {"tau": 0.2}, "match.tau: 0.1 → 0.2"),
        ("data", {"languages": ("xx",)}, "data.languages"),
    ],
)
def test_resume_of_a_finished_run_with_other_settings(finished, section, values, found):
    config, run, _ = finished
    other = replace(config, **{section: replace(getattr(config, section), **values)})
    with pytest.raises(OtherSettingsError, match=found):
        train(other, run, resume=True)
    with pytest.raises(OtherSettingsError, match="method: translate-train → zero-shot"):
        train(replace(config, method="zero-shot"), run, resume=True)


def test_resume_of_a_finished_run_with_other_data(finished):
    config, run, manifest = finished
    moved = manifest.with_name("moved.jsonl")
    shutil.copy(manifest, moved)
    elsewhere = replace(config, data=replace(config.data, manifest=str(moved)))
    assert train(elsewhere, run, resume=True) == read_record(run / "provenance.json")
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(OtherSettingsError, match=r"another content of .*\.jsonl"):
        train(config, run, resume=True)


def test_only_a_run_of_other_settings_is_trained_anew(finished):
    config, run, _ = finished
    contract = run / "provenance.json"
    whole = contract.read_text()
    contract.write_text("damaged")
    with pytest.raises(CheckpointError, match="unreadable"):
        train_again(config, run)
    assert (run / "model.safetensors").exists()
    contract.write_text(whole)
    before = (run / "model.safetensors").stat().st_mtime_ns
    train_again(config, run)
    assert (run / "model.safetensors").stat().st_mtime_ns == before
    train_again(replace(config, train=replace(config.train, seed=9)), run)
    assert (run / "model.safetensors").stat().st_mtime_ns != before


# --- numbers that are not finite ---------------------------------------------------------------


def test_a_loss_that_is_not_finite_names_its_step_and_the_best_epoch_is_kept(
    settings, small, tmp_path, monkeypatch
):
    config = settings("translate-train", train={"epochs": 4})
    steps = train(settings("translate-train", train={"epochs": 2}), tmp_path / "two") and [
        line["step"] for line in lines(tmp_path / "two") if "SumR" in line
    ]
    plain, calls = TranslateTrain.loss, []

    def diverging(self, batch):
        losses = plain(self, batch)
        calls.append(batch)
        if len(calls) > steps[-1]:
            losses["loss"] = losses["loss"] * float("nan")
        return losses

    monkeypatch.setattr(TranslateTrain, "loss", diverging)
    with pytest.raises(NumberError, match=rf"loss of epoch 3, step {steps[-1] + 1}.*found nan"):
        train(config, tmp_path / "run")
    monkeypatch.undo()
    best = max(line["SumR"] for line in lines(tmp_path / "run") if "SumR" in line)
    found = evaluate_manifest(tmp_path / "run", small.manifest, split="val")["languages"]
    assert sum(s["SumR"] for s in found.values()) / len(found) == pytest.approx(best, abs=0.5)
    with pytest.raises(NumberError, match="holds its best epoch"):
        train(config, tmp_path / "run", resume=True)


def test_a_training_that_diverges_at_once_leaves_no_run(settings, tmp_path, monkeypatch):
    plain = TranslateTrain.loss

    def diverging(self, batch):
        losses = plain(self, batch)
        return losses | {"loss": losses["loss"] * float("inf")}

    monkeypatch.setattr(TranslateTrain, "loss", diverging)
    with pytest.raises(NumberError, match="epoch 1, step 1: expected a finite number, found inf"):
        train(settings("translate-train"), tmp_path / "run")
    assert not (tmp_path / "run" / "provenance.json").exists()


def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(settings, tmp_path, monkeypatch):
    plain = TranslateTrain.loss

    def diverging(self, batch):
        losses = plain(self, batch)
        weight = next(self.student.parameters()).sum()
        return losses | {"loss": losses["loss"] + (weight - weight.detach()).abs().sqrt()}

    monkeypatch.setattr(TranslateTrain, "loss", diverging)
    with pytest.raises(NumberError, match="gradient of epoch 1, step 1"):
        train(settings("translate-train"), tmp_path / "run")


def test_resume_of_a_finished_run_changes_nothing(trained, settings):
    before = (trained / "model.safetensors").stat().st_mtime_ns
    config = settings("cl2cm", train={"epochs": 15}, teacher={"epochs": 5})
    train(config, trained, resume=True)
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


def test_unknown_language(settings, tmp_path):
    with pytest.raises(LanguageError, match=r"did you mean|choose one"):
        train(settings(data={"languages": ["zz"]}), tmp_path / "run")


def test_early_stop(settings, tmp_path):
    config = settings("translate-train", train={"epochs": 40, "patience": 2, "lr": 1e-9})
    train(config, tmp_path / "run")
    assert max(line["epoch"] for line in lines(tmp_path / "run")) < 10


def test_learning_rate_rises_and_falls():
    rates = [learning_rate(step, 100, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1
    assert rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.01


def test_device():
    assert choose_device("cpu").type == "cpu"
    for name in ("gpu", "tpu:0", "" if torch.cuda.is_available() else "cuda"):
        with pytest.raises(ConfigError, match=r"train\.device"):
            choose_device(name)


def test_environment_is_left_alone():
    assert os.environ.get("HF_HUB_OFFLINE") == "1"


@pytest.mark.parametrize(("layers", "freeze"), [(0, "all"), (1, "all"), (0, "embeddings")])
def test_whitening_is_fitted_to_the_training_texts(layers, freeze, settings, small, tmp_path):
    config = settings(
        "cl2cm",
        network={"layers": layers, "whitening": 0.1},
        text={"freeze": freeze},
        train={"epochs": 1},
        teacher={"epochs": 1},
    )
    train(config, tmp_path / "run")
    student, teacher = (
        load_file(tmp_path / "run" / name) for name in ("model.safetensors", "teacher.safetensors")
    )
    assert student["text.whitening.mean"].abs().max() > 0
    assert torch.equal(student["text.whitening.matrix"], teacher["text.whitening.matrix"])
    result = evaluate_manifest(tmp_path / "run", small.manifest)["languages"]
    assert set(result) == {"en", "xx", "yy"}


@pytest.mark.parametrize("method", FRESH)
def test_every_method_can_train_the_last_layer_of_the_backbone(method, settings, tmp_path):
    match = {"smoothing": 0.1} if method == "smoothing" else {}
    config = settings(
        method,
        text={"freeze": 1},
        network={"layers": 0, "whitening": 0.1},
        train={"epochs": 1},
        teacher={"epochs": 1},
        match=match,
    )
    train(config, tmp_path / "run")
    weights = load_file(tmp_path / "run" / "model.safetensors")
    fresh = load_backbone(config).state_dict()
    moved = {
        key.removeprefix("backbone.")
        for key, value in weights.items()
        if key.startswith("backbone.")
        and not torch.equal(value, fresh[key.removeprefix("backbone.")])
    }
    assert moved
    assert all(".layer.1." in name or "pooler" in name for name in moved), moved


@pytest.mark.parametrize("method", ["translate-train", "cl2cm", "nrccr"])
def test_every_step_may_see_all_languages(method, settings, tmp_path):
    """A step's loss is the mean over the target languages, each with the same pairs."""
    config = settings(
        method,
        data={"every_language": True},
        train={"epochs": 1, "batch_size": 16},
        teacher={"epochs": 1},
    )
    provenance = train(config, tmp_path / "run")
    assert provenance["validation_SumR"]["cross-modal"] > 0
    data = load_training_data(config)
    batch = next(iter(data.batches.epoch(0)))
    assert len(batch.also) == len(data.batches.pairs.languages) - 1
    assert [set(one.languages) for one in (batch, *batch.also)] == [{"xx"}, {"yy"}]


def test_losses_are_averaged_over_languages():
    one, two = {"loss": torch.tensor(1.0)}, {"loss": torch.tensor(3.0), "cycle": torch.tensor(5.0)}
    assert mean_losses([one, two]) == {"loss": torch.tensor(2.0), "cycle": torch.tensor(5.0)}
    assert mean_losses([one]) is one
