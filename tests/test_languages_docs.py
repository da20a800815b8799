"""Every command of docs/languages.md runs, in the order of the page."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from cl2cm.cli.app import run
from cl2cm.methods.add_language import AddLanguageConfig
from cl2cm.methods.new_language import EPOCHS
from cl2cm.methods.text_side import TextSideConfig
from cl2cm.model.settings import NetworkConfig
from cl2cm.training.loop import train
from fixtures import shelf

PAGE = (Path(__file__).parents[1] / "docs" / "languages.md").read_text("utf-8")
COMMANDS = re.findall(r"^\$ cl2cm (.+)$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def here(small, settings, tmp_path_factory):
    """A working directory with the files that the page names."""
    folder = tmp_path_factory.mktemp("languages")
    shutil.copytree(small.manifest.parent / "images", folder / "images")
    shutil.copy(small.manifest, folder / "manifest.jsonl")
    lines = [json.loads(line) for line in small.manifest.read_text("utf-8").splitlines()]
    no_images = [line | {"image": "none"} for line in lines if line["split"] == "train"]
    (folder / "parallel.jsonl").write_text("\n".join(map(json.dumps, no_images)))
    shelf.write_clip(folder / "models" / "clip")
    shutil.copytree(small.text, folder / "models" / "e5")
    config = settings("translate-train", data={"languages": ["xx"]}, train={"epochs": 1})
    train(config, folder / "runs" / "a")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["index", "runs/a", "images", "index"]) == 0
    return folder


def test_every_command_runs(here, monkeypatch, capsys):
    monkeypatch.chdir(here)
    for command in COMMANDS:
        if command.startswith("add-language"):
            fewer = "--set train.epochs=1 --set text.max_tokens=16"  # as the small encoder has
            command = command.replace("--out", f"{fewer} --out")  # noqa: PLW2901
        assert run(shlex.split(command)) == 0, command
        out = capsys.readouterr().out
        assert not command.startswith("add-language") or out.startswith("SumR on val"), command
    assert "a-yy" in str(json.loads((here / "index" / "index.json").read_text())["run"])


def test_the_page_names_the_defaults():
    assert f"takes {EPOCHS} epochs" in PAGE.replace("\n", " ")
    for name in ("regression", "replay", "relation", "match", "share", "gate"):
        assert f"add_language.{name}" in PAGE
        assert name in AddLanguageConfig.__dataclass_fields__
    assert AddLanguageConfig().share == 0.5
    assert f"`network.adapter_width` ({NetworkConfig().adapter_width})" in PAGE
    for name in ("regression", "relation", "match"):
        assert f"text_side.{name}" in PAGE
        assert name in TextSideConfig.__dataclass_fields__
