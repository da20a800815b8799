"""Exact top-10 in 100,000 vectors of 512, against numpy's bare matrix product, in one run.

    python benchmarks/search.py [--rows 100000] [--dim 512] [--repeat 30]

``bare`` is ``argpartition(matrix_float32 @ query)``: no order, no ties, no items, twice the memory.
``resident`` is the index as it is by default from the second search on; ``streamed`` keeps nothing
in memory but the operating system's own cache of the float16 file. Rounds are interleaved; medians.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cl2cm.index import ExactIndex


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=30)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((args.rows, args.dim), dtype=np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vectors.npy")
        ExactIndex.write(path, matrix, "float16")
        half = np.load(path, mmap_mode="r")
        resident = ExactIndex(half, resident_bytes=2**40)
        streamed = ExactIndex(half, resident_bytes=0)
        for count in (1, 64):
            queries = matrix[:count]
            ways: dict[str, Callable[[], object]] = {
                "bare": lambda q=queries: np.argpartition(q @ matrix.T, -10)[:, -10:],
                "resident": lambda q=queries: resident.search(q, 10),
                "streamed": lambda q=queries: streamed.search(q, 10),
            }
            rows[f"{count} queries"] = compare(ways, args.repeat)
    print(json.dumps({"rows": args.rows, "dim": args.dim, "ms": rows}, indent=2))


def compare(ways: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(repeat):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            times[name].append((time.perf_counter() - begin) * 1e3)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {f"{name} / bare": medians[name] / medians["bare"] for name in list(ways)[1:]}
    return {name: round(value, 2) for name, value in (medians | ratios).items()}


if __name__ == "__main__":
    main()
