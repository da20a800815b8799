"""``cl2cm add-language``: the table, the exit code, and what is refused before training."""

import json

import pytest

from cl2cm.cli.app import run
from cl2cm.training.loop import train


@pytest.fixture(scope="module")
def first(settings, tmp_path_factory):
    """A run that knows English and xx."""
    out = tmp_path_factory.mktemp("first") / "run"
    train(settings("translate-train", data={"languages": ["xx"]}, train={"epochs": 15}), out)
    return out


def command(first, small, out, *options):
    manifest = str(small.manifest)
    options = ("--set", "train.epochs=12", *options)
    return ["add-language", str(first), manifest, "--language", "yy", "--out", str(out), *options]


def test_the_table_and_json(first, small, tmp_path, capsys):
    wide = ("--max-regression", "600")
    assert run([*command(first, small, tmp_path / "run", *wide), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {row["language"]: row for row in found["languages"]}
    assert {code: row["role"] for code, row in rows.items()} == {
        "en": "learned",
        "xx": "learned",
        "yy": "new",
    }
    for row in rows.values():
        assert row["difference"] == pytest.approx(row["after"] - row["before"])
        assert row["ci95"][0] <= row["difference"] <= row["ci95"][1]
    assert rows["yy"]["ci95"][0] > 0
    assert found["worse"] == found["not_measured"] == []
    assert run([*command(first, small, tmp_path / "run", *wide), "--resume"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "SumR on val"
    assert [line.split()[:2] for line in lines[2:]] == [
        ["en", "learned"],
        ["xx", "learned"],
        ["yy", "new"],
    ]


def test_a_language_that_got_worse_fails_the_command(first, small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("cl2cm.model.adapter.SHUT", 4.0)  # the adapter is for all languages
    spoil = [
        *("--set", "add_language.regression=0", "--set", "add_language.relation=0"),
        *("--set", "add_language.replay=0", "--set", "add_language.gate=0"),
        *("--set", "add_language.match=0.001", "--set", "train.lr=1", "--set", "train.clip=1e9"),
    ]
    assert run([*command(first, small, tmp_path / "run", *spoil), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert "en" in found["worse"]
    assert (tmp_path / "run" / "provenance.json").exists()
    wide = [*command(first, small, tmp_path / "run", *spoil), "--resume"]
    assert run(wide) == 1
    assert "worse by more than 1 SumR: en" in capsys.readouterr().out.splitlines()[-1]
    assert run([*wide, "--max-regression", "600"]) == 0


def test_what_cannot_be_measured_is_refused_before_training(first, small, tmp_path, capsys):
    lines = [json.loads(line) for line in small.manifest.read_text().splitlines()]
    for line in lines:
        line["image"] = f"gone/{line['id']}.png"
    parallel = tmp_path / "parallel.jsonl"
    parallel.write_text("\n".join(json.dumps(line) for line in lines))
    words = command(first, small, tmp_path / "run", "--text-only", "--max-regression", "600")
    words[2] = str(parallel)
    assert run(words) == 2
    assert "name a manifest that has them with --evaluate-on" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert run([*words, "--evaluate-on", str(small.manifest), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["languages"]) == 3
    for line in lines:
        line["captions"] = {"en": line["captions"]["en"]} if line["split"] == "train" else {}
    parallel.write_text("\n".join(json.dumps(line) for line in lines))
    assert run(words) == 2
    assert "captions of 0 items" in capsys.readouterr().err
