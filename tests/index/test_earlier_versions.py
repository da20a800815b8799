"""Indexes as earlier versions wrote them: without seal, roots, address, and what came later."""

import hashlib
import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from cl2cm.index import Index
from fixtures.strangers import head_of, make_index

N, D = 12, 8
SCHEMA = """
CREATE TABLE items (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,
    start REAL,
    "end" REAL,
    captions TEXT NOT NULL,
    media TEXT NOT NULL,
    bytes INTEGER,
    modified REAL,
    folder TEXT NOT NULL
)
"""  # to the letter: a file with another schema is refused
INDEXES = ("folder", "media, modified", "modified", "bytes")


def vectors_of():
    values = np.random.default_rng(1).standard_normal((N, D)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def write_items(path):
    with closing(sqlite3.connect(path)) as base, base:
        base.execute(SCHEMA)
        for row in range(N):
            film = row % 2 == 1
            base.execute(
                "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(row, f"sea/{row}.png", f"../photos/{row}.png", 1.0 if film else None, 2.0 if film else None),
                    *('{"en": ["a dog"], "zh": ["狗"]}', "film" if film else "picture", 10 * row, 5.0, "sea"),
                ),
            )  # fmt: skip
        for number, columns in enumerate(INDEXES):
            base.execute(f"CREATE INDEX filter_{number} ON items ({columns})")
        base.execute("PRAGMA user_version = 2")


@pytest.fixture(params=["exact", "faiss"])
def old(request, tmp_path):
    """An index folder, written by hand as the first version of the format wrote it."""
    folder = tmp_path / "index"
    folder.mkdir()
    with (folder / "vectors-0a1b2c3d.npy").open("wb") as file:
        array = {"descr": "<f2", "fortran_order": False, "shape": (N, D)}
        np.lib.format.write_array_header_2_0(file, array)
        file.write(vectors_of().astype("<f2").tobytes())
    write_items(folder / "items-0a1b2c3d.sqlite")
    kinds = {"vectors": "vectors-0a1b2c3d.npy", "items": "items-0a1b2c3d.sqlite"}
    if request.param == "faiss":
        faiss = pytest.importorskip("faiss", reason="pip install 'cl2cm[faiss]'")
        graph = faiss.IndexFlatIP(D)
        graph.add(vectors_of().astype(np.float16).astype(np.float32))
        faiss.write_index(graph, str(folder / "graph-0a1b2c3d.faiss"))
        kinds["graph"] = "graph-0a1b2c3d.faiss"
    files = {
        kind: {
            "name": name,
            "bytes": (folder / name).stat().st_size,
            "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
        }
        for kind, name in kinds.items()
    }
    head = {
        "format": "cl2cm-index", "version": 1, "backend": request.param, "count": N, "dim": D,
        "dtype": "float16", "model": "m", "folder": str(folder), "files": files,
        "run": {"absolute": str(tmp_path / "run"), "relative": "../run"},
    }  # fmt: skip
    (folder / "index.json").write_text(json.dumps(head))
    return folder


@pytest.mark.parametrize(
    "later", [{}, {"url": "", "previous": ""}, {"url": "", "cleartext": False}]
)
def test_it_opens_and_finds_what_it_held(old, later):
    (old / "index.json").write_text(json.dumps(head_of(old) | later))
    index = Index.open(old)
    assert not index.ours
    index.verify()
    scores, rows = index.nearest(vectors_of()[3:4], 5, model="m")
    stored = vectors_of().astype(np.float16).astype(np.float64)
    exact = (stored * vectors_of()[3].astype(np.float64)).sum(axis=1).astype(np.float32)
    order = np.lexsort((np.arange(N), -exact))[:5]
    np.testing.assert_array_equal(rows[0], order)
    np.testing.assert_array_equal(scores[0], exact[order])
    item = index.item_by_id("sea/3.png")
    assert (item.kind, item.start, item.captions["zh"]) == ("video", 1.0, ("狗",))
    assert index.folders() == ["sea"]
    assert index.run == old.parent / "run"


def test_written_again_it_keeps_its_backend_and_is_ours(old):
    make_index(old, n=5)
    index = Index.open(old)
    assert (index.ours, len(index), index.backend) == (True, 5, head_of(old)["backend"])
    assert not list(old.glob("*-0a1b2c3d.*"))
