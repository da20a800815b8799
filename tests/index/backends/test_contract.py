"""Every backend: ids and scores equal to a loop over the rows."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cl2cm.errors import VectorIndexError
from cl2cm.index import ExactIndex


def unit(rng, *shape):
    values = rng.standard_normal(shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def exact(dtype, **settings):
    def make(folder, vectors):
        path = folder / "vectors.npy"
        ExactIndex.write(path, vectors, dtype)
        return ExactIndex(np.load(path, mmap_mode="r"), **settings)

    return make


BACKENDS = {
    "exact-float16": exact("float16"),
    "exact-float32": exact("float32"),
    "exact-float16-streamed": exact("float16", chunk_rows=7, resident_bytes=0),
    "exact-float32-chunks": exact("float32", chunk_rows=7),
    "exact-int8": exact("int8"),
    "exact-int8-streamed": exact("int8", chunk_rows=7, resident_bytes=0),
}


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr("cl2cm.index.backends.exact._SCORES", 1)
    monkeypatch.setattr("cl2cm.index.backends.exact._QUERY_BLOCK", 5)
    monkeypatch.setattr("cl2cm.index.backends.exact._OFFERED", 11)
    monkeypatch.setattr("cl2cm.index.backends.exact.cores", lambda: 3)


@pytest.fixture(params=BACKENDS)
def backend(request, tmp_path):
    return lambda vectors: BACKENDS[request.param](tmp_path, vectors)


def reference(stored, query, k):
    """Score every row by itself in float64, round once, sort by score and then by row."""
    scored = []
    for row, vector in enumerate(stored.astype(np.float64)):
        scored.append((-np.float32((vector * query.astype(np.float64)).sum()), row))
    best = sorted(scored)[:k]
    return np.array([-s for s, _ in best], np.float32), np.array([r for _, r in best])


@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 1), (5, 3, 2), (200, 16, 10), (300, 65, 300)])
def test_ids_and_scores_equal_brute_force(backend, n, d, k):
    rng = np.random.default_rng(n)
    index = backend(unit(rng, n, d))
    stored = index.vectors(np.arange(n))
    queries = unit(rng, 9, d)
    scores, rows = index.search(queries, k)
    assert (scores.dtype, rows.dtype) == (np.float32, np.int64)
    for query, found_scores, found_rows in zip(queries, scores, rows, strict=True):
        wanted_scores, wanted_rows = reference(stored, query, k)
        np.testing.assert_array_equal(found_rows, wanted_rows)
        np.testing.assert_array_equal(found_scores, wanted_scores)


def test_an_example_by_hand(backend):
    index = backend(np.array([[0, 1], [1, 0], [-1, 0]], np.float32))
    scores, rows = index.search(np.array([[1, 0], [0, -1]], np.float32), 3)
    np.testing.assert_array_equal(rows, [[1, 0, 2], [1, 2, 0]])
    np.testing.assert_array_equal(scores, [[1, 0, -1], [0, 0, -1]])


def test_stored_values_are_the_vectors_to_the_precision_of_the_format(backend):
    vectors = unit(np.random.default_rng(3), 50, 8)
    index = backend(vectors)
    assert (len(index), index.dim) == (50, 8)
    stored = index.vectors(np.arange(50))
    assert stored.dtype == np.float32
    if index.dtype == "int8":  # half a step of the row's scale
        steps = np.abs(vectors).max(axis=1, keepdims=True) / 127
        assert (np.abs(stored - vectors) <= 0.5001 * steps).all()
    else:
        np.testing.assert_allclose(stored, vectors, rtol=2**-11, atol=2**-25)


def test_equal_vectors_tie_exactly_and_come_in_the_order_of_rows(backend):
    rng = np.random.default_rng(0)
    vectors = unit(rng, 100, 37)
    copies = [3, 12, 13, 40, 41, 77, 99]
    vectors[copies] = vectors[3]
    scores, rows = backend(vectors).search(vectors[[3]], 5)
    np.testing.assert_array_equal(rows, [copies[:5]])
    assert len(set(scores[0].tolist())) == 1


def test_rounding_in_float32_does_not_decide(backend):
    rng = np.random.default_rng(11)
    base = unit(rng, 1, 96)
    near = np.repeat(base, 400, axis=0)
    at = rng.integers(0, 96, (400, 3))  # each a few last bits away from the first
    np.put_along_axis(near, at, np.nextafter(np.take_along_axis(near, at, 1), np.float32(2)), 1)
    index = backend(near)
    queries = unit(rng, 8, 96)
    scores, rows = index.search(queries, 5)
    for query, found_scores, found_rows in zip(queries, scores, rows, strict=True):
        wanted_scores, wanted_rows = reference(index.vectors(np.arange(400)), query, 5)
        np.testing.assert_array_equal(found_rows, wanted_rows)
        np.testing.assert_array_equal(found_scores, wanted_scores)


def test_few_rows_are_scored_twice(monkeypatch):
    offered = []
    matrix = unit(np.random.default_rng(0), 4000, 16).astype(np.float16)

    class Counted(np.ndarray):
        def __getitem__(self, rows):
            if isinstance(rows, np.ndarray):
                offered.append(len(rows))
            return super().__getitem__(rows)

    ExactIndex(matrix.view(Counted), chunk_rows=500, resident_bytes=0).search(
        unit(np.random.default_rng(1), 1, 16), 10
    )
    assert 10 <= sum(offered) < 80


def test_all_vectors_equal(backend):
    vectors = np.repeat(unit(np.random.default_rng(1), 1, 12), 50, axis=0)
    _, rows = backend(vectors).search(vectors[:2], 9)
    np.testing.assert_array_equal(rows, [range(9)] * 2)


def test_a_query_alone_equals_the_same_query_in_a_batch(backend):
    rng = np.random.default_rng(5)
    index = backend(unit(rng, 120, 33))
    queries = unit(rng, 300, 33)
    scores, rows = index.search(queries, 4)
    for at in (0, 17, 255, 256, 299):
        alone_scores, alone_rows = index.search(queries[at : at + 1], 4)
        np.testing.assert_array_equal(alone_rows[0], rows[at])
        np.testing.assert_array_equal(alone_scores[0], scores[at])


@pytest.mark.parametrize("k", [20, 21, 1000])
def test_more_hits_than_vectors_gives_all(backend, k):
    rng = np.random.default_rng(6)
    scores, rows = backend(unit(rng, 20, 4)).search(unit(rng, 3, 4), k)
    assert scores.shape == rows.shape == (3, 20)
    np.testing.assert_array_equal(np.sort(rows), [range(20)] * 3)


def test_no_query_gives_no_hits(backend):
    scores, rows = backend(unit(np.random.default_rng(6), 20, 4)).search(np.empty((0, 4)), 3)
    assert scores.shape == rows.shape == (0, 3)


@pytest.mark.parametrize("k", [0, -1])
def test_refuses_less_than_one_hit(backend, k):
    with pytest.raises(VectorIndexError, match="at least 1"):
        backend(np.eye(2, dtype=np.float32)).search(np.eye(2, dtype=np.float32), k)


@pytest.mark.parametrize("shape", [(2,), (1, 3), (1, 2, 2)])
def test_refuses_queries_of_another_width(backend, shape):
    with pytest.raises(VectorIndexError, match=r"\[Q, 2\]"):
        backend(np.eye(2, dtype=np.float32)).search(np.zeros(shape, np.float32), 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_queries_that_are_not_finite(backend, value):
    with pytest.raises(VectorIndexError, match="finite"):
        backend(np.eye(2, dtype=np.float32)).search(np.array([[0, value]], np.float32), 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 3.0])
def test_refuses_to_store_what_is_not_a_unit_vector(backend, bad):
    vectors = np.eye(4, dtype=np.float32)
    vectors[2, 2] = bad
    with pytest.raises(VectorIndexError, match="vector 2"):
        backend(vectors)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,)])
def test_refuses_an_empty_index(backend, shape):
    with pytest.raises(VectorIndexError, match="at least one vector"):
        backend(np.zeros(shape, np.float32))


def test_refuses_an_unknown_dtype(tmp_path):
    with pytest.raises(VectorIndexError, match="float16 or float32"):
        ExactIndex.write(tmp_path / "v.npy", np.eye(2, dtype=np.float32), "int4")
    assert not list(tmp_path.iterdir())


def test_every_finite_half_is_widened_exactly():
    bits = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = bits[np.isfinite(bits)].reshape(-1, 1)
    resident = ExactIndex(halves)._widen_all()
    np.testing.assert_array_equal(resident, halves.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(resident), np.signbit(halves))


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 60),
    d=st.integers(1, 20),
    k=st.integers(1, 70),
    chunk=st.integers(1, 64),
    coarse=st.booleans(),
)
def test_the_size_of_chunks_changes_nothing(seed, n, d, k, chunk, coarse):
    rng = np.random.default_rng(seed)
    vectors = unit(rng, n, d)
    if coarse:  # many ties
        vectors = np.sign(vectors) / np.sqrt(np.float32(d))
    queries = unit(rng, 3, d)
    halves = vectors.astype(np.float16)
    ways = []
    for rows, resident in itertools.product([chunk, 4096], [0, 2**20]):
        index = ExactIndex(halves, chunk_rows=rows, resident_bytes=resident)
        ways += [index.search(queries, k) for _ in range(2)]
        assert (index._resident is not None) == (resident > 0)  # from the second search on
    stored = vectors.astype(np.float16).astype(np.float32)
    for at, query in enumerate(queries):
        scores, rows = reference(stored, query, k)
        for found_scores, found_rows in ways:
            np.testing.assert_array_equal(found_rows[at], rows)
            np.testing.assert_array_equal(found_scores[at], scores)
