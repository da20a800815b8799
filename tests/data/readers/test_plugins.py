"""A reader in a package of its own, as docs/extending.md shows it: installed and used."""

import json

import numpy as np
import pytest
from PIL import Image

from cl2cm.cli.app import run
from cl2cm.data.manifest import read_manifest
from cl2cm.data.readers.registry import READERS, dataset_names, prepare_dataset
from cl2cm.errors import ConfigError, DatasetError
from cl2cm.types import Media
from fixtures.plugins import READER, importing, install_reader


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Gives `install_reader` into a folder that this process imports from."""
    with importing(install_reader, tmp_path / "site", monkeypatch) as installer:
        yield installer


@pytest.fixture
def source(tmp_path):
    """Three tables and an image for each of them."""
    folder = tmp_path / "pairs"
    (folder / "images").mkdir(parents=True)
    noise = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        pixels = noise.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{split}.png")
        (folder / f"{split.upper()}.tsv").write_text(f"{split}.png\ta dog\n{split}.png\ta cat\n")
    return folder


def test_the_example_is_short():
    assert len([line for line in READER.splitlines() if line.strip()]) <= 40


def test_it_prepares_from_the_command_line(installed, source, tmp_path, capsys):
    installed()
    assert "pairs" in dataset_names()
    assert run(["prepare", "pairs", str(source), str(tmp_path / "out"), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    examples = list(read_manifest(tmp_path / "out" / "manifest.jsonl"))
    assert made["items"] == len(examples) == 3
    assert examples[0].media == Media((source / "images" / "train.png").resolve(), "image")
    assert examples[0].captions == {"en": ("a dog", "a cat")}


def test_its_errors_name_file_and_line(installed, source, tmp_path):
    installed()
    (source / "VAL.tsv").write_text("val.png a dog\n")
    with pytest.raises(DatasetError, match=r"VAL\.tsv:1: expected FILE<tab>CAPTION"):
        prepare_dataset("pairs", source, tmp_path / "out")
    (source / "TEST.tsv").unlink()
    with pytest.raises(DatasetError, match=r"TEST\.tsv"):
        prepare_dataset("pairs", source, tmp_path / "out")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("1 / 0\n", "ZeroDivisionError"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("", "AttributeError"),
        ("read = 3\n", "found 3, no function of source and options"),
        ("def read(source, options):\n    raise KeyError('a\\nb')\n", "KeyError"),
        ("def read(source):\n    return source\n", "TypeError"),
        ("def read(source, options):\n    return [source]\n", "to return a DataSet"),
    ],
)
def test_a_broken_package_is_one_line_that_names_it(
    installed, source, tmp_path, code, words, capsys
):
    installed(code)
    assert run(["prepare", "pairs", str(source), str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert words in line
    assert "reader 'pairs' of the package my-readers 1.2" in line
    assert not (tmp_path / "out").exists()


def test_a_built_in_name_is_not_shadowed(installed, tmp_path, capfd):
    installed(name="folder")
    assert sorted(dataset_names()) == sorted(READERS)
    with pytest.raises(Exception, match="a table of captions"):
        prepare_dataset("folder", tmp_path, tmp_path / "out")
    assert "the one of the package my-readers 1.2 is not used" in capfd.readouterr().err


def test_of_two_packages_with_one_name_neither_is_used(installed, source, tmp_path):
    installed()
    installed(value="their_readers:read", package="their-readers")
    with pytest.raises(ConfigError, match=r"my-readers 1\.2, their-readers 1\.2; uninstall"):
        prepare_dataset("pairs", source, tmp_path / "out")
