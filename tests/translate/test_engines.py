"""The registry, tables as engines, language codes, and models that are built here."""

import os

import pytest

from cl2cm.errors import ConfigError, DatasetError, LanguageError, ManifestError
from cl2cm.translate import ENGINES, open_translator
from cl2cm.translate.languages import m2m_code, nllb_code, opus_code, parse_tag
from cl2cm.translate.model_files import model_licence
from cl2cm.translate.record import read_translation_record, record_path

# --- registry --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "near"), [("apertuim", "'apertium'"), ("ct:x", "'ct2'"), ("", "choose one")]
)
def test_an_unknown_engine_names_the_nearest(spec, near):
    with pytest.raises(ConfigError, match=f"apertium, or a chain.*{near}"):
        open_translator(spec, "en", "de")


def test_every_engine_has_what_the_protocol_says(tmp_path):
    (tmp_path / "t.tsv").write_text("a\tb\n")
    engine = open_translator(f"file:{tmp_path}/t.tsv", "en", "de")
    for name in ("name", "version", "licence", "source", "target"):
        assert getattr(engine, name)
    assert engine.batch > 0
    assert list(ENGINES) == ["apertium", "bergamot", "ct2", "hf", "file"]


def test_bergamot_has_two_directions():
    with pytest.raises(LanguageError, match="en to pt or pt to en"):
        open_translator("bergamot", "en", "de")
    with pytest.raises(LanguageError):
        open_translator("bergamot:x", "en", "pt")


@pytest.mark.parametrize("spec", ["ct2:", "ct2:nowhere", "hf:", "hf:nowhere", "file:nowhere.tsv"])
def test_what_is_not_there_is_one_line(spec):
    with pytest.raises(ConfigError) as caught:
        open_translator(spec, "en", "de")
    assert "\n" not in str(caught.value)


# --- tables ----------------------------------------------------------------------------------


def test_a_table_translates_what_it_has(tmp_path):
    path = tmp_path / "mine.de.tsv"
    path.write_bytes("\ufeffa  dog\tein Hund\r\na cat\t\na\u2028b\tc\na dog\tein Hund".encode())
    engine = open_translator(f"file:{tmp_path}/mine.{{target}}.tsv", "en", "de")
    assert engine.name == "mine"
    assert engine.translate(["a dog", " a\tdog", "a cat", "a bird", "a b"]) == [
        "ein Hund",
        "ein Hund",
        "",
        "",
        "c",
    ]


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"a\tb\na", ":2: .*1 columns"),
        (b"a\tb\tc", ":1: .*3 columns"),
        (b" \tb", ":1: .*no source"),
        (b"a\tb\na\tc", ":2: .*another of 'a'"),
        (b"a\t\xff", ":1: .*UTF-8"),
        (b"", ":1:"),
    ],
)
def test_a_bad_line_of_a_table_is_named(tmp_path, data, place):
    path = tmp_path / "t.tsv"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=rf"t\.tsv{place}"):
        open_translator(f"file:{path}", "en", "de")


def test_another_table_is_another_version(tmp_path):
    path = tmp_path / "t.tsv"
    versions = set()
    for text in ("a\tb", "a\tc"):
        path.write_text(text)
        versions.add(open_translator(f"file:{path}", "en", "de").version)
    assert len(versions) == 2


# --- languages -------------------------------------------------------------------------------


def test_a_region_of_chinese_tells_its_script():
    assert parse_tag("zh-TW") == ("zh", "Hant", "TW")
    assert parse_tag("zh-Hans") == ("zh", "Hans", "")
    assert parse_tag("pt-BR") == ("pt", "", "BR")


NLLB = [
    "eng_Latn",
    "zho_Hans",
    "zho_Hant",
    "arb_Arab",
    "arb_Latn",
    "fra_Latn",
    "pes_Arab",
    "lvs_Latn",
    "swh_Latn",
    "kas_Arab",
    "kas_Deva",
    "nob_Latn",
    "npi_Deva",
    "tgl_Latn",
    "srp_Cyrl",
]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("en", "eng_Latn"),
        ("zh", "zho_Hans"),
        ("zh-Hant", "zho_Hant"),
        ("zh-TW", "zho_Hant"),
        ("ar", "arb_Arab"),
        ("fa", "pes_Arab"),
        ("lv", "lvs_Latn"),
        ("sw", "swh_Latn"),
        ("no", "nob_Latn"),
        ("nb", "nob_Latn"),
        ("fil", "tgl_Latn"),
        ("fra", "fra_Latn"),
        ("sr-Latn", None),
        ("de", None),
    ],
)
def test_nllb_codes(code, name):
    assert nllb_code(code, NLLB) == name


@pytest.mark.parametrize(
    ("code", "name"),
    [("zh", "zh"), ("zh-Hant", "zh"), ("nb", "no"), ("fil", "tl"), ("deu", "de"), ("xx", None)],
)
def test_m2m_codes(code, name):
    assert m2m_code(code, {"zh", "no", "tl", "de", "en"}) == name


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("zh", "cmn_Hans"),
        ("zh-Hant", "cmn_Hant"),
        ("de", "deu"),
        ("pt-BR", "pt_br"),
        ("pt", "por"),
        ("sr", None),
        ("fr", "fr"),
    ],
)
def test_opus_codes(code, name):
    known = {"cmn_Hans", "cmn_Hant", "deu", "pt_br", "por", "srp_Latn", "fr"}
    assert opus_code(code, known) == name


def test_the_licence_stands_in_the_readme(tmp_path):
    assert model_licence(tmp_path) == "unknown"
    (tmp_path / "README.md").write_text("---\nlanguage: de\nlicense: cc-by-4.0\n---\n")
    assert model_licence(tmp_path) == "cc-by-4.0"


@pytest.mark.parametrize("kind", ["pipe", "nested", "holes"])
def test_a_record_of_a_stranger_is_refused_in_one_line(tmp_path, kind):
    record = record_path(tmp_path / "m.jsonl")
    if kind == "pipe":
        os.mkfifo(record)
    else:
        record.write_text("[" * 100_000 if kind == "nested" else "", encoding="utf-8")
        os.truncate(record, 2**40 if kind == "holes" else record.stat().st_size)
    with pytest.raises(ManifestError, match="a record of translations"):
        read_translation_record(tmp_path / "m.jsonl")


def test_a_table_of_holes_is_refused(tmp_path):
    path = tmp_path / "t.tsv"
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(DatasetError, match="nearly all holes"):
        open_translator(f"file:{path}", "en", "de")
