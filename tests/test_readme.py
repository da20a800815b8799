import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer

import cl2cm
from cl2cm.cli.app import app

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
GROUP = typer.main.get_command(app)
DOCS = sorted((README.parent / "docs").glob("*.md"))
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
LINES = [
    line[2:]
    for kind, block in BLOCKS
    if kind == "console"
    for line in block.splitlines()
    if line.startswith("$ cl2cm")
]


def test_opens_with_the_two_commands():
    commands = [line.strip() for line in TEXT.splitlines() if line.startswith("    ")]
    assert commands[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("command", sorted(GROUP.commands))
def test_every_command_is_shown(command):
    assert f"cl2cm {command}" in TEXT


def test_is_short():
    assert len(TEXT.splitlines()) <= 150


def doc_lines():
    for page in DOCS:
        for line in re.findall(r"^\$ (cl2cm .+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            yield line.split("  #")[0]


@pytest.mark.parametrize("line", [*LINES, *doc_lines()])
def test_command_lines_parse(line):
    _, name, *rest = shlex.split(line)
    command = GROUP.commands[name]
    context = command.make_context(name, rest, resilient_parsing=False)
    assert context.params


def test_python_blocks_run_as_they_stand(trained, small, tmp_path, monkeypatch, capsys):
    """With a small run and a small index in the places of those that the demo makes."""
    demo = tmp_path / "cl2cm-demo"
    shutil.copytree(trained, demo / "runs" / "cl2cm")
    shutil.copytree(small.manifest.parent, demo / "data")
    manifest = demo / "data" / "manifest.jsonl"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"xx"', '"de"'))
    monkeypatch.chdir(tmp_path)
    cl2cm.build_index(cl2cm.load("cl2cm-demo/runs/cl2cm"), "cl2cm-demo/data/images", demo / "index")
    blocks = [block for kind, block in BLOCKS if kind == "python"]
    assert blocks
    for block in blocks:
        exec(block, {})
    assert ".png" in capsys.readouterr().out
    assert len(cl2cm.Index.open("my-index")) == 144


def test_files_that_it_links_to_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (README.parent / target).exists(), target
