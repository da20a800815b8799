"""What an index costs as it grows: bytes, opening, first search, filters, look-ups, updates.

    python benchmarks/capacity.py [--rows 10000,100000,1000000] [--dim 256] [--shards 8]

Times are CPU seconds of this process unless it says wall; each is the best of some rounds. An
update is of 100 new and 100 removed items, in three parts: looking at the files (measured on 10,000
real ones, in microseconds for each), finding out what has changed, and writing. The last two are
measured on the index itself, without files. "plain read" reads the same files into new memory.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from cl2cm.data.scan import survey_folder
from cl2cm.index import Filter, Index, ItemStore
from cl2cm.index.backend_choice import BackendConfig, BackendOptions
from cl2cm.index.metadata import parts_of, read_metadata
from cl2cm.index.update.change import plan_change, read_before
from cl2cm.index.update.shards import Shard, merge_shards
from cl2cm.index.update.state import states_of
from cl2cm.index.write import write_change, write_index
from cl2cm.types import Example, Floats, Item

FEW = 100


def main() -> None:
    """Print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="10000,100000,1000000")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--shards", type=int, default=8)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps({"looking at a file, us": look(Path(name, "photos"))}), flush=True)
    for rows in map(int, args.rows.split(",")):
        with tempfile.TemporaryDirectory() as name:
            print(json.dumps(measure(Path(name), rows, args.dim, args.shards)), flush=True)


def look(folder: Path, count: int = 10_000) -> dict:
    """Return the microseconds for each file that an update does not read."""
    for number in range(count):
        place = folder / f"{number // 1000:03}"
        if number % 1000 == 0:
            place.mkdir(parents=True)
        (place / f"{number:06}.png").touch()
    examples = survey_folder(folder).examples
    return {
        "scan": round(cpu(lambda: survey_folder(folder)) / count * 1e6, 1),
        "state": round(cpu(lambda: states_of(examples)) / count * 1e6, 1),
    }


def measure(folder: Path, rows: int, dim: int, shards: int) -> dict:
    """Return the figures of an index of so many rows."""
    matrix = unit(rows, dim, 0)
    items = [item(row) for row in range(rows)]
    out = folder / "index"
    build(out, matrix, items, range(rows))
    index = Index.open(out)
    query = unit(1, dim, 1)
    found: dict = {"rows": rows, **sizes(out, rows)}
    time.sleep(0.1)  # a file that is just written is not remembered
    index.verify()
    found["open"] = round(cpu(lambda: Index.open(out).close()), 4)
    found |= first_search(out, query)
    found["look-up, us"] = round(cpu(lambda: look_up(index, rows)) / 1000 * 1e6, 1)
    found["filter by folder, ms"] = round(
        cpu(lambda: index._items.matching(Filter(folder="003"))) * 1e3, 2
    )
    found["filter by name, ms"] = round(
        cpu(lambda: index._items.matching(Filter(name="0999"))) * 1e3, 1
    )
    index.close()
    found["update"] = update(out, items, rows, dim)
    found |= sharded(folder, matrix, items, shards, query)
    return found


def item(row: int) -> Item:
    """Return an item such as a photo has, of 1,000 in a folder."""
    name = f"{row // 1000:03}/{row:08}.jpg"
    return Item(name, f"/photos/{name}", bytes=row + 1000, modified=1e9 + row)


def unit(rows: int, dim: int, seed: int) -> Floats:
    """Return random unit vectors."""
    matrix = np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32)
    for first in range(0, rows, 65536):
        part = matrix[first : first + 65536]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return matrix


def build(out: Path, matrix: Floats, items: list[Item], rows: range) -> None:
    """Write an index with states."""
    write_index(
        out, matrix[rows.start : rows.stop], items[rows.start : rows.stop], model="m",
        run=out.parent / "run", options=BackendOptions(dtype="float16"), roots=[],
        states=list(rows),
    )  # fmt: skip


def sizes(out: Path, rows: int) -> dict:
    """Return the bytes of each item."""
    entries = parts_of(read_metadata(out))[0]["files"]
    return {f"bytes of {kind}": round(entries[kind]["bytes"] / rows, 1) for kind in entries}


def first_search(out: Path, query: Floats) -> dict:
    """Opening and one search, and a plain read of the same bytes, in turns."""

    def search() -> None:
        index = Index.open(out)
        index.nearest(query, 10, model="m")
        index.close()

    def read() -> None:
        for path in out.glob("*-*.*"):
            path.read_bytes()

    walls: dict[str, list[float]] = {"open and first search": [], "plain read": []}
    for _ in range(7):
        for name, way in (("open and first search", search), ("plain read", read)):
            begin = time.perf_counter()
            way()
            walls[name].append(time.perf_counter() - begin)
    best = {name: min(times) for name, times in walls.items()}
    ratio = best["open and first search"] / best["plain read"]
    return {
        **{f"{name}, wall": round(seconds, 4) for name, seconds in best.items()},
        "ratio": round(ratio, 2),
    }


def look_up(index: Index, rows: int) -> None:
    """Look up a thousand items by their ids."""
    rng = random.Random(0)
    for _ in range(1000):
        index.item_by_id(item(rng.randrange(rows)).id)


def update(out: Path, items: list[Item], rows: int, dim: int) -> dict:
    """Cost of finding out what has changed, and of writing 100 new and 100 removed items."""
    examples = [Example(one.id, "all") for one in items[FEW:]]
    examples += [Example(item(rows + n).id, "all") for n in range(FEW)]
    states = list(range(FEW, rows + FEW))
    metadata = read_metadata(out)

    def compare() -> None:
        plan_change(read_before(out, metadata), examples, states, set())

    found = {"find out": round(cpu(compare, 3), 3)}
    new, vectors = [item(rows + n) for n in range(FEW)], unit(FEW, dim, 2)
    path = out / parts_of(metadata)[0]["files"]["items"]["name"]

    def write() -> None:
        with closing(ItemStore(path)) as store:
            gone = [store.find(one.id) for one in items[:FEW]]
        write_change(
            out, vectors, new, states[-FEW:], old=read_metadata(out), kept=parts_of(metadata),
            removed={0: np.array(gone)}, config=BackendConfig("exact", "float16"),
            run=out.parent / "run", roots=[],
        )  # fmt: skip
        Index.open(out).close()

    found["write"] = round(cpu(write, 3), 3)
    return found


def sharded(folder: Path, matrix: Floats, items: list[Item], count: int, query: Floats) -> dict:
    """Merge shards, and search them; beside the index of one part."""
    out, whole = folder / "merged", folder / "whole"
    build(whole, matrix, items, range(len(matrix)))
    for number in range(1, count + 1):
        shard = Shard(number, count)
        build(shard.folder(out), matrix, items, shard.of(range(len(matrix))))
        shard.finish(out, [item.id for item in items])
    begin = time.process_time()
    merged = merge_shards(out)
    seconds = time.process_time() - begin
    one = Index.open(whole)
    ways = {"parts": merged, "one part": one}
    times = {name: [] for name in ways}
    for _ in range(9):
        for name, index in ways.items():
            start = time.perf_counter()
            index.nearest(query, 10, model="m")
            times[name].append((time.perf_counter() - start) * 1e3)
    return {
        f"merge of {count}": round(seconds, 3),
        **{f"search of {name}, wall ms": round(min(each), 2) for name, each in times.items()},
    }


def cpu(way: Callable[[], object], repeat: int = 5) -> float:
    """Return the least CPU time of some rounds."""
    best = float("inf")
    for _ in range(repeat):
        begin = time.process_time()
        way()
        best = min(best, time.process_time() - begin)
    return best


if __name__ == "__main__":
    main()
