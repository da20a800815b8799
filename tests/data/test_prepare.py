"""`prepare`: what is held to the protocol, what is refused, what is left in the folder."""

import json

import pytest

from cl2cm import plugins
from cl2cm.data import prepare as module
from cl2cm.data.manifest import read_manifest
from cl2cm.data.official_numbers import Protocol, Split, check, id_checksum
from cl2cm.data.readers.reading import DataSet, Options
from cl2cm.data.readers.registry import READERS, dataset_names, prepare_dataset
from cl2cm.errors import CL2CMError, ConfigError, DatasetError, MediaError
from cl2cm.types import Example
from fixtures.world import draw

IDS = ("a", "b", "c")
TASKED = [name for name, reader in READERS.items() if reader.tasks]
NEED_FILES = [name for name, reader in READERS.items() if not reader.fetches]


def examples(source, ids=IDS, media=True):
    return [
        Example(
            id=name,
            split="train" if name != "c" else "test",
            image=source / f"{name}.png" if media else None,
            features=None if media else name,
            captions={"en": (f"a picture of {name}", "one")},
        )
        for name in ids
    ]


PROTOCOL = Protocol(
    "three",
    {
        "train": Split(2, {"en": 4}, checksum=id_checksum("ab")),
        "test": Split(1, {"en": 2}),
    },
    source="nowhere",
)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for seed, (name, colour) in enumerate(zip(IDS, ("red", "green", "blue"), strict=True)):
        shape = ("circle", "square", "cross")[seed]
        draw(colour, shape, seed).resize((64, 64)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def reader(monkeypatch, source):
    """A data set of three pictures under the name of one of ours."""
    state = {"ids": IDS, "protocol": PROTOCOL}

    def read(folder, options):
        made = examples(folder, state["ids"], media=not options.no_images)
        return DataSet(made, state["protocol"], notes=("a note",))

    monkeypatch.setattr(plugins, "import_module", lambda _: type("m", (), {"read": read}))
    return state


def prepare(source, out, options=None, **settings):
    return prepare_dataset("xtd10", source, out, options, **settings)


def test_a_manifest_and_a_record(reader, source, tmp_path, capsys):
    manifest = prepare(source, tmp_path / "out")
    read = list(read_manifest(manifest))
    assert [example.id for example in read] == list(IDS)
    assert read[0].image == source / "a.png"
    record = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert record["dataset"] == "xtd10"
    assert record["counts"]["splits"]["train"] == {
        "items": 2, "captions": {"en": 4}, "translations": {}
    }  # fmt: skip
    assert record["notes"] == ["a note"]
    assert record["differs"] == []
    assert record["leaks"] == []
    assert "xtd10: a note" in capsys.readouterr().err


def test_again_gives_the_same_bytes_without_looking_at_pictures_again(
    reader, source, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    prepare(source, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "translated.jsonl").write_text("mine")
    monkeypatch.setattr(module, "find_leaks", None)
    prepare(source, out)
    assert (out / "translated.jsonl").read_text() == "mine"
    assert before == {path.name: path.read_bytes() for path in out.iterdir() if path.name in before}


def test_other_numbers_are_refused_and_nothing_is_written(reader, source, tmp_path):
    reader["ids"] = ("a", "c")
    with pytest.raises(DatasetError, match=r"train: 2 items, found 1; .*--allow-partial"):
        prepare(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    prepare(source, tmp_path / "out", allow_partial=True)
    record = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert record["differs"] == ["train: 2 items, found 1", "train: 4 captions in en, found 2"]


def test_missing_pictures(reader, source, tmp_path):
    (source / "b.png").unlink()
    with pytest.raises(MediaError, match=r"3 images or videos, found no .*b\.png; name.*--images"):
        prepare(source, tmp_path / "out")
    manifest = prepare(source, tmp_path / "out", allow_partial=True)
    assert [example.id for example in read_manifest(manifest)] == ["a", "c"]
    for name in ("a", "c"):
        (source / f"{name}.png").unlink()
    with pytest.raises(MediaError, match=r"--no-images$"):
        prepare(source, tmp_path / "out", allow_partial=True)
    manifest = prepare(source, tmp_path / "out", Options(no_images=True))
    assert [example.features for example in read_manifest(manifest)] == list(IDS)


def test_a_leak_is_said_of_official_data_and_refused_in_ones_own(reader, source, tmp_path, capsys):
    (source / "c.png").write_bytes((source / "a.png").read_bytes())
    prepare(source, tmp_path / "out")
    assert "leak: " in capsys.readouterr().err
    assert len(json.loads((tmp_path / "out" / "prepared.json").read_text())["leaks"]) == 1
    prepare(source, tmp_path / "none", leak_check=False)
    assert json.loads((tmp_path / "none" / "prepared.json").read_text())["leaks"] is None
    reader["protocol"] = Protocol("folder", {}, free=True)
    with pytest.raises(DatasetError, match="no image in two splits"):
        prepare(source, tmp_path / "own")
    prepare(source, tmp_path / "own", allow_leaks=True)


def test_a_folder_of_something_else_is_left_alone(reader, source, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.jsonl").write_text("mine")
    with pytest.raises(ConfigError, match="something else"):
        prepare(source, out)
    assert (out / "manifest.jsonl").read_text() == "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="found a file"):
        prepare(source, tmp_path / "file")
    prepare(source, tmp_path / "good")
    with pytest.raises(ConfigError, match="the data set xtd10"):
        prepare_dataset("stair", source, tmp_path / "good")


def test_a_data_set_has_to_be_named_and_to_be_there(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'multi30k'"):
        prepare_dataset("multi30", tmp_path, tmp_path / "out")
    with pytest.raises(ConfigError, match="fetch them from their publisher"):
        prepare_dataset("multi30k", None, tmp_path / "out")


@pytest.mark.parametrize("name", NEED_FILES)
def test_every_reader_refuses_a_folder_that_has_nothing(name, tmp_path):
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(CL2CMError) as caught:
            options = Options(task=1 if name in TASKED else None)
            prepare_dataset(name, source, tmp_path / "out", options)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


def test_the_checksum_of_other_ids(source):
    others = examples(source, ("a", "x", "c"))
    with pytest.raises(DatasetError, match="published ids"):
        check(others, PROTOCOL)
    with pytest.raises(DatasetError, match="no item at all"):
        check([], PROTOCOL, allow_partial=True)
    assert set(READERS) <= set(dataset_names())


@pytest.mark.parametrize("name", ["xtd10", "openmoji"])
def test_a_task_is_refused_where_there_is_none(name, tmp_path):
    with pytest.raises(ConfigError, match="remove --task"):
        prepare_dataset(name, tmp_path, tmp_path / "out", Options(task=2))


@pytest.mark.parametrize("name", TASKED)
def test_a_task_that_there_is_not(name, tmp_path):
    with pytest.raises(ConfigError, match=r"1 \(.*\) or 2 \(.*\), found 3; choose with --task"):
        prepare_dataset(name, tmp_path, tmp_path / "out", Options(task=3))
