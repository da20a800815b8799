"""Every command's help has examples that parse, and nothing in a help text is cut off."""

import shlex

import pytest
import typer

from cl2cm.cli.app import app, run
from cl2cm.cli.examples import EXAMPLES

GROUP = typer.main.get_command(app)
COMMANDS = sorted(GROUP.commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_examples_that_parse(command, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run([command, "--help"]) == 0
    shown = capfd.readouterr().out
    end = shown[shown.index("Examples:") :].splitlines()[1:]
    lines = [line.strip().removeprefix("$ ") for line in end]
    assert lines == list(EXAMPLES[command])  # one line each: not wrapped, not cut
    for line in lines:
        _, name, *rest = shlex.split(line)
        assert name == command
        assert GROUP.commands[name].make_context(name, rest, resilient_parsing=False).params


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns_and_nothing_is_cut_off(command, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run([command, "--help"] if command else ["--help"]) == 0
    shown = capfd.readouterr().out
    assert max(len(line) for line in shown.splitlines()) <= 80
    cut = [line for line in shown.splitlines() if line.endswith("...") and "]..." not in line]
    cut = [line for line in cut if not line.startswith("Usage: ")]  # RUN...: one or more
    assert cut == []


def test_examples_belong_to_commands():
    assert sorted(EXAMPLES) == COMMANDS
