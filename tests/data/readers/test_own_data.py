"""Readers of one's own data: folders with tables, or with texts beside."""

import json
import re
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cl2cm.data.official_numbers import check
from cl2cm.data.readers import folder, own_data
from cl2cm.data.readers.reading import Options
from fixtures.own_data import by_id, fill, refused, written

CSV = "file,caption,language\na.jpg,a dog,\nb.png,a cat,en\na.jpg,ein Hund,de\nsub/c.mp4,a car,\n"


@pytest.fixture
def pictures(tmp_path):
    files = {"a__jpg": b"1", "b__png": b"2", "sub/c__mp4": b"3", "sub/d__JPG": b"4", "e__doc": b"5"}
    return fill(tmp_path / "own", **files)


def read_folder(source, **options):
    return folder.read(source, Options(**options))


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


def test_whole_numbers_are_ids_everywhere(pictures):
    fill(pictures, captions__json='[{"file": "a.jpg", "caption": "x", "id": 7}]')
    assert list(by_id(read_folder(pictures))) == ["7"]


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
