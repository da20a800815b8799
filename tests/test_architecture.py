"""docs/architecture.md against the import contract, the folders, and the files that it names."""

import ast
import functools
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "cl2cm"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "importlinter"
]["contracts"]
LAYERS = next(contract for contract in CONTRACTS if contract["type"] == "layers")
ROOM = re.compile(r"│ ([a-z_]+)(?:/|\.py)")
FILE = re.compile(r"(?<![\w/.])((?:[\w-]+/)*\w+\.py)\b")
# Texts that name the files of this project as they are today; a log tells of the past.
TEXTS = sorted(
    {*PACKAGE.rglob("*.py"), *(ROOT / "docs").glob("*.md"), *(ROOT / "recipes").glob("*.toml")}
    | {ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "pyproject.toml", ROOT / "Makefile"}
    | set((ROOT / "docs" / "decisions").glob("*.md"))
)
PAST = {"log.md"}
OTHERS = {"app.py", "my_readers.py"}  # files of users or of attackers, in examples


def drawing():
    """Layers of the drawing, each the set of its rooms, from the top."""
    (block,) = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)
    layers = [set()]
    for line in block.splitlines():
        if re.match(r"[^│]*[├┌└]", line):
            layers.append(set())
        layers[-1] |= set(ROOM.findall(line))
    return [layer for layer in layers if layer]


def test_the_drawing_shows_the_layers_of_the_import_contract():
    assert drawing() == [set(layer.split(" | ")) for layer in LAYERS["layers"]]


def test_the_drawing_shows_every_folder_and_module():
    there = {
        path.stem
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert set().union(*drawing()) == there - {"__init__", "__main__"}


def test_the_contract_is_exhaustive_and_no_taller_than_agreed():
    assert LAYERS["exhaustive"] is True
    assert LAYERS["exhaustive_ignores"] == ["__main__"]
    assert len(LAYERS["layers"]) <= 14


def test_rooms_are_few():
    folders = [path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()]
    assert len(folders) <= 15  # fourteen, and export
    assert len({path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}) <= 8


def test_files_are_short_or_say_why_not():
    long = {
        path.relative_to(PACKAGE).as_posix(): ast.get_docstring(ast.parse(text)) or ""
        for path in PACKAGE.rglob("*.py")
        if len((text := path.read_text(encoding="utf-8")).splitlines()) > 300
    }
    assert [name for name, about in long.items() if "lines" not in about] == []


def test_folders_of_tests_are_those_of_the_package():
    tests = ROOT / "tests"
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    assert [folder for folder in folders if not (PACKAGE / folder).is_dir()] == []


def test_no_test_module_is_imported_by_another():
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [alias.name for alias in node.names]
                modules.append(getattr(node, "module", None) or "")
                assert not any(re.match(r"(.*\.)?test_", name) for name in modules), path


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([a-z_]+/[\w/.]*|\w+\.py)`", PAGE))))
def test_paths_that_the_page_names_exist(path):
    assert (PACKAGE / path).exists() or (ROOT / path).exists()


def test_it_is_one_page():
    assert len(PAGE.splitlines()) <= 120


@pytest.mark.parametrize(
    "text", [text for text in TEXTS if text.name not in PAST], ids=lambda p: p.name
)
def test_files_named_in_texts_exist(text):
    """A file is named by the end of its path: ``loop.py`` or ``training/loop.py``."""
    named = set(FILE.findall(text.read_text(encoding="utf-8")))
    assert named - _ends() - OTHERS == set()


@functools.cache
def _ends():
    folders = ("src", "tests", "benchmarks", "docs", "supply_chain")  # not the environment
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    names = [path.relative_to(ROOT).as_posix() for path in paths]
    return {name[at:] for name in names for at in _starts(name)}


def _starts(name):
    return [0, *(match.end() for match in re.finditer("/", name))]
