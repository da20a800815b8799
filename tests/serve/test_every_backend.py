"""The service over every backend answers as over the exact one."""

import io

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import cl2cm.index.backends.faiss
import cl2cm.index.backends.rescoring
from cl2cm.data.scan import scan_folder
from cl2cm.index import BackendOptions, Index
from cl2cm.index.update.build import build_index
from cl2cm.search.searcher import Searcher
from cl2cm.serve import create_app
from fixtures.colours import ColourModel

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact")

COUNT = 120
QUESTIONS = (
    ("/api/v1/search", {"q": "rot", "k": 12}),
    ("/api/v1/search", {"q": "red green", "k": 5, "offset": 5}),
    ("/api/v1/search", {"q": "red green -green", "k": 8}),
    ("/api/v1/search", {"q": "blue", "folder": "sea", "k": 9}),
    ("/api/v1/search", {"q": "blue", "like": "sea/7.png", "weight": 0.3}),
    ("/api/v1/search", {"q": "green", "fold": 1, "k": 6}),
    ("/api/v1/similar", {"id": "8.png", "k": 7}),
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many") / "pictures"
    (folder / "sea").mkdir(parents=True)
    colours = np.random.default_rng(0).integers(0, 256, (COUNT, 3))
    for number, colour in enumerate(colours):
        place = folder / "sea" if number % 2 else folder
        Image.new("RGB", (8, 8), tuple(int(part) for part in colour)).save(place / f"{number}.png")
    return folder


def client_of(pictures, folder, options):
    examples, run = scan_folder(pictures), folder / "run"
    build_index(ColourModel(), examples, folder / "index", run=run, backend=options).close()
    return TestClient(create_app(Searcher(ColourModel(), Index.open(folder / "index"))))


@pytest.fixture(params=["faiss", "hnsw", "qdrant", "pgvector"])
def other(request, pictures, tmp_path, monkeypatch):
    """A service over another backend, which is asked though the index is small."""
    name = "faiss" if request.param == "hnsw" else request.param
    for package in {"faiss": ["faiss"], "qdrant": ["qdrant_client"]}.get(name, []):
        pytest.importorskip(package, reason=f"pip install 'cl2cm[{name}]'")
    monkeypatch.setattr(cl2cm.index.backends.rescoring, "FEW", 30)
    if request.param == "hnsw":
        monkeypatch.setattr(cl2cm.index.backends.faiss, "kind_for", lambda _: "hnsw")
    url = request.getfixturevalue("postgres") if name == "pgvector" else None
    return client_of(pictures, tmp_path, BackendOptions(name, "float32", url))


@pytest.fixture
def exact(pictures, tmp_path):
    return client_of(pictures, tmp_path / "exact", BackendOptions("exact", "float32"))


def plain(value):
    """Without the address of a thumbnail, which names the state of its index."""
    if isinstance(value, list):
        return [{key: part for key, part in item.items() if key != "thumbnail"} for item in value]
    return value


def test_every_question_has_the_same_answer(exact, other):
    for route, params in QUESTIONS:
        wanted, found = (client.get(route, params=params) for client in (exact, other))
        assert wanted.status_code == found.status_code == 200, found.text
        assert wanted.json()["hits"], params
        for key in ("hits", "more", "query", "language"):
            assert plain(found.json()[key]) == plain(wanted.json()[key]), (params, key)


def test_items_and_pictures_are_the_same(exact, other):
    item = {"id": "sea/7.png"}
    wanted, found = (client.get("/api/v1/item", params=item).json() for client in (exact, other))
    assert plain([found]) == plain([wanted])
    thumbnail = other.get("/api/v1/thumbnail", params=item)
    assert Image.open(io.BytesIO(thumbnail.content)).size == (8, 8)
    assert other.get("/api/v1/item", params={"id": "../7.png"}).status_code == 404
    assert other.get("/", params={"q": "rot"}).status_code == 200
    assert other.get("/api/v1/health").json()["items"] == COUNT
