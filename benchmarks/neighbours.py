"""Search for the ten nearest vectors: cl2cm beside other libraries, as the collection grows.

    python benchmarks/neighbours.py [--rows 1000,10000,100000] [--repeat 9] [--no-graph] [--json]

Vectors and queries are those of ``index.py``: 512 dimensions, float32, unit length. ``exact`` finds
the true ten, as do numpy, faiss's flat index, scikit-learn's brute force, ``semantic_search`` of
sentence-transformers and usearch's exact search; ``hnsw`` is cl2cm's graph, of faiss, with exact
scores, beside usearch's graph with its defaults. Peers that are not installed are left out. Ways
take turns; milliseconds are medians, ``times`` the median of the ratios within a round, above 1
where cl2cm is faster.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from cl2cm.index import ExactIndex
from cl2cm.index.backends.faiss import FaissFinder, load_faiss
from cl2cm.index.backends.rescoring import RescoredIndex
from cl2cm.types import Floats, Ints
from index import recall, vectors

K = 10
Ways = dict[str, Callable[[Floats], object]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="1000,10000,100000")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--no-graph", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    for count in (int(n) for n in args.rows.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(Path(folder), count, args.repeat, graph=not args.no_graph)
    if args.json:
        print(json.dumps({"rows": rows}))
        return
    for row in rows:
        print(
            f"{row['rows']:9,} {row['queries']:4} queries  {row['way']:38}{row['ms']:10.3f} ms"
            f"{row['times']:9.2f} times the time of {row['own']}, recall {row['recall']:.3f}"
        )


def measure(folder: Path, count: int, repeat: int, *, graph: bool) -> list[dict[str, Any]]:
    matrix, queries = vectors(count)
    ExactIndex.write(folder / "exact.npy", matrix, "float16")
    own = ExactIndex.open(folder / "exact.npy", count, matrix.shape[1], "float16")
    _, true = own.search(queries, K)
    ways: Ways = {"exact": lambda q: own.search(q, K)[1], **exact_peers(matrix)}
    found = []
    for asked in (1, 64):
        found += compare(ways, queries[:asked], true[:asked], repeat, count)
    if graph:
        finder = FaissFinder.write(folder / "graph.faiss", own, "hnsw")
        index = RescoredIndex(own, finder)
        graphs: Ways = {"hnsw": lambda q: index.search(q, K)[1], **graph_peers(matrix)}
        found += compare(graphs, queries[:64], true[:64], repeat, count)
    return found


def exact_peers(matrix: Floats) -> Ways:
    flat = load_faiss().IndexFlatIP(matrix.shape[1])
    flat.add(matrix)
    ways: Ways = {
        "numpy, argpartition": lambda q: np.argpartition(q @ matrix.T, -K)[:, -K:],
        "faiss, flat": lambda q: flat.search(q, K)[1],
    }
    if find_spec("sklearn") is not None:
        from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415

        brute = NearestNeighbors(n_neighbors=K, algorithm="brute", metric="cosine").fit(matrix)
        ways["scikit-learn, brute force"] = lambda q: brute.kneighbors(q)[1]
    if find_spec("sentence_transformers") is not None:
        import torch  # noqa: PLC0415
        from sentence_transformers.util import semantic_search  # noqa: PLC0415

        corpus = torch.from_numpy(matrix)
        ways["sentence-transformers, semantic_search"] = lambda q: np.array(
            [
                [hit["corpus_id"] for hit in hits]
                for hits in semantic_search(torch.from_numpy(q), corpus, top_k=K)
            ]
        )
    if find_spec("usearch") is not None:
        from usearch.index import MetricKind, search  # noqa: PLC0415

        ways["usearch, exact"] = lambda q: np.asarray(
            search(matrix, q, K, MetricKind.IP, exact=True).keys
        ).reshape(len(q), -1)
    return ways


def graph_peers(matrix: Floats) -> Ways:
    if find_spec("usearch") is None:
        return {}
    from usearch.index import Index  # noqa: PLC0415

    graph = Index(ndim=matrix.shape[1], metric="ip", dtype="f32")
    graph.add(np.arange(len(matrix)), matrix)
    return {"usearch, HNSW": lambda q: np.asarray(graph.search(q, K).keys).reshape(len(q), -1)}


def compare(
    ways: Ways, queries: Floats, true: Ints, repeat: int, count: int
) -> list[dict[str, Any]]:
    own = next(iter(ways))
    found = {name: np.asarray(way(queries)) for name, way in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeat):
        for name, way in ways.items():
            begin = time.perf_counter()
            way(queries)
            times[name].append(1e3 * (time.perf_counter() - begin))
    return [
        {
            "rows": count,
            "queries": len(queries),
            "way": name,
            "own": own,
            "ms": statistics.median(spent),
            "times": statistics.median(t / o for t, o in zip(spent, times[own], strict=True)),
            "recall": recall(found[name], true),
        }
        for name, spent in times.items()
    ]


if __name__ == "__main__":
    main()
