"""A run of a version whose config.toml had the sections of every method."""

import json
import shutil

import pytest

from cl2cm.cli.evaluation import evaluate_manifest
from cl2cm.evaluation.alignment.links import align
from cl2cm.methods.registry import METHODS, method_class
from cl2cm.model.checkpoint import load
from cl2cm.model.config import Config, as_table, parse_config, to_toml
from cl2cm.training.loop import train, train_again
from fixtures.runs import change_contract, write_settings


@pytest.fixture(scope="module")
def made(settings, tmp_path_factory):
    config = settings("translate-train", train={"epochs": 1})
    run = tmp_path_factory.mktemp("earlier") / "run"
    train(config, run)
    return config, run


@pytest.fixture
def earlier(made, tmp_path):
    """The run with its settings and provenance as an earlier version wrote them."""
    config, run = made
    run = shutil.copytree(run, tmp_path / "run")
    kinds = {s: kind for name in METHODS for s, kind in method_class(name).sections.items()}
    tables = {name: dict(table) for name, table in config.tables().items()}
    last = tables.pop("train")
    tables |= {name: dict(as_table(kind())) for name, kind in kinds.items()} | {"train": last}
    lines = [f'method = "{config.method}"']
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    (run / "config.toml").write_text("\n".join(lines) + "\n")
    provenance = json.loads((run / "provenance.json").read_text())
    del provenance["translates_queries"], provenance["checksum"]
    provenance["config"] = "0" * 64
    change_contract(run, lambda contract: contract.pop("settings"))
    (run / "provenance.json").write_text(json.dumps(provenance))
    return run


def test_it_opens_and_is_measured_as_before(made, earlier, small):
    before, after = (evaluate_manifest(run, small.manifest) for run in (made[1], earlier))
    assert after["languages"] == before["languages"]
    assert load(earlier).fingerprint == load(made[1]).fingerprint
    assert align(earlier, "red circle", "derxx elcricxx").side == "student"


def test_a_benchmark_knows_it_by_its_settings(made, earlier, settings):
    stamp = (earlier / "model.safetensors").stat().st_mtime_ns
    train_again(made[0], earlier)
    assert (earlier / "model.safetensors").stat().st_mtime_ns == stamp
    train_again(settings("translate-train", train={"epochs": 2}), earlier)
    assert (earlier / "model.safetensors").stat().st_mtime_ns != stamp


def test_a_run_of_a_method_that_is_not_installed_opens(made, small, tmp_path):
    run = shutil.copytree(made[1], tmp_path / "run")
    text = (run / "config.toml").read_text().replace('"translate-train"', '"of a package"')
    write_settings(run, text + "\n[theirs]\nx = [1, 2]\n")
    assert load(run).dim == 32
    assert evaluate_manifest(run, small.manifest)["languages"]


def test_tables_of_methods_survive_reading_and_writing():
    config = parse_config({"theirs": {"x": [1, 2], "y": "z"}})
    assert config.sections == {"theirs": {"x": [1, 2], "y": "z"}}
    assert '[theirs]\nx = [1, 2]\ny = "z"' in to_toml(config)
    assert config != Config()
