"""Readers of data sets on pictures of Flickr, on small files in their publishers' formats."""

import gzip
import json
import os
import shutil
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cl2cm.data.manifest import read_manifest, write_manifest
from cl2cm.data.official_numbers import Protocol, Split, check, differences, id_checksum
from cl2cm.data.readers import flickr8k_multi, flickr30k, multi30k
from cl2cm.data.readers.caption_matching import match_captions
from cl2cm.data.readers.flickr8k_ar import read_arabic
from cl2cm.data.readers.reading import Options
from cl2cm.errors import CL2CMError, ConfigError, DatasetError
from fixtures import flickr
from fixtures.flickr import BROKEN, NAMES, english, make_flickr8k_ar, write

STORED = Options(no_images=True)
FIRST, SECOND = Options(task=1, no_images=True), Options(task=2, no_images=True)
READERS = {
    "multi30k": FIRST,
    "flickr8k": STORED,
    "flickr8k_cn": STORED,
    "flickr8k_ar": STORED,
    "flickr30k": STORED,
    "flickr8k_multi": STORED,
}


def read(name, source, options=None):
    options = READERS[name] if options is None else options
    return import_module(f"cl2cm.data.readers.{name}").read(source, options)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The folders as published, by reader; not to be changed."""
    root = tmp_path_factory.mktemp("published")
    for name in READERS:
        getattr(flickr, f"make_{name}")(root / name)
    return root


@pytest.fixture
def copies(published, tmp_path):
    shutil.copytree(published, tmp_path / "copies")
    return tmp_path / "copies"


def edit(path, change):
    """Change the list of lines of a file, packed or not."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    lines = text.removesuffix("\n").split("\n")
    change(lines)
    write(path, lines)


def refused(name, source, *words, options=None):
    with pytest.raises(CL2CMError) as caught:
        read(name, source, options)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
    return message


def by_id(data):
    return {example.id: example for example in data.examples}


def ids_of(data):
    found = {}
    for example in data.examples:
        found.setdefault(example.split, []).append(example.id)
    return found


def locked(data):
    """The protocol that fits what was read."""
    splits = {}
    for split, ids in ids_of(data).items():
        chosen = [e for e in data.examples if e.split == split]
        captions, made = {}, {}
        for example in chosen:
            for code, texts in example.captions.items():
                captions[code] = captions.get(code, 0) + len(texts)
            for code, engines in example.translations.items():
                for column in engines.values():
                    made[code] = made.get(code, 0) + sum(text is not None for text in column)
        splits[split] = Split(len(chosen), captions, made, id_checksum(ids))
    return Protocol("as published", splits)


# --- Multi30K --------------------------------------------------------------------------------


def test_task_1_has_one_caption_in_each_language_and_its_further_test_sets(published):
    data = read("multi30k", published / "multi30k")
    assert ids_of(data) == {
        "train": ["11", "12", "13"],
        "val": ["21", "22"],
        "test": ["31", "32"],
        "test_2017_flickr": ["41_ff"],
        "test_2017_mscoco": ["COCO_train2014_000000000009"],
        "test_2018_flickr": ["51_ff"],
    }
    items = by_id(data)
    assert items["32"].captions == {code: (f"{code} 32",) for code in ("en", "de", "fr", "cs")}
    assert set(items["41_ff"].captions) == {"en", "de", "fr"}
    assert set(items["51_ff"].captions) == {"en", "de", "fr", "cs"}
    assert items["11"].features == "11"
    assert any("1 are in COCO train2014" in note for note in data.notes)


def test_task_2_has_five_written_captions_and_those_translated_in_task_1(published):
    data = read("multi30k", published / "multi30k", SECOND)
    assert ids_of(data) == {"train": ["13", "12", "11"], "val": ["22", "21"], "test": ["32", "31"]}
    captions = by_id(data)["12"].captions
    assert captions["en"] == tuple(english("12", n).upper() + "." for n in range(5))
    assert captions["de"] == tuple(f"de{n} 12" for n in range(5))
    assert (captions["fr"], captions["cs"]) == (("fr 12",), ("cs 12",))  # by id, not by line


def test_the_tasks_are_never_mixed(published):
    first = by_id(read("multi30k", published / "multi30k"))
    second = by_id(read("multi30k", published / "multi30k", SECOND))
    for name, item in second.items():
        for code in ("en", "de"):
            assert not set(item.captions[code]) & set(first[name].captions[code])


@pytest.mark.parametrize(("task", "found"), [(None, "none"), (3, "3"), (0, "0")])
def test_a_task_must_be_chosen(published, task, found):
    options = Options(task=task, no_images=True)
    with pytest.raises(ConfigError, match=rf"found {found}; choose with --task"):
        read("multi30k", published / "multi30k", options)


@pytest.mark.parametrize("below", ["data", ".", ".."])
def test_the_folder_may_be_data_or_hold_it(published, below, tmp_path):
    shutil.copytree(published / "multi30k", tmp_path / "a" / "multi30k")
    source = tmp_path / "a" / "multi30k" / below
    assert len(read("multi30k", source).examples) == 10
    assert len(read("multi30k", source, SECOND).examples) == 7


def test_a_file_that_is_there_packed_and_unpacked_counts_once(copies):
    raw = copies / "multi30k" / "data" / "task2" / "raw"
    packed = raw / "train.1.en.gz"
    (raw / "train.1.en").write_bytes(gzip.decompress(packed.read_bytes()))
    data = read("multi30k", copies / "multi30k", SECOND)
    assert len(by_id(data)["11"].captions["en"]) == 5


def test_files_that_are_not_there_show_in_the_protocol(copies):
    whole = locked(read("multi30k", copies / "multi30k"))
    task1 = copies / "multi30k" / "data" / "task1"
    (task1 / "raw" / "val.fr.gz").unlink()
    (task1 / "image_splits" / "test_2018_flickr.txt").unlink()
    found = differences(read("multi30k", copies / "multi30k").examples, whole)
    assert found[0] == "val: 2 captions in fr, found 0"
    assert found[1] == "test_2018_flickr: 1 items, found 0"


def test_task_2_reads_without_task_1_and_past_its_further_test_sets(copies):
    data = copies / "multi30k" / "data"
    (data / "task1" / "raw" / "test_2018_flickr.en.gz").write_bytes(b"damaged")
    assert len(read("multi30k", data, SECOND).examples) == 7
    refused("multi30k", data, "test_2018_flickr.en.gz", "damaged gzip")
    shutil.rmtree(data / "task1")
    assert set(by_id(read("multi30k", data, SECOND))["11"].captions) == {"en", "de"}


def test_pictures_are_found_in_the_folders_of_their_publishers(published, tmp_path):
    images = tmp_path / "photos"
    for name in ("11.jpg", "test_2017_flickr/41_ff.jpg", "51_ff.jpg"):
        write(images / name, [])
    write(images / "train2014" / "COCO_train2014_000000000009.jpg", [])
    data = read("multi30k", published / "multi30k", Options(task=1, images=images))
    items = by_id(data)
    assert items["11"].image == images / "11.jpg"
    assert items["12"].image == images / "12.jpg"  # that it is missing is asked later
    assert items["41_ff"].image == images / "test_2017_flickr" / "41_ff.jpg"
    assert items["51_ff"].image == images / "51_ff.jpg"
    coco = items["COCO_train2014_000000000009"].image
    assert coco == images / "train2014" / "COCO_train2014_000000000009.jpg"


def test_further_test_sets_without_pictures_are_left_out_and_this_is_said(copies):
    images = write(copies / "multi30k" / "flickr30k-images" / "11.jpg", []).parent
    data = read("multi30k", copies / "multi30k", Options(task=1))
    assert list(ids_of(data)) == ["train", "val", "test"]
    assert list(data.protocol.splits) == ["train", "val", "test"]
    for split in multi30k.FURTHER:
        assert f"{split} is left out: none of its pictures is in {images}" in data.notes
    assert by_id(data)["11"].image == images / "11.jpg"


def test_a_folder_of_pictures_that_is_none_is_refused(published, tmp_path):
    for name in READERS:
        options = Options(task=1, images=tmp_path / "none")
        refused(name, published / name, "a folder of pictures, found no such", options=options)


# --- Flickr8k, Flickr30k ---------------------------------------------------------------------


def test_flickr8k(published):
    data = read("flickr8k", published / "flickr8k")
    assert ids_of(data) == NAMES
    captions = by_id(data)["11_a"].captions
    assert captions == {"en": tuple(f"{english('11', n)} ." for n in (4, 2, 0, 1, 3))}


def test_flickr8k_cn_written(published):
    data = read("flickr8k_cn", published / "flickr8k_cn" / "data")
    assert ids_of(data) == NAMES
    item = by_id(data)["31_c"]
    assert item.captions["zh"] == tuple(f"zhc.caption.txt 31_c {i}" for i in range(5))
    assert item.captions["en"][3] == "enc.caption.txt 31_c 3"
    assert item.translations == {
        "zh": {
            engine: tuple(f"{ending} 31_c {i}" for i in range(5))
            for engine, ending in {
                "google": "zhg.caption.txt.v20160816",
                "baidu": "zhb.caption.txt.v20160815",
                "google-icmr2016": "zhg.caption.txt",
                "baidu-icmr2016": "zhb.caption.txt",
            }.items()
        }
    }


def test_flickr8k_cn_translated_is_a_task_of_its_own(published):
    data = read("flickr8k_cn", published / "flickr8k_cn", SECOND)
    assert ids_of(data) == {"test": NAMES["test"]}
    assert data.examples[0].captions["zh"] == tuple(f"译{i}" for i in range(5))
    assert list(data.protocol.splits) == ["test"]
    with pytest.raises(ConfigError, match="1 \\(written\\) or 2"):
        read("flickr8k_cn", published / "flickr8k_cn", Options(task=3))


def test_engines_that_are_not_there_are_left_out(copies):
    whole = locked(read("flickr8k_cn", copies / "flickr8k_cn"))
    (copies / "flickr8k_cn" / "data" / "flickr8kzhb.caption.txt").unlink()
    data = read("flickr8k_cn", copies / "flickr8k_cn")
    assert set(data.examples[0].translations["zh"]) == {"google", "baidu", "google-icmr2016"}
    assert differences(data.examples, whole)[0] == "train: 60 translations in zh, found 45"


def test_arabic_captions_and_the_one_that_is_broken(published, tmp_path):
    data = read("flickr8k_ar", published / "flickr8k_ar")
    assert ids_of(data) == NAMES
    assert by_id(data)["12_b"].captions["ar"] == ("12_b 0", "12_b 1", "12_b 2")
    assert len(by_id(data)["12_b"].captions["en"]) == 5
    assert read_arabic(published / "flickr8k_ar").texts[BROKEN][2] == "وبعيدا"
    make_flickr8k_ar(tmp_path, broken=["وبعيدا"])  # as its publisher may mend it
    assert read_arabic(tmp_path).texts == read_arabic(published / "flickr8k_ar").texts


def test_flickr30k(published):
    source = published / "flickr30k"
    data = read("flickr30k", source)
    assert ids_of(data) == {"train": ["11"], "val": ["21"], "test": ["31"]}
    assert by_id(data)["31"].captions == {"en": tuple(english("31", n) for n in range(5))}
    assert read("flickr30k", source / "dataset_flickr30k.json") == data
    assert flickr30k.PROTOCOL.splits["train"].captions == {"en": 145_000}


def test_pictures_of_flickr8k_are_found_beside_its_texts(copies):
    folder = copies / "flickr8k"
    image = write(folder / "Flicker8k_Dataset" / "11_a.jpg", [])
    assert by_id(read("flickr8k", folder, Options()))["11_a"].image == image.resolve()


# --- joined ----------------------------------------------------------------------------------


def test_the_parts_are_joined_by_the_number_of_the_photo(published):
    data = read("flickr8k_multi", published / "flickr8k_multi")
    assert ids_of(data) == {"train": ["11_a", "90_d"], "val": ["12_b"], "test": ["21_e"]}
    assert "1 pictures are in the test set of Multi30K and left out" in data.notes
    captions = by_id(data)["12_b"].captions
    assert captions["de"] == tuple(f"de{n} 12" for n in range(5))
    assert (captions["fr"], captions["cs"]) == (("fr 12",), ("cs 12",))
    assert captions["zh"][0] == "zhc.caption.txt 12_b 0"
    assert captions["ar"] == ("12_b 0", "12_b 1", "12_b 2")
    assert set(by_id(data)["90_d"].captions) == {"en", "zh", "ar"}


def test_translations_stand_beside_the_caption_that_they_were_made_from(published):
    items = by_id(read("flickr8k_multi", published / "flickr8k_multi"))
    for name, photo in (("11_a", "11"), ("21_e", "21")):  # of train's file and of val's
        google = tuple(f"ar {photo} {n}" for n in (4, 2, 0, 1, 3))
        assert items[name].translations["ar"] == {"google": google}
        assert set(items[name].translations["zh"]) == {"google", "baidu"}
    assert set(items["90_d"].translations) == {"zh"}


def test_without_the_arabic_translations_the_protocol_says_so(copies):
    source = copies / "flickr8k_multi"
    whole = locked(read("flickr8k_multi", source))
    shutil.rmtree(source / "Flickr30K_Arabic_Annotations")
    found = differences(read("flickr8k_multi", source).examples, whole)
    assert found[0] == "train: 5 translations in ar, found 0"


def test_a_photo_with_other_than_five_translations_has_none(copies):
    path = next((copies / "flickr8k_multi").rglob("Arabic_train.json"))
    records = json.loads(path.read_text())
    write(path, [json.dumps(records[:4] + records[5:])])
    items = by_id(read("flickr8k_multi", copies / "flickr8k_multi"))
    assert "ar" not in items["11_a"].translations
    assert "ar" in items["12_b"].translations


def test_captions_are_matched_in_any_spelling():
    old = ["Two grey dogs fight .", "A man in a T-shirt", "A basketball", "A man in a T-shirt"]
    new = ["A basketball player dribbles.", "a man in a t shirt.", "Two gray dogs fight.", "Snow"]
    assert match_captions(old, new) == [2, 1, None, None]


@given(st.permutations(range(5)), st.lists(st.text(max_size=8), min_size=5, max_size=5))
def test_captions_in_another_order_are_all_found(order, texts):
    given_texts = [f"{texts[n]} {english('7', n)}" for n in order]
    places = match_captions(
        [f"{texts[n]} {english('7', n).upper()} !" for n in range(5)], given_texts
    )
    assert sorted(places) == list(range(5))


# --- all readers -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", READERS)
def test_items_go_to_the_manifest_and_back(name, published, tmp_path):
    data = read(name, published / name)
    write_manifest(tmp_path / "m.jsonl", data.examples, source=data.source)
    assert list(read_manifest(tmp_path / "m.jsonl")) == data.examples


@pytest.mark.parametrize("name", READERS)
def test_other_numbers_than_the_published_ones_are_refused(name, published):
    data = read(name, published / name)
    with pytest.raises(DatasetError, match="expected the published numbers, found train: "):
        check(data.examples, data.protocol)
    assert check(data.examples, locked(data)) == []


@pytest.mark.parametrize("name", READERS)
def test_a_folder_without_the_files_is_refused(name, tmp_path):
    refused(name, tmp_path, str(tmp_path), "no such file")
    refused(name, tmp_path / "none", "no such folder")


T1, T2 = "multi30k/data/task1", "multi30k/data/task2"
CN, AR = "flickr8k_cn/data", "flickr8k_ar/data/Flickr8k_text"
DAMAGED = {
    "a line less": (f"{T1}/raw/train.de.gz", lambda x: x.pop(1), 3, "a caption of 13"),
    "the last line less": (f"{T1}/raw/val.fr.gz", lambda x: x.pop(), 2, "the end of the file"),
    "a line more": (f"{T1}/raw/train.cs.gz", lambda x: x.append("x"), 4, "a further one"),
    "an empty line": (f"{T1}/raw/train.en.gz", lambda x: x.insert(1, ""), 2, "an empty line"),
    "a blank line": (f"{T1}/raw/train.en.gz", lambda x: x.insert(1, " "), 2, "a blank"),
    "no line": (f"{T1}/raw/val.en.gz", lambda x: x.clear(), 1, "an empty line"),
    "a control": (f"{T1}/raw/val.en.gz", lambda x: x.insert(0, "a\x00"), 1, "control"),
    "an id twice": (f"{T1}/image_splits/train.txt", lambda x: x.insert(2, x[0]), 3, "11 again"),
    "an id of two splits": (
        *(f"{T1}/image_splits/val.txt", lambda x: x.insert(1, "12.jpg")),
        *(2, "12 again, as in train.txt:2"),
    ),
    "a list less": (
        f"{T1}/image_splits/train.txt",
        lambda x: x.pop(),
        0,
        "train.en.gz:3: expected 2 lines",
    ),
    "half a name": (f"{T1}/image_splits/val.txt", lambda x: x.append("33"), 3, "ID.jpg"),
    "task 2": (f"{T2}/raw/val.3.de", lambda x: x.pop(), 2, "a caption of 21"),
    "no text": (
        f"{CN}/flickr8kzhc.caption.txt",
        lambda x: x.insert(2, "11_a.jpg#zhc#0"),
        3,
        "TEXT",
    ),
    "another kind": (
        *(f"{CN}/flickr8kzhc.caption.txt", lambda x: x.insert(2, "11_a.jpg#zhg#0 x")),
        *(3, "expected NAME.jpg#zhc#NUMBER TEXT"),
    ),
    "a caption less": (
        *(f"{CN}/flickr8kzhc.caption.txt", lambda x: x.pop(1)),  # 31_c.jpg#zhc#0
        *(25, "all 5 captions of 31_c, this the last of them, found none with number 0"),
    ),
    "a list with another": (f"{CN}/flickr8kval.txt", lambda x: x.append("77_q"), 2, "77_q, which"),
    "a caption twice": (f"{AR}/Flickr8k.token.txt", lambda x: x.insert(4, x[1]), 5, "as in line 2"),
    "a caption of no number": (
        *(f"{AR}/Flickr8k.arabic.full.txt", lambda x: x.insert(0, "11_a.jpg#3\tx")),
        *(1, "a number from 0 to 2"),
    ),
    "another broken line": (
        *(f"{AR}/Flickr8k.arabic.full.txt", lambda x: x.insert(2, "بعيدا")),
        *(3, "expected NAME.jpg#NUMBER<tab>TEXT"),
    ),
    "no Arabic": (f"{AR}/Flickr8k.arabic.full.txt", lambda x: x.__delitem__(slice(3)), 0, "11_a"),
    "a joined part": (
        *("flickr8k_multi/multi30k/data/task1/raw/train.fr.gz", lambda x: x.pop()),
        *(3, "a caption of 13"),
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_copy_is_refused_with_file_and_line(kind, copies):
    file, change, line, words = DAMAGED[kind]
    edit(copies / file, change)
    name = file.split("/")[0]
    place = f"{Path(file).name}:{line}: expected" if line else ":"
    options = SECOND if "task2" in file else None
    refused(name, copies / name, place, words, options=options)


def test_bytes_that_are_no_text_are_refused_with_file_and_line(copies):
    for file in (f"{T1}/image_splits/val.txt", f"{AR}/Flickr8k.token.txt"):
        path = copies / file
        first, rest = path.read_bytes().split(b"\n", 1)
        path.write_bytes(first + b"\n\xff" + rest)
        name = file.split("/")[0]
        refused(name, copies / name, f"{path.name}:2: expected UTF-8")


def test_a_truncated_packed_file_is_refused(copies):
    path = copies / T1 / "raw" / "train.de.gz"
    path.write_bytes(path.read_bytes()[:-9])
    refused("multi30k", copies / "multi30k", str(path), "a damaged gzip file")


CASES = int(os.environ.get("CL2CM_FUZZ_CASES", "200"))


@pytest.mark.parametrize("name", READERS)
@settings(
    max_examples=max(1, CASES // len(READERS)),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_whatever_the_damage_there_is_no_traceback_and_no_silent_loss(name, published, data):
    source = published / name
    paths = sorted(path for path in source.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(paths))
    whole = path.read_bytes()
    packed = path.suffix == ".gz" and data.draw(st.booleans())
    text = gzip.decompress(whole) if packed else whole
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    junk = data.draw(st.one_of(st.binary(max_size=6), st.sampled_from([b"\n", b"\t", b"#0", b" "])))
    damaged = text[:start] + junk + text[end:]
    before = read(name, source)
    after = None
    try:
        path.write_bytes(gzip.compress(damaged, mtime=0) if packed else damaged)
        after = read(name, source)
    except CL2CMError:
        pass  # refused, as it should be
    finally:
        path.write_bytes(whole)
    if after is not None and not differences(after.examples, locked(before)):  # as many as before
        assert all(text for e in after.examples for texts in e.captions.values() for text in texts)


# --- the publishers' files -------------------------------------------------------------------


def official(name):
    folder = os.environ.get("CL2CM_OFFICIAL_FORMATS")
    if not folder:
        pytest.skip("CL2CM_OFFICIAL_FORMATS names no folder of files as published")
    if not (Path(folder) / name).is_dir():
        pytest.skip(f"{name} is not in CL2CM_OFFICIAL_FORMATS")
    return Path(folder) / name


@pytest.mark.parametrize("task", [1, 2])
def test_multi30k_as_published(task):
    data = read("multi30k", official("multi30k"), Options(task=task, no_images=True))
    assert check(data.examples, data.protocol) == []
    assert not [note for note in data.notes if "word for word" in note]
    found = {split: len(ids) for split, ids in ids_of(data).items()}
    assert [found[split] for split in ("train", "val", "test")] == [29_000, 1_014, 1_000]
    number = 5 if task == 2 else 1
    for example in data.examples[:31_014]:
        counts = {code: len(texts) for code, texts in example.captions.items()}
        assert counts == {"en": number, "de": number, "fr": 1, "cs": 1}


@pytest.mark.parametrize(
    ("reader", "folder"),
    [
        ("flickr8k", "Arabic-Image-Captioning"),
        ("flickr8k_ar", "Arabic-Image-Captioning"),
        ("flickr8k_cn", "flickr8kcn"),
        ("flickr8k_multi", "flickr8k-multi"),
        ("flickr30k", "flickr30k"),
    ],
)
def test_others_as_published(reader, folder):
    data = read(reader, official(folder))
    assert check(data.examples, data.protocol) == []
    assert not [note for note in data.notes if "word for word" in note]


def test_multi30k_gives_the_human_captions_of_the_benchmark():
    folder = official("multi30k").parent.parent / "flickr8k-multi"
    if not (folder / "manifest.jsonl.gz").exists():
        pytest.skip("no flickr8k-multi beside CL2CM_OFFICIAL_FORMATS")
    splits = multi30k.read_second(official("multi30k"))
    described = {name: texts for part in splits.values() for name, texts in part.items()}
    items = list(read_manifest(folder / "manifest.jsonl.gz"))
    assert len(items) == sum(s.items for s in flickr8k_multi.PROTOCOL.splits.values())
    for item in items:
        photo = flickr8k_multi.photo(item.id)
        assert photo not in splits["test"]
        for code in ("de", "fr", "cs"):
            assert described.get(photo, {}).get(code) == item.captions.get(code)
