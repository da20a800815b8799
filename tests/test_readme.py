import functools
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

import cl2cm
from cl2cm.cli.app import app, run
from fixtures import world

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
GROUP = typer.main.get_command(app)
DOCS = sorted((README.parent / "docs").glob("*.md"))
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
LINES = [
    line[2:]
    for kind, block in BLOCKS
    if kind == "console"
    for line in block.splitlines()
    if line.startswith("$ cl2cm")
]


def test_opens_with_the_two_commands():
    commands = [line.strip() for line in TEXT.splitlines() if line.startswith("    ")]
    assert commands[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("command", sorted(GROUP.commands))
def test_every_command_is_shown(command):
    assert f"cl2cm {command}" in TEXT


def test_is_short():
    assert len(TEXT.splitlines()) <= 150


def doc_lines():
    for page in DOCS:
        for line in re.findall(r"^\$ (cl2cm .+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            yield line.split("  #")[0]


@pytest.mark.parametrize("line", [*LINES, *doc_lines()])
def test_command_lines_parse(line):
    _, name, *rest = shlex.split(line)
    command = GROUP.commands[name]
    context = command.make_context(name, rest, resilient_parsing=False)
    assert context.params


def test_python_blocks_run_as_they_stand(trained, small, tmp_path, monkeypatch, capsys):
    """With a small run and a small index in the places of those that the demo makes."""
    demo = tmp_path / "cl2cm-demo"
    shutil.copytree(trained, demo / "runs" / "cl2cm")
    shutil.copytree(small.manifest.parent, demo / "data")
    manifest = demo / "data" / "manifest.jsonl"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"xx"', '"de"'))
    monkeypatch.chdir(tmp_path)
    cl2cm.build_index(cl2cm.load("cl2cm-demo/runs/cl2cm"), "cl2cm-demo/data/images", demo / "index")
    blocks = [block for kind, block in BLOCKS if kind == "python"]
    assert blocks
    for block in blocks:
        exec(block, {})
    assert ".png" in capsys.readouterr().out
    assert len(cl2cm.Index.open("my-index")) == 144


@pytest.mark.weights("multilingual-e5-small", "efficientnet-lite2")
def test_own_folder_in_six_commands(tmp_path, monkeypatch, capfd):
    """As written, on sixty drawings; the training is shortened, and the last one is only parsed.

    The commands of the section "Other commands" that read the result follow, but for those that
    take minutes (``demo``, ``bench``, ``export``) or a network (``doctor --install-weights``).
    """
    from cl2cm.encode import text

    if shutil.which("apertium") is None:
        pytest.skip("needs apertium")
    for name in ("load_model", "load_tokenizer"):  # once, and not by each command
        monkeypatch.setattr(text, name, functools.cache(getattr(text, name)))
    draw_photos(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    own = [line for line in LINES if "my-search" in line or "init" in line]
    done = [line for line in own if not re.match("cl2cm (serve|export)", line)]
    assert [line.split()[1] for line in own[:6]] == [
        *("init", "prepare", "translate", "train", "index", "serve")
    ]
    for line in done:
        arguments = shlex.split(line)[1:]
        if arguments[0] == "train":
            arguments += ["--set", "train.epochs=2", "--set", "teacher.epochs=2"]
        if arguments[0] == "add-language":  # two epochs on sixty drawings measure nothing
            arguments += ["--set", "train.epochs=2", "--max-regression", "600"]
        assert run(arguments) == 0, (line, capfd.readouterr().err)
        if arguments[0] == "search":
            assert capfd.readouterr().out.count(".png") >= 3, line
    assert {"compare", "align", "licences", "evaluate"} <= {line.split()[1] for line in done}


def draw_photos(folder):
    """Sixty mosaics, none like another, with a caption each in a table."""
    folder.mkdir()
    rows = ["file,caption"]
    things = [f"{colour} {shape}" for colour in world.COLOURS for shape in world.SHAPES]
    for number in range(60):
        tiles = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(tiles).resize((64, 64), Image.Resampling.NEAREST).save(
            folder / f"{number}.png"
        )
        rows.append(f"{number}.png,a {things[number % len(things)]} on a white ground")
    (folder / "captions.csv").write_text("\n".join(rows), encoding="utf-8")


# --- how to install --------------------------------------------------------------------------

EXTRAS = tomllib.loads((README.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]
TEXTS = [README, *DOCS]
# Where a page quotes what an installed cl2cm says.
QUOTED = {
    "installation.md": ["pip install 'cl2cm[video]'"],
    "media.md": ["pip install 'cl2cm[heic]'"],
}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_pip_installs_from_the_source_or_a_wheel(path):
    """cl2cm is not on PyPI: its name alone installs nothing, or what somebody else puts there."""
    text = path.read_text(encoding="utf-8")
    for quoted in QUOTED.get(path.name, ()):
        assert quoted in text
        text = text.replace(quoted, "")
    for line in re.findall(r"pip install [^`\n]*", text):
        for name, extras in re.findall(r"'([^'\[]*)\[([\w,]+)\]'", line):
            assert set(extras.split(",")) <= EXTRAS.keys(), line
            assert name == "." or name.startswith("dist/") or "--no-index" in line, line
    assert not re.search(r"pip install cl2cm\b", text)


def test_hints_of_errors_name_extras_that_exist():
    """``pip install 'cl2cm[EXTRA]'`` works where cl2cm is installed, which it is if it says so."""
    package = Path(cl2cm.__file__).parent
    named = set()
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r"cl2cm\[(\w+)\]", text))
        named |= set(re.findall(r"MissingExtraError\([^()]*, \"(\w+)\"\)", text))
    assert {"video", "translate", "train"} <= named
    assert named <= EXTRAS.keys()


def test_make_targets_exist():
    made = (README.parent / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", made, re.MULTILINE))
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        named = set(re.findall(r"`make ([a-z]+)`|^(?:    |\$ )make ([a-z]+)", text, re.MULTILINE))
        assert {first or second for first, second in named} <= targets, path.name


@pytest.mark.parametrize("name", ["obtaining-data.md", "run-folder.md"])
def test_python_blocks_of_pages_run(name, trained, tmp_path, monkeypatch, capsys):
    shutil.copytree(trained, tmp_path / "cl2cm-demo" / "runs" / "cl2cm")
    monkeypatch.chdir(tmp_path)
    text = (README.parent / "docs" / name).read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(block, {})
    assert capsys.readouterr().out.strip()


def test_files_that_it_links_to_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (README.parent / target).exists(), target
