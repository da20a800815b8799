"""Readers of one's own data: shards of WebDataset."""

import gzip
import tarfile

import pytest

from cl2cm.data.official_numbers import check
from cl2cm.data.readers import tar_shards, webdataset
from cl2cm.errors import DatasetError
from fixtures.own_data import by_id, fill, picture, read_shards, refused, shard, written

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


def test_equal_images_of_a_shard_are_one_item(tmp_path):
    members = [(f"{n}.{kind}", content) for n in range(3)
               for kind, content in (("png", picture()), ("txt", f"caption {n}"))]  # fmt: skip
    data = read_shards(shard(tmp_path / "train.tar", members), out=tmp_path / "one")
    assert by_id(data)["train/0"].captions["en"] == ("caption 0", "caption 1", "caption 2")
    assert any(note.startswith("2 samples have the image of an earlier one") for note in data.notes)
