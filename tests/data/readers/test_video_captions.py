import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as fuzz
from hypothesis import strategies as st

from cl2cm.data.manifest import read_manifest, write_manifest
from cl2cm.data.official_numbers import differences, id_checksum
from cl2cm.data.readers import msrvtt, msrvtt_1ka, msrvtt_cn, msvd, msvd_cn, vatex
from cl2cm.data.readers.caption_files import read_split
from cl2cm.data.readers.clips import Clips, read_id_list
from cl2cm.data.readers.csv_files import read_csv
from cl2cm.data.readers.reading import Options
from cl2cm.errors import DatasetError
from fixtures.video_captions import (
    CSV,
    MAPPING,
    cn_folder,
    msrvtt_folder,
    msrvtt_half,
    msvd_folder,
    vatex_clip,
    vatex_folder,
    write,
)

NO_FILMS = Options(no_images=True)


def by_id(data):
    return {example.id: example for example in data.examples}


def refused(read, folder, *words):
    with pytest.raises(DatasetError) as caught:
        read(folder, NO_FILMS)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


# --- VATEX -----------------------------------------------------------------------------------


def test_vatex_with_the_publishers_splits(tmp_path):
    data = vatex.read(vatex_folder(tmp_path), NO_FILMS)
    assert [e.split for e in data.examples] == ["train"] * 3 + ["val"] * 4 + ["test"]
    first = data.examples[0]
    assert (first.id, first.features) == ("-tr0_000010_000020", "-tr0_000010_000020")
    assert first.captions["zh"][9] == "-tr0_000010_000020 中 9"
    assert list(by_id(data)["te_1_2"].captions) == ["en"]
    assert data.protocol is vatex.OFFICIAL
    assert differences(data.examples, data.protocol)[:3] == [
        "train: 25,991 items, found 3",
        "train: 259,910 captions in en, found 30",
        "train: 259,910 captions in zh, found 30",
    ]


@pytest.mark.parametrize("kind", ["ids", "captions", "numpy"])
def test_vatex_with_lists_of_ids(kind, tmp_path):
    chosen = {"val": ["va2_000000_000010", "va0_000000_000010"], "test": ["va1_000000_000010"]}
    folder = vatex_folder(tmp_path)
    (folder / "vatex_public_test_english_v1.1.json").unlink()
    for split, ids in chosen.items():
        if kind == "ids":
            (folder / f"{split}_ids.txt").write_text("\n".join(ids) + "\n")
        elif kind == "captions":
            lines = [f"{name}#enc#{n} some words" for name in ids for n in range(2)]
            (folder / f"vatex{split}.caption.txt").write_text("\n".join(lines))
        else:
            np.save(folder / f"{'tst' if split == 'test' else split}_names.npy", np.array(ids))
    data = vatex.read(folder, NO_FILMS)
    assert data.protocol is vatex.DIVIDED
    for split, ids in chosen.items():
        assert [e.id for e in data.examples if e.split == split] == ids
    assert "va3_000000_000010" not in by_id(data)


def test_vatex_refuses_what_is_not_as_published(tmp_path):
    lists = {"val_ids__txt": "va0_000000_000010\n", "test_ids__txt": "va1_000000_000010\nnone\n"}
    refused(vatex.read, vatex_folder(tmp_path / "a", **lists), "test_ids.txt:2", "'none'")
    lists["test_ids__txt"] = "va0_000000_000010"
    refused(vatex.read, vatex_folder(tmp_path / "b", **lists), "one split", "val and test")
    del lists["test_ids__txt"]
    refused(vatex.read, vatex_folder(tmp_path / "c", **lists), "test_ids.txt or tst_names.npy")
    clip = vatex_clip("va_1_2") | {"chCap": ["好", "  "]}
    files = {"vatex_validation_v1.0__json": [vatex_clip("a_1_2"), clip]}
    refused(vatex.read, vatex_folder(tmp_path / "d", **files), "[1].chCap[1]", "a blank one")
    files = {"vatex_training_v1.0__json": "[\n{},\n{"}
    refused(vatex.read, vatex_folder(tmp_path / "e", **files), "vatex_training_v1.0.json:3")
    refused(vatex.read, tmp_path / "none", "no such folder")


def test_numbers_of_the_protocols_add_up():
    captions = {
        "vatex": (vatex.DIVIDED, 10),
        "vatex, official": (vatex.OFFICIAL, 10),
        "msrvtt": (msrvtt.PROTOCOL, 20),
    }
    for protocol, each in captions.values():
        for split in protocol.splits.values():
            assert set(split.captions.values()) == {split.items * each}
    for protocol in (msrvtt_1ka.NINE, msrvtt_1ka.SEVEN):
        train = protocol.splits["train"]
        assert train.captions == {"en": 20 * train.items}
    assert sum(split.items for split in msrvtt.PROTOCOL.splits.values()) == 10_000
    assert sum(msvd.ITEMS.values()) == 1_970
    assert sum(msvd.ENGLISH.values()) == 80_827
    assert sum(msvd_cn.CHINESE.values()) == 11_758


# --- MSR-VTT ---------------------------------------------------------------------------------


def test_msrvtt_official(tmp_path):
    data = msrvtt.read(msrvtt_folder(tmp_path / "halves"), NO_FILMS)
    splits = {
        name: [e.id for e in data.examples if e.split == name] for name in data.protocol.splits
    }
    assert splits["val"] == ["video4"]
    assert splits["test"] == ["video5", "video6"]
    assert by_id(data)["video2"].captions == {"en": ("words 2 0", "words 2 1")}
    whole = msrvtt_half(range(7), "test")
    for video in whole["videos"]:
        video["split"] = "train" if video["id"] < 4 else "validate" if video["id"] < 5 else "test"
    folder = write(tmp_path / "whole", MSRVTT_data__json=whole)
    assert msrvtt.read(folder, NO_FILMS).examples == data.examples


def test_msrvtt_refuses_what_is_not_as_published(tmp_path):
    bad = msrvtt_half([5], "test")
    bad["sentences"][1]["video_id"] = "video9"
    files = {"test_videodatainfo__json": bad}
    refused(
        msrvtt.read, msrvtt_folder(tmp_path / "a", **files), "sentences[1].video_id", "'video9'"
    )
    bad = msrvtt_half([5], "testing")
    files = {"test_videodatainfo__json": bad}
    refused(msrvtt.read, msrvtt_folder(tmp_path / "b", **files), "videos[0].split", "'testing'")
    files = {"test_videodatainfo__json": msrvtt_half([4], "test")}
    refused(msrvtt.read, msrvtt_folder(tmp_path / "c", **files), "'video4' again")
    bad = msrvtt_half([5, 6], "test")
    bad["sentences"] = bad["sentences"][:1]
    files = {"test_videodatainfo__json": bad}
    refused(msrvtt.read, msrvtt_folder(tmp_path / "d", **files), "none of 'video6'")
    (tmp_path / "d" / "test_videodatainfo.json").unlink()
    refused(msrvtt.read, tmp_path / "d", "test_videodatainfo.json")


def test_msrvtt_1ka(tmp_path):
    test = (
        'key,vid_key,video_id,sentence\nret0,msr6,video6,a car\nret1,msr1,video1,"red, and fast"\n'
    )
    folder = msrvtt_folder(tmp_path, MSRVTT_JSFUSION_test__csv=test)
    data = msrvtt_1ka.read(folder, NO_FILMS)
    items = by_id(data)
    assert items["video1"].captions == {"en": ("red, and fast",)}
    assert [e.id for e in data.examples if e.split == "train"] == [
        f"video{n}" for n in (0, 2, 3, 4, 5)
    ]
    assert data.protocol is msrvtt_1ka.NINE
    write(folder, **{"MSRVTT_train.7k__csv": "video_id\nvideo0\nvideo2\n"})
    data = msrvtt_1ka.read(folder, NO_FILMS)
    assert [e.id for e in data.examples] == ["video0", "video2", "video6", "video1"]
    assert data.protocol is msrvtt_1ka.SEVEN
    write(folder, MSRVTT_JSFUSION_test__csv=test + "ret2,msr77,video77,a boat\n")
    refused(msrvtt_1ka.read, folder, "MSRVTT_JSFUSION_test.csv:4", "'video77'")


# --- MSR-VTT-CN ------------------------------------------------------------------------------


def test_msrvtt_cn(tmp_path):
    cn_folder(tmp_path / "TextData")
    data = msrvtt_cn.read(tmp_path, NO_FILMS)
    items = by_id(data)
    assert list(items) == ["video7", "video0", "video3", "video5"]
    assert items["video0"].captions == {"en": ("video0 says 0", "video0 says 1")}
    assert items["video0"].translations == {
        "zh": {"google": ("video0 说 0", "video0 说 1")},
        "en": {"google-zh": ("back video0", None)},
    }
    assert items["video3"].captions == {"zh": ("一个人",)}
    assert any("not locked" in note for note in data.notes)
    write_manifest(tmp_path / "manifest.jsonl", data.examples)
    assert list(read_manifest(tmp_path / "manifest.jsonl")) == data.examples


def test_msrvtt_cn_says_what_it_lacks(tmp_path):
    data = msrvtt_cn.read(cn_folder(tmp_path), NO_FILMS)
    assert differences(data.examples, data.protocol) == [
        "train: 4 translations in en, found 2"  # two captions have no back-translation
    ]
    (tmp_path / "msrvttcntrain_google_enc2zh2enc.caption.txt").unlink()
    data = msrvtt_cn.read(tmp_path, NO_FILMS)
    assert differences(data.examples, data.protocol) == []
    (tmp_path / "msrvttcntrain_google_enc2zh.caption.txt").unlink()
    data = msrvtt_cn.read(tmp_path, NO_FILMS)
    assert differences(data.examples, data.protocol) == ["train: 4 translations in zh, found 0"]


def test_msrvtt_cn_takes_english_from_msrvtt(tmp_path):
    data = msrvtt_cn.read(msrvtt_folder(cn_folder(tmp_path)), NO_FILMS)
    assert by_id(data)["video3"].captions["en"] == ("words 3 0", "words 3 1")
    assert by_id(data)["video0"].captions["en"] == ("video0 says 0", "video0 says 1")


CN_DAMAGE = {
    "no number": ("msrvttcntrain", ["video7#enc#x words"], "msrvttcntrain.caption.txt:1"),
    "no text": ("msrvttcnval_zh", ["video3#zh#0 a", "video3#zh#1 "], "val_zh.caption.txt:2"),
    "twice": ("msrvttcntrain", ["video7#enc#0 a", "video7#enc#0 b"], "train.caption.txt:2"),
    "nothing to translate": (
        "msrvttcntrain_google_enc2zh",
        ["video7#enc2zh#0 好", "video8#enc2zh#0 好"],
        "enc2zh.caption.txt:2",
    ),
    "in two splits": ("msrvttcntest_zh", ["video3#zh#0 人"], "video3 in val and test"),
    "another data set's": ("msrvttcntest_zh", ["vid3#zh#0 人"], "'vid3'"),
    "an empty line": ("msrvttcntest_zh", ["", "video5#zh#0 人"], "test_zh.caption.txt:1"),
}


@pytest.mark.parametrize("name", CN_DAMAGE)
def test_damaged_caption_files(name, tmp_path):
    file, lines, word = CN_DAMAGE[name]
    refused(msrvtt_cn.read, cn_folder(tmp_path, **{file: lines}), word)


def test_a_split_that_is_not_there(tmp_path):
    with pytest.raises(DatasetError, match=r"vatextest.caption.txt or vatextest_zh.caption.txt"):
        read_split(cn_folder(tmp_path), "vatex", "test")


# --- MSVD ------------------------------------------------------------------------------------


def test_msvd_cn(tmp_path):
    data = msvd_cn.read(msvd_folder(tmp_path), NO_FILMS)
    items = by_id(data)
    assert [(e.id, e.split) for e in data.examples] == [
        ("-4w_d_5_15", "train"),
        ("ab_1_2", "val"),
        ("c_0_9", "test"),
    ]
    assert items["-4w_d_5_15"].captions == {"zh": ("小猫", "一只猫")}
    assert data.source == "zh"
    assert "val: 584 captions in zh, found 0" in differences(data.examples, data.protocol)
    english = "# Remark\n\nab_1_2 Two men's boat.\nab_1_2  a boat\nc_0_9 x\n"
    folder = msvd_folder(tmp_path, AllVideoDescriptions__txt=english)
    data = msvd_cn.read(folder, NO_FILMS)
    assert by_id(data)["ab_1_2"].captions == {"en": ("Two men's boat.", "a boat")}
    assert data.source == "en"
    both = [e.captions.get("en") for e in data.examples]
    assert [e.captions.get("en") for e in msvd.read(folder, NO_FILMS).examples] == both


def test_msvd_with_lists(tmp_path):
    lists = {"train_list__txt": "a_0_1\n", "val_list__txt": "b_0_1", "test_list__txt": "c_0_1\n"}
    folder = write(tmp_path, AllVideoDescriptions__txt="b_0_1 hi\n", **lists)
    data = msvd.read(folder, NO_FILMS)
    assert [(e.id, e.split) for e in data.examples] == [
        ("a_0_1", "train"),
        ("b_0_1", "val"),
        ("c_0_1", "test"),
    ]
    write(folder, test_list__txt="c_0_1\na_0_1\n")
    refused(msvd.read, folder, "test_list.txt:2", "'a_0_1' in two")


MSVD_DAMAGE = {
    "no number": ("youtube_mapping.txt", MAPPING + "\nd_1_2 vid", "youtube_mapping.txt:4"),
    "a number twice": ("youtube_mapping.txt", MAPPING + "\nd_1_2 vid1", "youtube_mapping.txt:4"),
    "a number too large": ("youtube_mapping.txt", MAPPING + "\nd_1_2 vid1971", "mapping.txt:4"),
    "two columns": ("msvd_cn_captions_release_utf8.csv", CSV + "7,vid1.mp4\n", "utf8.csv:5"),
    "an unknown film": ("msvd_cn_captions_release_utf8.csv", CSV + "7,vid2.mp4,人\n", "csv:5"),
    "an id twice": (
        "msvd_cn_captions_release_utf8.csv",
        CSV + "3,vid1.mp4,人\n",
        "a new id, found the id of line 3",
    ),
    "no number as id": ("msvd_cn_captions_release_utf8.csv", CSV + "x,vid1.mp4,人\n", "csv:5"),
    "a blank sentence": ("msvd_cn_captions_release_utf8.csv", CSV + "7,vid1.mp4, \n", "csv:5"),
    "an open quote": ("msvd_cn_captions_release_utf8.csv", CSV + '7,vid1.mp4,"人\n', "csv:5"),
    "another header": ("msvd_cn_captions_release_utf8.csv", "a,b,c\n", "csv:1"),
    "no English clip": ("AllVideoDescriptions.txt", "zz_1_2 hi\n", "AllVideoDescriptions.txt:1"),
    "no English text": ("AllVideoDescriptions.txt", "# x\nc_0_9 \n", "AllVideoDescriptions.txt:2"),
    "latin": ("msvd_cn_captions_release_utf8.csv", CSV.encode() + b"7,vid1.mp4,\xe9\n", "csv:5"),
}


@pytest.mark.parametrize("name", MSVD_DAMAGE)
def test_damaged_msvd(name, tmp_path):
    file, content, word = MSVD_DAMAGE[name]
    folder = msvd_folder(tmp_path)
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(msvd_cn.read, folder, word)


def real_msvd_cn():
    for place in (".", "MSVD-CN", "official-formats/MSVD-CN"):
        folder = Path(os.environ.get("CL2CM_DATA", "none"), place)
        if (folder / "msvd_cn_captions_release_utf8.csv").exists():
            return folder
    return pytest.skip("no MSVD-CN below $CL2CM_DATA")


@pytest.mark.data
def test_the_real_msvd_cn_meets_its_protocol(tmp_path):
    data = msvd_cn.read(real_msvd_cn(), NO_FILMS)
    assert differences(data.examples, data.protocol) == []
    write_manifest(tmp_path / "manifest.jsonl", data.examples, source="zh")
    assert list(read_manifest(tmp_path / "manifest.jsonl", source="zh")) == data.examples


# --- films, lists, tables --------------------------------------------------------------------


def test_films_are_found_by_name_or_as_part_of_the_whole(tmp_path):
    (tmp_path / "TrainValVideo").mkdir()
    for name in ("a_000010_000020.mp4", "vid2.avi", "-b_c.WEBM", "TrainValVideo/video7.mp4"):
        (tmp_path / name).touch()
    clips = Clips(tmp_path, Options())
    assert clips.example("a_000010_000020", "x", {}).video == tmp_path / "a_000010_000020.mp4"
    assert clips.example("q_1_2", "x", {}, names=("vid2",)).video == tmp_path / "vid2.avi"
    assert clips.example("video7", "x", {}).video == tmp_path / "TrainValVideo" / "video7.mp4"
    part = clips.example("-b_c_000003_000013", "x", {})
    assert (part.video, part.start, part.end) == (tmp_path / "-b_c.WEBM", 3.0, 13.0)
    assert clips.example("none_1_2", "x", {}).video == tmp_path / "none_1_2.mp4"
    assert clips.example("-b_c_5_5", "x", {}).start is None
    other = Clips(tmp_path / "nowhere", Options(images=tmp_path / "TrainValVideo"))
    assert other.example("video7", "x", {}).video == tmp_path / "TrainValVideo" / "video7.mp4"
    with pytest.raises(DatasetError, match="a folder of videos"):
        Clips(tmp_path, Options(images=tmp_path / "none"))


def test_lists_of_ids(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("a_1#enc#0 words here\na_1#enc#1 more\nb, 7\n")
    assert read_id_list(path) == {"a_1": 1, "b": 3}
    path.write_text("a\n\nb\n")
    with pytest.raises(DatasetError, match=r"ids.txt:2: .*an empty line"):
        read_id_list(path)
    np.save(tmp_path / "x.npy", np.array(["a", {}], dtype=object))
    with pytest.raises(DatasetError, match=r"x.npy: expected an array of texts"):
        read_id_list(tmp_path / "x.npy")


def test_tables_with_tabs_and_a_mark_of_byte_order(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("\ufeffid\tsentence\n1\ta, b\n", encoding="utf-8")
    assert list(read_csv(path, ("id", "sentence"))) == [(2, {"id": "1", "sentence": "a, b"})]


FOLDERS = {
    "vatex": (vatex.read, vatex_folder, {}),
    "msrvtt": (msrvtt.read, msrvtt_folder, {}),
    "msrvtt-cn": (msrvtt_cn.read, cn_folder, {}),
    "msvd": (msvd.read, msvd_folder, {"AllVideoDescriptions__txt": "c_0_9 hello\nab_1_2 x\n"}),
    "msvd-cn": (msvd_cn.read, msvd_folder, {}),
}


@pytest.mark.parametrize("name", FOLDERS)
@fuzz(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_an_error_or_seen_in_the_counts(name, data, tmp_path):
    """A line that is gone, cut or has another byte is refused, or the captions are not the same."""
    read, make, more = FOLDERS[name]
    folder = make(tmp_path, **more)
    whole = read(folder, NO_FILMS)
    path = data.draw(st.sampled_from(sorted(folder.iterdir())))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] = data.draw(st.integers(0, 255))
    else:
        del content[at : at + data.draw(st.integers(1, 30))]
    path.write_bytes(content)
    try:
        found = read(folder, NO_FILMS)
    except DatasetError as error:
        assert re.fullmatch(r".+: expected .+, found .+; .+", str(error)), error  # noqa: PT017
        return
    kept = [sum(len(t) for t in e.captions.values()) for e in found.examples]
    if len(found.examples) == len(whole.examples) and sum(kept) < sum(
        len(t) for e in whole.examples for t in e.captions.values()
    ):
        assert differences(found.examples, found.protocol) or name == "msrvtt-cn"


def test_checksums_are_those_of_ids():
    assert set(msvd.CHECKSUMS) == set(msvd.ITEMS)
    assert all(re.fullmatch("[0-9a-f]{16}", text) for text in msvd.CHECKSUMS.values())
    assert id_checksum(["b", "a"]) == id_checksum(["a", "b"])
