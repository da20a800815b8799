import errno
import io
import json
import os
import subprocess
import sys

import pytest
import typer

from cl2cm.cli.app import app, main, run, show
from cl2cm.model.config import to_toml

GROUP = typer.main.get_command(app)
COMMANDS = list(GROUP.commands)
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
    text = " ".join(capfd.readouterr().out.split())
    assert "Usage:" in text
    for parameter in GROUP.commands[command].params:
        assert parameter.help, parameter.name
        assert " ".join(parameter.help.split()) in text, parameter.name
        for name in parameter.opts if parameter.param_type_name == "option" else ():
            assert name in text


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from cl2cm.cli.app import run; run(['--help']);"
        "print([m for m in ('torch','transformers','onnxruntime','fastapi') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_import_loads_nothing_heavy():
    code = "import sys, cl2cm; print(bool({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_an_unexpected_failure_is_not_hidden(monkeypatch):
    def fails(*_args, **_options):
        raise RuntimeError("a bug")

    monkeypatch.setattr("cl2cm.cli.doctor.report", fails)
    with pytest.raises(RuntimeError, match="a bug"):
        run(["doctor"])


def test_exit_codes_of_the_program():
    """An unexpected failure is 1, with its traceback; 0 and 2 are expected ends."""
    code = "import sys, cl2cm.cli.app as c; c.show = lambda *a, **k: 1 / 0; c.main(['doctor'])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert result.returncode == 1
    assert b"ZeroDivisionError" in result.stderr
    for arguments, expected in ((["--help"], 0), (["serch"], 2), (["search", "none", "a"], 2)):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == expected


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_results_in_any_encoding_of_the_terminal(encoding, monkeypatch):
    value = {"hits": ["雪", "Hündchen", "\udcff"]}
    for as_json in (True, False):
        raw = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding, newline=""))
        show(value, as_json=as_json, lines=value["hits"])
        text = raw.getvalue().decode(encoding)
        if as_json:
            assert json.loads(text) == value
        else:
            assert len(text.splitlines()) == 3


def test_output_to_a_full_disk(monkeypatch, capfd):
    def fails(*_arguments, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("cl2cm.cli.app.show", fails)
    assert run(["doctor"]) == 2
    assert capfd.readouterr().err.startswith("error: output: expected free disk space")


def test_a_reader_that_goes_early():
    """As of ``cl2cm doctor | head -0``: no traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    code = "import cl2cm.cli.app as c; c.main(['doctor'])"
    result = subprocess.run(
        [sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (result.returncode, result.stderr) == (1, b"")


def test_usage_is_one_line(capfd):
    assert run(["search"]) == 2
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
    left = {"skipped", "broken", "left_out"}
    assert set(stored) == {"store", "encoder", "items", "width", "rate"} | left
    code, trained = call(
        capfd, "train", tmp_path / "config.toml", "--out", tmp_path / "run", "--json"
    )
    assert code == 0
    assert trained["method"] == "translate-train"
    keys = {"method", "config", "model", "data", "validation_SumR", "seconds", "finished", "files"}
    assert set(trained) == {"run", "versions", "translates_queries", "licences", *keys}
    code, measured = call(capfd, "evaluate", tmp_path / "run", small.manifest, "--json")
    assert code == 0
    assert set(measured) == {"run", "split", "languages", "leaks", "skipped"}
    assert set(measured["languages"]) == {"en", "xx", "yy"}
    xx = measured["languages"]["xx"]
    assert set(xx) == {*SIDES, "SumR", "queries", "gallery"}
    for side in SIDES:
        assert set(xx[side]) == {"R@1", "R@5", "R@10", "MedR", "mAP"}
    assert xx["queries"] == xx["gallery"] == 24
    pictures = small.manifest.parent / "images"
    code, made = call(capfd, "index", tmp_path / "run", pictures, tmp_path / "i", "--json")
    assert code == 0
    assert made["items"] == 144
    assert set(made) == {"index", "items", "encoded", "kept", "dropped", "model", "dim"} | left
    code, found = call(capfd, "search", tmp_path / "i", "red circle", "-k", "3", "--json")
    assert code == 0
    assert set(found) == {"query", "language", "hits", "offset", "more", "total", "ms"}
    assert set(found["ms"]) == {"encode", "search"}
    keys = {"id", "score", "path", "start", "end", "match"}
    assert [set(hit) for hit in found["hits"]] == [keys] * 3
    scores = [hit["score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True)


def test_doctor_in_json(capfd):
    code, report = call(capfd, "doctor", "--json")
    assert code == 0
    assert set(report) == {"cl2cm", "python", "core", "extras", "cache", "weights"}
    assert report["core"]["onnxruntime"]
    assert report["extras"]["train"]["torch"]
    assert "fastapi" in report["extras"]["runtime"]
    assert "torch" not in {**report["core"], **report["extras"]["runtime"]}
    assert "fastapi" in report["extras"]["serve"]
    assert {"fastapi", "emoji"} <= report["extras"]["demo"].keys()
    assert {"faiss-cpu", "qdrant-client", "av"} <= report["extras"]["all"].keys()
    assert not report["extras"]["faiss"].keys() & report["core"].keys()
    assert report["weights"] == {
        "multilingual-e5-small": False,
        "efficientnet-lite0": False,
        "efficientnet-lite2": False,
    }
