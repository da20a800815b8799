"""``cl2cm translate``, from a manifest to a manifest with translations, scores and their record."""

import json
from dataclasses import replace
from importlib.util import find_spec

import pytest

from cl2cm import translate
from cl2cm.cli.app import run as cli
from cl2cm.data.manifest import read_manifest
from cl2cm.data.pairs import Texts, caption_pairs
from cl2cm.errors import ConfigError, EncoderError, LanguageError, ManifestError, WeightsError
from cl2cm.translate import scoring as translation_quality
from cl2cm.translate.record import record_path
from cl2cm.translate.report import translate_manifest

scores = pytest.mark.skipif(find_spec("py3langid") is None, reason="pip install 'cl2cm[translate]'")
ITEMS = [
    {
        "id": f"i{i}",
        "features": f"f{i}",
        "split": "train",
        "captions": {"en": [f"a dog number {i}", "nothing"], "de": ["ein Hund"]},
        "translations": {"zh": {"google": ["一只狗", None]}},
        "quality": {"zh": {"google": [0.5, None]}},
    }
    for i in range(5)
]


class Reverse:
    """An engine that turns words around; "nothing" has no translation."""

    name, version, licence, batch, own_threads = "rev", "7", "CC0", 2, False
    calls: list[str]

    def __init__(self, source, target):
        self.source, self.target = source, target

    def translate(self, texts):
        self.calls.extend(texts)
        if self.fail:
            raise WeightsError("rev", expected="x", found="y", remedy="z")
        return ["" if text == "nothing" else text[::-1] for text in texts]


@pytest.fixture
def engine(monkeypatch):
    """Registers the engine; gives what it was asked for."""
    Reverse.calls, Reverse.fail = [], False
    monkeypatch.setattr(translation_quality, "MAX_TOKENS", 16)  # the small world's is short

    def opened(argument, source, target):
        if target == "tlh":
            raise LanguageError("rev", expected="x", found="tlh", remedy="z")
        return Reverse(source, target)

    monkeypatch.setattr("cl2cm.translate.file.open_rev", opened, raising=False)
    monkeypatch.setitem(translate.ENGINES, "rev", "file:open_rev")
    return Reverse


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "in" / "m.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in ITEMS))
    return path


@pytest.fixture
def go(manifest, tmp_path, engine):
    def make(**options):
        options = {"out": tmp_path / "out" / "n.jsonl.gz", "cache": tmp_path / "c"} | options
        return translate_manifest(options.pop("manifest", manifest), **options)

    return make


# --- translating -----------------------------------------------------------------------------


def test_a_column_is_added_and_the_rest_stays(go, manifest, tmp_path):
    result = go(languages=["fr", "cs"], engine="rev")
    made = list(read_manifest(tmp_path / "out" / "n.jsonl.gz"))
    for before, after in zip(read_manifest(manifest), made, strict=True):
        column = (before.captions["en"][0][::-1], None)
        added = {"fr": {"rev": column}, "cs": {"rev": column}}
        assert after == replace(before, translations={**before.translations, **added})
    french, czech = result["translations"]
    assert (french["language"], czech["language"]) == ("fr", "cs")
    assert (french["texts"], french["translated"], french["empty"]) == (6, 6, 1)
    assert result["report"] is None


def test_the_record_says_where_translations_come_from(go, tmp_path):
    go(languages=["fr"], engine="rev")
    record = json.loads((tmp_path / "out" / "n.translations.json").read_text())
    assert record["columns"] == {
        "fr": {"rev": {"engine": "rev", "version": "7", "licence": "CC0", "texts": 6, "empty": 1}}
    }
    second = tmp_path / "out" / "o.jsonl"
    go(manifest=tmp_path / "out" / "n.jsonl.gz", languages=["cs"], engine="rev", out=second)
    record = json.loads(record_path(second).read_text())
    assert set(record["columns"]) == {"fr", "cs"}


def test_nothing_is_translated_twice(go, engine, manifest, tmp_path):
    go(languages=["fr"], engine="rev")
    assert len(engine.calls) == len(set(engine.calls)) == 6
    first = (tmp_path / "out" / "n.jsonl.gz").read_bytes()
    result = go(languages=["fr"], engine="rev")
    assert len(engine.calls) == 6
    assert (tmp_path / "out" / "n.jsonl.gz").read_bytes() == first
    assert result["translations"][0]["cached"] == 6


def test_the_way_back_is_read_as_back_translations(go, tmp_path):
    result = go(languages=["fr", "cs"], engine="rev", back=True)
    assert [made["column"] for made in result["translations"]] == [
        *("rev", "rev-fr-back"),
        *("rev", "rev-cs-back"),
    ]
    made = list(read_manifest(tmp_path / "out" / "n.jsonl.gz"))
    for example in made:
        backs = example.translations["en"]
        assert backs["rev-fr-back"] == backs["rev-cs-back"] == (example.captions["en"][0], None)
    texts = Texts()
    pairs = caption_pairs(made, texts, source="en", languages=("fr",))
    there = texts.all()
    assert [there[row] for row in pairs.back] == [e.captions["en"][0] for e in made]


def test_the_old_manifest_may_be_the_new_one(go, manifest):
    go(languages=["fr"], engine="rev", out=manifest)
    assert all("fr" in example.translations for example in read_manifest(manifest))


def test_a_new_column_loses_its_old_scores_and_no_others(go, manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(Reverse, "name", "google")
    go(languages=["zh"], engine="rev")
    [first, *_] = read_manifest(tmp_path / "out" / "n.jsonl.gz")
    assert first.quality == {}
    monkeypatch.setattr(Reverse, "name", "baidu")
    go(languages=["zh"], engine="rev")
    [first, *_] = read_manifest(tmp_path / "out" / "n.jsonl.gz")
    assert first.quality == {"zh": {"google": (0.5, None)}}
    assert set(first.translations["zh"]) == {"google", "baidu"}


def test_a_failure_leaves_no_manifest(go, engine, tmp_path):
    engine.fail = True
    with pytest.raises(WeightsError):
        go(languages=["fr"], engine="rev")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"engine": "rev"}, ConfigError, "--to"),
        ({"languages": ["fr"]}, ConfigError, "--engine"),
        ({"languages": ["fr"], "engine": "rev", "out": None}, ConfigError, "--out"),
        ({"report": True, "back": True}, ConfigError, "--back"),
        ({"languages": ["en"], "engine": "rev"}, LanguageError, "--to"),
        ({"languages": ["fr", "tlh"], "engine": "rev"}, LanguageError, "tlh"),
        ({"languages": ["fr", "de"], "engine": "file:a.tsv"}, ConfigError, "{target}"),
        ({"languages": ["fr"], "engine": "rev", "source": "cs"}, ManifestError, "cs"),
        ({"languages": ["fr_FR"], "engine": "rev"}, LanguageError, "write fr-FR"),
        ({"languages": ["fr", "jp"], "engine": "rev"}, LanguageError, "write ja"),
        ({"languages": ["french"], "engine": "rev"}, LanguageError, "ISO 639"),
        ({"languages": ["fr", "xx"], "engine": "rev"}, LanguageError, "'xx'"),
        ({"report": True, "languages": ["fr"]}, LanguageError, "'fr'"),
        ({"report": True, "encoder": "hf:nowhere"}, EncoderError, "nowhere"),
    ],
)
def test_what_does_not_go_together_is_refused(go, engine, tmp_path, options, error, word):
    with pytest.raises(error, match=word.replace("{", r"\{")) as caught:
        go(**options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_damaged_record_is_refused(go, manifest):
    record_path(manifest).write_text("{}")
    with pytest.raises(ManifestError, match=r"m\.translations\.json"):
        go(languages=["fr"], engine="rev")


# --- scores ----------------------------------------------------------------------------------


@scores
def test_scores_are_stored_and_shown(go, small, tmp_path, engine):
    result = go(languages=["fr"], engine="rev", back=True, report=True, encoder=f"hf:{small.text}")
    made = list(read_manifest(tmp_path / "out" / "n.jsonl.gz"))
    for example in made:
        [score, nothing] = example.quality["fr"]["rev"]
        assert 0 <= score <= 1
        assert nothing is None
        assert set(example.quality) == {"zh", "fr"}
    [column] = result["report"]["columns"]
    assert (column["language"], column["sentences"], column["empty"]) == ("fr", 5, 5)
    assert sum(column["histogram"]) == 5
    worst = result["report"]["worst"]
    assert [one["score"] for one in worst] == sorted(one["score"] for one in worst)
    assert worst[0]["parts"]["chrf"] == 1
    assert -1 <= worst[0]["parts"]["cosine"] <= 1
    by_place = {(example.id, 0): example.quality["fr"]["rev"][0] for example in made}
    assert {(one["id"], one["caption"]): one["score"] for one in worst} == by_place
    record = json.loads(record_path(tmp_path / "out" / "n.jsonl").read_text())
    assert record["quality"]["encoder"]["name"] == f"hf:{small.text}"


@scores
def test_a_report_alone_translates_and_writes_nothing(go, engine, small, manifest, tmp_path):
    before = manifest.read_bytes()
    result = go(report=True, out=None, encoder=f"hf:{small.text}")
    assert engine.calls == []
    assert [c["column"] for c in result["report"]["columns"]] == ["google"]
    assert manifest.read_bytes() == before
    assert not (tmp_path / "out").exists()


@scores
def test_cosines_are_not_computed_twice(go, small, monkeypatch):
    from cl2cm.translate.scoring import CosineModel

    first = go(report=True, encoder=f"hf:{small.text}")
    monkeypatch.setattr(CosineModel, "_encode", lambda *_: pytest.fail("encoded again"))
    assert go(report=True, encoder=f"hf:{small.text}") == first


@scores
def test_the_encoder_may_be_left_out(go):
    result = go(report=True, encoder="none")
    assert result["report"]["worst"][0]["parts"]["cosine"] is None


# --- the command line ------------------------------------------------------------------------


@scores
def test_the_command_prints_one_object(engine, manifest, tmp_path, capfd):
    arguments = ["translate", str(manifest), "--to", "fr", "--engine", "rev", "--json", "--report"]
    arguments += ["--encoder", "none", "--out", str(tmp_path / "o.jsonl"), "--back"]
    assert cli([*arguments, "--cache", str(tmp_path / "c"), "--jobs", "2"]) == 0
    captured = capfd.readouterr()
    assert captured.out.count("\n") == 1
    assert json.loads(captured.out)["out"] == str(tmp_path / "o.jsonl")
    assert "rev: en to fr: 6/6" in captured.err


@scores
def test_the_command_prints_a_table_for_people(engine, manifest, tmp_path, capfd):
    arguments = ["translate", str(manifest), "--report", "--encoder", "none"]
    assert cli([*arguments, "--cache", str(tmp_path / "c")]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[1].startswith("zh google")
    assert "the worst 5:" in lines
    assert any("一只狗" in line and "i3[0]" in line for line in lines)


def test_an_unknown_engine_is_one_line_and_exit_code_2(manifest, tmp_path, capfd):
    arguments = ["translate", str(manifest), "--to", "fr", "--engine", "apertum"]
    assert cli([*arguments, "--out", str(tmp_path / "o.jsonl")]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "did you mean 'apertium'" in captured.err
