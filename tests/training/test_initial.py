"""Training that starts from a finished run: its weights, what must agree, and exact resume."""

import json
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from cl2cm.cli.app import run
from cl2cm.errors import CheckpointError, OtherSettingsError, StoreError
from cl2cm.model.checkpoint import load
from cl2cm.model.config import to_toml
from cl2cm.training.initial import START
from cl2cm.training.loop import train
from cl2cm.training.stages import Loop

STILL = {"epochs": 1, "lr": 1e-12, "weight_decay": 0.0, "warmup": 0.0}


@pytest.fixture(scope="module")
def first(settings, tmp_path_factory):
    """A run of translate-train to start from."""
    out = tmp_path_factory.mktemp("first") / "run"
    train(settings("translate-train", train={"epochs": 2}), out)
    return out


def weights(folder, name="model"):
    return load_file(folder / f"{name}.safetensors")


@pytest.mark.parametrize(
    "method", ["translate-train", "dcot", "self-distill", "text-distill", "nrccr"]
)
def test_the_student_starts_from_the_weights_of_the_run(method, first, settings, tmp_path):
    provenance = train(settings(method, train=STILL), tmp_path / "run", init_from=first)
    assert_close(weights(tmp_path / "run"), weights(first), rtol=0, atol=1e-6)
    model = json.loads((first / "provenance.json").read_text())["model"]
    assert provenance["init_from"] == {"run": str(first), "model": model}


def test_without_it_the_student_is_fresh(first, settings, tmp_path):
    provenance = train(settings("translate-train", train={**STILL, "seed": 1}), tmp_path / "run")
    assert "init_from" not in provenance
    with pytest.raises(AssertionError):
        assert_close(weights(tmp_path / "run"), weights(first), rtol=0, atol=1e-3)


@pytest.mark.parametrize("warm", [False, True])
def test_the_teacher_starts_from_the_teacher_of_the_run(warm, trained, settings, tmp_path):
    config = settings("cl2cm", train=STILL, teacher={"epochs": 1}, transfer={"warm_start": warm})
    train(config, tmp_path / "run", init_from=trained)
    for name in ("model", "teacher"):
        assert_close(weights(tmp_path / "run", name), weights(trained, name), rtol=0, atol=1e-6)


def test_a_teacher_that_the_run_has_not_is_fresh_and_said(first, settings, tmp_path, capsys):
    config = settings("cl2cm", train=STILL, teacher={"epochs": 1}, transfer={"warm_start": True})
    train(config, tmp_path / "run", init_from=first)
    assert_close(weights(tmp_path / "run"), weights(first), rtol=0, atol=1e-6)
    assert "has no teacher: the teacher starts from fresh weights" in capsys.readouterr().err


def test_on_other_data_and_languages(first, settings, small, tmp_path):
    lines = [json.loads(line) for line in small.manifest.read_text().splitlines()]
    for line in lines:
        line["image"] = str(small.manifest.parent / line["image"])
        line["captions"] = {code: line["captions"][code] for code in ("en", "yy")}
        line.get("translations", {}).pop("xx", None)
    path = tmp_path / "other.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines[10:]))
    config = settings("translate-train", data={"manifest": str(path)}, train=STILL)
    provenance = train(config, tmp_path / "run", init_from=first)
    assert provenance["data"]["languages"] == ["yy"]
    assert_close(weights(tmp_path / "run"), weights(first), rtol=0, atol=1e-6)


def test_the_whitening_stays_that_of_the_run(settings, small, tmp_path):
    network = {"whitening": 0.1}
    train(settings("translate-train", network=network, train=STILL), tmp_path / "a")
    config = settings("translate-train", network=network, train=STILL, data={"languages": ["xx"]})
    train(config, tmp_path / "b", init_from=tmp_path / "a")
    assert_close(weights(tmp_path / "b"), weights(tmp_path / "a"), rtol=0, atol=1e-6)
    train(config, tmp_path / "c")
    matrix = [weights(tmp_path / name)["text.whitening.matrix"] for name in "bc"]
    assert not np.allclose(*matrix, atol=1e-3)


def test_a_backbone_that_was_trained_goes_with_the_weights(settings, tmp_path, first):
    trains = {"freeze": "none"}
    still = {**STILL, "backbone_lr": 1e-12}
    train(settings("translate-train", text=trains, train={"epochs": 1}), tmp_path / "a")
    config = settings("translate-train", text=trains, train=still)
    train(config, tmp_path / "b", init_from=tmp_path / "a")
    assert_close(weights(tmp_path / "b"), weights(tmp_path / "a"), rtol=0, atol=1e-6)
    train(config, tmp_path / "c", init_from=first)  # which left the backbone frozen
    texts = ["red square", "blue bar"]
    vectors = [load(run).encode_text(texts) for run in (first, tmp_path / "c")]
    np.testing.assert_allclose(*vectors, atol=1e-5)
    with pytest.raises(CheckpointError, match=r"text\.freeze: 'none' → 'all', which drops trained"):
        train(settings("translate-train"), tmp_path / "d", init_from=tmp_path / "a")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"network": {"dim": 16}}, "network.dim: 32 → 16"),
        ({"network": {"heads": 2}}, "network.heads: 4 → 2"),
        ({"network": {"layers": 0}}, "network.layers: 1 → 0"),
        ({"network": {"whitening": 0.1}}, "network.whitening: 0.0 → 0.1"),
        ({"text": {"layer": 1}}, "text.layer: -1 → 1"),
        ({"text": {"prefix": "one "}}, "text.prefix: '' → 'one '"),
        ({"text": {"max_tokens": 8}}, "text.max_tokens: 16 → 8"),
        (
            {"network": {"dim": 16}, "text": {"layer": 1}},
            "text.layer: -1 → 1; network.dim: 32 → 16",
        ),
    ],
)
def test_what_differs_is_named(changes, named, first, settings, tmp_path):
    with pytest.raises(CheckpointError, match="expected the same networks and encoders") as error:
        train(settings("translate-train", **changes), tmp_path / "run", init_from=first)
    assert error.value.found == named
    assert not (tmp_path / "run").exists()


def test_other_encoders_are_named(first, settings, small, tmp_path):
    other = tmp_path / "text"
    shutil.copytree(small.text, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-6}))
    text = settings("translate-train", text={"encoder": f"hf:{other}"})
    with pytest.raises(CheckpointError, match=r"text\.encoder: other weights or another tokenizer"):
        train(text, tmp_path / "run", init_from=first)
    (tmp_path / "features").mkdir()
    for line in small.manifest.read_text().splitlines():
        np.save(tmp_path / "features" / f"{json.loads(line)['id']}.npy", np.ones(48, np.float32))
    features = settings("translate-train", vision={"encoder": f"features:{tmp_path / 'features'}"})
    with pytest.raises(CheckpointError, match=r"vision\.encoder: an encoder → features"):
        train(features, tmp_path / "run", init_from=first)


def test_features_of_other_items_are_taken_and_other_numbers_refused(
    settings, small, tmp_path, capsys
):
    ids = [json.loads(line)["id"] for line in small.manifest.read_text().splitlines()]

    def on(folder, value):
        folder.mkdir()
        for name in ids:
            np.save(folder / f"{name}.npy", np.full(5, value, np.float32) + len(name))
        return settings("translate-train", vision={"encoder": f"features:{folder}"}, train=STILL)

    train(on(tmp_path / "one", 1), tmp_path / "a")
    train(on(tmp_path / "again", 1), tmp_path / "b", init_from=tmp_path / "a")
    assert_close(weights(tmp_path / "b"), weights(tmp_path / "a"), rtol=0, atol=1e-6)
    with pytest.raises(StoreError, match="found other numbers"):
        train(on(tmp_path / "two", 2), tmp_path / "c", init_from=tmp_path / "a")


def test_weights_that_were_exchanged_are_refused(first, settings, tmp_path):
    shutil.copytree(first, tmp_path / "a")
    train(settings("translate-train", train={**STILL, "seed": 1}), tmp_path / "b")
    shutil.copy(tmp_path / "b" / "model.safetensors", tmp_path / "a" / "model.safetensors")
    with pytest.raises(CheckpointError, match="expected the weights of its training"):
        train(settings("translate-train"), tmp_path / "c", init_from=tmp_path / "a")


def test_no_run_and_an_unfinished_one_are_refused(settings, tmp_path):
    for name, found in (("no", "no provenance.json"), ("half", "one that is still to be finished")):
        (tmp_path / name / ("state" if name == "half" else "x")).mkdir(parents=True)
        with pytest.raises(CheckpointError, match=found):
            train(settings("translate-train"), tmp_path / "run", init_from=tmp_path / name)
    assert not (tmp_path / "run").exists()


# --- resume ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["_step", "_validate", "_save"])
@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("again", [False, True])
def test_a_stopped_training_resumes_to_the_same_weights(
    name, calls, again, first, settings, tmp_path
):
    config = settings("translate-train", train={"epochs": 2, "seed": 3})
    train(config, tmp_path / "whole", init_from=first)
    real, seen = getattr(Loop, name), []

    def stop(self, *args, **named):
        seen.append(1)
        if len(seen) == calls:
            raise KeyboardInterrupt
        return real(self, *args, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, name, stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run", init_from=first)
    assert json.loads((tmp_path / "run" / START).read_text())["run"] == str(first)
    provenance = train(config, tmp_path / "run", resume=True, init_from=first if again else None)
    assert provenance["init_from"]["run"] == str(first)
    assert_close(weights(tmp_path / "run"), weights(tmp_path / "whole"), rtol=0, atol=0)
    assert not (tmp_path / "run" / "state").exists()


@pytest.fixture(scope="module")
def second(settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("second") / "run"
    train(settings("translate-train", train={"epochs": 1, "seed": 9}), out)
    return out


@pytest.mark.parametrize("stopped", ["before anything", "after an epoch", "finished"])
def test_another_run_to_start_from_is_refused(stopped, first, second, settings, tmp_path):
    config = settings("translate-train", train={"epochs": 2})
    name = {"before anything": "_step", "after an epoch": "_validate"}.get(stopped)
    with pytest.MonkeyPatch.context() as patch:
        if name:
            seen = []

            def stop(*_):
                seen.append(1)
                if name == "_step" or len(seen) > 1:
                    raise KeyboardInterrupt
                return real(*_)

            real = getattr(Loop, name)
            patch.setattr(Loop, name, stop)
            with pytest.raises(KeyboardInterrupt):
                train(config, tmp_path / "run", init_from=first)
        else:
            train(config, tmp_path / "run", init_from=first)
    with pytest.raises(OtherSettingsError, match=f"expected --init-from {first}, found --init-fr"):
        train(config, tmp_path / "run", resume=True, init_from=second)
    shutil.copytree(first, tmp_path / "moved")
    assert train(config, tmp_path / "run", resume=True, init_from=tmp_path / "moved")


def test_a_training_from_fresh_weights_is_not_resumed_from_a_run(first, settings, tmp_path):
    config = settings("translate-train", train={"epochs": 1})
    train(config, tmp_path / "run")
    with pytest.raises(OtherSettingsError, match="expected no --init-from"):
        train(config, tmp_path / "run", resume=True, init_from=first)


def test_a_resume_does_not_need_the_run_once_a_state_is_saved(first, settings, tmp_path):
    shutil.copytree(first, tmp_path / "gone")
    config = settings("translate-train", train={"epochs": 2})
    with pytest.MonkeyPatch.context() as patch:
        seen = []
        real = Loop._validate

        def stop(*_):
            seen.append(1)
            if len(seen) > 1:
                raise KeyboardInterrupt
            return real(*_)

        patch.setattr(Loop, "_validate", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run", init_from=tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    train(config, tmp_path / "run", resume=True)
    train(config, tmp_path / "whole", init_from=first)
    assert_close(weights(tmp_path / "run"), weights(tmp_path / "whole"), rtol=0, atol=0)


def test_the_command(first, settings, tmp_path, capsys):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(settings("translate-train", train=STILL)))
    command = ["train", str(recipe), "--out", str(tmp_path / "run"), "--init-from", str(first)]
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["init_from"]["run"] == str(first)
    wider = [*command, "--set", "network.dim=64"]
    wider[3] = str(tmp_path / "other")
    assert run(wider) == 2
    assert "network.dim: 32 → 64" in capsys.readouterr().err.splitlines()[-1]
