"""What the project says of methods and their place."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cl2cm
from cl2cm.methods.registry import METHODS, method_class

SOURCE = Path(cl2cm.__file__).parent


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_the_name_that_it_is_registered_under(name):
    assert method_class(name).name == name


def test_no_other_room_imports_a_method():
    """The training loop, the data path and evaluation reach methods through the registry alone."""
    modules = {f"cl2cm.methods.{entry.partition(':')[0]}" for entry in METHODS.values()}
    for path in SOURCE.rglob("*.py"):
        if path.parent.name == "methods":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.module not in modules, path
            elif isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & modules, path


def test_the_shared_path_knows_no_methods_name():
    """Names of one word, such as cl2cm, are words of other things, too."""
    names = {name for name in METHODS if name not in ("cl2cm", "smoothing", "supervised")}
    for path in (*(SOURCE / "training").glob("*.py"), SOURCE / "evaluation" / "evaluate.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant):
                assert node.value not in names, path


def test_loading_a_run_imports_no_method():
    code = "import sys, cl2cm.model.checkpoint; print([m for m in sys.modules if 'methods' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cl2cm.methods" not in done.stdout


def test_names_are_listed_without_torch():
    code = (
        "import sys; from cl2cm.methods.registry import method_names; "
        "assert 'cl2cm' in method_names(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_help_of_train_names_every_method(capsys):
    from cl2cm.cli.app import run

    assert run(["train", "--help"]) == 0
    words = capsys.readouterr().out.replace(",", " ").replace(".", " ").split()
    assert set(METHODS) <= set(words)
