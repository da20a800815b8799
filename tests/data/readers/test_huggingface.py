"""Readers of one's own data: directories that ``datasets`` has saved."""

import pytest

from cl2cm.data.readers import huggingface_tables
from cl2cm.errors import MissingExtraError
from fixtures.own_data import by_id, cell, fill, picture, read_saved, refused, saved, table, written


@pytest.fixture(scope="module")
def package():
    return pytest.importorskip("datasets")


def test_a_directory_of_datasets(package, tmp_path):
    train = table(
        package,
        image=[cell(picture()), cell(picture("blue", kind="JPEG")), cell(picture()), None],
        caption=[["a dog", "two"], ["a cat"], [" "], ["x"]],
        caption_de=["ein Hund", None, None, None],
        n=[1, 2, 3, 4],
    )
    other = table(package, image=[cell(picture())], text=["nine"], id=[7], n=[1])
    path = saved(package, tmp_path / "d", package.DatasetDict(train=train, validation=other))
    data = read_saved(path, out=tmp_path / "out")
    items = by_id(data)
    assert items["train/0"].captions == {"en": ("a dog", "two"), "de": ("ein Hund",)}
    assert [(name, items[name].split) for name in items] == [
        ("train/0", "train"),
        ("train/1", "train"),
        ("7", "val"),
    ]
    assert items["train/1"].image.suffix == ".jpg"
    assert items["train/1"].image.read_bytes() == picture("blue", kind="JPEG")
    assert "columns that are not read (1): n" in data.notes
    assert any("left out (2): train/2, train/3" in note for note in data.notes)
    assert written(data, tmp_path / "out") == data.examples
    stored = read_saved(path, no_images=True)
    assert by_id(stored)["7"].features == "7"


def test_a_single_table_and_what_does_not_fit(package, tmp_path):
    columns = {
        "image": [cell(picture())] * 2,
        "text": ["x", "y"],
        "split": ["test", "dev"],
        "language": ["de", ""],
    }
    data = read_saved(
        saved(package, tmp_path / "a", table(package, **columns)), out=tmp_path / "out"
    )
    assert [(e.id, e.split, list(e.captions)) for e in data.examples] == [
        ("row/1", "val", ["en"]),
        ("row/0", "test", ["de"]),
    ]
    faults = {
        "id twice": (
            columns | {"id": ["q", "q"], "image": [cell(picture()), cell(picture("blue"))]},
            "row 1",
            "'q' again, as at",
        ),
        "no picture": (columns | {"image": [cell(picture()), cell(b"text")]}, "row 1: image"),
        "no caption": ({"image": [cell(picture())], "label": ["x"]}, "a column caption or text"),
        "numbers": (columns | {"text": [1, 2]}, "row 0: text", "int"),
        "language": (columns | {"language": ["de", "german!"]}, "row 1: text", '"german!"'),
    }
    for name, (wrong, *words) in faults.items():
        path = saved(package, tmp_path / name, table(package, **wrong))
        refused(lambda path=path: read_saved(path, out=tmp_path / "bad" / "out"), *words)
    assert not (tmp_path / "bad").exists()
    path = saved(package, tmp_path / "plain", package.Dataset.from_dict({"text": ["x"]}))
    refused(lambda: read_saved(path), "one column of the type Image")
    refused(lambda: read_saved(tmp_path), "a directory made by save_to_disk")


def test_a_damaged_directory(package, tmp_path):
    columns = {"image": [cell(picture())] * 2, "text": ["x", "y"]}
    path = saved(package, tmp_path / "a", table(package, **columns))
    arrow = next(path.glob("*.arrow"))
    content = arrow.read_bytes()
    arrow.write_bytes(content[: len(content) // 2])
    refused(lambda: read_saved(path, no_images=True), "a damaged one")
    arrow.write_bytes(content)
    (path / "state.json").write_text("{}")
    refused(lambda: read_saved(path, no_images=True), "a damaged one")


def test_the_package_may_be_missing(tmp_path, monkeypatch):
    fill(tmp_path, state__json="{}")

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(huggingface_tables.importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"cl2cm\[datasets\]"):
        read_saved(tmp_path)


def test_equal_images_of_a_split_are_one_item(tmp_path, package):
    image = [cell(picture()), cell(picture("blue")), cell(picture())]
    rows = table(package, image=image, caption=["x", "y", "z"], id=["p", "q", "p"])
    parts = package.DatasetDict(train=rows, test=table(package, image=image[:1], caption=["w"]))
    data = read_saved(saved(package, tmp_path / "d", parts), out=tmp_path / "two")
    assert {e.id: e.captions["en"] for e in data.examples} == {
        "p": ("x", "z"), "q": ("y",), "test/0": ("w",)
    }  # fmt: skip
    assert any(note.startswith("1 rows have the image of an earlier one") for note in data.notes)


def test_numbered_captions_of_a_hugging_face_set(tmp_path, package):
    columns = {f"caption_{n}": [f"text {n}", None if n else "b"] for n in range(5)}
    rows = table(package, image=[cell(picture()), cell(picture("blue"))], **columns)
    data = read_saved(saved(package, tmp_path / "d", rows), out=tmp_path / "out")
    assert by_id(data)["row/0"].captions["en"] == tuple(f"text {n}" for n in range(5))
    assert by_id(data)["row/1"].captions["en"] == ("b",)
