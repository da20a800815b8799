"""Benchmarks in one form: rows with a peer or a limit, from what each script prints.

A script of this folder measures one thing and prints JSON of its own; the functions here turn it
into rows. A figure without a peer that was measured in the same run, or a limit that it has to
keep, is no row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Report = Any  # what a script prints


@dataclass(frozen=True, slots=True)
class Peer:
    """A measurement of cl2cm beside one of a peer.

    Attributes:
        case: what was measured.
        unit: of both.
        ours: of cl2cm.
        peer: name of the peer.
        theirs: of the peer.
        times: how many times as fast as the peer cl2cm is; below 1 where it is slower.
        note: such as a recall.
        size: of the problem, for a growth curve; None where there is none.
    """

    case: str
    unit: str
    ours: float
    peer: str
    theirs: float
    times: float
    note: str = ""
    size: float | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """A measurement of cl2cm beside a limit.

    Attributes:
        case: what was measured.
        unit: of both.
        ours: of cl2cm.
        limit: the bound.
        most: whether it is an upper bound.
    """

    case: str
    unit: str
    ours: float
    limit: float
    most: bool = True

    @property
    def kept(self) -> bool:
        """Whether the limit is kept."""
        return self.ours <= self.limit if self.most else self.ours >= self.limit


Row = Peer | Limit


@dataclass(frozen=True, slots=True)
class Task:
    """One call of a script.

    Attributes:
        script: of this folder.
        arguments: of the full form.
        quick: of the quick one; None: left out of it.
        rows: turns what it prints into rows.
        needs: environment variables that name what it reads; without them it is left out.
    """

    script: str
    arguments: Sequence[str]
    quick: Sequence[str] | None
    rows: Callable[[Report], list[Row]]
    needs: Sequence[str] = ()


def as_json(row: Row) -> dict[str, Any]:
    """Return a row as an object, with its kind."""
    more = {"kept": row.kept} if isinstance(row, Limit) else {}
    return {"kind": type(row).__name__.lower(), **asdict(row), **more}


# --- what the scripts print ------------------------------------------------------------------


def transport(report: Report) -> list[Row]:
    own = {row["epsilon"]: row["ms"] for row in report["fixed"] if row["solver"] == "cl2cm"}
    return [
        Peer(
            f"{report['pairs']} pairs, epsilon {row['epsilon']:g}",
            "ms",
            own[row["epsilon"]],
            row["solver"],
            row["ms"],
            row["times"],
            "returns NaN" if row["error"] != row["error"] else "",
            report["pairs"] if row["epsilon"] == 0.1 else None,
        )
        for row in report["fixed"]
        if row["solver"] != "cl2cm"
    ]


def images(report: Report) -> list[Row]:
    bare = report["bare_pictures_per_second"]
    rows: list[Row] = [
        Peer(
            f"{row['way']}, batches of {report['batch']}",
            "images/s",
            row["pictures_per_second"],
            "ONNX Runtime, ready batches",
            bare,
            row["of_bare"],
        )
        for row in report["rows"]
    ]
    share = 100 * report["rows"][0]["of_bare"]
    case = f"share of ONNX Runtime's rate, images in memory, batches of {report['batch']}"
    return [*rows, Limit(case, "%", share, 100 * report["target"], most=False)]


def texts(report: Report) -> list[Row]:
    own = next(row["per second"] for row in report["rows"] if row["way"] == "cl2cm")
    return [
        Peer(
            f"{report['texts']} captions", "texts/s", own, row["way"], row["per second"],
            row["times"], size=report["texts"],
        )
        for row in report["rows"]
        if row["way"] != "cl2cm"
    ]  # fmt: skip


def neighbours(report: Report) -> list[Row]:
    own = {
        (row["rows"], row["queries"], row["way"]): row
        for row in report["rows"]
        if row["way"] == row["own"]
    }
    found: list[Row] = []
    for row in report["rows"]:
        if row["way"] == row["own"]:
            continue
        ours = own[row["rows"], row["queries"], row["own"]]
        queries = "one query" if row["queries"] == 1 else f"{row['queries']} queries"
        graph = row["own"] != "exact"
        note = f"recall {ours['recall']:.3f} against {row['recall']:.3f}" if graph else ""
        found.append(
            Peer(
                f"{row['own']}, {row['rows']:,} vectors, {queries}",
                "ms",
                ours["ms"],
                row["way"],
                row["ms"],
                row["times"],
                note,
                row["rows"] if row["queries"] == 1 else None,
            )
        )
    return found


def each(report: Report) -> list[Mapping[str, Any]]:
    """Return the objects of a script that prints one a line, of which there may be only one."""
    return report if isinstance(report, list) else [report]


def index(printed: Report) -> list[Row]:
    """``index.py`` prints one object for each size: times of cl2cm's own ways and of peers."""
    rows: list[Row] = []
    for report in each(printed):
        for key, times in report.items():
            if not key.endswith("queries, ms") or not isinstance(times, Mapping):
                continue
            queries = key.removesuffix(", ms")
            for way, ms in times.items():
                if way.startswith(("exact", "streamed")):
                    case = f"{way}, {report['rows']:,} vectors, {queries}"
                    numpy = times["numpy"]
                    rows.append(Peer(case, "ms", ms, "numpy, argpartition", numpy, numpy / ms))
        if "int8 recall@10" in report:
            case = f"recall@10 of int8, {report['rows']:,} vectors"
            rows.append(Limit(case, "", report["int8 recall@10"], 0.95, most=False))
    return rows


def capacity(printed: Report) -> list[Row]:
    rows: list[Row] = []
    for report in each(printed):
        if "rows" not in report:
            continue
        size = f"{report['rows']:,} vectors"
        first, read = (report[f"{n}, wall"] for n in ("open and first search", "plain read"))
        parts, one = (report[f"search of {name}, wall ms"] for name in ("parts", "one part"))
        changed = report["update"]["find out"] + report["update"]["write"]
        rows += [
            Peer(
                f"opened and searched once, {size}",
                "ms",
                1e3 * first,
                "a plain read of its bytes",
                1e3 * read,
                read / first,
                size=report["rows"],
            ),
            Peer(f"search of 8 merged shards, {size}", "ms", parts, "one index", one, one / parts),
            Limit(f"update, 100 items new and 100 removed, {size}", "s of CPU", changed, 2.0),
        ]
    return rows


def grad_cache(report: Report) -> list[Row]:
    return [
        Limit(
            f"peak memory of a {stage} step of {report['batch']} pairs in {report['chunks']} "
            "chunks, share of a step at once",
            "%",
            100 * found["ratio"],
            100 / 3,
        )
        for stage, found in report["stages"].items()
    ]


def training(report: Report) -> list[Row]:
    return [
        Limit(f"transport, share of a {name} step", "%", 100 * step["share"]["transport"], 100 / 3)
        for name, step in report["steps"].items()
        if step["share"]["transport"] > 0
    ]


def features(report: Report) -> list[Row]:
    clips = f"{report['clips']:,} clips"
    return [
        Limit(f"{clips} opened, {name}", "s", report[name]["open seconds"], 1.0)
        for name in ("cold", "warm")
    ] + [Limit(f"{clips}, 1,000 of them read: memory", "MB", report["cold"]["MB at most"], 200.0)]


def service(report: Report) -> list[Row]:
    load, batching = report["load"], report["batching"]
    return [
        Limit("request to response, median", "ms", report["overhead_ms"]["whole median"], 2.0),
        Limit("errors at 80 % of its peak", "", load["errors"], 0),
        Limit("99th percentile over median, at 80 % of its peak", "", load["p99 / median"], 5.0),
        Peer(
            "64 clients, queries encoded together",
            "queries/s",
            batching["together"],
            "cl2cm, one by one",
            batching["one by one"],
            batching["ratio"],
        ),
    ]


def export(report: Report) -> list[Row]:
    return [
        Peer(
            "one query encoded by the int8 export, median",
            "ms",
            report["export_ms"]["median"],
            "the run, torch float32",
            report["torch_fp32_ms"]["median"],
            report["times_faster"]["median"],
        )
    ]


TASKS: dict[str, tuple[str, list[Task]]] = {
    "transport": (
        "Optimal transport",
        [
            Task("transport.py", ["--pairs", "32"], ["--pairs", "32", "--repeat", "2"], transport),
            Task("transport.py", ["--pairs", "128"], ["--pairs", "96", "--repeat", "1"], transport),
            Task("transport.py", ["--pairs", "512", "--repeat", "3"], None, transport),
        ],
    ),
    "images": (
        "Encoding images",
        [
            Task("encode.py", [], ["--pictures", "16", "--rounds", "1"], images),
            Task("encode.py", ["--batch", "32", "--rounds", "5"], None, images),
        ],
    ),
    "texts": (
        "Encoding texts",
        [
            Task("texts.py", ["--texts", "64"], ["--texts", "32", "--rounds", "1"], texts),
            Task("texts.py", ["--texts", "512"], ["--texts", "96", "--rounds", "1"], texts),
        ],
    ),
    "search": (
        "Search",
        [
            Task(
                "neighbours.py",
                ["--rows", "1000,10000,100000"],
                ["--rows", "1000,10000", "--repeat", "3"],
                neighbours,
            ),
            Task("index.py", ["--rows", "100000", "--no-graph"], None, index),
            Task("index.py", ["--rows", "1000000", "--no-graph", "--repeat", "7"], None, index),
        ],
    ),
    "capacity": (
        "Indexes that grow",
        [
            Task(
                "capacity.py",
                ["--rows", "10000,100000,1000000"],
                ["--rows", "10000", "--dim", "128"],
                capacity,
            )
        ],
    ),
    "training": (
        "Training",
        [
            Task("training.py", [], ["--batch", "128", "--layers", "0", "--repeat", "3"], training),
            Task(
                "training.py",
                ["--grad-cache", "8", "--batch", "1024", "--tokens", "32"],
                None,
                grad_cache,
            ),
        ],
    ),
    "features": (
        "Features computed elsewhere",
        [Task("feature_files.py", [], ["--clips", "2000"], features)],
    ),
    "service": (
        "Service",
        [Task("service.py", [], ["--seconds", "6", "--rows", "2000"], service)],
    ),
    "export": ("Export", [Task("export.py", ["{CL2CM_RUN}"], None, export, needs=["CL2CM_RUN"])]),
}  # fmt: skip
