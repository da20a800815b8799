"""Readers of data sets on pictures of COCO, on small files in their publishers' formats."""

import contextlib
import json
import os
import shutil
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cl2cm.data.manifest import read_manifest, write_manifest
from cl2cm.data.official_numbers import check, differences
from cl2cm.data.readers.coco import overlap_note
from cl2cm.data.readers.crossmodal3600 import CAPTIONS
from cl2cm.data.readers.karpathy import KarpathyItem, read_karpathy
from cl2cm.data.readers.mscoco import folds
from cl2cm.data.readers.reading import Options
from cl2cm.data.readers.wording import wording_checksum, wording_notes
from cl2cm.errors import CL2CMError, ConfigError, DatasetError
from cl2cm.types import Example
from fixtures.coco import (
    SPLITS,
    TRAIN,
    VAL,
    coco_cn,
    coco_cn_ext,
    crossmodal3600,
    karpathy,
    stair,
    write,
    write_json,
    xflickrco,
    xtd10,
)

STORED = Options(no_images=True)
READERS = ["mscoco", "stair", "coco_cn", "coco_cn_ext", "xtd10", "xflickrco", "crossmodal3600"]


def read(name, source, options=STORED):
    return import_module(f"cl2cm.data.readers.{name}").read(source, options)


@pytest.fixture
def sources(tmp_path):
    made = {
        "mscoco": karpathy,
        "stair": stair,
        "coco_cn": coco_cn,
        "coco_cn_ext": coco_cn_ext,
        "xtd10": xtd10,
        "xflickrco": xflickrco,
        "crossmodal3600": crossmodal3600,
    }
    for name, make in made.items():
        make(tmp_path / name)
    return tmp_path


# --- what every reader promises --------------------------------------------------------------


@pytest.mark.parametrize("name", READERS)
def test_what_is_read_can_be_written_and_read_again(sources, name):
    data = read(name, sources / name)
    assert data.examples
    assert all(item.features == item.id and item.image is None for item in data.examples)
    path = sources / "manifest.jsonl"
    write_manifest(path, data.examples, source=data.source)
    assert list(read_manifest(path, source=data.source)) == data.examples
    assert all(data.source in item.captions for item in data.examples)


@pytest.mark.parametrize("name", READERS)
def test_a_part_of_a_data_set_is_refused_with_numbers(sources, name):
    data = read(name, sources / name)
    assert data.protocol.name == name.replace("_", "-").replace("modal3", "modal-3")
    with pytest.raises(DatasetError, match=r"items, found \d"):
        check(data.examples, data.protocol)
    assert check(data.examples, data.protocol, allow_partial=True)


@pytest.mark.parametrize("name", READERS)
def test_a_missing_folder_and_missing_files_are_named(tmp_path, name):
    for folder, found in ((tmp_path / "absent", "no such folder"), (tmp_path, "no such file")):
        with pytest.raises(DatasetError, match=f"{folder}: expected .*, found {found}"):
            read(name, folder)


@pytest.mark.parametrize("name", READERS)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_damage_ends_in_a_traceback(sources, name, data):
    folder = sources / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sources / name, folder)
    path = data.draw(st.sampled_from(sorted(p for p in folder.rglob("*") if p.is_file())))
    content = path.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 40)))
    bad = st.sampled_from([b"\xff", b"\n", b"\\ud800", b'"', b"[]", b"1e999", b"-1", b"{", b"\0"])
    new = data.draw(st.binary(max_size=4) | bad | st.just(b"[" * 100_000))
    path.write_bytes(content[:start] + new + content[end:])
    with contextlib.suppress(CL2CMError):
        found = read(name, folder)
        differences(found.examples, found.protocol)
        write_manifest(sources / "out.jsonl", found.examples, source=found.source)


# --- the Karpathy split ----------------------------------------------------------------------


def test_karpathy_items(tmp_path):
    items = list(read_karpathy(karpathy(tmp_path), "coco"))
    first = (f"caption 0 of {TRAIN[0]}", f"caption 1 of {TRAIN[0]}")
    assert items[0] == KarpathyItem(TRAIN[0], f"{TRAIN[0]}.jpg", "train2014", "train", first)
    assert [item.split for item in items] == ["train", "train", "train", "val", "test"]


def test_karpathy_of_flickr_has_no_folder(tmp_path):
    image = {"filename": "1.jpg", "split": "val", "sentences": [{"raw": "a dog"}]}
    path = write_json(tmp_path / "d.json", {"images": [image], "dataset": "flickr30k"})
    assert list(read_karpathy(path, "flickr30k")) == [
        KarpathyItem("1", "1.jpg", "", "val", ("a dog",))
    ]
    with pytest.raises(DatasetError, match=r"d.json: dataset: expected 'coco', found 'flickr30k'"):
        list(read_karpathy(path, "coco"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sentences": []}, r"images\[1\].sentences: expected at least one sentence, found none"),
        ({"sentences": "a"}, r"images\[1\].sentences: expected a list, found a text"),
        ({"sentences": [{"raw": " "}]}, r"images\[1\].sentences\[0\].raw: .* found a blank one"),
        ({"sentences": [{"raw": "\ud800"}]}, r"\.raw: expected whole characters"),
        ({"split": "dev"}, r"images\[1\].split: expected one of train, restval, val, test"),
        ({"filename": "../a.jpg"}, r"images\[1\].filename: expected a plain name"),
        (
            {"filename": f"{TRAIN[0]}.jpg"},
            r"images\[1\].filename: .* the image of images\[0\] again",
        ),
        ({"filename": None}, r"images\[1\].filename: expected a text, found null"),
    ],
)
def test_karpathy_says_where_it_is_wrong(tmp_path, change, said):
    path = karpathy(tmp_path)
    value = json.loads(path.read_text())
    value["images"][1].update(change)
    path.write_text(json.dumps(value))
    with pytest.raises(DatasetError, match=said):
        list(read_karpathy(path, "coco"))


def test_json_that_is_none_is_told_by_its_line(tmp_path):
    path = write(tmp_path / "d.json", "{", '"images": [}')
    with pytest.raises(DatasetError, match=r"d.json:2: expected JSON"):
        list(read_karpathy(path, "coco"))
    write(path, '{"images": [], "images": []}')
    with pytest.raises(DatasetError, match="the key 'images' twice"):
        list(read_karpathy(path, "coco"))


# --- one by one ------------------------------------------------------------------------------


def test_mscoco_is_in_order_of_splits_and_finds_its_pictures(tmp_path):
    karpathy(tmp_path, dict(reversed(SPLITS.items())))
    (tmp_path / "images" / "val2014").mkdir(parents=True)
    data = read("mscoco", tmp_path, Options())
    assert [item.id for item in data.examples] == [VAL[0], *TRAIN[::-1], VAL[1], VAL[2]]
    assert data.examples[0].image == tmp_path / "images" / "val2014" / f"{VAL[0]}.jpg"
    assert data.examples[1].image == tmp_path / "images" / f"{TRAIN[1]}.jpg"
    elsewhere = read("mscoco", tmp_path, Options(images=tmp_path / "val2014"))
    assert elsewhere.examples[0].image == tmp_path / "val2014" / f"{VAL[0]}.jpg"


def test_mscoco_folds_are_thousands_of_test_in_order():
    items = [Example(str(number), "test") for number in range(5_000)]
    made = folds([Example("t", "train"), *items])
    assert [len(fold) for fold in made] == [1_000] * 5
    assert [fold[0].id for fold in made] == ["0", "1000", "2000", "3000", "4000"]


def test_published_captions_add_up():
    mscoco = import_module("cl2cm.data.readers.mscoco").PROTOCOL.splits
    assert sum(split.captions["en"] for split in mscoco.values()) == 616_767
    assert sum(split.items for split in mscoco.values()) == 123_287
    assert sum(import_module("cl2cm.data.readers.coco_cn").CHINESE.values()) == 22_218
    assert (len(CAPTIONS), sum(CAPTIONS.values())) == (36, 261_375)


def test_stair_without_and_with_the_karpathy_split(sources):
    plain = read("stair", sources / "stair")
    assert [item.split for item in plain.examples] == ["train"] * 2 + ["val"] * 3
    assert plain.source == "ja"
    assert "dataset_coco.json" in plain.notes[0]
    karpathy(sources / "stair")
    both = read("stair", sources / "stair")
    assert [item.split for item in both.examples] == ["train", "train", "train", "val", "test"]
    assert (both.source, both.notes) == ("en", ())
    assert both.examples[-1].captions["ja"] == ("写真0", "写真1")


def test_stair_refuses_an_annotation_twice_and_a_picture_unknown(sources):
    folder = sources / "stair"
    path = folder / "stair_captions_v1.2_val.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    value["annotations"].append(value["annotations"][0])
    write_json(path, value)
    with pytest.raises(DatasetError, match=r"annotations\[6\].id: .* annotations\[0\] again"):
        read("stair", folder)
    value["annotations"][-1] = {"id": 1, "image_id": 5, "caption": "a"}
    write_json(path, value)
    karpathy(folder)
    with pytest.raises(
        DatasetError, match=r"annotations\[6\].image_id: .* found COCO_val2014_000000000005"
    ):
        read("stair", folder)


def test_coco_cn_tasks_never_mix(sources):
    one = read("coco_cn", sources / "coco_cn")
    assert [item.split for item in one.examples] == ["train", "train", "val", "val", "test"]
    assert one.examples[-1].captions == {"zh": ("第0句", "第1句")}  # by their numbers
    two = read("coco_cn", sources / "coco_cn", Options(task=2, no_images=True))
    assert [item.id for item in two.examples] == VAL[2:]
    assert two.examples[0].captions == {"zh": tuple(f"译{i}" for i in range(5))}
    with pytest.raises(ConfigError, match="task"):
        read("coco_cn", sources / "coco_cn", Options(task=3))


def test_coco_cn_has_english_where_the_karpathy_split_is(sources):
    karpathy(sources / "coco_cn")
    data = read("coco_cn", sources / "coco_cn")
    assert data.source == "en"
    assert list(data.examples[0].captions) == ["en", "zh"]
    assert data.protocol.splits["train"].captions == {"zh": 20_065, "en": 4}
    assert data.notes == (
        "outside of train: of its 3 pictures, dataset_coco.json has 1 in train, 1 in val, 1 in "
        "test: who trained on mscoco has seen those in train",
        "dataset_coco.json has 5 pictures and 10 captions, not the published 123,287 and 616,767: "
        "English captions may be missing",
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{TRAIN[0]}#0", "expected ID#NUMBER<tab>TEXT"),
        (f"{TRAIN[0]}#0\t\u3000", "expected ID#NUMBER<tab>TEXT"),
        ("", "found an empty line"),
        (f"{TRAIN[0]}#0\t猫", f"found {TRAIN[0]}#0 again"),
        ("COCO_train2014_000000000001#0\t猫", "expected an image of the split lists"),
    ],
)
def test_coco_cn_names_a_bad_caption_by_its_line(sources, line, said):
    path = sources / "coco_cn" / "imageid.human-written-caption.txt"
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=rf"caption.txt:11: .*{said}"):
        read("coco_cn", sources / "coco_cn")


def test_coco_cn_refuses_a_picture_in_two_splits(sources):
    write(sources / "coco_cn" / "coco-cn_val.txt", VAL[0], TRAIN[0])
    with pytest.raises(DatasetError, match=rf"coco-cn_val.txt:2: .*{TRAIN[0]} again"):
        read("coco_cn", sources / "coco_cn")


def test_coco_cn_ext_goes_into_the_split_asked_for(sources):
    data = read("coco_cn_ext", sources / "coco_cn_ext", Options(split="more", no_images=True))
    assert [(item.id, item.split) for item in data.examples] == [
        (TRAIN[0], "more"),
        (VAL[0], "more"),
    ]
    assert data.examples[0].captions == {"zh": ("一只猫", "猫")}
    assert list(data.protocol.splits) == ["more"]


def test_xtd10_reports_what_is_trained_on_elsewhere(sources):
    data = read("xtd10", sources / "xtd10")
    assert list(data.examples[0].captions) == ["en", "de", "es", "ja", "zh"]
    assert data.examples[2].captions["ja"] == (f"jp {VAL[0]}",)
    assert data.notes[0].startswith("of its 3 pictures, 2 are in COCO train2014")
    karpathy(sources / "xtd10")
    data = read("xtd10", sources / "xtd10")
    assert data.notes[0].startswith("of its 3 pictures, dataset_coco.json has 3 in train, 0 in val")


def test_overlap_is_silent_where_nothing_is_known_to_be_trained_on():
    assert overlap_note(VAL, {}) == ()
    assert overlap_note(["36979"], {"x": KarpathyItem("x", "x.jpg", "", "train", ("a",))}) == ()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["a", "b"], rf"jp.txt:3: expected a caption of {VAL[0]}, found the end of the file"),
        (["a", "b", "c", "d"], r"jp.txt:4: expected the end of the file, found more lines"),
        (["a", " ", "c"], rf"jp.txt:2: expected a caption of {TRAIN[1]}, found an empty line"),
    ],
)
def test_xtd10_refuses_captions_out_of_step(sources, lines, said):
    write(sources / "xtd10" / "STAIR" / "test_1kcaptions_jp.txt", *lines)
    with pytest.raises(DatasetError, match=said):
        read("xtd10", sources / "xtd10")


def test_xflickrco_tells_its_halves_by_their_ids(sources):
    data = read("xflickrco", sources / "xflickrco", Options(images=sources))
    assert [item.id for item in data.examples] == ["36979", *VAL]
    assert data.protocol.splits["test"].items == 2_000
    (sources / "flickr30k-images").mkdir()
    data = read("xflickrco", sources / "xflickrco", Options(images=sources))
    assert data.examples[0].image == sources / "flickr30k-images" / "36979.jpg"
    xflickrco(sources / "xflickrco", flickr=())
    data = read("xflickrco", sources / "xflickrco")
    assert data.protocol.splits["test"].items == 1_000
    assert data.notes[0].startswith("the COCO half")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sentences": [""]}, r"test.jsonl:2: sentences\[0\]: expected a text, found a blank one"),
        ({"id": 43}, r"test.jsonl:2: img_path: expected COCO_val2014_000000000043.jpg"),
        ({"id": "a"}, r"test.jsonl:2: id: expected a number of Flickr30k"),
        ({"id": True}, r"test.jsonl:2: id: expected a whole number, found a truth value"),
        ({"id": 73, "img_path": f"{VAL[1]}.jpg"}, r"test.jsonl:3: id: .*test.jsonl:2 again"),
    ],
)
def test_xflickrco_names_a_bad_line(sources, change, said):
    path = sources / "xflickrco" / "de" / "test.jsonl"
    lines = path.read_text().splitlines()
    lines[1] = json.dumps({**json.loads(lines[1]), **change})
    write(path, *lines)
    with pytest.raises(DatasetError, match=said):
        read("xflickrco", sources / "xflickrco")


def test_xflickrco_knows_the_line_that_was_published_without_a_caption(sources):
    for code in ("de", "es"):
        line = {"sentences": [""], "id": 122239, "img_path": "COCO_val2014_000000122239.jpg"}
        path = sources / "xflickrco" / code / "test.jsonl"
        path.write_text(path.read_text() + json.dumps(line) + "\n")
        if code == "de":
            data = read("xflickrco", sources / "xflickrco")
            assert "de" not in data.examples[-1].captions
            assert "de has no caption of COCO_val2014_000000122239, as published" in data.notes
    with pytest.raises(DatasetError, match=r"es/test.jsonl:5: sentences"):
        read("xflickrco", sources / "xflickrco")


def test_crossmodal_has_english_first_and_knows_its_languages(sources):
    data = read("crossmodal3600", sources / "crossmodal3600")
    assert list(data.examples[1].captions) == ["en", "fil", "quz", "zh"]
    assert len(data.examples[0].captions) == 36
    write(sources / "crossmodal3600" / "captions.jsonl", '{"image/key": "a", "xx": {}}')
    with pytest.raises(DatasetError, match=r"captions.jsonl:1: xx: expected one of the 36"):
        read("crossmodal3600", sources / "crossmodal3600")


def test_a_caption_cut_short_is_seen_by_its_checksum():
    items = [Example("b", "test", captions={"de": ("ein Hund",)}), Example("a", "test")]
    published = {"de": wording_checksum(items, "de")}
    assert list(wording_notes(reversed(items), published)) == []
    cut = [Example("b", "test", captions={"de": ("ein Hun",)}), items[1]]
    (note,) = wording_notes(cut, published)
    assert note.startswith("captions in de are not word for word those published")


# --- files as published ----------------------------------------------------------------------

OFFICIAL = os.environ.get("CL2CM_OFFICIAL_FORMATS")
official = pytest.mark.skipif(not OFFICIAL, reason="CL2CM_OFFICIAL_FORMATS names no folder")
PUBLISHED = {
    "xtd10": ("XTD10", 1_000, 11_000),
    "xflickrco": ("xFlickrCO", 1_000, 7_999),
    "coco_cn_ext": ("coco-cn-ext", 4_573, 4_712),
}


@official
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_are_read_whole(name):
    folder, items, captions = PUBLISHED[name]
    data = read(name, Path(OFFICIAL) / folder)
    assert check(data.examples, data.protocol) == []
    assert not [note for note in data.notes if "word for word" in note]
    found = sum(len(texts) for item in data.examples for texts in item.captions.values())
    assert (len(data.examples), found) == (items, captions)
    if name == "xtd10":
        assert "800 are in COCO train2014" in data.notes[0]


def cut(lines):
    return [*lines[:499], lines[499][:10], *lines[500:]]


def no_utf8(lines):
    return [*lines[:499], lines[499] + b"\xff", *lines[500:]]


def no_line(lines):
    return [*lines[:499], *lines[500:]]


@official
@pytest.mark.parametrize(
    ("name", "file", "damage", "said"),
    [
        ("xtd10", "XTD10/test_image_names.txt", cut, r"names.txt:500: expected the name of"),
        ("xtd10", "MIC/test_1kcaptions_de.txt", no_utf8, r"de.txt:500: expected UTF-8"),
        ("xtd10", "XTD10/test_1kcaptions_ru.txt", no_line, r"ru.txt:1000: expected a caption of"),
        ("xflickrco", "zh/test.jsonl", cut, r"zh/test.jsonl:500: expected a JSON value"),
        ("xflickrco", "zh/test.jsonl", no_utf8, r"zh/test.jsonl:500: expected UTF-8"),
        ("xflickrco", "zh/test.jsonl", no_line, r"test: 1,000 captions in zh, found 999"),
        ("coco_cn_ext", "data/coco-cn_ext.icap2020.txt", cut, r"icap2020.txt:500: expected ID#"),
        ("coco_cn_ext", "data/coco-cn_ext.icap2020.txt", no_utf8, r"icap2020.txt:500: .* UTF-8"),
        (
            "coco_cn_ext",
            "data/coco-cn_ext.icap2020.txt",
            no_line,
            r"4,712 captions in zh, .* 4,711",
        ),
    ],
)
def test_a_damaged_copy_of_published_files_is_refused(tmp_path, name, file, damage, said):
    folder = shutil.copytree(Path(OFFICIAL) / PUBLISHED[name][0], tmp_path / "copy")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    lines = (folder / file).read_bytes().split(b"\n")
    (folder / file).write_bytes(b"\n".join(damage(lines)))
    with pytest.raises(DatasetError, match=said):
        data = read(name, folder)
        check(data.examples, data.protocol)


@official
def test_a_caption_cut_in_a_published_file_is_said(tmp_path):
    folder = shutil.copytree(Path(OFFICIAL) / "XTD10", tmp_path / "copy")
    path = folder / "MIC" / "test_1kcaptions_de.txt"
    path.chmod(0o755)
    path.write_bytes(b"\n".join(cut(path.read_bytes().split(b"\n"))))
    data = read("xtd10", folder)
    assert data.notes[-1].startswith("captions in de are not word for word those published")
