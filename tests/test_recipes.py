"""Every recipe goes its whole way on stand-ins: a tiny BERT, a tiny CLIP, features of the real width."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from cl2cm.cli.app import run
from cl2cm.cli.demo import METHODS, demo_config
from cl2cm.cli.own_data import packaged
from cl2cm.evaluation.bench.suites import load_suite
from cl2cm.methods.settings import load_config
from cl2cm.model.config import differences
from fixtures.clip import write_clip
from fixtures.world import LANGUAGES, write_pictures, write_text

FOLDER = Path(__file__).parents[1] / "recipes"
SUITES = Path(__file__).parents[1] / "benchmarks" / "suites"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.toml"))
WIDTHS = {"multi30k-resnet152": 2048, "vatex": 1024, "msrvtt-cn": 4096}
FRAMES = {"multi30k-resnet152": 1, "vatex": 5, "msrvtt-cn": 7}
SHORT = {
    "network.dim": 16,
    "network.heads": 2,
    "train.epochs": 1,
    "train.batch_size": 16,
    "train.device": "cpu",
    "train.threads": 1,
    "teacher.epochs": 1,
    "text.max_tokens": 16,
}


def write_features(folder, ids, *, width, frames):
    """Frame features as published: feature.bin, id.txt and shape.txt, frames named ID_0, ID_1, …"""
    rng = np.random.default_rng(0)
    names = [f"{name}_{i}" if frames > 1 else name for name in ids for i in range(frames)]
    folder.mkdir()
    rng.normal(size=(len(names), width)).astype("<f4").tofile(folder / "feature.bin")
    (folder / "id.txt").write_text(" ".join(names))
    (folder / "shape.txt").write_text(f"{len(names)} {width}")
    return folder


def write_data(folder, languages, *, features):
    """The small world with its two made-up languages in the place of the recipe's."""
    path = write_pictures(folder, copies=3)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        for texts in (line["captions"], line.get("translations", {})):
            made = [texts.pop(code) for code in LANGUAGES if code in texts]
            texts |= {code: made[i % 2] for i, code in enumerate(languages) if made}
        if features:
            del line["image"]
            line["features"] = line["id"]
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
    return path, [line["id"] for line in lines]


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stand-ins")
    return write_text(folder / "bert"), write_clip(folder / "clip")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_configuration_that_names_its_commands(name):
    config = load_config(FOLDER / f"{name}.toml", ())
    assert config.method == "cl2cm"
    text = (FOLDER / f"{name}.toml").read_text()
    if name != "openmoji":
        assert "cl2cm prepare" in text
        assert "cl2cm translate" in text
        assert f"cl2cm train recipes/{name}.toml" in text
        assert not config.text.lower_case
        assert set(tomllib.loads(text)["data"]["languages"]) == set(config.data.languages)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "openmoji"])
def test_a_recipe_goes_its_whole_way(name, stand_ins, tmp_path, capsys):
    bert, clip = stand_ins
    recipe = load_config(FOLDER / f"{name}.toml", ())
    languages = recipe.data.languages
    has_features = recipe.vision.encoder.startswith("features:")
    manifest, ids = write_data(tmp_path / "data", languages, features=has_features)
    vision = f"hf:{clip}"
    if has_features:
        shape = {"width": WIDTHS[name], "frames": FRAMES[name]}
        vision = f"features:{write_features(tmp_path / 'features', ids, **shape)}"
    settings = {
        "data.manifest": manifest,
        "data.features": tmp_path / "stores",
        "text.encoder": f"hf:{bert}",
        "vision.encoder": vision,
        **SHORT,
    }
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    out = str(tmp_path / "run")
    assert run(["train", str(FOLDER / f"{name}.toml"), "--out", out, *sets, "--json"]) == 0
    capsys.readouterr()
    assert run(["evaluate", out, str(manifest), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["languages"]) == {"en", *languages}
    assert all(0 <= row["SumR"] <= 600 for row in result["languages"].values())
    assert run(["index", out, str(manifest), str(tmp_path / "index"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == len(ids)
    assert run(["search", str(tmp_path / "index"), "red circle", "-k", "3", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["hits"]) == 3


@pytest.mark.parametrize("method", METHODS)
def test_the_recipe_of_the_demo_has_the_settings_of_the_demo(method, tmp_path):
    recipe = load_config(FOLDER / "openmoji.toml", [f"method={method}"])
    changed = differences(recipe, demo_config(method, tmp_path / "manifest.jsonl"))
    assert [line.partition(":")[0] for line in changed] == ["data.manifest"]


@pytest.mark.parametrize("name", sorted(path.stem for path in SUITES.glob("*.toml")))
def test_a_suite_of_the_experiments_has_settings_for_all_its_runs(name, tmp_path):
    suite = load_suite(str(SUITES / f"{name}.toml"))
    for regime in suite.regimes:
        for method in (*suite.methods, *suite.ablations):
            config = suite.config(regime, method, manifest=tmp_path / "m.jsonl", seed=0)
            assert config.method == suite.method(method)


def test_the_suite_of_small_data_measures_the_packaged_recipe(tmp_path):
    recipe = load_config(packaged("own"))
    suite = load_suite(str(SUITES / "small.toml"))
    measured = suite.config("aligned", "cl2cm", manifest=tmp_path / "m.jsonl", seed=0)
    changed = {line.partition(":")[0] for line in differences(recipe, measured)}
    machine = {"train.device", "train.matmul", "train.threads", "train.log_to"}
    assert changed <= {"data.manifest", "data.languages", *machine}
