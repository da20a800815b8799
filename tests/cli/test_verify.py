"""``cl2cm doctor PATH``: it names what is damaged, and repairs what can be made again."""

import json
import shutil
import sqlite3

import pytest

from cl2cm.cli.app import run as cli
from cl2cm.encode.store import FeatureStore
from cl2cm.index.update.journal import JOURNAL
from cl2cm.translate.cache import Origin, TranslationCache
from fixtures.damage import flip_bit
from fixtures.kills import WORK, write_sources
from fixtures.runs import change_record


@pytest.fixture
def doctor(capfd):
    def call(path, *options):
        capfd.readouterr()
        code = cli(["doctor", str(path), "--json", *options])
        found = json.loads(capfd.readouterr().out)
        assert code == (2 if found["damaged"] else 0)
        return found

    return call


@pytest.fixture
def source(tmp_path):
    return write_sources(tmp_path / "source")


@pytest.fixture(params=["run", "store", "index", "manifest"])
def sound(request, trained, source, tmp_path):
    """A sound folder of each kind, and a file in it."""
    out = tmp_path / "out"
    if request.param == "run":
        return shutil.copytree(trained, out), "teacher.safetensors"
    WORK[{"manifest": "prepared"}.get(request.param, request.param)](source, out)
    files = {"store": "00001.safetensors", "index": "vectors-*", "manifest": "prepared.json"}
    return out, files[request.param]


def test_sound_things_are_sound_and_a_changed_bit_is_named(sound, doctor):
    out, pattern = sound
    found = doctor(out)
    assert found["damaged"] == found["without_checksum"] == found["repaired"] == []
    path = next(out.glob(pattern))
    flip_bit(path, 1)
    [told] = doctor(out)["damaged"]
    assert path.name in told


def test_an_edited_manifest_is_told(source, tmp_path, doctor):
    WORK["prepared"](source, tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace("caption 1", "caption 2", 1))
    [told] = doctor(manifest)["damaged"]
    assert "edited or damaged" in told
    (source / "03.png").unlink()
    assert any("no file" in line for line in doctor(manifest)["damaged"])


def test_checksums_are_added_to_a_run_of_an_earlier_version(trained, tmp_path, doctor):
    run = shutil.copytree(trained, tmp_path / "run")
    change_record(run / "contract.json", lambda _: None)
    change_record(run / "provenance.json", lambda made: made.pop("files"))
    assert "teacher.safetensors" in doctor(run)["without_checksum"]
    assert "teacher.safetensors" in doctor(run, "--repair")["repaired"]
    flip_bit(run / "teacher.safetensors", 1)
    assert doctor(run)["damaged"]


def test_checksums_are_added_to_a_store_of_an_earlier_version(source, tmp_path, doctor):
    out = tmp_path / "store"
    WORK["store"](source, out)
    change_record(
        out / "store.json", lambda made: [shard.pop("ids_sha256") for shard in made["shards"]]
    )
    assert doctor(out)["without_checksum"] == ["store.json"]
    doctor(out, "--repair")
    assert doctor(out)["without_checksum"] == []
    FeatureStore.open(out).verify()


@pytest.mark.parametrize("change", ["a row", "the file"])
def test_a_damaged_journal_is_repaired(change, source, tmp_path, doctor):
    out = tmp_path / "index"
    WORK["index"](source, out)
    if change == "a row":
        with sqlite3.connect(out / JOURNAL) as base:
            base.execute("UPDATE vectors SET vector = zeroblob(64) WHERE rowid = 3")
        base.close()
    else:
        (out / JOURNAL).write_bytes(b"no database" * 1000)
    assert len(doctor(out)["damaged"]) == 1
    assert len(doctor(out, "--repair")["repaired"]) == 1
    assert doctor(out)["damaged"] == []
    WORK["index"](source, out)


def test_a_changed_translation_is_dropped(tmp_path, doctor):
    path, origin = tmp_path / "cache.sqlite", Origin("e", "1", "en", "de")
    with TranslationCache(path) as cache:
        cache.add(origin, {"a": "b", "c": "d"})
        cache.add_cosines("m", {("a", "b"): 0.5})
    assert doctor(path)["damaged"] == []
    with sqlite3.connect(path) as base:
        base.execute("UPDATE translations SET translation = 'x' WHERE text = 'a'")
    base.close()
    assert len(doctor(path)["damaged"]) == 1
    doctor(path, "--repair")
    assert doctor(path)["damaged"] == []
    with TranslationCache(path) as cache:
        assert cache.find(origin, ["a", "c"]) == {"c": "d"}


def test_what_is_nothing_of_ours_is_an_error(tmp_path, capfd):
    assert cli(["doctor", str(tmp_path)]) == 2
    assert cli(["doctor", str(tmp_path / "none")]) == 2
    assert "found nothing" in capfd.readouterr().err
    assert cli(["doctor", "--repair"]) == 2
