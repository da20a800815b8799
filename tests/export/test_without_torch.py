"""An exported model is searched, indexed and served where torch cannot be imported."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cl2cm.cli.app import run as cli
from fixtures import world

BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""
TRAINING = ("torch", "transformers", "safetensors", "onnx", "tensorboard", "huggingface_hub")
COMMAND = "from cl2cm.cli.app import main; main(sys.argv[1:])"


@pytest.fixture
def bare(tmp_path):
    """Runs code in a process without the packages of training."""

    def call(code, *arguments, check=True):
        whole = BLOCKER.format(names=TRAINING) + code
        result = subprocess.run(
            [sys.executable, "-c", whole, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert not check or result.returncode == 0, result.stderr
        return result

    return call


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, colour in enumerate(world.COLOURS):
        for shape in world.SHAPES:
            world.draw(colour, shape, number).save(folder / f"{colour}-{shape}.png")
    return folder


def test_torch_is_not_importable(bare):
    result = bare("import torch", check=False)
    assert "No module named 'torch'" in result.stderr


def test_index_search_and_evaluate(bare, exports, photos, small, tmp_path, trained, capsys):
    made = bare(COMMAND, "index", exports / "int8", photos, tmp_path / "index", "--json")
    assert json.loads(made.stdout)["items"] == 24
    found = bare(COMMAND, "search", tmp_path / "index", "red circle", "--json")
    hits = json.loads(found.stdout)["hits"]
    assert len(hits) == 10
    again = bare(COMMAND, "index", exports / "int8", photos, tmp_path / "index", "--json")
    assert json.loads(again.stdout)["encoded"] == 0
    measured = bare(COMMAND, "evaluate", exports / "fp32", small.manifest, "--json")
    report = json.loads(measured.stdout)["languages"]
    both = bare(COMMAND, "compare", exports / "fp32", exports / "int8", small.manifest, "--json")
    assert {row["language"] for row in json.loads(both.stdout)["tests"]} >= set(report)
    assert cli(["evaluate", str(trained), str(small.manifest), "--json"]) == 0
    of_run = json.loads(capsys.readouterr().out)["languages"]
    assert {code: row["SumR"] for code, row in report.items()} == {
        code: pytest.approx(row["SumR"], abs=5)  # stored features are float16
        for code, row in of_run.items()
    }


def test_serve(bare, exports, photos, tmp_path):
    pytest.importorskip("fastapi")
    bare(COMMAND, "index", exports / "int8", photos, tmp_path / "index")
    code = """
import cl2cm
from cl2cm.serve import create_app
from starlette.testclient import TestClient

with TestClient(create_app(cl2cm.open("index"), hosts=None)) as client:
    answer = client.get("/api/v1/search", params={"q": "red circle", "k": 3})
    print(answer.status_code, len(answer.json()["hits"]))
assert "torch" not in sys.modules
"""
    assert bare(code).stdout.split() == ["200", "3"]


def test_python(bare, exports, photos, tmp_path):
    code = """
import cl2cm
model = cl2cm.load(sys.argv[1])
index = cl2cm.build_index(model, "photos", "index")
print(len(index), len(cl2cm.open("index").search("red", k=2)))
try:
    cl2cm.train("recipe.toml", "run")
except cl2cm.CL2CMError as error:
    print(error.remedy)
"""
    lines = bare(code, exports / "fp32").stdout.splitlines()
    assert lines == ["24 2", "run: pip install 'cl2cm[train]'"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "index", "red"),
        ("index", "run", "photos", "new"),
        ("evaluate", "run", "manifest.jsonl"),
        ("export", "run", "out"),
        ("align", "run", "a", "b"),
        ("train", "recipe.toml"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_that_needs_torch_says_what_to_install(
    arguments, bare, photos, tmp_path, trained, small, settings
):
    from cl2cm.model.config import to_toml

    shutil.copytree(trained, tmp_path / "run")
    shutil.copy(small.manifest, tmp_path / "manifest.jsonl")
    (tmp_path / "recipe.toml").write_text(to_toml(settings("cl2cm")))
    if arguments[0] == "search":
        assert cli(["index", str(tmp_path / "run"), str(photos), str(tmp_path / "index")]) == 0
    result = bare(COMMAND, *arguments, check=False)
    assert result.returncode == 2, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert line.endswith("run: pip install 'cl2cm[train]'")


@pytest.mark.parametrize("arguments", [("--help",), ("doctor", "--json"), ("index", "--help")])
def test_commands_that_need_no_model(arguments, bare):
    assert bare(COMMAND, *arguments).stdout


# --- one space of vectors ----------------------------------------------------------------------


def test_indexes_of_run_and_export_are_interchangeable(exports, trained, photos, tmp_path, capsys):
    def ids(index, model):
        arguments = ["search", str(index), "red circle", "--run", str(model), "--json"]
        assert cli(arguments) == 0
        return [hit["id"] for hit in json.loads(capsys.readouterr().out)["hits"]]

    made_by_run, made_by_export = tmp_path / "a", tmp_path / "b"
    assert cli(["index", str(trained), str(photos), str(made_by_run)]) == 0
    assert cli(["index", str(exports / "fp32"), str(photos), str(made_by_export)]) == 0
    capsys.readouterr()
    wanted = ids(made_by_run, trained)
    assert ids(made_by_run, exports / "fp32") == wanted
    assert ids(made_by_export, trained) == wanted
    assert set(ids(made_by_run, exports / "int8")[:3]) & set(wanted[:5])


def test_an_export_of_another_model_is_refused(exports, trained, photos, tmp_path, capsys):
    export = shutil.copytree(exports / "fp32", tmp_path / "other")
    path = export / "contract.json"
    contract = json.loads(path.read_text("utf-8"))
    contract["model"] = contract["fingerprint"] = "0" * 64
    path.write_text(json.dumps(contract))
    index = tmp_path / "index"
    assert cli(["index", str(trained), str(photos), str(index)]) == 0
    assert cli(["search", str(index), "red", "--run", str(export)]) == 2
    assert "expected an index of the model 000" in capsys.readouterr().err
    assert cli(["index", str(export), str(photos), str(index)]) == 2
    assert "--rebuild" in capsys.readouterr().err


# --- the wheel ---------------------------------------------------------------------------------


@pytest.mark.skipif(
    os.environ.get("CL2CM_TEST_WHEEL") != "1", reason="installs packages: CL2CM_TEST_WHEEL=1"
)
def test_the_wheel_in_a_fresh_environment(tmp_path, exports):
    script = Path(__file__).parents[1] / "export" / "wheel.sh"
    subprocess.run(["bash", str(script), str(tmp_path / "env"), str(exports / "int8")], check=True)
