"""Readers of one's own data: folders, shards, directories of ``datasets``."""

import gzip
import io
import json
import re
import tarfile
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cl2cm.data.manifest import read_manifest, write_manifest
from cl2cm.data.published import check
from cl2cm.data.readers import (
    folder,
    huggingface,
    huggingface_tables,
    own_data,
    tar_shards,
    webdataset,
)
from cl2cm.data.readers.reading import Options
from cl2cm.errors import DatasetError, MissingExtraError

CSV = "file,caption,language\na.jpg,a dog,\nb.png,a cat,en\na.jpg,ein Hund,de\nsub/c.mp4,a car,\n"


def picture(colour="red", size=(8, 8), kind="PNG"):
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, kind)
    return data.getvalue()


def fill(root, **files):
    """Write files; ``__`` in a name stands for its dots, ``a/b`` is written as it is."""
    for name, content in files.items():
        path = root / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


@pytest.fixture
def pictures(tmp_path):
    files = {"a__jpg": b"1", "b__png": b"2", "sub/c__mp4": b"3", "sub/d__JPG": b"4", "e__doc": b"5"}
    return fill(tmp_path / "own", **files)


def read_folder(source, **options):
    return folder.read(source, Options(**options))


def by_id(data):
    return {example.id: example for example in data.examples}


def refused(read, *words):
    with pytest.raises(DatasetError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message
    assert "fetch the file again" not in message


def written(data, tmp_path):
    write_manifest(tmp_path / "manifest.jsonl", data.examples, source=data.source)
    return list(read_manifest(tmp_path / "manifest.jsonl", source=data.source))


# --- a folder with a table -------------------------------------------------------------------


def test_a_table_of_captions(pictures, tmp_path):
    data = read_folder(fill(pictures, captions__csv=CSV))
    items = by_id(data)
    assert items["a.jpg"].captions == {"en": ("a dog",), "de": ("ein Hund",)}
    assert items["a.jpg"].image == pictures / "a.jpg"
    assert (items["sub/c.mp4"].video, items["sub/c.mp4"].image) == (pictures / "sub/c.mp4", None)
    assert (data.source, data.protocol.free) == ("en", True)
    assert check(data.examples, data.protocol) == []
    assert any("without a caption, left out (1): sub/d.JPG" in note for note in data.notes)
    assert any("3 items of no split" in note for note in data.notes)
    assert written(data, tmp_path) == data.examples


ROWS = [
    {"file": "a.jpg", "caption": ["a dog", "two"], "split": "test", "id": "x", "mood": 1},
    {"file": "b.png", "caption": "eine Katze", "language": "de", "split": None},
]


@pytest.mark.parametrize("kind", ["json", "jsonl", "tsv"])
def test_other_kinds_of_tables(pictures, kind):
    text = {
        "json": json.dumps(ROWS),
        "jsonl": "\n".join(map(json.dumps, ROWS)) + "\n",
        "tsv": "\ufefffile\tcaption\tlanguage\tsplit\tid\tmood\r\na.jpg\ta dog\t\ttest\tx\t1\r\n"
        'b.png\t"eine\tKatze"\tde\t\t\t\r\na.jpg\ttwo\ten\t\tx\t\r\n',
    }[kind]
    items = by_id(data := read_folder(fill(pictures, **{f"words__{kind}": text})))
    assert items["x"].captions == {"en": ("a dog", "two")}
    assert (items["x"].split, items["x"].image.name) == ("test", "a.jpg")
    assert items["b.png"].captions["de"][0].split() == ["eine", "Katze"]
    assert any(note == "columns that are not read (1): mood" for note in data.notes)


def test_the_source_may_be_the_table_and_the_pictures_elsewhere(pictures, tmp_path):
    table = fill(tmp_path / "texts", words__csv=CSV) / "words.csv"
    data = read_folder(table, images=pictures)
    assert by_id(data)["b.png"].image == pictures / "b.png"
    assert by_id(read_folder(table))["b.png"].image == tmp_path / "texts" / "b.png"
    stored = read_folder(table, no_images=True)
    assert by_id(stored)["sub/c.mp4"].features == "sub/c.mp4"


def test_captions_are_in_the_language_that_is_said(pictures):
    data = read_folder(
        fill(pictures, captions__csv="file,caption\na.jpg,un chien\n"), language="fr"
    )
    assert (data.examples[0].captions, data.source) == ({"fr": ("un chien",)}, "fr")
    text = "file,caption,language\na.jpg,hund,de\nb.png,kat,nl\nb.png,Katze,de\n"
    assert read_folder(fill(pictures, captions__csv=text)).source == "de"


def test_what_is_there_twice_is_taken_once_and_said(pictures):
    data = read_folder(fill(pictures, captions__csv=CSV + "a.jpg,a dog,en\n"))
    assert by_id(data)["a.jpg"].captions["en"] == ("a dog",)
    assert "1 captions are there twice for their items and taken once" in data.notes


FAULTS = {
    "no column": ("file,mood\na.jpg,x\n", "captions.csv:1", "captions", "--columns"),
    "blank caption": ("file,caption\na.jpg,x\nb.png, \n", "captions.csv:3", "a caption"),
    "columns": ("file,caption\na.jpg,x,y\n", "captions.csv:2", "2 columns"),
    "NUL": ("file,caption\na.jpg,x\0y\n", "captions.csv:2", "NUL"),
    "a quote that is not closed": (
        'file,caption\na.jpg,"Stop sign\nb.png,go\nb.png,say go"\n',
        "captions.csv:2",
        "runs into line 3",
    ),
    "a column twice": ("file,caption,caption\na.jpg,x,y\n", "captions.csv:1", "caption"),
    "outside": ("file,caption\n../a.jpg,x\n", "captions.csv:2", "--images"),
    "absolute": ("file,caption\n/a.jpg,x\n", "captions.csv:2", "a path in the folder"),
    "no picture": ("file,caption\ne.doc,x\n", "captions.csv:2", "image or video"),
    "language": ("file,caption,language\na.jpg,x,EN\n", "captions.csv:2", "write 'en'"),
    "two splits": ("file,caption,split\na.jpg,x,val\na.jpg,y,test\n", "csv:3", "captions.csv:2"),
    "one id": ("file,caption,id\na.jpg,x,1\nb.png,y,1\n", "csv:3", "captions.csv:2"),
    "split": ("file,caption,split\na.jpg,x,a\x01b\n", "csv:2: split"),
    "latin": (b"file,caption\na.jpg,caf\xe9\n", "captions.csv:2", "UTF-8"),
    "empty": ("", "captions.csv:1"),
    "header alone": ("file,caption\n", "no item at all"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_table_that_does_not_fit(name, pictures):
    content, *words = FAULTS[name]
    fill(pictures, captions__csv=content)

    def whole():
        data = read_folder(pictures)
        check(data.examples, data.protocol)

    refused(whole, *words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"file": "a.jpg"}', ["captions.json", "a list"]),
        ('[{"file": "a.jpg"}]', ["captions.json: [0].caption", "no such key"]),
        ('[{"file": "a.jpg", "caption": []}]', ["[0].caption", "at least one text"]),
        ('[{"file": "a.jpg", "caption": {"en": "x"}}]', ["[0].caption", "an object"]),
        ('[{"file": 3, "caption": "x"}]', ["[0].file", "a number"]),
        ('[{"file": "a.jpg", "caption": "x", "split": 1}]', ["[0].split"]),
        ("[\n{]", ["captions.json:2"]),
    ],
)
def test_json_that_does_not_fit(content, words, pictures):
    refused(lambda: read_folder(fill(pictures, captions__json=content)), *words)


def test_which_table_is_meant(pictures):
    fill(pictures, captions__csv=CSV, other__json="[]", manifest__jsonl="{}")
    assert len(read_folder(pictures).examples) == 3
    (pictures / "captions.csv").rename(pictures / "more.csv")
    refused(lambda: read_folder(pictures), "more.csv, other.json", "call it captions.csv")


# --- texts beside ----------------------------------------------------------------------------


def test_texts_beside_pictures(pictures, tmp_path):
    fill(
        pictures,
        a__txt="\ufeffa dog \r\n\r\na brown dog\r\n",
        **{"a.de.txt": "ein Hund\n", "sub/c.zh-Hans.txt": "车", "README.txt": "hello"},
        **{"b.b.txt": "of nothing", ".hidden.txt": "no"},
    )
    data = read_folder(pictures)
    items = by_id(data)
    assert items["a.jpg"].captions == {"de": ("ein Hund",), "en": ("a dog", "a brown dog")}
    assert items["sub/c.mp4"].captions == {"zh-Hans": ("车",)}
    assert "texts that belong to no image or video (2): README.txt, b.b.txt" in data.notes
    assert any("left out (2): b.png, sub/d.JPG" in note for note in data.notes)
    assert written(data, tmp_path) == data.examples


def test_texts_beside_that_do_not_fit(pictures, tmp_path):
    refused(lambda: read_folder(pictures), "a table of captions", "NAME.txt")
    refused(lambda: read_folder(tmp_path / "none"), "no such folder")
    fill(pictures, a__txt=" \n\n")
    refused(lambda: read_folder(pictures), "a.txt:1", "a blank one of 'a.jpg'")
    fill(pictures, a__txt="x", a__png=b"")
    refused(lambda: read_folder(pictures), "a.txt", "a.jpg and a.png")
    (pictures / "a.png").unlink()
    fill(pictures, a__txt="x\ny\x00\xff".encode("utf-16"))
    refused(lambda: read_folder(pictures), "a.txt:1", "UTF-8")


def test_a_split_by_the_hash_of_an_id():
    splits = [own_data.split_of(f"picture {n}") for n in range(5_000)]
    shares = [splits.count(name) / 5_000 for name in ("train", "val", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    assert own_data.split_of("a.jpg") == own_data.split_of("a.jpg") == "train"


# --- shards ----------------------------------------------------------------------------------


def shard(path, members, kind="w"):
    """A tar of (name, bytes or text)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, kind) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            data = content if isinstance(content, bytes) else content.encode()
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


FIRST = [
    ("./a.png", picture()),
    ("./a.txt", "a dog\ntwo"),
    ("./a.de.txt", "ein Hund"),
    ("./a.cls", "3"),
    ("sub/b.x.JPG", b""),
    ("sub/b.JPG", picture(kind="JPEG")),
    ("sub/b.json", '{"caption": "eine Katze", "language": "de", "split": "valid", "url": 1}'),
    ("c.mp4", b"film"),
    ("c.json", '{"caption": ["a car"]}'),
    ("c.txt", "a car"),
    ("lonely.png", picture()),
]


@pytest.fixture
def shards(tmp_path):
    shard(tmp_path / "shards" / "train-0.tar", FIRST)
    shard(
        tmp_path / "shards" / "z" / "more.tar.gz",
        [("a.png", picture("blue")), ("a.txt", "x")],
        "w:gz",
    )
    return tmp_path / "shards"


def read_shards(source, **options):
    return webdataset.read(source, Options(**options))


def test_shards(shards, tmp_path):
    data = read_shards(shards, out=tmp_path / "out")
    items = by_id(data)
    assert set(items) == {"train-0/a", "train-0/sub/b", "train-0/c", "z/more/a"}
    assert items["train-0/a"].captions == {"en": ("a dog", "two"), "de": ("ein Hund",)}
    assert items["train-0/sub/b"].captions == {"de": ("eine Katze",)}
    splits = [items[name].split for name in ("train-0/a", "train-0/sub/b", "train-0/c")]
    assert splits == ["train", "val", "train"]
    assert items["train-0/a"].image.read_bytes() == picture()
    assert items["train-0/c"].video.read_bytes() == b"film"
    assert items["train-0/sub/b"].image.suffix == ".jpg"
    unpacked = [path for path in (tmp_path / "out" / "pictures").rglob("*") if path.is_file()]
    assert sorted(unpacked) == sorted(item.image or item.video for item in data.examples)
    notes = "; ".join(data.notes)
    for word in (
        "endings (2): .cls, .x.JPG",
        "left out (1): train-0/lonely",
        "1 captions are there",
    ):
        assert word in notes
    assert written(data, tmp_path / "out") == data.examples
    again = read_shards(shards, out=tmp_path / "out")
    assert again == data


def test_one_shard_without_pictures_and_one_into_the_cache(shards, tmp_path, monkeypatch):
    stored = read_shards(shards / "train-0.tar", no_images=True)
    assert by_id(stored)["train-0/a"].features == "train-0/a"
    monkeypatch.setenv("CL2CM_CACHE", str(tmp_path / "cache"))
    read = by_id(read_shards(shards / "train-0.tar"))
    assert read["train-0/a"].image.is_relative_to(tmp_path / "cache")
    assert read["train-0/a"].image.is_file()


def link(kind):
    info = tarfile.TarInfo("a.png")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


BAD_SHARDS = {
    "out of the folder": ([("../a.png", b"x")], "'../a.png'", "leads out"),
    "absolute": ([("/a.png", b"x")], "'/a.png'", "leads out"),
    "two pictures": ([("a.png", b"x"), ("a.jpg", b"x")], "'a.jpg'", "a second one"),
    "latin": ([("a.png", b"x"), ("a.txt", b"\xe9")], "'a.txt'", "UTF-8"),
    "no JSON": ([("a.png", b"x"), ("a.json", "{")], "'a.json'", "JSON"),
    "caption": ([("a.png", b"x"), ("a.json", '{"caption": 3}')], "'a.json': caption", "a number"),
    "control": ([("a\x01.png", b"x"), ("a\x01.txt", "x")], "id"),
}


@pytest.mark.parametrize("name", BAD_SHARDS)
def test_shards_that_do_not_fit(name, tmp_path):
    members, *words = BAD_SHARDS[name]
    path = shard(tmp_path / "s.tar", members)
    refused(lambda: read_shards(path, out=tmp_path / "deep" / "out"), *words)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["s.tar"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_links_and_devices_are_refused(kind, tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar.addfile(link(kind))
    said = "a link" if kind in {tarfile.SYMTYPE, tarfile.LNKTYPE} else "a device"
    refused(lambda: read_shards(tmp_path / "s.tar", out=tmp_path / "out"), "'a.png'", said)


@pytest.mark.parametrize("packed", [False, True])
def test_every_way_of_cutting_a_shard_short_is_seen(packed, tmp_path):
    path = shard(tmp_path / "s.tar", FIRST)
    whole = path.read_bytes()
    end = whole.rstrip(b"\0")
    name = "c.tar.gz" if packed else "c.tar"
    for size in [*range(0, len(end), 512), len(end) + 100]:
        cut = whole[:size]
        fill(tmp_path, **{name: gzip.compress(cut) if packed else cut})
        refused(lambda: read_shards(tmp_path / name, no_images=True), name)
    bad = bytearray(whole)
    bad[5 * 512 + 10] ^= 1  # in a later header
    fill(tmp_path, c__tar=bytes(bad) + b"x")
    refused(lambda: read_shards(tmp_path / "c.tar", no_images=True), "c.tar", "tar")
    data = gzip.compress(whole)
    fill(tmp_path, **{"c.tar.gz": data[: len(data) - 6]})
    refused(lambda: read_shards(tmp_path / "c.tar.gz", no_images=True), "c.tar.gz", "tar")


def test_sizes_have_limits(tmp_path, monkeypatch):
    path = shard(tmp_path / "s.tar", [("a.png", b"x" * 2_000_000), ("a.txt", "x")])
    monkeypatch.setattr(webdataset, "PICTURE_LIMIT", 2**20)
    refused(lambda: read_shards(path, out=tmp_path / "out"), "'a.png'", "at most 1 MB")
    path = shard(tmp_path / "s.tar", [("a.png", b"x"), ("a.txt", "x" * 2_000_000)])
    refused(lambda: read_shards(path, out=tmp_path / "out"), "'a.txt'", "at most 1 MB")
    refused(lambda: read_shards(tmp_path / "none"), "*.tar", "no such folder")
    fill(tmp_path, n__tar=b"no tar at all" * 100)
    refused(lambda: read_shards(tmp_path / "n.tar"), "n.tar", "a damaged one")
    assert [member.name for member in tar_shards.read_members(path)] == ["a.png", "a.txt"]


# --- datasets --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def package():
    return pytest.importorskip("datasets")


def table(package, **columns):
    features = {
        key: package.Image()
        if key == "image"
        else package.Dataset.from_dict({key: column}).features[key]
        for key, column in columns.items()
    }
    return package.Dataset.from_dict(columns, features=package.Features(features))


def saved(package, path, made):
    package.disable_progress_bars()
    made.save_to_disk(str(path))
    return path


def cell(data):
    return {"bytes": data, "path": "x.png"}


def read_saved(source, **options):
    return huggingface.read(source, Options(**options))


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


def test_options_are_values():
    assert replace(Options(), language="de").language == "de"


# --- what the field writes -------------------------------------------------------------------

DIALECTS = {
    "captions.csv": "image,caption\na.jpg,a dog\nb.png,a cat\n",
    "train.csv": "filepath\ttitle\na.jpg\ta dog\nb.png\ta cat\n",
    "metadata.csv": "file_name;text\na.jpg;a dog\nb.png;a cat\n",
    "results.csv": "image_name| comment_number| comment\na.jpg| 0| a dog\nb.png| 0| a cat\n",
    "metadata.jsonl": '{"file_name": "a.jpg", "text": "a dog"}\n'
    '{"file_name": "b.png", "text": "a cat"}\n',
    "captions.txt": "image,caption\na.jpg,a dog\nb.png,a cat\n",
    "five.tsv": "image\tcaption_0\tcaption_1\na.jpg\ta dog\t\nb.png\ta cat\ta cat\n",
}


@pytest.mark.parametrize("name", DIALECTS)
def test_tables_of_the_field(name, pictures):
    items = by_id(read_folder(fill(pictures, **{name: DIALECTS[name]})))
    assert {key: item.captions for key, item in items.items()} == {
        "a.jpg": {"en": ("a dog",)},
        "b.png": {"en": ("a cat",)},
    }


def test_columns_by_an_option(pictures):
    fill(pictures, captions__csv="foto,notiz,mood\na.jpg,ein Hund,1\n")
    refused(lambda: read_folder(pictures), "captions.csv:1", "--columns file=NAME,caption=NAME")
    data = read_folder(pictures, columns={"file": "foto", "caption": "notiz"}, language="de")
    assert by_id(data)["a.jpg"].captions == {"de": ("ein Hund",)}
    fill(pictures, captions__csv="", **{"x.json": '[{"foto": "a.jpg", "notiz": "x"}]'})
    (pictures / "captions.csv").unlink()
    data = read_folder(pictures, columns={"file": "foto", "caption": "notiz"})
    assert by_id(data)["a.jpg"].captions == {"en": ("x",)}


def test_a_caption_over_two_lines_is_one(pictures):
    text = '\ufeff"file","caption"\na.jpg,"a dog on\r\nthe beach"\nb.png,x\n'
    items = by_id(read_folder(fill(pictures, captions__csv=text)))
    assert items["a.jpg"].captions["en"] == ("a dog on the beach",)


def test_absolute_paths_and_paths_of_windows(pictures):
    rows = f"{pictures / 'a.jpg'},x\n{pictures / 'sub' / 'c.mp4'},y\nsub\\d.JPG,z\n"
    data = read_folder(fill(pictures, captions__csv=f"file,caption\n{rows}"))
    assert set(by_id(data)) == {"a.jpg", "sub/c.mp4", "sub/d.JPG"}
    for name in ("/elsewhere/a.jpg", "C:\\photos\\a.jpg", f"{pictures}/../a.jpg"):
        fill(pictures, captions__csv=f"file,caption\n{name},x\n")
        refused(lambda: read_folder(pictures), "captions.csv:2", "--images")


def test_files_that_lie_one_folder_below(pictures):
    data = read_folder(fill(pictures, captions__txt="image,caption\nc.mp4,a car\na.jpg,x\n"))
    assert by_id(data)["sub/c.mp4"].video == pictures / "sub" / "c.mp4"
    assert any("found by their names (1): sub/c.mp4" in note for note in data.notes)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_and_captions_in_either_form(form, pictures):
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    name, written_ = (unicodedata.normalize(f, "Käfer/é.jpg") for f in (form, other))
    caption = unicodedata.normalize(other, "café")
    table_ = f"file,caption\n{written_},{caption}\n{name},caf\u00e9\u200b\n"
    data = read_folder(fill(pictures, captions__csv=table_, **{name: b"x"}))
    assert by_id(data)[name].image == pictures / name
    assert by_id(data)[name].captions == {"en": ("caf\u00e9",)}
    (pictures / "captions.csv").unlink()
    fill(pictures, **{f"{written_.removesuffix('.jpg')}.txt": "beside"})
    assert by_id(read_folder(pictures))[name].captions == {"en": ("beside",)}


def test_all_that_does_not_fit_is_named_and_may_be_left_out(pictures):
    text = "file,caption\na.jpg,a dog\nb.png, \n../x.jpg,x\na.jpg,\u200b\na.jpg,two,three\n"
    fill(pictures, captions__csv=text)
    places = [f"captions.csv:{n}" for n in (3, 4, 5, 6)]
    refused(lambda: read_folder(pictures), *places, "a blank one of 'b.png'", "--allow-partial")
    data = read_folder(pictures, partial=True)
    assert by_id(data)["a.jpg"].captions == {"en": ("a dog",)}
    [note] = [note for note in data.notes if "do not fit, left out (4)" in note]
    assert all(note.count(place) == 1 for place in places)
    assert not any("without a caption" in note and "b.png" in note for note in data.notes)


def test_whole_numbers_are_ids_everywhere(pictures, package, tmp_path):
    fill(pictures, captions__json='[{"file": "a.jpg", "caption": "x", "id": 7}]')
    assert list(by_id(read_folder(pictures))) == ["7"]


MAC = [
    *(("./._a.png", b"\0\5mac"), ("./a.png", picture()), ("./._a.txt", b"\0\5mac")),
    *(("./a.txt", "a dog"), (".DS_Store", b"x"), ("__MACOSX/b.png", b"x")),
]


def test_a_shard_from_a_mac(tmp_path):
    folder_ = shard(tmp_path / "s" / "train.tar", MAC).parent
    (folder_ / "._train.tar").write_bytes(b"mac")
    data = read_shards(folder_, out=tmp_path / "out")
    assert by_id(data)["train/a"].captions == {"en": ("a dog",)}
    assert any(note.startswith("hidden members, left out (4): ._a.png") for note in data.notes)


DOTTED = [
    *(("img.v1.0001.jpg", picture()), ("img.v1.0001.txt", "one")),
    *(("img.v1.0002.jpg", picture("blue")), ("img.v1.0002.de.txt", "zwei")),
    *(("x.jpg", picture("green")), ("x.seg.png", picture()), ("x.json", '{"caption_0": "three"}')),
    *(("y.txt", "late"), ("z.jpg", picture("black")), ("y.jpg", picture("white"))),
]


def test_keys_with_dots_and_members_apart(tmp_path):
    data = read_shards(shard(tmp_path / "s.tar", DOTTED), out=tmp_path / "out")
    assert {name: item.captions for name, item in by_id(data).items()} == {
        "s/img.v1.0001": {"en": ("one",)},
        "s/img.v1.0002": {"de": ("zwei",)},
        "s/x": {"en": ("three",)},
        "s/y": {"en": ("late",)},
    }
    notes = "; ".join(data.notes)
    assert "by their endings (1): .seg.png" in notes
    assert "left out (1): s/z" in notes
    assert len([p for p in (tmp_path / "out").rglob("*") if p.is_file()]) == 4


def test_the_reason_where_nothing_is_left(tmp_path):
    path = shard(tmp_path / "s.tar", [("a.png", picture()), ("b.txt", "x")])
    data = read_shards(path, no_images=True)
    with pytest.raises(DatasetError, match=r"no item at all: samples without.*s/a, s/b") as caught:
        check(data.examples, data.protocol, notes=data.notes)
    assert "published" not in str(caught.value)


def test_equal_images_of_a_split_are_one_item(tmp_path, package):
    members = [(f"{n}.{kind}", content) for n in range(3)
               for kind, content in (("png", picture()), ("txt", f"caption {n}"))]  # fmt: skip
    data = read_shards(shard(tmp_path / "train.tar", members), out=tmp_path / "one")
    assert by_id(data)["train/0"].captions["en"] == ("caption 0", "caption 1", "caption 2")
    assert any(note.startswith("2 samples have the image of an earlier one") for note in data.notes)
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


CAPTIONS = st.sampled_from(["a dog", "ein Hund", " ", "\u200b", "cafe\u0301", "caf\u00e9", "x\0y"])
NAMED = st.sampled_from(["a.jpg", "b.png", "sub/c.mp4", "../x.jpg", "e.doc", ""])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(st.tuples(NAMED, CAPTIONS, st.sampled_from(["", "de", "german!"])), min_size=1)
)
def test_every_dropped_row_is_named_once(pictures, rows):
    lines = [json.dumps({"file": f, "caption": c, "language": code}) for f, c, code in rows]
    fill(pictures, captions__jsonl="\n".join(lines) + "\n")
    data = read_folder(pictures, partial=True)
    kept = {(e.id, code, text) for e in data.examples for code, texts in e.captions.items()
            for text in texts}  # fmt: skip
    said = "; ".join(data.notes)
    for number, (name, caption, code) in enumerate(rows, start=1):
        fits = (name, code or "en", own_data.one_line(caption)) in kept
        assert len(re.findall(rf"captions\.jsonl:{number}\b", said)) == (not fits)
    described = {name for name, *_ in rows}
    for name in ("a.jpg", "b.png", "sub/c.mp4"):
        listed = any("without a caption" in note and name in note for note in data.notes)
        assert listed == (name not in described)
