import gzip
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cl2cm.data.line_json import LINE_LIMIT
from cl2cm.data.manifest import read_manifest, summarise, write_manifest
from cl2cm.errors import ManifestError
from cl2cm.text import is_blank, normalise
from cl2cm.types import Example

GOOD = {
    "id": "a",
    "image": "images/a.jpg",
    "split": "train",
    "captions": {"en": ["a dog", "one dog"], "de": ["ein Hund"]},
    "translations": {"zh": {"google": ["狗", None]}},
}


def line(**changes):
    value = {**GOOD, **changes}
    return json.dumps({k: v for k, v in value.items() if v is not ...}, ensure_ascii=False)


def written(folder: Path, *lines: str | bytes, name: str = "m.jsonl") -> Path:
    path = folder / name
    raw = b"".join((x.encode() if isinstance(x, str) else x) + b"\n" for x in lines)
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return path


@pytest.mark.parametrize("name", ["m.jsonl", "m.jsonl.gz"])
def test_reads_every_field(tmp_path, name):
    film = line(
        id="b", image=..., video="../b.mp4", start=1, end=2.5, captions=..., translations=...
    )
    stored = line(id="c", image=..., features="f7", split="test", captions={}, translations={})
    path = written(tmp_path / ".", line(), film, stored, name=name)
    first, second, third = read_manifest(path)
    assert first == Example(
        "a",
        "train",
        image=tmp_path.resolve() / "images/a.jpg",
        captions={"en": ("a dog", "one dog"), "de": ("ein Hund",)},
        translations={"zh": {"google": ("狗", None)}},
    )
    video = tmp_path.resolve().parent / "b.mp4"
    assert second == Example("b", "train", video=video, start=1.0, end=2.5)
    assert third == Example("c", "test", features="f7")


def test_streams(tmp_path):
    reader = read_manifest(written(tmp_path, line(), "not json"))
    assert next(reader).id == "a"
    with pytest.raises(ManifestError, match=r"m\.jsonl:2"):
        next(reader)


def test_another_source_language(tmp_path):
    path = written(tmp_path, line(captions={"de": ["Hund", "ein Hund"]}))
    assert next(read_manifest(path, source="de")).captions == {"de": ("Hund", "ein Hund")}
    with pytest.raises(ManifestError, match=r"captions\.en, found no en captions"):
        next(read_manifest(path))


BAD_LINES = {
    "not JSON": ("{", "not JSON"),
    "empty line": ("", "an empty line"),
    "a list": ("[1]", "found a list"),
    "a text": ('"x"', "found a text"),
    "null": ("null", "found null"),
    "two objects": (line() + line(), "not JSON"),
    "byte order mark": ("\ufeff" + line(), "not JSON"),
    "not UTF-8": (line().encode("utf-16"), "UTF-8"),
    "latin-1": (line(split="caf\u00e9", translations=...).encode("latin-1"), "UTF-8"),
    "NaN": (line(image=..., video="v", start=float("nan")), "NaN"),
    "Infinity": (line(image=..., video="v", end=float("inf")), "Infinity"),
    "overflow": (line(image=..., video="v")[:-1] + ', "end": 1e999}', "end: expected seconds"),
    "nested": ("[" * 100_000, "deep nesting"),
    "key twice": (line()[:-1] + ', "id": "b"}', "id: expected one value"),
    "half a surrogate": (line(id="x\ud800").encode(errors="surrogatepass"), "UTF-8"),
    "escaped surrogate": (r'{"id": "\ud800", "image": "i", "split": "s"}', "surrogate"),
    "unknown key": (line(caption="x"), r"found \"caption\"; did you mean 'captions'\?"),
    "strange key": (line(zzz="x"), 'found "zzz"; remove it'),
    "no id": (line(id=...), "id: expected a name .* found no such key"),
    "number as id": (line(id=7.5), r"id: expected a name .* found 7\.5"),
    "text for a list": (
        line(captions={"en": "a dog"}),
        r'captions.en: expected a list of texts, found "a dog"; write it as a list: \["a dog"\]',
    ),
    "invisible caption": (line(captions={"en": ["\u200b\ufeff"]}), r"captions.en\[0\]: expected"),
    "blank id": (line(id=" "), 'id: expected a name .* found " "'),
    "newline in id": (line(id="a\nb"), "id: expected a name"),
    "no split": (line(split=...), "split: expected a name"),
    "null split": (line(split=None), "split: expected a name .* found null"),
    "no medium": (line(image=...), "expected one of image, video, features, found none"),
    "two media": (line(video="v.mp4"), "found image and video"),
    "image of a list": (line(image=["a.jpg"]), "image: expected a name"),
    "NUL in a path": (line(image="a\0.jpg"), "image: expected a name"),
    "start of an image": (line(start=1), "start: expected a part of a video"),
    "negative start": (line(image=..., video="v", start=-1), "start: expected seconds"),
    "start as text": (line(image=..., video="v", start="1"), 'start: .* found "1"'),
    "start as truth": (line(image=..., video="v", start=True), "start: .* found true"),
    "end before start": (line(image=..., video="v", start=2, end=1), "found 2 and 1"),
    "end of nothing": (line(image=..., video="v", end=0), "start before end"),
    "captions as a list": (line(captions=["x"]), "captions: expected an object"),
    "captions as text": (line(captions={"en": "x"}), r"captions\.en: expected a list"),
    "no captions": (line(captions={"en": []}), r"captions\.en: expected a list"),
    "empty caption": (line(captions={"en": ["x", ""]}), r"captions\.en\[1\]: expected a text"),
    "blank caption": (line(captions={"en": ["x", "\t"]}), r"captions\.en\[1\]"),
    "null caption": (line(captions={"en": ["x", None]}), r"captions\.en\[1\]: .* found null"),
    "number as caption": (line(captions={"en": [3, "x"]}), r"captions\.en\[0\]: .* found 3"),
    "language in capitals": (line(captions={"EN": ["x"]}), "found \"EN\"; write 'en'"),
    "language with underscore": (line(captions={"zh_hans": ["x"]}), "write 'zh-Hans'"),
    "language by name": (line(captions={"German!": ["x"]}), "captions: expected a language code"),
    "no language": (line(captions={"": ["x"]}), "captions: expected a language code"),
    "translations as a list": (line(translations=[]), "translations: expected an object"),
    "engine missing": (line(translations={"de": ["x"]}), r"translations\.de: expected an object"),
    "engine blank": (line(translations={"de": {"": ["x", "y"]}}), "engine: expected a name"),
    "too few translations": (
        line(translations={"de": {"nmt": ["x"]}}),
        r"translations\.de\.nmt: expected 2 texts, .* found 1; put null",
    ),
    "blank translation": (line(translations={"de": {"nmt": ["x", ""]}}), r"nmt\[1\].* or null"),
    "translations of nothing": (line(captions={"de": ["x"]}), "found no en captions"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_bad_line_is_one_line_with_place_and_remedy(tmp_path, name):
    bad, message = BAD_LINES[name]
    path = written(tmp_path, line(id="first"), bad)
    with pytest.raises(ManifestError, match=message) as caught:
        list(read_manifest(path))
    text = str(caught.value)
    assert text.startswith(f"{path}:2")
    assert "\n" not in text
    assert len(text) < 500


@pytest.mark.parametrize("name", BAD_LINES)
def test_bad_line_can_be_skipped(tmp_path, name):
    path = written(tmp_path, BAD_LINES[name][0], line(id="last"))
    skipped = []
    assert [
        e.id
        for e in read_manifest(path, skip_bad=True, on_skip=lambda _, error: skipped.append(error))
    ] == ["last"]
    assert [str(error).split(":")[1] for error in skipped] == ["1"]


def test_twice_the_same_id(tmp_path):
    path = written(tmp_path, line(), line(id="b"), line())
    with pytest.raises(ManifestError, match=r":3: id: .* line 1 again"):
        list(read_manifest(path))
    assert [e.id for e in read_manifest(path, skip_bad=True)] == ["a", "b"]


def test_overlong_line_is_skipped_as_one(tmp_path):
    huge = b'{"id": "' + b"x" * (2 * LINE_LIMIT + 5) + b'"}'
    path = written(tmp_path, huge, line())
    with pytest.raises(ManifestError, match="more than 10 MB"):
        list(read_manifest(path))
    skipped = []
    assert [
        e.id
        for e in read_manifest(path, skip_bad=True, on_skip=lambda _, error: skipped.append(error))
    ] == ["a"]
    assert len(skipped) == 1


def test_damaged_files(tmp_path):
    def refused(path, message):
        with pytest.raises(ManifestError, match=message):
            list(read_manifest(path, skip_bad=True))

    whole = gzip.compress("\n".join(line(id=str(i)) for i in range(999)).encode(), mtime=0)
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 0xFF
    contents = {
        "cut.jsonl.gz": (whole[: len(whole) // 2], "a complete gzip file"),
        "flipped.jsonl.gz": (bytes(broken), "a complete gzip file"),
        "plain.jsonl.gz": (line().encode(), "a complete gzip file"),
        "empty.jsonl": (b"", "found no line"),
        "empty.jsonl.gz": (gzip.compress(b""), "found no line"),
        "other.json": (line().encode(), r"ends in \.jsonl"),
    }
    for name, (content, message) in contents.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, message)
    refused(tmp_path / "none.jsonl", "found no such file")
    (tmp_path / "folder.jsonl").mkdir()
    refused(tmp_path / "folder.jsonl", "found a folder")


WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1).filter(str.strip)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: not is_blank(text)
)
CODES = st.sampled_from(["de", "zh-Hans", "pt-BR", "es-419", "sr-Latn-RS", "de-1996", "gsw"])
NAMES = st.text(st.sampled_from("aZ9 é狗._-"), min_size=1).filter(lambda n: n.strip(" ."))


@st.composite
def examples(draw, folder: Path):
    source = draw(st.lists(TEXTS, max_size=3).map(tuple))
    captions = draw(st.dictionaries(CODES, st.lists(TEXTS, min_size=1, max_size=2).map(tuple)))
    translations = {}
    if source:
        captions["en"] = source
        made = st.tuples(*[st.none() | TEXTS for _ in source])
        translations = draw(st.dictionaries(CODES, st.dictionaries(WORDS, made), max_size=2))
    media = draw(st.sampled_from(["image", "video", "features"]))
    path = folder.joinpath(*draw(st.lists(NAMES, min_size=1, max_size=3)))
    value = {media: draw(WORDS) if media == "features" else path}
    if media == "video":
        value["start"] = draw(st.none() | st.floats(0, 1e6))
        value["end"] = (value["start"] or 0) + draw(st.floats(0.5, 1e6))
    return Example(draw(WORDS), draw(WORDS), captions=captions, translations=translations, **value)


def normal(example):
    captions = {code: tuple(map(normalise, texts)) for code, texts in example.captions.items()}
    translations = {
        code: {
            engine: tuple(None if text is None else normalise(text) for text in column)
            for engine, column in by.items()
        }
        for code, by in example.translations.items()
    }
    return replace(example, captions=captions, translations=translations)


def test_texts_are_composed_and_whole_numbers_are_ids(tmp_path):
    value = {
        "id": 7,
        "features": 8,
        "split": "test",
        "captions": {"en": ["cafe\u0301 dog"], "ar": ["ك\u0640لب\u200f"]},
        "translations": {"ko": {"x": ["\u1100\u1161\u11bc"]}},
    }
    path = written(tmp_path, json.dumps(value))
    [example] = read_manifest(path)
    assert (example.id, example.features) == ("7", "8")
    assert example.captions == {"en": ("caf\u00e9 dog",), "ar": ("كلب",)}
    assert example.translations == {"ko": {"x": ("\uac15",)}}


@settings(max_examples=60, deadline=None)
@given(data=st.data(), compressed=st.booleans())
def test_round_trip(tmp_path_factory, data, compressed):
    folder = tmp_path_factory.mktemp("trip").resolve()
    some = st.lists(examples(folder.parent), min_size=1, max_size=4, unique_by=lambda e: e.id)
    given_examples = data.draw(some)
    path = folder / ("m.jsonl.gz" if compressed else "m.jsonl")
    write_manifest(path, given_examples)
    read = list(read_manifest(path))
    assert read == [normal(example) for example in given_examples]
    assert [normal(example) for example in read] == read
    first = path.read_bytes()
    write_manifest(path, iter(given_examples))
    assert path.read_bytes() == first


def test_paths_are_relative_and_move_along(tmp_path):
    (tmp_path / "one").mkdir()
    image = tmp_path.resolve() / "one/images/a.png"
    write_manifest(tmp_path / "one/m.jsonl", [Example("a", "train", image=image)])
    assert '"images/a.png"' in (tmp_path / "one/m.jsonl").read_text()
    (tmp_path / "one").rename(tmp_path / "two")
    (moved,) = read_manifest(tmp_path / "two/m.jsonl")
    assert moved.image == tmp_path.resolve() / "two/images/a.png"


def test_relative_to_the_working_folder(tmp_path, monkeypatch):
    written(tmp_path, line())
    monkeypatch.chdir(tmp_path)
    (example,) = read_manifest(Path("m.jsonl"))
    assert example.image == tmp_path.resolve() / "images/a.jpg"


@pytest.mark.parametrize(
    "bad",
    [
        Example("a", "train", image=Path("relative.png")),
        Example("a", "train", image=Path("/x/../y.png")),
        Example("a", "train"),
        Example("", "train", features="f"),
        Example("a", "train", features="f", captions={"en": ("",)}),
        Example("a", "train", features="f", captions={"en": ("\ud800",)}),
        Example("a", "train", video=Path("/v.mp4"), start=float("nan")),
        Example("good", "train", features="f"),
    ],
)
def test_refuses_to_write_what_it_could_not_read(tmp_path, bad):
    path = tmp_path / "m.jsonl"
    path.write_text("before")
    with pytest.raises(ManifestError, match=r"m\.jsonl:2"):
        write_manifest(path, [Example("good", "train", features="f"), bad])
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_summary_counts_what_is_known(tmp_path):
    path = written(tmp_path, line(), line(id="b"), line(id="c", split="val", translations=...))
    assert summarise(read_manifest(path)) == {
        "items": 3,
        "splits": {
            "train": {
                "items": 2,
                "captions": {"en": 4, "de": 2},
                "translations": {"zh": {"google": 2}},
            },
            "val": {"items": 1, "captions": {"en": 2, "de": 1}, "translations": {}},
        },
    }


@pytest.mark.data
@pytest.mark.skipif("CL2CM_DATA" not in os.environ, reason="CL2CM_DATA names no folder")
def test_real_manifests():
    for path in Path(os.environ["CL2CM_DATA"]).rglob("manifest.jsonl*"):
        for example in read_manifest(path):
            assert example.captions["en"]


def test_translations_of_any_language(tmp_path):
    path = tmp_path / "m.jsonl"
    item = {"id": "a", "features": "a", "split": "test"}
    item |= {"captions": {"zh": ["x", "y"]}, "translations": {"de": {"x": ["u", None]}}}
    path.write_text(json.dumps(item) + "\n")
    (read,) = read_manifest(path, source=None)
    assert read.translations == {"de": {"x": ("u", None)}}
    assert [read] == list(read_manifest(path, source="zh"))
    with pytest.raises(ManifestError, match=r"translations of captions\.en"):
        list(read_manifest(path))
    item["translations"]["de"]["x"] = ["u"]
    path.write_text(json.dumps(item) + "\n")
    with pytest.raises(ManifestError, match="expected 2 texts, one for each of the captions"):
        list(read_manifest(path, source=None))
