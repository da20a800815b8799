"""A real PostgreSQL server: recall against exact search, reads during writes, lost connections."""

import threading

import numpy as np
import pytest

from cl2cm.index import ExactIndex, Index
from cl2cm.index.backends import pgvector
from cl2cm.types import Item

N, D = 3000, 24


def unit(count, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((12, D))[rng.integers(0, 12, count)]
    values = values + 0.7 * rng.standard_normal((count, D))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def write(path, vectors, url):
    items = [Item(f"{row}.png", "", bytes=row) for row in range(len(vectors))]
    Index.create(
        path, vectors, items, model="m", run=path.parent / "run", backend="pgvector", url=url,
        dtype="float16",
    ).close()  # fmt: skip


def nearest(index, queries):
    return index.nearest(queries, 10, model="m")[1]


def test_readers_see_a_whole_index_while_it_is_written_again(postgres, tmp_path):
    path, vectors, queries = tmp_path / "index", unit(N, 1), unit(40, 2)
    write(path, vectors, postgres)
    expected = {}
    for name, matrix in (("before", vectors), ("after", vectors[::-1])):
        _, expected[name] = ExactIndex(matrix.astype(np.float16)).search(queries, 10)
    index = Index.open(path)
    found = nearest(index, queries)
    recall = np.mean([np.isin(*pair) for pair in zip(expected["before"], found, strict=True)])
    assert recall >= 0.95
    done, seen = threading.Event(), []

    def read():
        while not done.is_set() or len(seen) < 4:
            opened = Index.open(path)
            rows = nearest(opened, queries[:1])[0]
            seen.append([len(np.intersect1d(rows, expected[name][0])) for name in expected])
            opened.close()

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    write(path, vectors[::-1], postgres)
    done.set()
    for thread in threads:
        thread.join()
    assert all(max(both) >= 9 for both in seen)  # of one of the two, never of a mixture
    np.testing.assert_array_equal(nearest(index, queries), found)  # it was open all the time
    index.close()


def test_an_open_index_is_searched_after_the_server_was_restarted(postgres, tmp_path):
    psycopg = pytest.importorskip("psycopg")
    path, queries = tmp_path / "index", unit(5, 2)
    write(path, unit(200, 1), postgres)
    index = Index.open(path)
    before = nearest(index, queries)
    with psycopg.connect(postgres, autocommit=True) as connection:  # as a restart ends them all
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        ).fetchone()
    assert ended[0] >= 1
    np.testing.assert_array_equal(nearest(index, queries), before)
    assert index.item(3).id == "3.png"
    index.close()


@pytest.mark.parametrize(
    ("rows", "dim", "megabytes"), [(10, 8, 64), (200_000, 256, 292), (10**8, 512, 1024)]
)
def test_a_graph_is_built_in_memory_within_a_limit(rows, dim, megabytes):
    assert pgvector._memory((rows, dim)) == megabytes
