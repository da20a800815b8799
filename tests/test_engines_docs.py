"""docs/engines.md: every language has commands, and every model in them a licence."""

import re
from pathlib import Path

import pytest

from cl2cm.translate.languages import check_direction, stated_direction
from cl2cm.translate.registry import ENGINES

PAGE = (Path(__file__).parents[1] / "docs" / "engines.md").read_text(encoding="utf-8")
LANGUAGES = ("de", "fr", "es", "pt", "zh", "ja", "ar", "cs")
COMMANDS = re.findall(r"^\$ cl2cm translate \S+ --to (\S+) --engine (\S+)", PAGE, re.MULTILINE)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_a_command(language):
    engines = [engine for target, engine in COMMANDS if target == language]
    assert engines
    assert {engine.partition(":")[0] for engine in engines} <= ENGINES.keys()
    assert re.search(rf"\(`{language}`\)", PAGE)  # in the table of the choices


@pytest.mark.parametrize(("target", "engine"), COMMANDS)
def test_the_name_of_a_model_states_its_direction(target, engine):
    stated = stated_direction(engine)
    if stated is not None:
        check_direction(engine, stated, "en", target)


def test_every_model_has_a_licence():
    named = set(re.findall(r"hf download (\S+)", PAGE))
    named |= {engine.removeprefix("hf:") for _, engine in COMMANDS if engine.startswith("hf:")}
    listed = dict(re.findall(r"^\| `(\S+/\S+)` \| (\S+) \|", PAGE, re.MULTILINE))
    assert len(named) >= 8
    assert named <= listed.keys()
    downloaded = set(re.findall(r"--local-dir downloads/(\S+)", PAGE))
    converted = set(re.findall(r"--model downloads/(\S+) --output_dir models/(\S+) ", PAGE))
    assert converted == {(name, name) for name in downloaded}
    used = {engine for _, engine in COMMANDS if engine.startswith("ct2:")} - {
        "ct2:models/m2m100_418M"
    }
    assert used == {f"ct2:models/{name}" for name in downloaded}
