"""Run the benchmarks, and write their figures into docs/performance.md.

    python benchmarks/run.py [--quick] [--only transport,search] [--page FILE] [--json]

Each script runs in a process of its own, one after the other. A script that fails, or whose needs
are not here, is named in the page with the reason. ``--quick`` takes small problems and few rounds,
to see that all work; its figures are no basis for claims. ``$CL2CM_RUN`` names a run folder for the
export. With ``--json`` rows are printed, and the page is written only if ``--page`` is given.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from page import write_page
from rows import TASKS, Task, as_json

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
LONGEST = 900  # seconds of one script
QUIET = 0.25  # load of a processor, above which other jobs disturb
PACKAGES = (
    *("cl2cm", "numpy", "torch", "onnxruntime", "transformers", "POT", "faiss-cpu"),
    *("scikit-learn", "sentence-transformers", "usearch"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small problems, in under 5 minutes")
    parser.add_argument("--only", default="", help=f"some of {', '.join(TASKS)}")
    parser.add_argument("--page", type=Path, help=f"by default {PAGE.relative_to(HERE.parent)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    chosen = [name.strip() for name in args.only.split(",") if name.strip()] or list(TASKS)
    if unknown := set(chosen) - set(TASKS):
        parser.error(f"--only {', '.join(sorted(unknown))}: choose among {', '.join(TASKS)}")
    begin = time.perf_counter()
    report = {"machine": machine(quick=args.quick), "versions": versions(), "suites": []}
    for name in chosen:
        report["suites"].append(run_suite(name, quick=args.quick))
    report["machine"]["load_at_the_end"] = load()
    report["machine"]["processor_minutes"] = processor_minutes()
    report["machine"]["minutes"] = round((time.perf_counter() - begin) / 60, 1)
    if args.json:
        print(json.dumps(report))
    if args.page or not args.json:
        page = args.page or PAGE
        write_page(page, report)
        print(f"{page} written after {report['machine']['minutes']} min", file=sys.stderr)
    if any(suite["failed"] for suite in report["suites"]):
        sys.exit(1)


def machine(*, quick: bool) -> dict[str, Any]:
    """Describe the machine and its state: ratios of a busy one are worth less."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ] if Path("/proc/cpuinfo").exists() else []  # fmt: skip
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    busy = load()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": cores,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "load_at_the_start": busy,
        "quiet": busy is not None and busy <= QUIET * (cores or 1),
        "quick": quick,
    }


def load() -> float | None:
    """Return the number of jobs that want a processor, the mean of a minute."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def processor_minutes() -> float:
    """Return the processor time of all scripts so far, which a busy machine does not prolong."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round((used.ru_utime + used.ru_stime) / 60, 1)


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def run_suite(name: str, *, quick: bool) -> dict[str, Any]:
    """Return the rows of a suite, what was left out of it, and what failed."""
    title, tasks = TASKS[name]
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    failed: list[str] = []
    for task in tasks:
        absent = [need for need in task.needs if need not in os.environ]
        if (quick and task.quick is None) or absent:
            if absent:
                left_out.append(f"{task.script}: set {', '.join(absent)}")
            continue
        arguments = task.quick if quick and task.quick is not None else task.arguments
        print(f"{name}: {task.script} {' '.join(arguments)}", file=sys.stderr, flush=True)
        try:
            rows += [as_json(row) for row in task.rows(printed(task, arguments))]
        except Exception as error:
            failed.append(f"{task.script}: {type(error).__name__}: {error}"[:300])
            print(failed[-1], file=sys.stderr, flush=True)
    return {"name": name, "title": title, "rows": rows, "left_out": left_out, "failed": failed}


def printed(task: Task, arguments: Any) -> Any:  # noqa: ANN401 - what it prints
    """Return the JSON that a script prints: one object, or one a line."""
    words = [word.format(**os.environ) if word.startswith("{") else word for word in arguments]
    with_json = "--json" in (HERE / task.script).read_text(encoding="utf-8")
    command = [sys.executable, str(HERE / task.script), *words, *(["--json"] if with_json else [])]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=LONGEST, cwd=HERE.parent
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RuntimeError(last[0])
    try:
        return json.loads(done.stdout)
    except ValueError:
        return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]


if __name__ == "__main__":
    main()
