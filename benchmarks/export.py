"""An exported model against its run: one query, the start of a search, memory, the query path.

    python benchmarks/export.py [RUN] [EXPORT]

By default the run is the demo's (``cl2cm-demo/runs/cl2cm``); an int8 export is made of it.
Prints one JSON object.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cl2cm.export.load import load
from cl2cm.index import Index
from cl2cm.search.searcher import Searcher
from cl2cm.types import Item, SearchModel

QUERIES = (
    "a dog in the snow",
    "roter Ball",
    "雪地里的狗",
    "كلب في الثلج",
    "chat noir",
    "красная машина",
)


def best(call: Callable[[str], object], times: int = 30) -> dict[str, float]:
    """Median and least milliseconds of a call, and the median of its processor time."""
    for query in QUERIES:
        call(query)
    found, used = [], []
    for number in range(times):
        begin, began = time.perf_counter(), time.process_time()
        call(QUERIES[number % len(QUERIES)])
        found.append((time.perf_counter() - begin) * 1e3)
        used.append((time.process_time() - began) * 1e3)
    values = {
        "median": statistics.median(found),
        "least": min(found),
        "cpu": statistics.median(used),
    }
    return {key: round(value, 2) for key, value in values.items()}


def make_index(folder: Path, model: SearchModel, run: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(count, model.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    items = [Item(f"{number}.jpg", "") for number in range(count)]
    Index.create(folder, vectors, items, model=model.fingerprint, run=run).close()
    return folder


def started(*arguments: object) -> dict[str, Any]:
    """Seconds from the start of a process to its end, and its peak memory in MB."""
    code = (
        "import resource, subprocess, sys, time; begin = time.perf_counter();"
        "done = subprocess.run(sys.argv[1:], capture_output=True, check=True);"
        "print(time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    seconds, peak = [], []
    for _ in range(3):
        command = [sys.executable, "-c", code, sys.executable, "-m", "cl2cm", *map(str, arguments)]
        found = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
        seconds.append(float(found[0]))
        peak.append(int(found[1]) / 1024)
    return {"seconds": [round(one, 2) for one in sorted(seconds)], "peak_MB": round(max(peak))}


def main() -> None:
    run = Path(sys.argv[1] if len(sys.argv) > 1 else "cl2cm-demo/runs/cl2cm")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if len(sys.argv) > 2:
            export = Path(sys.argv[2])
        else:
            from cl2cm.export.write import export_run  # noqa: PLC0415 - loads torch

            export = export_run(run, folder / "export", precisions=("int8",))[0].path
        model = load(export)
        ten = make_index(folder / "ten", model, export, 10_000)
        many = make_index(folder / "many", model, export, 100_000)
        result = {
            "search_10k_from_start": started("search", ten, QUERIES[0], "--run", export),
            "export_ms": best(lambda query: model.encode_text([query])),
            "tokenise_ms": best(model.reader.ids),
            "query_path_100k_ms": best(Searcher(model, Index.open(many)).search),
        }
        import torch  # noqa: PLC0415 - after what needs none

        torch.set_num_threads(
            int(os.environ.get("OMP_NUM_THREADS", "0")) or torch.get_num_threads()
        )
        whole = load(run)
        result["torch_fp32_ms"] = best(lambda query: whole.encode_text([query]))
        result["times_faster"] = {
            key: round(result["torch_fp32_ms"][key] / result["export_ms"][key], 2)
            for key in ("median", "least", "cpu")
        }
        result["load_average"] = round(os.getloadavg()[0], 1)
        result["peak_MB_of_this_process"] = (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        )
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
