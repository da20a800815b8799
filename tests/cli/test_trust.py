"""What a run may name, and what it may not: the run folder is a stranger's."""

import json
import os
import shutil

import pytest

from cl2cm.cli.app import run as cl2cm
from cl2cm.encode.trust import (
    allowed,
    confine,
    hub_allowed,
    is_bare,
    is_hub_id,
    is_remembered,
    model_roots,
    remember,
)
from cl2cm.errors import CheckpointError, CL2CMError, EncoderError, WeightsError
from cl2cm.model.checkpoint import load, load_visual
from cl2cm.model.config import load_config, with_absolute_paths
from cl2cm.training.loop import train
from cl2cm.training.resume import load_state
from fixtures.runs import change_settings


@pytest.fixture
def foreign(trained, tmp_path, monkeypatch):
    """A run that another user made: this user's list of model folders is empty."""
    monkeypatch.setenv("CL2CM_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("cl2cm.encode.trust._remembered", set())
    return shutil.copytree(trained, tmp_path / "run")


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["e5", "multilingual-e5-small", "a.b"])
def test_bare_names(name):
    assert is_bare(name)


@pytest.mark.parametrize("name", ["", ".", "..", "./e5", "a/b", "/e5", "~", "~me", "e5/", "../e5"])
def test_paths_are_not_bare(name):
    assert not is_bare(name)


def test_hub_ids():
    assert is_hub_id("google-bert/bert-base")
    for name in (
        "bert",
        "/a/b",
        "./a",
        "../a",
        "~/a",
        "a/b/c",
        "a/",
        "/a",
        "a/..",
        "../..",
        ".a/b",
    ):
        assert not is_hub_id(name), name


# --- paths of a run --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        "hf:/etc", "onnx:/etc", "features:/etc", "hf:~/models", "onnx:~", "features:~/.ssh",
        "hf:../other", "onnx:../other", "features:../other", "hf:./..", "features:..",
        "hf:../run/../other", "onnx:.", "features:absent", "hf:./absent", "onnx:a/b", "hf:a/b/c",
        "hf://etc", "features:/proc/self/environ", "hf:/dev/zero",
        "hf:~no-such-user/x", "hf:./a\0b", "hf:/a\0b", "hf:./loop", "hf:/" + "a" * 5000,
    ],
)  # fmt: skip
def test_a_run_names_nothing_outside(spec, tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    (run / "loop").symlink_to(run / "loop")
    (tmp_path / "other").mkdir()
    (tmp_path / "absent").mkdir()  # of the working directory
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    if spec == "onnx:.":
        assert confine(spec, run) == f"onnx:{run}"
        return
    with pytest.raises(CheckpointError, match="--model-root") as caught:
        confine(spec, run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["hf", "onnx", "features"])
def test_a_run_may_name_what_is_inside(kind, tmp_path):
    (tmp_path / "run" / "encoders" / "e").mkdir(parents=True)
    run = tmp_path / "run"
    inside = f"{kind}:{run / 'encoders' / 'e'}"
    for name in (
        "encoders/e",
        "./encoders/e",
        "encoders/../encoders/e",
        str(run / "encoders" / "e"),
    ):
        assert confine(f"{kind}:{name}", run) == inside


def test_a_hub_name_of_a_run_is_no_folder_of_the_working_directory(foreign, tmp_path, monkeypatch):
    assert confine("hf:a/b", foreign) == "hf:a/b"
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="--model-root"):
        confine("hf:a/b", foreign)
    with allowed(roots=[tmp_path]):
        assert confine("hf:a/b", foreign) == f"hf:{tmp_path}/a/b"


@pytest.mark.parametrize("spec", ["hf:multilingual-e5-small", "onnx:efficientnet-lite2"])
def test_names_stay_names(spec, tmp_path, monkeypatch):
    name = tmp_path / spec.partition(":")[2]
    name.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert confine(spec, tmp_path / "run") == spec


def test_a_link_or_pipe_inside_leads_nowhere(tmp_path):
    run, secret = tmp_path / "run", tmp_path / "secret"
    secret.mkdir()
    (secret / "tokenizer.json").write_text("{}")
    (run / "folder").mkdir(parents=True)
    (run / "link").symlink_to(secret)
    with pytest.raises(CheckpointError, match="--model-root"):
        confine("hf:./link", run)
    (run / "folder" / "tokenizer.json").symlink_to(secret / "tokenizer.json")
    with pytest.raises(CheckpointError, match="a link that leads out of the run"):
        confine("hf:./folder", run)
    (run / "folder" / "tokenizer.json").unlink()
    os.mkfifo(run / "folder" / "tokenizer.json")
    with pytest.raises(CheckpointError, match="pipe"):
        confine("hf:./folder", run)


@pytest.mark.parametrize(
    "name", ["config.toml", "contract.json", "provenance.json", "model.safetensors"]
)
@pytest.mark.parametrize("how", ["link", "pipe", "device"])
def test_files_of_a_run_are_files_of_it(name, how, foreign, tmp_path):
    file = foreign / name
    if how == "link":
        shutil.move(file, tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.unlink()
        os.mkfifo(file) if how == "pipe" else file.symlink_to("/dev/zero")
    for opened in (load, load_visual):
        with pytest.raises(CheckpointError, match="a regular file inside the run"):
            opened(foreign)


def test_a_large_settings_file_is_not_read(foreign):
    with (foreign / "contract.json").open("ab") as file:
        file.truncate(2**31)
    with pytest.raises(CheckpointError, match="2,147,483,648 bytes"):
        load(foreign)


def test_a_contract_of_many_or_long_examples_is_refused(foreign):
    path = foreign / "contract.json"
    contract = json.loads(path.read_text(encoding="utf-8"))
    del contract["checksum"]
    many = contract | {"examples": contract["examples"] * 20}
    one = contract["examples"][0] | {"text": "a" * 5000}
    for changed in (many, contract | {"examples": [one]}):
        path.write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(CheckpointError, match="more or longer examples"):
            load(foreign)


@pytest.mark.parametrize(
    ("few", "many"),
    [
        (("dim = 32", "dim = 8192"), ("layers = 1", "layers = 24")),
        (("adapter_width = 512", "adapter_width = 65536"), ("adapters = []", 'adapters = ["pt"]')),
    ],
)
def test_settings_of_a_network_larger_than_its_weights_take_no_memory(foreign, few, many):
    change_settings(foreign, *few)
    change_settings(foreign, *many)
    with pytest.raises(CheckpointError, match="weights that do not fit"):
        load(foreign)


# --- a run of one's own, and of others -------------------------------------------------------


def test_training_remembers_the_folders_of_its_recipe(trained, small):
    assert is_remembered(small.text.resolve())
    assert is_remembered(small.vision.resolve())
    load(trained)


def test_the_same_run_of_another_user_is_refused_until_a_root_is_named(foreign, small, monkeypatch):
    with pytest.raises(CheckpointError, match=f"--model-root {small.text}"):
        load(foreign)
    with allowed(roots=[small.text]), pytest.raises(CheckpointError, match=str(small.vision)):
        load(foreign)
    with allowed(roots=[small.text, small.vision.parent]):
        load(foreign)
    monkeypatch.setenv("CL2CM_MODEL_ROOTS", f"{small.text}{os.pathsep}{small.vision}")
    load(foreign)


def test_a_root_on_the_command_line(foreign, small, capfd):
    arguments = ["evaluate", str(foreign), str(small.manifest), "--languages", "en", "--json"]
    assert cl2cm(arguments) == 2
    assert "--model-root" in capfd.readouterr().err
    assert cl2cm([*arguments, "--model-root", str(small.text.parent)]) == 0
    assert model_roots() == []  # not for the next command


def test_a_run_may_bring_its_encoders(foreign, small):
    for old in (small.text, small.vision):
        shutil.copytree(old, foreign / old.name)
        change_settings(foreign, old, f"./{old.name}")
    assert load(foreign).dim == 32


def test_relative_names_of_old_runs_are_looked_for_in_the_roots(foreign, small, monkeypatch):
    monkeypatch.chdir(small.text.parent)
    for old in (small.text, small.vision):
        change_settings(foreign, old, f"./{old.name}")
    with pytest.raises(CheckpointError, match="--model-root"):
        load(foreign)
    with allowed(roots=[small.text.parent]):
        load(foreign)


def test_a_list_that_cannot_be_written_lasts_for_the_process(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("CL2CM_STATE", str(tmp_path / "file" / "state"))
    remember([f"hf:{tmp_path / 'model'}", "hf:bare", "hf:", "onnx:/none"])
    assert is_remembered(tmp_path / "model")


def test_a_recipe_names_folders_relative_to_itself(tmp_path, monkeypatch):
    (tmp_path / "recipe" / "models" / "e").mkdir(parents=True)
    (tmp_path / "work" / "models" / "f").mkdir(parents=True)
    (tmp_path / "work" / "e5").mkdir()
    (tmp_path / "recipe" / "bert").mkdir()
    (tmp_path / "recipe" / "multilingual-e5-small").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    path = tmp_path / "recipe" / "recipe.toml"
    for written, meant in [
        ("models/e", str(tmp_path / "recipe" / "models" / "e")),
        ("models/f", str(tmp_path / "work" / "models" / "f")),
        ("e5", "e5"),
        ("bert", str(tmp_path / "recipe" / "bert")),
        ("multilingual-e5-small", "multilingual-e5-small"),
        ("google-bert/bert", "google-bert/bert"),
    ]:
        path.write_text(f'[text]\nencoder = "hf:{written}"\n')
        config = load_config(path)
        assert config.text.encoder == f"hf:{meant}"
        assert with_absolute_paths(config) == config


# --- pinned names and the working directory --------------------------------------------------


def test_a_folder_of_that_name_is_never_a_pinned_model(small, tmp_path, monkeypatch):
    from cl2cm.encode.text import TextBackbone
    from cl2cm.encode.vision import load_vision

    monkeypatch.chdir(tmp_path)
    shutil.copytree(small.text, tmp_path / "multilingual-e5-small")
    shutil.copytree(small.vision, tmp_path / "efficientnet-lite2")
    with pytest.raises(WeightsError, match="pinned model"):
        TextBackbone.load("hf:multilingual-e5-small", max_tokens=16)
    with pytest.raises(WeightsError, match="pinned model"):
        load_vision("onnx:efficientnet-lite2")
    with pytest.raises(EncoderError, match=r"\./NAME"):
        load_vision("hf:multilingual-e5-small")
    TextBackbone.load("hf:./multilingual-e5-small", max_tokens=16)  # so a folder is meant
    load_vision("onnx:./efficientnet-lite2")


def test_other_weights_in_the_cache_are_no_pinned_model(small, tmp_path):
    from cl2cm.encode.vision import load_vision

    shutil.copytree(small.vision, tmp_path / "models" / "efficientnet-lite2")
    with pytest.raises(WeightsError, match="pinned model"):
        load_vision("onnx:efficientnet-lite2", cache=tmp_path)


# --- the hub ---------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """Records what the hub's client is asked for."""
    import huggingface_hub

    asked = []

    def snapshot_download(name, **options):
        asked.append((name, options))
        raise OSError("not here")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.delenv("CL2CM_ALLOW_HUB", raising=False)
    return asked


def open_text():
    from cl2cm.encode.text import TextBackbone

    TextBackbone.load("hf:owner/model")


def open_vision():
    from cl2cm.encode.vision import load_vision

    load_vision("hf:owner/model")


def open_translation():
    from cl2cm.translate import open_translator

    open_translator("hf:owner/model", "en", "de")


@pytest.mark.parametrize("opened", [open_text, open_vision, open_translation])
def test_the_hub_is_asked_only_where_the_user_allows_it_and_never_with_a_token(opened, hub):
    with pytest.raises(CL2CMError, match=r"none in the local hub cache.*--allow-hub"):
        opened()
    with allowed(hub=True), pytest.raises(CL2CMError, match=r"not here.*hf download owner/model"):
        opened()
    assert [(name, o["local_files_only"], o["token"]) for name, o in hub] == [
        ("owner/model", True, False),
        ("owner/model", False, False),
    ]


def test_a_run_does_not_fetch(foreign, small, hub):
    change_settings(foreign, f"hf:{small.text}", "hf:owner/model")
    with allowed(roots=[small.vision]), pytest.raises(EncoderError, match="--allow-hub"):
        load(foreign)
    assert hub[0][1]["local_files_only"]


def test_the_option_holds_for_one_command(hub, small, tmp_path, capfd):
    arguments = ["encode", str(small.manifest), "--encoder", "hf:owner/model", "--out"]
    assert cl2cm([*arguments, str(tmp_path / "a"), "--allow-hub"]) == 2
    assert cl2cm([*arguments, str(tmp_path / "b")]) == 2
    assert [options["local_files_only"] for _, options in hub] == [False, True]
    assert not hub_allowed()


@pytest.mark.parametrize(
    ("value", "found"), [("1", True), ("yes", True), ("0", False), ("", False)]
)
def test_the_variable(value, found, monkeypatch):
    monkeypatch.setenv("CL2CM_ALLOW_HUB", value)
    assert hub_allowed() == found


# --- a training that goes on -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["../elsewhere", "/etc", "..", "a/b"])
def test_a_state_elsewhere_is_not_read(name, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "current.json").write_text(json.dumps({"state": name}))
    with pytest.raises(CheckpointError, match="the state"):
        load_state(tmp_path / "state", config_hash="x")


def test_a_log_elsewhere_is_not_written(settings, tmp_path):
    (tmp_path / "run").mkdir()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "run" / "metrics.jsonl").symlink_to(victim)
    with pytest.raises(CheckpointError, match="a link that leads out"):
        train(settings(), tmp_path / "run", resume=True)
    assert victim.read_text() == "mine"
