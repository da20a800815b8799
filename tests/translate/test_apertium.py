import os
import re
import shutil
import stat

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from cl2cm.errors import ConfigError, LanguageError, WeightsError
from cl2cm.translate import apertium, open_translator

INSTALL = apertium.INSTALL
CAPTIONS = [
    "A black dog runs through the snow .",
    "Two men on a boat",
    "There is a girl with pigtails sitting in front of a rainbow painting .",
    "A black dog runs through the snow .",
    "A skateboarder in a red T-shirt ; he jumps !",
]


def installed(*pairs):
    if shutil.which("apertium") is None:
        return False
    return set(pairs) <= set(apertium.installed_modes(apertium.folder()))


def real(*pairs):
    return pytest.mark.skipif(not installed(*pairs), reason=f"needs pairs: {INSTALL}")


spanish = real(("en", "es"))
french = real(("en", "ca"), ("ca", "fr"))


# --- a program that is made here -------------------------------------------------------------

PROGRAM = """#!/bin/sh
if [ "$1" = "-V" ]; then echo "Apertium 9.9"; exit 0; fi
echo "$5" >> "{log}"
case "$5" in
    bad-xx) echo "no such dictionary" >&2; exit 1;;
    cut-xx) printf '.[][\\n]a.[][\\n]';;
    *) sed 's/house/casa/g';;
esac
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Installs modes of a program that knows one word; gives the log of its runs."""
    log, bin_folder, modes = tmp_path / "log", tmp_path / "bin", tmp_path / "data" / "modes"
    bin_folder.mkdir()
    modes.mkdir(parents=True)
    file = bin_folder / "apertium"
    file.write_text(PROGRAM.format(log=log))
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("APERTIUM_DATADIR", str(tmp_path / "data"))
    data = tmp_path / "rules.bin"
    data.write_text("rules")

    def install(*names):
        for name in names:
            (modes / f"{name}.mode").write_text(f"lt-proc '{data}'")
        return log

    return install


def test_chains_are_the_shortest_and_go_through_the_same_languages(program):
    program("eng-spa", "spa-eng", "eng-cat", "cat-eng", "cat-por", "spa-por", "fra-cat", "cat-fra")
    modes = apertium.installed_modes(apertium.folder())
    chain = apertium.shortest_chain
    assert chain(modes, "en", "es") == ["en", "es"]
    assert chain(modes, "en", "fr") == ["en", "ca", "fr"]
    assert chain(modes, "en", "pt") == ["en", "es", "pt"]  # as short as by ca, and better
    assert chain(modes, "fr", "es") == ["fr", "ca", "en", "es"]
    assert chain(modes, "pt", "en") is None
    assert chain(modes, "en", "en") is None
    assert open_translator("apertium", "en", "fr").modes == ("eng-cat", "cat-fra")


def test_variants_are_targets(program):
    program("es-pt", "es-pt_BR", "eng-cat_valencia", "eng-cat_iec2017", "fra-cat_pre2017")
    assert set(apertium.installed_modes(apertium.folder())) == {
        ("es", "pt"),
        ("es", "pt-BR"),
        ("en", "ca-valencia"),
    }


def test_every_step_of_a_chain_runs_once_for_a_batch(program):
    log = program("eng-cat", "cat-fra")
    engine = open_translator("apertium", "en", "fr")
    assert engine.translate(["a house", "", " a\nred \x00 house "]) == ["a casa", "", "a red casa"]
    assert log.read_text().split() == ["eng-cat", "cat-fra"]
    assert engine.translate([]) == []
    assert log.read_text().split() == ["eng-cat", "cat-fra"]


def test_a_named_chain_serves_both_ways(program):
    program("eng-cat", "cat-eng", "cat-fra", "fra-cat", "eng-fra")
    there = open_translator("apertium:en-ca-fr", "en", "fr")
    assert there.modes == ("eng-cat", "cat-fra")
    assert there.name == "apertium-via-ca"
    assert open_translator("apertium:en-ca-fr", "fr", "en").modes == ("fra-cat", "cat-eng")
    assert open_translator("apertium", "en", "fr").modes == ("eng-fra",)


@pytest.mark.parametrize("chain", ["en-ca-es", "en-xx-fr", "fr", "ca-fr", ""])
def test_a_chain_that_does_not_lead_there_is_refused(program, chain):
    program("eng-cat", "cat-por")
    with pytest.raises(LanguageError):
        open_translator(f"apertium:{chain}", "en", "fr")


def test_a_direction_without_pairs_says_which_there_are(program):
    program("eng-cat", "cat-fra", "spa-eng")
    with pytest.raises(LanguageError, match=r"lead to: ca, fr, found 'de'.*apt-cache search"):
        open_translator("apertium", "en", "de")


def test_without_the_program_the_install_line_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="apt-get install apertium"):
        open_translator("apertium", "en", "es")


@pytest.mark.parametrize(("mode", "found"), [("bad-xx", "no such dictionary"), ("cut-xx", "0")])
def test_a_broken_pair_is_an_error_and_no_short_answer(program, mode, found):
    program(mode)
    engine = open_translator("apertium", mode[:3], "xx")
    with pytest.raises(WeightsError, match=rf"apertium mode {mode}: expected 2.*{found}"):
        engine.translate(["a", "b"])


def test_the_version_changes_with_the_data(program, tmp_path):
    program("eng-spa", "eng-cat")
    before = open_translator("apertium", "en", "es").version
    assert before.startswith("9.9 eng-spa ")
    assert open_translator("apertium", "en", "ca").version != before
    apertium._mode_hash.cache_clear()
    (tmp_path / "rules.bin").write_text("other rules")
    assert open_translator("apertium", "en", "es").version != before


@pytest.fixture(autouse=True)
def _forget_versions():
    apertium._mode_hash.cache_clear()
    apertium._program_version.cache_clear()


# --- the program itself ----------------------------------------------------------------------


@spanish
def test_it_says_the_same_in_spanish():
    [dog, men] = open_translator("apertium", "en", "es").translate(CAPTIONS[:2])
    assert {"perro", "nieve"} <= set(dog.split())
    assert {"dos", "hombres"} <= set(men.lower().split())


@real(("en", "es"), ("en", "ca"))
@pytest.mark.parametrize("target", ["es", "ca"])
def test_a_batch_changes_nothing(target):
    engine = open_translator("apertium", "en", target)
    alone = [engine.translate([text])[0] for text in CAPTIONS[:3]]
    assert engine.translate(CAPTIONS[:3]) == alone
    assert engine.translate(CAPTIONS[2::-1]) == alone[::-1]
    assert all(made and made != text for made, text in zip(alone, CAPTIONS[:3], strict=True))


@french
def test_a_text_stands_at_the_begin_of_a_sentence():
    [made] = open_translator("apertium", "en", "fr").translate(["There is a girl in the water ."])
    assert made.startswith("Il y a")


@spanish
def test_unknown_words_have_no_mark_and_signs_stay():
    engine = open_translator("apertium", "en", "es")
    [made] = engine.translate(["A xyzzy dog and a qwertyish plugh"])
    assert {"xyzzy", "qwertyish", "plugh"} <= set(made.split())
    assert not re.search(r"[*#@\\]", made)
    [made] = engine.translate(["The #1 *star* of @home [a] {b} ^c$ /d\\ <e> ~"])
    for sign in "#*@[]{}^$/\\<>":
        assert sign in made


@spanish
@settings_of_hypothesis(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=2, deadline=None
)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=40))
def test_odd_texts_keep_their_places(texts):
    engine = open_translator("apertium", "en", "es")
    framed = [text for odd in texts for text in (odd, "A house .")]
    made = engine.translate(framed)
    assert len(made) == len(framed)
    assert made[1::2] == ["Una casa ."] * len(texts)
