"""A backend in a package of its own, as the documentation shows it: installed, built, searched."""

import importlib
import json
import shutil
import sys

import numpy as np
import pytest

from cl2cm.cli.app import run as cli
from cl2cm.errors import CL2CMError, ConfigError, VectorIndexError
from cl2cm.index import Allowed, BackendOptions, Index
from cl2cm.index.backends.exact import ExactBackend
from cl2cm.index.backends.registry import BACKENDS, backend_names, load_backend
from fixtures.plugins import LISTS
from fixtures.strangers import head_of, make_index, unit, write_head


def test_the_example_is_short():
    code = [line for line in LISTS.splitlines() if line.strip()]
    assert len(code) <= 45


def command(capsys, *line):
    code = cli([str(part) for part in line])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return json.loads(shown.out)


def test_it_builds_updates_and_searches_from_the_command_line(
    install, trained, small, tmp_path, capsys
):
    install()
    pictures = shutil.copytree(small.manifest.parent, tmp_path / "pictures")
    out = tmp_path / "index"
    line = ["index", trained, pictures, out, "--json"]
    made = command(capsys, *line, "--backend", "lists")
    assert made["encoded"] > 10
    assert head_of(out)["backend"] == "lists"
    gone = sorted(pictures.rglob("*.png"))[0]
    gone.unlink()
    again = command(capsys, *line)
    assert (again["encoded"], again["dropped"]) == (0, 1)
    assert head_of(out)["backend"] == "lists"
    assert len(list(out.glob("lists-*.cl2cm"))) == 1  # the old generation is swept
    found = command(capsys, "search", out, "red", "-k", 5, "--json")["hits"]
    command(capsys, *line, "--backend", "exact")
    assert not list(out.glob("lists-*"))
    assert command(capsys, "search", out, "red", "-k", 5, "--json")["hits"] == found


def test_nothing_is_imported_before_it_is_asked_for(install, tmp_path):
    install("raise RuntimeError('imported')\n")
    assert backend_names() == [*BACKENDS, "lists"]
    make_index(tmp_path / "index")
    assert BackendOptions().resolve({}).name == "exact"
    assert "my_backends" not in sys.modules


# --- an index of somebody else --------------------------------------------------------------------


@pytest.fixture
def foreign(install, tmp_path):
    """An index without our seal whose backend is a plug-in, which would tell if it was imported."""
    install()
    index = make_index(tmp_path / "index", backend="lists")
    write_head(index, model="n")
    del sys.modules["my_backends"]
    return index


def test_an_index_of_somebody_else_imports_no_plug_in(foreign, tmp_path):
    with pytest.raises(VectorIndexError, match=r"'lists'.*--backend lists.*CL2CM_BACKENDS"):
        Index.open(foreign)
    with pytest.raises(VectorIndexError, match="'lists'"):  # nor does an update of it
        make_index(foreign)
    assert "my_backends" not in sys.modules
    make_index(foreign, backend="exact")
    assert "my_backends" not in sys.modules
    assert not list(foreign.glob("lists-*"))  # known as a file of an index all the same


@pytest.mark.parametrize("way", ["argument", "environment", "update"])
def test_it_does_once_the_user_names_it(foreign, monkeypatch, way):
    allowed = None
    if way == "argument":
        allowed = Allowed.of(backends=("lists",))
    elif way == "environment":
        monkeypatch.setenv("CL2CM_BACKENDS", "other lists")
    else:
        make_index(foreign, backend="lists", model="n")
    assert Index.open(foreign, allowed).search(unit(1), 3, model="n")[0]


def test_search_and_serve_can_name_it(install, trained, small, tmp_path, capsys):
    install()
    out = tmp_path / "index"
    command(capsys, "index", trained, small.manifest.parent, out, "--backend", "lists", "--json")
    write_head(out, run={"absolute": str(trained), "relative": str(trained)})
    line = ["search", out, "red", "--run", trained, "--json"]
    assert cli([str(part) for part in line]) == 2
    assert "--backend lists" in capsys.readouterr().err
    assert command(capsys, *line, "--backend", "lists")["hits"]


@pytest.mark.parametrize(
    "name", ["os", "my_backends:ListsBackend", "../site", "my_backends", "cl2cm.backends", "LISTS", ""]
)  # fmt: skip
def test_only_a_name_of_an_entry_point_leads_to_code(foreign, monkeypatch, name):
    write_head(foreign, backend=name)
    monkeypatch.setenv("CL2CM_BACKENDS", name)
    with pytest.raises(VectorIndexError):
        Index.open(foreign, Allowed.of(backends=(name,)))
    assert "my_backends" not in sys.modules


def test_a_server_of_another_backend_in_an_index_is_refused(install, tmp_path):
    """The file that names a server names the same backend as the index."""
    install()
    index = make_index(tmp_path / "index")
    place = index / "place-00.json"
    place.write_text(json.dumps({"backend": "lists", "url": "", "name": "cl2cm_00"}))
    entry = {"name": place.name, "bytes": place.stat().st_size, "sha256": "0"}
    write_head(index, backend="qdrant", files=head_of(index)["files"] | {"place": entry})
    with pytest.raises(VectorIndexError, match="damaged"):
        Index.open(index)
    assert "my_backends" not in sys.modules


def test_our_own_index_whose_package_is_gone_names_it(install, tmp_path):
    site = install()
    index = make_index(tmp_path / "index", backend="lists")
    shutil.rmtree(site)
    importlib.invalidate_caches()
    with pytest.raises(VectorIndexError, match=r"'lists'.*found 'lists'.*install"):
        Index.open(index)
    make_index(index, backend="exact")
    assert Index.open(index).backend == "exact"


@pytest.mark.parametrize(
    "files",
    [
        {"lists": ...}, {"more": {"name": "more-00.cl2cm", "bytes": 0, "sha256": ""}},
        {"lists": {"name": "lists-00.npy", "bytes": 0, "sha256": ""}},
        {"../x": {"name": "../x-00.cl2cm", "bytes": 0, "sha256": ""}},
        {"lists": {"name": "../lists-00.cl2cm", "bytes": 0, "sha256": ""}},
    ],
)  # fmt: skip
def test_files_that_the_backend_does_not_have_are_refused(foreign, files):
    known = head_of(foreign)["files"] | files
    (foreign / "more-00.cl2cm").touch()
    write_head(foreign, files={kind: entry for kind, entry in known.items() if entry is not ...})
    with pytest.raises(VectorIndexError):
        Index.open(foreign, Allowed.of(backends=("lists",)))


# --- packages that are broken ---------------------------------------------------------------------

GOOD = "from cl2cm.index.backends.exact import ExactBackend\nclass ListsBackend(ExactBackend):\n    name = 'lists'\n"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import nothing_of_that_name\n", "ModuleNotFoundError: No module named"),
        ("def\n", "SyntaxError"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("", "AttributeError"),
        ("ListsBackend = 3\n", "found 3, no subclass of cl2cm.index.backends.base.Backend"),
        ("class ListsBackend:\n    name = 'lists'\n", "no subclass of"),
        (GOOD.replace("'lists'", "'other'"), "found the name 'other'"),
        (GOOD.replace("    name = 'lists'", "    pass"), "found the name 'exact'"),
        ("from cl2cm.index.backends.base import Backend\nclass ListsBackend(Backend):\n    name = 'lists'\n",
         "no method open and no method write"),
        (GOOD + "    dtypes = ('float64',)\n", "the dtypes ('float64',)"),
        (GOOD + "    dtypes = ()\n", "the dtypes ()"),
        (GOOD + "    files = ('vectors', 'vectors')\n", "the files"),
        (GOOD + "    files = ('place',)\n", "the files"),
        (GOOD + "    files = ('../x',)\n", "the files"),
        (GOOD + "    files = 'vectors'\n", "the files"),
        (GOOD + "    server = 'maybe'\n", "the server 'maybe'"),
        (GOOD + "    def __init__(self, x):\n        pass\n", "TypeError"),
    ],
    ids=range(18),
)  # fmt: skip
def test_a_broken_package_is_refused_in_one_line_that_names_it(install, tmp_path, code, words):
    install(code)
    with pytest.raises(ConfigError) as caught:
        make_index(tmp_path / "index", backend="lists")
    text = str(caught.value)
    assert words in text
    assert "my-backends 1.2" in text
    assert "\n" not in text
    assert not (tmp_path / "index").exists()


def test_a_backend_that_does_not_write_its_files_leaves_nothing(install, tmp_path):
    install(GOOD + "    files = ('vectors', 'items', 'graph')\n")
    with pytest.raises(VectorIndexError, match="none for graph"):
        make_index(tmp_path / "index", backend="lists")
    assert not (tmp_path / "index").exists()


def test_two_packages_of_one_name_are_a_conflict(install, tmp_path):
    install()
    install(package="yours")
    with pytest.raises(ConfigError, match=r"my-backends 1\.2, yours 1\.2.*uninstall"):
        load_backend("lists")
    make_index(tmp_path / "index")


def test_a_built_in_name_is_not_shadowed(install, tmp_path, capsys):
    install(name="exact")
    assert backend_names() == list(BACKENDS)
    assert type(load_backend("exact")) is ExactBackend
    from cl2cm.index.generation import check_backend

    check_backend(BackendOptions().resolve({}))
    assert "'exact' is cl2cm's own backend" in capsys.readouterr().err
    assert "my_backends" not in sys.modules


def test_an_unknown_backend_names_those_that_there_are(install, tmp_path):
    install()
    with pytest.raises(ConfigError, match=r"pgvector, lists.*did you mean .lists."):
        make_index(tmp_path / "index", backend="list")


def test_its_dtype_is_one_that_it_can_store(install, tmp_path):
    install(GOOD + "    dtypes = ('int8',)\n")
    index = make_index(tmp_path / "index", backend="lists")
    assert head_of(index)["dtype"] == "int8"
    with pytest.raises(CL2CMError, match="dtype of lists: expected int8"):
        make_index(index, dtype="float32")
    np.testing.assert_allclose(Index.open(index).vector(0), unit(10)[0], atol=0.01)
