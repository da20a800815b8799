import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from cl2cm.errors import StorageError, StoreError, WeightsError
from cl2cm.translate.cache import TranslationCache
from cl2cm.translate.pipeline import translate_texts
from fixtures.engines import HERE, TEXTS, Backwards


@pytest.fixture
def cache(tmp_path):
    with TranslationCache(tmp_path / "folder" / "c.sqlite") as opened:
        yield opened


@pytest.mark.parametrize("jobs", [0, 1, 3])
def test_each_distinct_text_is_translated_once(cache, jobs):
    engine = Backwards()
    done = translate_texts(engine, [*TEXTS, *TEXTS, " text  99 ", "nothing"], cache, jobs=jobs)
    distinct = {*TEXTS, "text 99", "nothing"}
    assert Counter(engine.asked) == Counter(distinct)
    assert done.cached == 0
    assert done.made == {text: "" if text == "nothing" else text[::-1] for text in distinct}
    assert engine.most <= max(jobs, os.cpu_count() if jobs == 0 else 1)


def test_engines_and_cache_get_one_spelling(cache):
    engine = Backwards()
    cache.add(HERE, {"cafe\u0301": "of old", "chien": "e\u0301tait\u200b la\u0300"})
    done = translate_texts(engine, ["cafe\u0301", "caf\u00e9", "ca\u00adf\u00e9", "chien"], cache)
    assert engine.asked == ["caf\u00e9"]  # the old spelling's translation is not taken
    assert done.made == {"caf\u00e9": "\u00e9fac", "chien": "\u00e9tait l\u00e0"}
    assert done.cached == 1


def test_batches_are_of_like_length_and_the_longest_come_first(cache):
    engine = Backwards()
    translate_texts(engine, TEXTS, cache, jobs=1)
    lengths = [len(text) for text in engine.asked]
    assert lengths == sorted(lengths, reverse=True)
    assert {len(batch) for batch in engine.batches[:-1]} == {engine.batch}


def test_what_is_known_is_not_asked_for_again(cache):
    translate_texts(Backwards(), TEXTS[:30], cache)
    engine = Backwards()
    told = []

    def on_start(total, known):
        told.append((total, known))
        return told.append

    done = translate_texts(engine, TEXTS, cache, jobs=1, on_start=on_start)
    assert sorted(engine.asked) == sorted(TEXTS[30:])
    assert done.cached == 30
    assert told[0] == (100, 30)
    assert sum(told[1:]) == 70
    again = Backwards()
    assert translate_texts(again, TEXTS, cache) == (done.made, 100)
    assert again.batches == []


@pytest.mark.parametrize("change", ["name", "version", "source", "target"])
def test_another_engine_version_or_direction_is_asked_anew(cache, change):
    translate_texts(Backwards(), TEXTS[:3], cache)
    engine = Backwards()
    setattr(engine, change, "other")
    assert translate_texts(engine, TEXTS[:3], cache).cached == 0
    assert len(engine.asked) == 3


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_was_done_before_a_failure_is_kept(cache, jobs):
    engine = Backwards(fail_after=5)
    with pytest.raises(WeightsError):
        translate_texts(engine, TEXTS, cache, jobs=jobs)
    kept = cache.find(HERE, TEXTS)
    assert len(kept) >= 8 * (5 - jobs)
    again = Backwards()
    translate_texts(again, TEXTS, cache)
    assert not set(again.asked) & set(kept)
    assert {*again.asked, *kept} == set(TEXTS)


def test_an_engine_that_loses_a_text_is_refused(cache):
    engine = Backwards()
    engine.translate = lambda texts: ["x"] * (len(texts) - 1)
    with pytest.raises(WeightsError, match="expected 8 translations, found 7"):
        translate_texts(engine, TEXTS, cache)
    assert cache.find(HERE, TEXTS) == {}


SCRIPT = """
import json, os, sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from fixtures.engines import Backwards, TEXTS
from cl2cm.translate.cache import TranslationCache
from cl2cm.translate.pipeline import translate_texts

class Logged(Backwards):
    def translate(self, texts):
        made = super().translate(texts)
        time.sleep({pause})
        with open({log!r}, "a") as log:  # a short line is written whole
            log.write(json.dumps(list(texts)) + "\\n")
        return made

with TranslationCache(Path({path!r})) as cache:
    translate_texts(Logged(), TEXTS, cache, jobs=2)
"""


def start(tmp_path, pause):
    code = SCRIPT.format(
        tests=str(Path(__file__).parents[1]),
        pause=pause,
        log=str(tmp_path / "log"),
        path=str(tmp_path / "c.sqlite"),
    )
    return subprocess.Popen([sys.executable, "-c", code])


def logged(tmp_path):
    log = tmp_path / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [text for line in lines for text in json.loads(line)]


def test_a_killed_run_goes_on_and_translates_nothing_kept_again(tmp_path):
    process = start(tmp_path, 0.03)
    while len(logged(tmp_path)) < 40:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with TranslationCache(tmp_path / "c.sqlite") as cache:
        kept = cache.find(HERE, TEXTS)
    before = len(logged(tmp_path))
    assert 24 <= len(kept) < len(TEXTS)
    assert start(tmp_path, 0).wait() == 0
    after = logged(tmp_path)[before:]
    assert not set(after) & set(kept)
    assert Counter(after) == Counter(set(TEXTS) - set(kept))


def test_two_processes_share_the_work_and_repeat_none(tmp_path):
    processes = [start(tmp_path, 0.01) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert Counter(logged(tmp_path)) == Counter(TEXTS)


# --- the cache -------------------------------------------------------------------------------


@settings_of_hypothesis(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.text(st.characters(exclude_categories=["Cs"])),
    )
)
def test_texts_come_back_as_they_were(cache, made):
    cache.add(HERE, made)
    assert cache.find(HERE, list(made)) == made


def test_many_texts_are_found_at_once(cache):
    made = {f"t{i}": f"u{i}" for i in range(3000)}
    cache.add(HERE, made)
    assert cache.find(HERE, [*made, "unknown"]) == made


def test_cosines_are_known_by_model_and_pair(cache):
    made = {("a", "b"): 0.25, ("b", "a"): -1.0}
    cache.add_cosines("m", made)
    assert cache.find_cosines("m", [*made, ("a", "a")]) == made
    assert cache.find_cosines("n", list(made)) == {}


def test_all_of_an_addition_or_none_of_it(cache):
    with pytest.raises(StoreError):
        cache.add(HERE, {"a": "b", "c": object()})
    assert cache.find(HERE, ["a", "c"]) == {}
    cache.add(HERE, {"a": "b"})


@pytest.mark.parametrize(
    "data", [b"not a data base at all" * 100, b"SQLite format 3\0" + b"x" * 90]
)
def test_a_damaged_file_says_what_to_do(tmp_path, data):
    path = tmp_path / "c.sqlite"
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"c\.sqlite.*remove the file"):
        TranslationCache(path)
    assert path.read_bytes() == data


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        TranslationCache(tmp_path / "file" / "c.sqlite")


def test_by_default_it_lies_in_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CL2CM_CACHE", str(tmp_path))
    with TranslationCache() as cache:
        assert cache.path == tmp_path / "translations.sqlite"
    with sqlite3.connect(tmp_path / "translations.sqlite") as base:
        assert base.execute("SELECT count(*) FROM translations").fetchone() == (0,)
