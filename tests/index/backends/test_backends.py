"""Every backend by one contract: ids and scores of the exact search, or a measured recall."""

import json
import os

import numpy as np
import pytest

import cl2cm.index.backends.faiss
import cl2cm.index.backends.pgvector
import cl2cm.index.backends.qdrant
import cl2cm.index.backends.rescoring
from cl2cm.errors import ConfigError, MissingExtraError, VectorIndexError
from cl2cm.index import BackendOptions, ExactIndex, Filter, Index
from cl2cm.index.backend_choice import SMALL, BackendConfig
from cl2cm.index.backends.faiss import FaissFinder
from cl2cm.index.backends.location import Location
from cl2cm.index.backends.registry import BACKENDS, backend_names
from cl2cm.index.backends.rescoring import RescoredIndex
from cl2cm.types import Item

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact")

N, D = 600, 24
FOLDERS = ("", "sea", "sea/deep", "seaside")


@pytest.fixture
def qdrant_server(monkeypatch):
    """A server, but for the network: what one client makes the next one finds."""
    client = pytest.importorskip("qdrant_client").QdrantClient(":memory:")
    local = cl2cm.index.backends.qdrant.connect
    monkeypatch.setattr(client, "close", lambda: None)
    monkeypatch.setattr(
        cl2cm.index.backends.qdrant, "connect", lambda url: client if url else local(url)
    )
    return client


def vectors_of(n=N, seed=0, d=D):
    rng = np.random.default_rng(seed)
    clusters = rng.standard_normal((12, d))
    values = clusters[rng.integers(0, 12, n)] + 0.7 * rng.standard_normal((n, d))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def items_of(n=N):
    return [
        Item(
            f"{FOLDERS[i % 4]}/{i}.png".lstrip("/"), f"pictures/{i}.png", kind=("image", "video")[i % 3 == 0],
            start=float(i) if i % 3 == 0 else None, captions={"en": (f"no. {i}", "ein „Zitat“")},
            bytes=100 * i, modified=86_400.0 * i,
        )
        for i in range(n)
    ]  # fmt: skip


WAYS = {
    "exact-float16": {"dtype": "float16"},
    "exact-float32": {"dtype": "float32"},
    "exact-int8": {"dtype": "int8"},
    "faiss-flat": {"backend": "faiss"},
    "faiss-flat-int8": {"backend": "faiss", "dtype": "int8"},
    "faiss-hnsw": {"backend": "faiss", "dtype": "float16", "kind": "hnsw"},
    "faiss-ivfpq": {"backend": "faiss", "kind": "ivfpq"},
    "qdrant": {"backend": "qdrant"},
    "qdrant-server": {"backend": "qdrant", "url": "http://localhost:6333"},
    "lists": {"backend": "lists"},
    "pgvector": {"backend": "pgvector", "dtype": "float16"},
    "pgvector-float32": {"backend": "pgvector", "dtype": "float32"},
}
EXACT = [
    way for way in WAYS if not way.startswith(("faiss-hnsw", "faiss-ivf", "lists", "pgvector"))
]
QUICK = [way for way in WAYS if way != "faiss-ivfpq"]  # its training takes a second
RECALL = {
    "faiss-hnsw": 0.95,
    "faiss-ivfpq": 0.8,
    "lists": 0.9,
    "pgvector": 0.95,
    "pgvector-float32": 0.95,
}


@pytest.fixture
def make(request, tmp_path, monkeypatch):
    """Make an index in one of the ways."""

    def make(way, vectors=None, items=None, path=tmp_path / "index", model="one", **changes):
        values = WAYS[way] | changes
        if values.get("backend") == "faiss":
            pytest.importorskip("faiss", reason="pip install 'cl2cm[faiss]'")
            monkeypatch.setattr(cl2cm.index.backends.rescoring, "FEW", 40)  # so that faiss is asked
            monkeypatch.setattr(cl2cm.index.backends.faiss, "CODE_BITS", 4)  # trained at once
            kind = values.pop("kind", "flat")
            monkeypatch.setattr(cl2cm.index.backends.faiss, "kind_for", lambda _: kind)
        elif values.get("backend") == "qdrant":
            pytest.importorskip("qdrant_client", reason="pip install 'cl2cm[qdrant]'")
            monkeypatch.setattr(cl2cm.index.backends.rescoring, "FEW", 40)
            if values.get("url"):
                request.getfixturevalue("qdrant_server")
        elif values.get("backend") == "lists":  # of another package
            monkeypatch.setattr(cl2cm.index.backends.rescoring, "FEW", 40)
            if "lists" not in backend_names():
                request.getfixturevalue("install")()
        elif values.get("backend") == "pgvector":
            values.setdefault("url", request.getfixturevalue("postgres"))
        vectors = vectors_of() if vectors is None else vectors
        items = items_of(len(vectors)) if items is None else items
        return Index.create(path, vectors, items, model=model, run=tmp_path / "run", **values)

    return make


def test_every_backend_is_in_this_suite():
    assert {values.get("backend", "exact") for values in WAYS.values()} == {*BACKENDS, "lists"}


def exact_of(index):
    """The exact search of what an index stores."""
    return ExactIndex(index.vectors(range(len(index))))


def recall(found, true):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, true, strict=True)])


@pytest.mark.parametrize("way", EXACT)
def test_ids_and_scores_equal_those_of_the_exact_search(make, way):
    index = make(way)
    queries = vectors_of(40, seed=1)
    for k in (1, 10, 100, N, N + 5):
        scores, rows = index.nearest(queries, k, model="one")
        true_scores, true_rows = exact_of(index).search(queries, k)
        np.testing.assert_array_equal(rows, true_rows)
        np.testing.assert_array_equal(scores, true_scores)
        assert (scores.dtype, rows.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("way", RECALL)
def test_what_is_found_has_its_exact_score_and_order_and_most_is_found(make, way):
    index = make(way)
    queries = vectors_of(40, seed=1)
    scores, rows = index.nearest(queries, 10, model="one")
    _, true_rows = exact_of(index).search(queries, 10)
    assert recall(rows, true_rows) >= RECALL[way]
    for query, one_scores, one_rows in zip(queries, scores, rows, strict=True):
        np.testing.assert_array_equal(one_scores, exact_of(index).scores(query, one_rows))
        order = np.lexsort((one_rows, -one_scores))
        np.testing.assert_array_equal(order, range(10))
    scores, rows = index.nearest(queries[:3], N + 5, model="one")
    np.testing.assert_array_equal(rows, exact_of(index).search(queries[:3], N)[1])


@pytest.mark.parametrize("way", QUICK)
def test_items_are_what_was_stored_and_the_index_opens_again(make, way, tmp_path):
    made = make(way)
    query = vectors_of(2, seed=5)
    before = made.search(query, 7, model="one")
    made.close()
    index = Index.open(tmp_path / "index")
    assert index.backend == WAYS[way].get("backend", "exact")
    assert index.search(query, 7, model="one") == before
    assert index.items(range(N)) == items_of()
    assert index.item_by_id("sea/deep/2.png") == items_of()[2]
    assert index.row_of("sea/deep/2.png") == 2
    assert index.folders() == ["sea", "sea/deep", "seaside"]
    np.testing.assert_allclose(index.vector(3), vectors_of()[3], atol=0.005)
    index.verify()
    for bad in ("nobody", "' OR 1=1 --", "\x00", "\ud800"):
        with pytest.raises(VectorIndexError, match="no such id"):
            index.row_of(bad)
    for row in (-1, N):
        with pytest.raises(VectorIndexError, match=f"a row from 0 to {N - 1}"):
            index.item(row)
    index.close()


@pytest.mark.parametrize("way", QUICK)
@pytest.mark.parametrize(
    ("filter_", "allowed"),
    [
        (Filter(folder="sea"), lambda i: i % 4 in (1, 2)),
        (Filter(folder="sea", media="film"), lambda i: i % 4 in (1, 2) and i % 3 == 0),
        (Filter(min_bytes=1000, max_bytes=2000), lambda i: 10 <= i <= 20),
        (Filter(since="1970-01-03", until="1970-01-05"), lambda i: 2 <= i <= 4),
        (Filter(folder="nowhere"), lambda i: False),
        (Filter(), lambda i: True),
    ],
)
def test_filters_come_before_the_ranking(make, way, filter_, allowed):
    index = make(way)
    rows = np.array([i for i in range(N) if allowed(i)], np.int64)
    queries = vectors_of(4, seed=2)
    scores, found = index.nearest(queries, 8, model="one", filter=filter_)
    assert found.shape == scores.shape == (4, min(8, len(rows)))
    assert np.isin(found, rows).all()
    if len(rows):
        _, true = exact_of(index).search(queries, 8, among=rows)
        assert recall(found, true) >= (1.0 if way in EXACT else RECALL[way] - 0.1)


@pytest.mark.parametrize("way", QUICK)
def test_equal_vectors_tie_and_come_in_the_order_of_rows(make, way):
    vectors = vectors_of(300)
    vectors[50:] = vectors[50]
    index = make(way, vectors=vectors)
    scores, rows = index.nearest(vectors[[50]], 6, model="one")
    assert len(set(scores[0].tolist())) == 1
    assert (np.diff(rows[0]) > 0).all()
    if way in EXACT:
        np.testing.assert_array_equal(rows, [range(50, 56)])


@pytest.mark.parametrize("way", QUICK)
def test_bad_queries_and_other_models_are_refused(make, way):
    index = make(way)
    query = vectors_of(1)
    for bad, k, words in (
        (query[:, :-1], 1, r"\[Q, 24\]"),
        (query[0], 1, r"\[Q, 24\]"),
        (query * np.nan, 1, "finite"),
        (query, 0, "at least 1"),
    ):
        with pytest.raises(VectorIndexError, match=words):
            index.nearest(bad, k, model="one")
    with pytest.raises(VectorIndexError, match=r"model one.*two"):
        index.nearest(query, 1, model="two")
    scores, rows = index.nearest(np.empty((0, D), np.float32), 3, model="one")
    assert scores.shape == rows.shape == (0, 3)


@pytest.mark.parametrize("way", QUICK)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vectors": np.full((3, D), np.nan, np.float32)}, "NaN"),
        ({"vectors": np.ones((3, D), np.float32)}, "unit length"),
        ({"vectors": np.ones((0, D), np.float32)}, "at least one vector"),
        ({"vectors": np.eye(3, D, dtype=np.float32), "items": [Item("a", "x")] * 3}, "same id"),
        ({"vectors": np.eye(3, D, dtype=np.float32), "items": [Item("\ud800", "x")] * 3}, "Unicode|same id"),
    ],
)  # fmt: skip
def test_what_cannot_be_stored_leaves_nothing(make, way, changes, words, tmp_path):
    with pytest.raises(VectorIndexError, match=words):
        make(way, **changes)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("way", QUICK)
def test_small_indexes(make, way):
    for n in (1, 2, 30):
        index = make(way, vectors=vectors_of(n))
        scores, rows = index.nearest(vectors_of(3, seed=4), 5, model="one")
        true = exact_of(index).search(vectors_of(3, seed=4), 5)
        np.testing.assert_array_equal(rows, true[1])
        np.testing.assert_array_equal(scores, true[0])


@pytest.mark.parametrize("way", QUICK)
def test_the_choice_is_kept_and_a_reader_keeps_what_it_opened(make, way, tmp_path):
    old = make(way)
    query = vectors_of(2, seed=5)
    before = old.search(query, 7, model="one")
    new = Index.create(
        tmp_path / "index", vectors_of(50, seed=8), items_of(50), model="one", run=tmp_path / "run"
    )
    heads = [old._metadata, new._metadata]
    for key in ("backend", "dtype", "url"):
        assert heads[0][key] == heads[1][key]
    assert old.generation != new.generation
    assert old.search(query, 7, model="one") == before
    assert len(Index.open(tmp_path / "index")) == 50


def tables(index):
    return {row[0] for row in index._items._ask("SELECT tablename FROM pg_tables WHERE tablename ^@ 'cl2cm'")}  # fmt: skip


@pytest.mark.parametrize("way", ["pgvector", "qdrant-server"])
def test_a_server_keeps_two_generations_and_nothing_of_killed_runs(make, way, tmp_path, request):
    path = tmp_path / "index"
    index = make(way, vectors=vectors_of(30))
    if way == "pgvector":
        names = lambda: tables(index) - others  # noqa: E731
        others = tables(index) - {index._items._location.name}
    else:
        client = request.getfixturevalue("qdrant_server")
        names = lambda: {each.name for each in client.get_collections().collections}  # noqa: E731
    killed = path / "place-00000000.json"
    Location(index.backend, index._metadata["url"], "cl2cm_00000000").write(killed)
    os.utime(killed, (0, 0))
    for seed in range(3):
        index = make(way, vectors=vectors_of(30, seed=seed), url=None)
    assert len(names()) == 2
    assert len(list(path.glob("place-*.json"))) == 2
    for _ in range(2):
        make(way, vectors=vectors_of(30), backend="exact", url=None)
    assert names() == set()
    assert not list(path.glob("place-*.json"))


def test_a_password_is_never_written(make, postgres, tmp_path):
    pytest.importorskip("qdrant_client")
    parts = postgres.replace("postgresql://postgres:@", "postgresql://postgres:s3cret@")
    assert "s3cret" in parts
    index = make("pgvector", url=parts)
    assert len(index) == N
    for path in (tmp_path / "index").iterdir():
        assert b"s3cret" not in path.read_bytes()
    with pytest.raises(VectorIndexError) as caught:
        make("pgvector", url="postgresql://postgres:s3cret@localhost:1/postgres")
    assert "s3cret" not in str(caught.value)
    assert BackendConfig("qdrant", url="http://me:s3cret@[::1]:6333/?k=s3cret").public == "http://[::1]:6333"  # fmt: skip


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"backend": "cuneiform"}, "exact, faiss, qdrant, pgvector"),
        ({"backend": "pgvector"}, "postgresql://"),
        ({"backend": "exact", "url": "http://localhost"}, "none for exact"),
        ({"backend": "qdrant", "url": "localhost:6333"}, "http://HOST:PORT"),
        ({"backend": "pgvector", "url": "postgresql://x", "dtype": "int8"}, "float16 or float32"),
        ({"backend": "pgvector", "url": "mysql://x"}, "postgresql://"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(choice, words, tmp_path):
    with pytest.raises(ConfigError) as caught:
        Index.create(
            tmp_path / "index", vectors_of(3), items_of(3), model="one", run=tmp_path, **choice
        )
    assert words in str(caught.value)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("way", "package"), [("faiss-flat", "faiss"), ("qdrant", "qdrant_client"), ("pgvector", "psycopg")]
)  # fmt: skip
def test_a_missing_package_names_its_extra(way, package, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    values = {key: value for key, value in WAYS[way].items() if key != "kind"}
    if way == "pgvector":
        values["url"] = "postgresql://x"
    with pytest.raises(MissingExtraError, match=rf"cl2cm\[{values['backend']}\]"):
        Index.create(tmp_path / "i", vectors_of(3), items_of(3), model="m", run=tmp_path, **values)
    assert not (tmp_path / "i").exists()


def test_damage_is_found(make, tmp_path):
    make("faiss-hnsw")
    path = next((tmp_path / "index").glob("graph-*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(VectorIndexError, match=r"graph-.*hash"):
        Index.open(tmp_path / "index")
    make("qdrant-server")
    place = next((tmp_path / "index").glob("place-*"))
    value = json.loads(place.read_text())
    size = place.stat().st_size
    for bad in ("[" * size, json.dumps(value | {"name": "x; DROP"}).ljust(size)[:size]):
        place.write_text(bad)
        with pytest.raises(VectorIndexError, match="location of an index"):
            Index.open(tmp_path / "index")


def test_a_table_that_is_gone_and_a_lost_connection(make):
    index = make("pgvector", vectors=vectors_of(30))
    other = index._items._ask
    other("SELECT 1")
    index._items._connection.close()  # what the server may do at any time
    assert index.item(3) == items_of(30)[3]
    with pytest.raises(VectorIndexError, match="does not exist"):
        other("SELECT 1 FROM cl2cm_nothing")
    assert index.item(3) == items_of(30)[3]


def test_faiss_is_asked_and_what_it_misses_is_made_up_for(tmp_path, monkeypatch):
    pytest.importorskip("faiss", reason="pip install 'cl2cm[faiss]'")
    monkeypatch.setattr(cl2cm.index.backends.rescoring, "FEW", 40)
    ExactIndex.write(tmp_path / "v.npy", vectors_of(), "float16")
    stored = ExactIndex.open(tmp_path / "v.npy", N, D, "float16")
    finder = FaissFinder.write(tmp_path / "i.faiss", stored, "hnsw")
    asked = []

    def find(queries, depth, among):
        asked.append(depth)
        found = finder.find(queries, depth, among)
        found[1, 3:] = -1  # as a graph in pieces would
        return found

    index = RescoredIndex(stored, type("Some", (), {"exact": False, "find": staticmethod(find)})())
    scores, rows = index.search(vectors_of(3, seed=9), 10)
    assert asked == [18]
    np.testing.assert_array_equal(rows[1], stored.search(vectors_of(3, seed=9), 10)[1][1])
    assert (scores[:, :-1] >= scores[:, 1:]).all()


def test_few_values_are_stored_as_they_are_and_many_in_half():
    assert BackendOptions().resolve({}, SMALL).dtype == "float32"
    assert BackendOptions().resolve({}, SMALL + 1).dtype == "float16"
    assert (
        BackendOptions().resolve({"backend": "exact", "dtype": "float32"}, SMALL + 1).dtype
        == "float32"
    )
    assert BackendOptions(dtype="int8").resolve({}, 1).dtype == "int8"
