import re
import shlex
from pathlib import Path

import pytest
import typer

from cl2cm.cli.app import app
from fixtures import world

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
GROUP = typer.main.get_command(app)
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


@pytest.mark.parametrize("line", LINES)
def test_command_lines_parse(line):
    _, name, *rest = shlex.split(line)
    command = GROUP.commands[name]
    context = command.make_context(name, rest, resilient_parsing=False)
    assert context.params


def test_python_blocks_run(trained, tmp_path):
    blocks = [block for kind, block in BLOCKS if kind == "python"]
    assert blocks
    (tmp_path / "pictures").mkdir()
    for colour in ("red", "blue"):
        world.draw(colour, "circle", 0).save(tmp_path / "pictures" / f"{colour}.png")
    for block in blocks:
        names = {"run": trained, "folder": tmp_path / "pictures"}
        exec(block, names)
        assert len(names["hits"]) == 2


def test_files_that_it_links_to_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (README.parent / target).exists(), target
