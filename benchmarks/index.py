"""An index of 10,000, 100,000 and a million 512-d vectors: how long a search and a look-up take.

    python benchmarks/index.py [--rows 10000,100000] [--full] [--repeat 15] [--no-graph]

``exact`` (float16, int8) is measured beside numpy's bare ``argpartition(matrix @ query)`` on a
float32 matrix in memory, and beside faiss's flat index, on the same cores and in turns; medians.
It keeps its float32 copy where an eighth of the memory suffices for it; ``streamed`` keeps none.
``hnsw`` is faiss's graph with its candidates scored exactly; recall is of the exact ten.
A look-up is an item by its id, of SQLite. ``--full`` adds the million.

Vectors are of clusters in a space of 32 dimensions, mapped to 512, with noise: uniform noise in 512
dimensions has no neighbours to find. Queries are such vectors, none of which is in the index.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cl2cm.index import ExactIndex, ItemStore
from cl2cm.index.backends.faiss import FaissFinder, load_faiss
from cl2cm.index.backends.rescoring import RescoredIndex
from cl2cm.types import Floats, Ints, Item

DIM, LATENT, QUERIES = 512, 32, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="10000,100000")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--no-graph", action="store_true")
    args = parser.parse_args()
    sizes = [int(n) for n in args.rows.split(",") if n] + [1_000_000] * args.full
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            print(
                json.dumps(measure(Path(folder), rows, args.repeat, not args.no_graph)), flush=True
            )


def measure(folder: Path, rows: int, repeat: int, graph: bool) -> dict:
    matrix, queries = vectors(rows)
    stored = {}
    for dtype in ("float16", "int8"):
        ExactIndex.write(folder / f"{dtype}.npy", matrix, dtype)
        stored[dtype] = ExactIndex.open(folder / f"{dtype}.npy", rows, DIM, dtype)
    streamed = ExactIndex.open(folder / "float16.npy", rows, DIM, "float16", resident_bytes=0)
    flat = load_faiss().IndexFlatIP(DIM)
    flat.add(matrix)
    found: dict = {"rows": rows, "threads of faiss": load_faiss().omp_get_max_threads()}
    for count in (1, 64):
        ways = {
            "numpy": lambda q=queries[:count]: np.argpartition(q @ matrix.T, -10)[:, -10:],
            "faiss flat": lambda q=queries[:count]: flat.search(q, 10),
            "exact float16": lambda q=queries[:count]: stored["float16"].search(q, 10),
            "streamed float16": lambda q=queries[:count]: streamed.search(q, 10),
            "exact int8": lambda q=queries[:count]: stored["int8"].search(q, 10),
        }
        found[f"{count} queries, ms"] = compare(ways, repeat)
    _, true = stored["float16"].search(queries, 10)
    found["int8 recall@10"] = recall(stored["int8"].search(queries, 10)[1], true)
    found["look-up by id, ms"] = look_up(folder / "items.sqlite", rows)
    if graph:
        found["hnsw"] = measure_graph(folder, stored["float16"], queries, true, repeat)
    return found


def measure_graph(
    folder: Path, stored: ExactIndex, queries: Floats, true: Ints, repeat: int
) -> dict:
    begin = time.perf_counter()
    finder = FaissFinder.write(folder / "graph.faiss", stored, "hnsw")
    seconds = time.perf_counter() - begin
    index = RescoredIndex(stored, finder)
    ways = {
        "exact": lambda: stored.search(queries[:1], 10),
        "hnsw": lambda: [index.search(query[None], 10) for query in queries],
    }
    times = compare(ways, repeat)
    hnsw = times["hnsw"] / len(queries)
    return {
        "built in s": round(seconds, 1),
        "ef": finder.effort,
        "recall@10": recall(index.search(queries, 10)[1], true),
        "ms": round(hnsw, 3),
        "times exact's speed": round(times["exact"] / hnsw, 1),
    }


def vectors(rows: int, dim: int = DIM, queries: int = QUERIES) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1000, LATENT), dtype=np.float32)
    mapping = rng.standard_normal((LATENT, dim), dtype=np.float32) / np.float32(np.sqrt(LATENT))

    def some(count: int) -> Floats:
        latent = centres[rng.integers(0, len(centres), count)]
        latent = latent + np.float32(0.6) * rng.standard_normal(latent.shape, dtype=np.float32)
        values = latent @ mapping
        for first in range(0, count, 65536):
            part = values[first : first + 65536]
            part += np.float32(0.3) * rng.standard_normal(part.shape, dtype=np.float32)
            part /= np.linalg.norm(part, axis=1, keepdims=True)
        return values

    return some(rows), some(queries)


def look_up(path: Path, rows: int) -> float:
    ItemStore.write(path, [Item(f"folder/{n:08}.jpg", f"/p/{n:08}.jpg") for n in range(rows)])
    store = ItemStore(path)
    names = [f"folder/{n:08}.jpg" for n in np.random.default_rng(1).integers(0, rows, 3000)]
    times = []
    for name in names:
        begin = time.perf_counter()
        store.at([store.row_of(name)])
        times.append((time.perf_counter() - begin) * 1e3)
    store.close()
    return round(statistics.median(times), 4)


def recall(found: Ints, true: Ints) -> float:
    hits = [np.isin(*pair).mean() for pair in zip(true, found, strict=True)]
    return round(float(np.mean(hits)), 4)


def compare(ways: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(repeat):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            times[name].append((time.perf_counter() - begin) * 1e3)
    return {name: round(statistics.median(values), 3) for name, values in times.items()}


if __name__ == "__main__":
    main()
