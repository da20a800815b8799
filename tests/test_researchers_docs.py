"""Every command of docs/researchers.md runs, and its table names the files of a run."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from cl2cm.cli.app import run
from cl2cm.model.config import to_toml
from cl2cm.training.loop import train
from fixtures.text_folders import sentence_folder, write_albert
from fixtures.trackers import MLFLOW

PAGE = (Path(__file__).parents[1] / "docs" / "researchers.md").read_text("utf-8")
COMMANDS = re.findall(r"^\$ cl2cm (.+)$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def here(small, settings, trained, tmp_path_factory):
    """A working directory with the files that the page names."""
    folder = tmp_path_factory.mktemp("researchers")
    shutil.copytree(small.manifest.parent / "images", folder / "images")
    shutil.copy(small.manifest, folder / "manifest.jsonl")
    write_albert(folder / "albert", small)
    sentence_folder(folder / "sentence-model", small)
    short = {"epochs": 1}
    for name, seed in (("a", 0), ("b", 1)):
        train(settings("translate-train", train={**short, "seed": seed}), folder / "runs" / name)
    (folder / "recipe.toml").write_text(to_toml(settings("translate-train", train=short)))
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_runs(command, here, monkeypatch, tmp_path):
    monkeypatch.chdir(here)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.py").write_text(MLFLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    assert run(shlex.split(command)) == 0
    sys.modules.pop("mlflow", None)


def test_the_page_shows_every_point():
    text = " ".join(COMMANDS)
    for shown in (
        *("compare ", "--per-query", "--trec", "--init-from", "--set method=", "train.log_to="),
        *("data.languages=xx,yy", "text.encoder=hf:./albert", "text.encoder=hf:./sentence-model"),
    ):
        assert shown in text


def test_the_table_names_the_files_of_a_run(trained):
    table = PAGE[PAGE.index("## Files of a run") :]
    named = {name.rstrip("/") for row in table.splitlines() if row.startswith("| `")
             for name in re.findall(r"`([^`]+)`", row.split("|")[1])}  # fmt: skip
    there = {path.name for path in trained.iterdir() if not path.name.startswith("ranks")}
    assert there <= named
    assert named - there == {"wandb", "mlflow", "tracking.txt", "state"}
