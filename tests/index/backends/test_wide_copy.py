"""The float32 copy of a matrix is made once: by one of many threads, and for one of many indexes."""

import gc
import shutil
import threading

import numpy as np

from cl2cm.index.backends import wide_copy
from cl2cm.index.backends.exact import ExactIndex
from fixtures.strangers import unit

D = 8


def stored(tmp_path, count=64):
    path = tmp_path / "vectors.npy"
    ExactIndex.write(path, unit(count, D), "float16")
    return path


def opened(path, count=64):
    return ExactIndex.open(path, count, D, "float16")


def counted(monkeypatch):
    made = []
    real = ExactIndex._widen_all

    def widen_all(self):
        made.append(self)
        return real(self)

    monkeypatch.setattr(ExactIndex, "_widen_all", widen_all)
    return made


def test_indexes_of_one_file_share_a_copy(tmp_path, monkeypatch):
    made, path, query = counted(monkeypatch), stored(tmp_path), unit(3, D)
    first, second = opened(path), opened(path)
    expected = first.search(query, 5)
    for index in (first, second, first, second):
        for found, wanted in zip(index.search(query, 5), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert len(made) == 1
    assert second._resident is first._resident
    other = opened(shutil.copy(path, tmp_path / "other.npy"))
    other.search(query, 5)
    other.search(query, 5)
    assert len(made) == 2


def test_threads_make_one_copy(tmp_path, monkeypatch):
    made, index, query = counted(monkeypatch), opened(stored(tmp_path)), unit(1, D)
    barrier = threading.Barrier(8)

    def search():
        barrier.wait()
        for _ in range(20):
            index.search(query, 3)

    threads = [threading.Thread(target=search) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_all_copies_together_have_a_limit(tmp_path, monkeypatch):
    gc.collect()
    taken = sum(copy.size for copy in wide_copy._made)
    monkeypatch.setattr(wide_copy, "memory", lambda: 8 * (taken + 3 * 64 * D * 4 // 2))
    (tmp_path / "b").mkdir()
    first, second = opened(stored(tmp_path)), opened(stored(tmp_path / "b"))
    for index in (first, second):
        for _ in range(3):
            index.search(unit(1, D), 3)
    assert first._resident is not None
    assert second._resident is None  # it is searched all the same
    del first
    gc.collect()
    second.search(unit(1, D), 3)
    assert second._resident is not None
