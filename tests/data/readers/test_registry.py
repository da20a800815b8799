"""The registry of readers: ours by name, those of other packages by their entry points."""

import sys
from importlib.metadata import EntryPoint

import pytest

import cl2cm.plugins as registry
from cl2cm.data.manifest import read_manifest
from cl2cm.data.readers.reading import Options
from cl2cm.data.readers.registry import READERS, dataset_names, fetches, prepare_dataset
from cl2cm.errors import ConfigError

READER = """
from pathlib import Path
from cl2cm.data.official_numbers import Protocol
from cl2cm.data.readers.reading import DataSet, Options
from cl2cm.types import Example


def read(source: Path, options: Options) -> DataSet:
    captions = {"en": tuple(Path(source, "words.txt").read_text().split())}
    example = Example("one", "train", features="one", captions=captions)
    return DataSet([example], Protocol("mine", {}, free=True))


number = 3
"""
METADATA = "Metadata-Version: 2.1\nName: their-package\nVersion: 1\n"
POINTS = (
    "[cl2cm.readers]\nmine = their_readers:read\nbroken = their_readers:absent\n"
    "number = their_readers:number\nfolder = their_readers:read\n"
)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Another package, as pip leaves it."""
    info = tmp_path / "site" / "their_package-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text(POINTS)
    (tmp_path / "site" / "their_readers.py").write_text(READER)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield
    sys.modules.pop("their_readers", None)


def test_a_reader_of_another_package(installed, tmp_path):
    (tmp_path / "words.txt").write_text("a dog")
    assert "mine" in dataset_names()
    assert "their_readers" not in sys.modules  # loaded when it is used
    manifest = prepare_dataset("mine", tmp_path, tmp_path / "out")
    assert [example.captions["en"] for example in read_manifest(manifest)] == [("a", "dog")]
    with pytest.raises(ConfigError, match="did you mean 'mine'"):
        prepare_dataset("mime", tmp_path, tmp_path / "out")


@pytest.mark.parametrize("name", ["broken", "number"])
def test_one_that_cannot_be_loaded_is_one_line(installed, name, tmp_path):
    with pytest.raises(
        ConfigError, match=rf"reader '{name}' of the package their-package 1: .*; "
    ) as caught:
        prepare_dataset(name, tmp_path, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_ours_come_first_and_two_of_a_name_are_refused(installed, tmp_path, monkeypatch):
    with pytest.raises(Exception, match="a table of captions"):
        prepare_dataset("folder", tmp_path, tmp_path / "out")
    both = [EntryPoint("two", f"{name}:read", "cl2cm.readers") for name in ("a", "b")]
    monkeypatch.setattr(registry, "entry_points", lambda **_: both)
    with pytest.raises(ConfigError, match=r"one package that has it.*; uninstall the others"):
        prepare_dataset("two", tmp_path, tmp_path / "out")


def test_options_go_where_they_fit(tmp_path):
    with pytest.raises(ConfigError, match=r"columns: .*folder.*found xtd10; remove --columns"):
        prepare_dataset("xtd10", tmp_path, tmp_path, Options(columns={"file": "x"}))
    assert [name for name in READERS if fetches(name)] == ["openmoji"]
