"""The public names: which they are, what a type checker sees of them, and their examples."""

import ast
import doctest
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import cl2cm
from cl2cm.errors import ConfigError, ManifestError, MediaError, QueryError
from cl2cm.index import Index
from cl2cm.model.config import to_toml
from fixtures import world

NAMES = [
    "CL2CMError",
    "Config",
    "Example",
    "FeatureStore",
    "Filter",
    "Hit",
    "Index",
    "Query",
    "RetrievalModel",
    "Searcher",
    "build_index",
    "evaluate",
    "load",
    "load_config",
    "open",
    "read_manifest",
    "scan_folder",
    "train",
]
SOURCE = Path(cl2cm.__file__)


@pytest.fixture(scope="module")
def template(tmp_path_factory, small, settings):
    """A user's folder: a run, an index, images, a manifest, a recipe and a feature store."""
    from cl2cm.encode.encoding import encode_pictures
    from cl2cm.encode.vision import load_vision

    folder = tmp_path_factory.mktemp("user")
    cl2cm.train(settings("translate-train", train={"epochs": 40, "lr": 0.01}), folder / "run")
    shutil.copytree(small.manifest.parent / "images", folder / "data")
    (folder / "images").mkdir()
    things = [(colour, shape) for colour in world.COLOURS for shape in world.SHAPES]
    for seed, thing in enumerate(things):
        world.draw(*thing, seed).save(folder / "images" / f"{'-'.join(thing)}.png")
    text = small.manifest.read_text(encoding="utf-8").replace('"images/', '"data/')
    (folder / "manifest.jsonl").write_text(text, encoding="utf-8")
    data = {"manifest": str(folder / "manifest.jsonl")}
    recipe = to_toml(settings("translate-train", data=data, train={"epochs": 2}))
    (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    examples = cl2cm.scan_folder(folder / "images")
    encode_pictures(examples, load_vision(f"onnx:{small.vision}"), folder / "features")
    cl2cm.build_index(cl2cm.load(folder / "run"), examples, folder / "index")
    return folder


@pytest.fixture
def user(template, tmp_path, monkeypatch):
    """The user's folder, as working directory."""
    folder = tmp_path / "user"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def model(user):
    return cl2cm.load("run")


# --- names -----------------------------------------------------------------------------------


def test_these_are_the_public_names():
    assert cl2cm.__all__ == NAMES
    assert all(callable(getattr(cl2cm, name)) for name in NAMES)


def test_what_type_checkers_see_is_what_is_loaded():
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    for of_annotations in ("Allowed", "StrPath"):
        seen.pop(of_annotations)
    assert sorted([*seen, cl2cm.open.__name__]) == NAMES
    for name, module in seen.items():
        assert getattr(cl2cm, name) is getattr(importlib.import_module(module), name)


def test_dir_shows_them_and_nothing_of_the_machinery():
    assert set(NAMES) <= set(dir(cl2cm))
    assert [name for name in dir(cl2cm) if not name.startswith("_")] == NAMES


def test_tab_completes_before_anything_is_loaded():
    code = (
        "import rlcompleter, cl2cm; completer = rlcompleter.Completer({'cl2cm': cl2cm});"
        "print(completer.complete('cl2cm.CL', 0))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("cl2cm.CL2CMError")


def test_star_import_gives_all_of_them():
    names = {}
    exec("from cl2cm import *", names)
    assert set(NAMES) <= set(names)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = cl2cm.nothing_of_that_name


# --- examples --------------------------------------------------------------------------------


def _examples():
    """Docstrings with examples: the package, each public name, and methods."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(cl2cm, "cl2cm", module=False)[:1]
    for name in NAMES:
        found += finder.find(getattr(cl2cm, name), name, module=False)
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_documented_with_an_example(name):
    text = inspect.getdoc(getattr(cl2cm, name))
    assert "Example:" in text
    assert ">>> import cl2cm" in text


@pytest.mark.parametrize("name", [n for n in NAMES if inspect.isfunction(getattr(cl2cm, n))])
def test_each_function_documents_arguments_and_errors(name):
    function = getattr(cl2cm, name)
    text = inspect.getdoc(function)
    assert "Raises:" in text
    parameters = inspect.signature(function).parameters
    if len(parameters) > 1:
        assert all(f"    {parameter}: " in text for parameter in parameters)


@pytest.mark.parametrize("test", _examples(), ids=lambda test: test.name)
def test_examples_run(test, user):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    lines = []
    test.globs = {}
    runner.run(test, out=lines.append)
    assert not lines, "".join(lines)


# --- types -----------------------------------------------------------------------------------

SCRIPT = """
from pathlib import Path
import cl2cm

reveal_type(cl2cm.CL2CMError)
reveal_type(cl2cm.Config)
reveal_type(cl2cm.Example)
reveal_type(cl2cm.FeatureStore)
reveal_type(cl2cm.Filter)
reveal_type(cl2cm.Hit)
reveal_type(cl2cm.Index)
reveal_type(cl2cm.Query)
reveal_type(cl2cm.RetrievalModel)
reveal_type(cl2cm.Searcher)
reveal_type(cl2cm.build_index)
reveal_type(cl2cm.evaluate)
reveal_type(cl2cm.load)
reveal_type(cl2cm.load_config)
reveal_type(cl2cm.open)
reveal_type(cl2cm.read_manifest)
reveal_type(cl2cm.scan_folder)
reveal_type(cl2cm.train)
#
searcher = cl2cm.open("index")
reveal_type(searcher)
reveal_type(cl2cm.open(Path("index"), run="run"))
hits = searcher.search("a dog", k=3)
reveal_type(hits[0])
reveal_type(hits[:2])
reveal_type([hit.id for hit in hits])
reveal_type(hits[0].match)
reveal_type(searcher.similar("images/dog.png"))
reveal_type(searcher.search(cl2cm.Query("dog", filter=cl2cm.Filter(media="picture"))))
model = cl2cm.load("run")
reveal_type(model)
reveal_type(model.encode_text(["a dog"]))
reveal_type(model.encode_images(["dog.png", Path("cat.png")]))
reveal_type(model.encode_visual(cl2cm.scan_folder("images")))
reveal_type(cl2cm.build_index(model, "images", "index"))
reveal_type(cl2cm.Index.open("index"))
reveal_type(cl2cm.FeatureStore.open("features"))
reveal_type(cl2cm.scan_folder("images"))
reveal_type(cl2cm.read_manifest("manifest.jsonl"))
reveal_type(cl2cm.load_config("recipe.toml", ["train.epochs=3"]))
reveal_type(cl2cm.load_config("recipe.toml").train.epochs)
reveal_type(cl2cm.evaluate(model, "manifest.jsonl"))
reveal_type(cl2cm.train("recipe.toml", "run"))
with cl2cm.open("index") as opened:
    reveal_type(opened)
"""
FLOATS = (
    "numpy.ndarray[tuple[Any, ...], numpy.dtype[numpy.floating[numpy._typing._nbit_base._32Bit]]]"
)
REVEALED = [
    "cl2cm.search.searcher.Searcher",
    "cl2cm.search.searcher.Searcher",
    "cl2cm.types.Hit",
    "cl2cm.search.hits.Hits",
    "list[str]",
    "float",
    "cl2cm.search.hits.Hits",
    "cl2cm.search.hits.Hits",
    "cl2cm.model.retrieval.RetrievalModel | cl2cm.export.model.ExportedModel",
    FLOATS,
    FLOATS,
    FLOATS,
    "cl2cm.index.folder.Index",
    "cl2cm.index.folder.Index",
    "cl2cm.encode.store.FeatureStore",
    "list[cl2cm.types.Example]",
    "Iterator[cl2cm.types.Example]",
    "cl2cm.model.config.Config",
    "int",
    "dict[str, Any]",
    "dict[str, Any]",
    "cl2cm.search.searcher.Searcher",
]
WRONG = """
import cl2cm
cl2cm.open(3)
cl2cm.load("run").encode_text([1])
cl2cm.open("index").search("dog").nothing
cl2cm.nothing
"""


def _mypy(script, request, tmp_path):
    """Check a script as a user does, who has the package installed; other packages are not looked into."""
    pytest.importorskip("mypy")
    path = tmp_path / "script.py"
    path.write_text(script, encoding="utf-8")
    others = "torch transformers tokenizers safetensors onnxruntime onnx PIL rich"
    skipped = ",".join(f"{name}.*" for name in others.split())
    config = f"[mypy]\nstrict = true\n[mypy-{skipped}]\nfollow_imports = skip\n"
    (tmp_path / "mypy.ini").write_text(config)
    kept = getattr(request.config, "cache", None)  # warm, a check takes 3 s
    cache = kept.mkdir("mypy") if kept else tmp_path / "cache"
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", "--cache-dir", cache, path.name],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(SOURCE.parents[1])},
    )  # fmt: skip
    return SimpleNamespace(code=result.returncode, lines=result.stdout.splitlines(), result=result)


def test_a_type_checker_sees_real_types(request, tmp_path):
    found = _mypy(SCRIPT, request, tmp_path)
    assert found.code == 0, found.result
    types = [line.partition('Revealed type is "')[2].rstrip('"') for line in found.lines]
    types = [re.sub(r"\b(builtins|typing|collections\.abc)\.", "", text) for text in types]
    assert len(types) == len(NAMES) + len(REVEALED), found.lines
    for name, seen in zip(NAMES, types, strict=False):
        assert seen.startswith("def ("), (name, seen)
        kind = getattr(cl2cm, name)
        if isinstance(kind, type):
            assert seen.endswith(f"-> {kind.__module__}.{kind.__name__}"), (name, seen)
    assert types[len(NAMES) :] == REVEALED


def test_a_type_checker_finds_what_is_wrong(request, tmp_path):
    found = _mypy(WRONG, request, tmp_path)
    assert [line.split("[")[-1] for line in found.lines] == [
        "arg-type]",
        "list-item]",
        "attr-defined]",
        "attr-defined]",
    ], found.result


# --- what is typed first ---------------------------------------------------------------------


def test_open_and_search(user):
    with cl2cm.open("index") as searcher:
        hits = searcher.search("red square")
        assert hits[0].id == "red-square.png"
        assert [hit.match for hit in hits] == sorted((hit.match for hit in hits), reverse=True)
        assert 0 <= hits[-1].match <= hits[0].match <= 1
    assert cl2cm.open("index", run="run").search("red square") == hits


class Folder:
    """An os.PathLike of somebody else."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


@pytest.mark.parametrize("kind", [str, Path, Folder])
def test_paths_of_every_kind(kind, user):
    model = cl2cm.load(kind("run"))
    assert model.encode_visual([kind("images/red-bar.png")]).shape == (1, 32)
    assert len(cl2cm.scan_folder(kind("images"))) == 24
    assert len(list(cl2cm.read_manifest(kind("manifest.jsonl")))) == 144
    assert len(cl2cm.Index.open(kind("index"))) == 24
    assert len(cl2cm.FeatureStore.open(kind("features"))) == 24
    config = cl2cm.load_config(kind("recipe.toml"), ["train.epochs=1"])
    assert cl2cm.train(config, kind("new"))["method"] == "translate-train"
    assert len(cl2cm.build_index(model, kind("images"), kind("again"), run=kind("run"))) == 24
    found = cl2cm.evaluate(model, kind("manifest.jsonl"), languages=["en"], trec=kind("out.trec"))
    assert found["en"]["gallery"] == 24
    assert Path("out.trec").stat().st_size > 0
    searcher = cl2cm.open(kind("index"), run=kind("run"))
    assert searcher.similar(kind("images/red-bar.png"), 1)[0].id == "red-bar.png"


def test_a_text_is_an_id_before_it_is_a_path(user):
    searcher = cl2cm.open("index")
    shutil.copy("images/blue-bar.png", "red-square.png")  # a file with the name of an item
    assert "red-square.png" not in [hit.id for hit in searcher.similar("red-square.png", 23)]
    with pytest.raises(QueryError, match=r"wolf\.png"):
        searcher.similar("wolf.png")


def test_an_example_takes_its_path_as_text(user):
    example = cl2cm.Example("a", "test", image="images/red-bar.png")
    assert example.image == Path("images/red-bar.png")
    assert example == cl2cm.Example("a", "test", image=Path("images/red-bar.png"))


@pytest.mark.parametrize("text", ["red square", "", "r"])
def test_one_text_alone_is_refused(text, model):
    with pytest.raises(QueryError, match=r"list of texts, found a single one"):
        model.encode_text(text)


@pytest.mark.parametrize("make", [str, Path, Image.open, lambda path: Path(path).read_bytes()])
def test_one_image_alone_is_refused(make, model):
    with pytest.raises(MediaError, match=r"a list of them, found a single one"):
        model.encode_images(make("images/red-bar.png"))


def test_what_is_no_text_or_image_is_refused(model):
    with pytest.raises(QueryError, match="None"):
        model.encode_text(["red", None])
    with pytest.raises(MediaError, match="found 3"):
        model.encode_images([3])


def test_iterables_and_empty_lists(model):
    assert model.encode_text(text for text in ("red", "blue")).shape == (2, 32)
    paths = sorted(Path("images").iterdir())
    assert model.encode_images(path for path in paths).shape == (24, 32)
    assert model.encode_text([]).shape == (0, 32)
    assert model.encode_images([]).shape == (0, 32)


def test_images_in_memory_are_the_same_as_files(model):
    path = Path("images/red-bar.png")
    image = Image.open(path)
    kinds = [path, str(path), path.read_bytes(), image, np.array(image)]
    vectors = model.encode_images(kinds)
    np.testing.assert_array_equal(vectors, vectors[:1].repeat(5, axis=0))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_images_of_every_mode(mode, model):
    image = Image.open("images/red-bar.png")
    changed = image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)
    assert model.encode_images([changed]).shape == (1, 32)


def test_a_model_in_memory_has_no_run_to_index_with(model):
    model.run = None
    with pytest.raises(ConfigError, match="give run="):
        cl2cm.build_index(model, "images", "elsewhere")


def test_evaluation_takes_examples_of_any_kind(model):
    everything = list(cl2cm.read_manifest("manifest.jsonl"))
    test = [example for example in everything if example.split == "test"]
    wanted = cl2cm.evaluate(model, test, languages=["en"])
    assert cl2cm.evaluate(model, iter(test), languages=["en"]) == wanted
    assert cl2cm.evaluate(model, everything, split="test", languages=["en"]) == wanted
    assert cl2cm.evaluate(model, "manifest.jsonl", languages=["en"]) == wanted
    with pytest.raises(ManifestError, match="'dev', found splits test, train, val"):
        cl2cm.evaluate(model, "manifest.jsonl", split="dev")


@pytest.mark.parametrize(
    ("text", "languages"),
    [
        ("xx,yy", ("xx", "yy")),
        ("xx", ("xx",)),
        (" xx , yy ,", ("xx", "yy")),
        ('"xx","yy"', ("xx", "yy")),
        ('["xx", "yy"]', ("xx", "yy")),
        ("[xx,yy]", ("xx", "yy")),
        ("", ()),
        ("[]", ()),
        ("no,true,1", ("no", "true", "1")),
        ('"xx"', ("xx",)),
    ],
)
def test_a_list_is_set_with_commas(text, languages, user):
    config = cl2cm.load_config("recipe.toml", [f"data.languages={text}"])
    assert config.data.languages == languages


def test_other_settings_may_hold_a_comma(user):
    config = cl2cm.load_config("recipe.toml", ["text.prefix=a, b"])
    assert config.text.prefix == "a, b"
    assert type(config.text.prefix) is str
    with pytest.raises(ConfigError, match="whole number"):
        cl2cm.load_config("recipe.toml", ["train.epochs=1,2"])
    with pytest.raises(ConfigError, match=r'such as \["de", "fr"\]'):
        cl2cm.load_config("recipe.toml", ["data.languages=[1, 2]"])


def test_an_index_knows_its_own_class():
    assert cl2cm.Index is Index
