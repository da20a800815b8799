"""A folder of one's own: what is in it, and the commands and the recipe that are written for it."""

import json
import shlex

import pytest

from cl2cm.cli import own_data
from cl2cm.cli.app import run
from cl2cm.methods.settings import load_config


@pytest.fixture
def engines(monkeypatch):
    """Let the engines be those of a test."""

    def there(**chosen):
        monkeypatch.setattr(
            own_data, "_opens", lambda spec, _source, target: chosen.get(target) == spec
        )

    there()
    return there


def started(bench, *arguments):
    bench.capfd.readouterr()
    out = ["--out", str(bench.folder / "mine"), "--json"]
    assert run(["init", str(bench.pictures), *map(str, arguments), *out]) == 0
    return json.loads(bench.capfd.readouterr().out)


def test_a_folder_with_captions_and_engines(bench, engines, monkeypatch):
    monkeypatch.setattr("cl2cm.cli.own_data.FEW", 1)
    bench.write("pictures/captions.csv", "file,caption\nred.png,red square\n")
    engines(es="apertium", pt="bergamot", fr="apertium:en-ca-fr")
    found = started(bench)
    assert (found["with_captions"], found["languages"]) == (1, ["en"])
    assert found["engines"] == {"es": "apertium", "pt": "bergamot", "fr": "apertium:en-ca-fr"}
    names = [shlex.split(line)[1] for line in found["commands"]]
    assert names == [
        *("doctor", "prepare", "translate", "translate", "translate"),
        *("train", "evaluate", "index", "search", "serve"),
    ]
    config = load_config(found["recipe"])
    assert config.data.manifest == str(bench.folder / "mine" / "translated.jsonl")
    assert config.network.layers == 0
    script = (bench.folder / "mine" / "commands.sh").read_text()
    assert script.splitlines()[3:] == found["commands"]


def test_the_recipe_has_as_many_steps_for_any_number_of_captions(bench, engines):
    engines(es="apertium")
    table = ["file,caption", *(f"red.png,red square {i}" for i in range(520))]
    bench.write("pictures/captions.csv", "\n".join(table) + "\n")
    many = load_config(started(bench)["recipe"])
    assert many.train.batch_size == own_data.BATCH
    assert (many.train.epochs, many.sections["teacher"]["epochs"]) == (20, 100)  # of two steps
    bench.write("pictures/captions.csv", "file,caption\nred.png,red square\n")
    few = load_config(started(bench)["recipe"])
    assert (few.train.epochs, few.sections["teacher"]["epochs"]) == (40, 200)  # of one step
    assert own_data.epochs_for(100_000, own_data.STEPS) == own_data.LEAST_EPOCHS


def test_of_few_captions_none_are_left_to_measure_with(bench, engines):
    bench.write("pictures/captions.csv", "file,caption\nred.png,red square\n")
    engines(es="apertium")
    assert "evaluate" not in [shlex.split(line)[1] for line in started(bench)["commands"]]
    assert run(["init", str(bench.pictures), "--out", str(bench.folder / "mine")]) == 0
    told = bench.capfd.readouterr().out
    assert "Few captions: 1 items" in told
    assert "Translations by apertium: es" in told


def test_a_folder_with_captions_and_no_engine(bench, engines):
    bench.write("pictures/red.txt", "rotes Quadrat\n")
    found = started(bench, "--language", "de")
    assert found["engines"] == {}
    assert "translate" not in " ".join(found["commands"])
    config = load_config(found["recipe"])
    assert (config.method, config.data.source) == ("zero-shot", "de")
    assert config.data.manifest == str(bench.folder / "mine" / "data" / "manifest.jsonl")


def test_a_folder_without_captions(bench, engines):
    assert started(bench)["commands"] == []
    assert run(["init", str(bench.pictures), "--out", str(bench.folder / "mine")]) == 0
    assert "captions.csv" in bench.capfd.readouterr().out
    assert not (bench.folder / "mine").exists()


def test_what_init_refuses(bench, engines):
    bench.refused(["init", bench.folder / "none"], "no such folder")
    bench.refused(["init", bench.pictures, "--engine", "apertium"], "--to")
    bench.refused(["init", bench.pictures, "--out", bench.write("a.txt", "")], "a.txt")


def test_the_packaged_recipe_is_known_by_its_name(bench):
    bench.refused(["train", "own", "--out", bench.out], "multilingual-e5-small")  # it was read
