"""An engine in a package of its own, as docs/extending.md shows it: installed and used."""

import json
import sys

import pytest

from cl2cm.cli.app import run
from cl2cm.data.manifest import read_manifest
from cl2cm.errors import CL2CMError, ConfigError, LanguageError
from cl2cm.translate import ENGINES, open_translator
from fixtures.plugins import ENGINE, importing, install_engine


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Gives `install_engine` into a folder that this process imports from."""
    with importing(install_engine, tmp_path / "site", monkeypatch) as installer:
        yield installer


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "tables.json"
    path.write_text(json.dumps({"en-de": {"a": "ein", "dog": "Hund"}}))
    return path


def test_the_example_is_short():
    assert len([line for line in ENGINE.splitlines() if line.strip()]) <= 40


def test_it_translates_from_the_command_line(installed, table, tmp_path, capsys):
    installed()
    manifest, out = tmp_path / "m.jsonl", tmp_path / "out.jsonl"
    manifest.write_text(
        '{"id": "1", "split": "test", "features": "1", "captions": {"en": ["a dog"]}}\n'
    )
    line = [
        "translate",
        str(manifest),
        "--to",
        "de",
        "--engine",
        f"words:{table}",
        "--out",
        str(out),
    ]
    assert run([*line, "--cache", str(tmp_path / "cache.sqlite"), "--json"]) == 0
    capsys.readouterr()
    [example] = read_manifest(out)
    assert example.translations == {"de": {"words": ("ein Hund",)}}


def test_a_direction_that_it_does_not_have(installed, table):
    installed()
    with pytest.raises(LanguageError, match="the direction en-fr"):
        open_translator(f"words:{table}", "en", "fr")


def test_nothing_is_imported_before_it_is_asked_for(installed):
    installed("raise RuntimeError('imported')\n")
    with pytest.raises(
        ConfigError, match=r"file:TABLE\.tsv, words, found 'word'; did you mean 'words'"
    ):
        open_translator("word:x", "en", "de")
    assert "my_engines" not in sys.modules


GOOD = """
class Engine:
    name, version, licence, source, target, batch, own_threads = "w", "1", "x", "en", "de", 2, True
    def translate(self, texts):
        return ["x" for _ in texts]
def open_translator(argument, source, target):
    return Engine()
"""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("1 / 0\n", "ZeroDivisionError"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("", "AttributeError"),
        ("open_translator = 3\n", "found 3, no function of argument, source and target"),
        (
            "def open_translator(argument, source, target):\n    raise KeyError('a\\nb')\n",
            "KeyError",
        ),
        ("def open_translator(argument):\n    return None\n", "TypeError"),
        ("def open_translator(argument, source, target):\n    return None\n", "the name None"),
        (GOOD.replace('"1"', "1"), "the version 1, not a text"),
        (GOOD.replace('"de"', '"fr"'), r"the direction \('en', 'fr'\)"),
        (GOOD.replace("2, True", "0, True"), "the batch 0, not a number above 0"),
        (GOOD.replace("2, True", "2, None"), "own_threads"),
        (GOOD.replace("def translate", "def other"), "no method translate"),
        (GOOD.replace('["x" for _ in texts]', "[1, 2]"), r"2 results, such as \[1\]"),
        (GOOD.replace('["x" for _ in texts]', "1 / 0"), "ZeroDivisionError"),
        (GOOD.replace('["x" for _ in texts]', '"xx"'), "expected 3 translations, found 2 results"),
    ],
    ids=range(15),
)
def test_a_broken_package_is_one_line_that_names_it(installed, code, words):
    installed(code)
    with pytest.raises(ConfigError, match=words) as caught:
        open_translator("words:x", "en", "de").translate(["one", "two", "three"])
    assert "translation engine 'words' of the package my-engines 1.2" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_built_in_name_is_not_shadowed(installed, tmp_path, capfd):
    installed(GOOD, name="file")
    assert "file" in ENGINES
    with pytest.raises(CL2CMError, match=r"nowhere\.tsv"):
        open_translator(f"file:{tmp_path}/nowhere.tsv", "en", "de")
    assert "the one of the package my-engines 1.2 is not used" in capfd.readouterr().err


def test_of_two_packages_with_one_name_neither_is_used(installed):
    installed()
    installed(value="their_engines:open_translator", package="their-engines")
    with pytest.raises(ConfigError, match=r"my-engines 1\.2, their-engines 1\.2; uninstall"):
        open_translator("words:x", "en", "de")
