import json
import subprocess
import sys

import pytest

import cl2cm
from cl2cm.cli import app, run
from cl2cm.config import to_toml

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]
SIDES = ("text_to_vision", "vision_to_text")


def call(capfd, *arguments):
    """Exit code, and the one JSON object on standard output."""
    capfd.readouterr()
    code = run([str(argument) for argument in arguments])
    out = capfd.readouterr().out
    assert out.count("\n") == 1
    return code, json.loads(out)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_describes_every_option(command, capfd):
    assert run([command, "--help"]) == 0
    text = capfd.readouterr().out
    assert "Usage:" in text
    described = text.split("Options:")[1] if "Options:" in text else ""
    for line in described.splitlines():
        if line.strip().startswith("-") and "--help" not in line:
            words = line.strip().split("  ")
            next_lines = described.split(line, 1)[1].splitlines()[1:2]
            assert len([w for w in words if w]) > 1 or next_lines[0].startswith("    "), line


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from cl2cm.cli import run; run(['--help']);"
        "print([m for m in ('torch','transformers','onnxruntime','fastapi') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_import_loads_nothing_heavy():
    code = "import sys, cl2cm; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_public_names():
    assert cl2cm.__all__ == [
        "CL2CMError",
        "Config",
        "Example",
        "FeatureStore",
        "Hit",
        "Index",
        "RetrievalModel",
        "Searcher",
        "build_index",
        "evaluate",
        "load",
        "load_config",
        "read_manifest",
        "scan_folder",
        "train",
    ]
    for name in cl2cm.__all__:
        assert getattr(cl2cm, name).__doc__
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = cl2cm.nothing_of_that_name


def test_an_unexpected_failure_is_not_hidden(monkeypatch):
    def fails(*_args, **_options):
        raise RuntimeError("a bug")

    monkeypatch.setattr("cl2cm.doctor.report", fails)
    with pytest.raises(RuntimeError, match="a bug"):
        run(["doctor"])


def test_usage_is_one_line(capfd):
    assert run(["search", "index"]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: Missing argument")


def test_the_whole_way_in_json(small, settings, tmp_path, capfd):
    (tmp_path / "config.toml").write_text(to_toml(settings("translate-train")))
    spec = f"onnx:{small.vision}"
    code, stored = call(
        capfd, "encode", small.manifest, "--encoder", spec, "--out", tmp_path / "s", "--json"
    )
    assert code == 0
    assert stored["items"] == 144
    assert stored["skipped"] == []
    code, trained = call(
        capfd, "train", tmp_path / "config.toml", "--out", tmp_path / "run", "--json"
    )
    assert code == 0
    assert trained["method"] == "translate-train"
    code, measured = call(capfd, "evaluate", tmp_path / "run", small.manifest, "--json")
    assert code == 0
    assert set(measured) == {"run", "split", "languages"}
    assert set(measured["languages"]) == {"en", "xx", "yy"}
    german = measured["languages"]["xx"]
    assert set(german) == {*SIDES, "SumR", "queries", "gallery"}
    for side in SIDES:
        assert set(german[side]) == {"R@1", "R@5", "R@10", "MedR", "mAP"}
    assert german["queries"] == german["gallery"] == 24
    pictures = small.manifest.parent / "images"
    code, made = call(capfd, "index", tmp_path / "run", pictures, tmp_path / "i", "--json")
    assert code == 0
    assert made["items"] == 144
    code, found = call(capfd, "search", tmp_path / "i", "red circle", "-k", "3", "--json")
    assert code == 0
    assert set(found) == {"query", "hits", "ms"}
    assert set(found["ms"]) == {"encode", "search"}
    assert [set(hit) for hit in found["hits"]] == [{"id", "score", "path", "start", "end"}] * 3
    scores = [hit["score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True)


def test_doctor_in_json(capfd):
    code, report = call(capfd, "doctor", "--json")
    assert code == 0
    assert report["core"]["torch"]
    assert report["weights"] == {
        "multilingual-e5-small": False,
        "efficientnet-lite0": False,
        "efficientnet-lite2": False,
    }
