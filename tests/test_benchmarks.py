"""What ``make bench`` writes: rows with a peer or a limit, into a marked part of a page."""

import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
FIGURE = re.compile(r"\d(?:[\d.,]*\d)? ?(?:ms|s|MB|GB|%|times|images/s|texts/s|queries/s)(?!\w)")


@pytest.fixture
def module(monkeypatch):
    """Gives a module of ``benchmarks/``, which is no package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    def load(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


SAMPLES = {
    "transport": {
        "pairs": 32,
        "fixed": [
            {"epsilon": 0.1, "solver": "cl2cm", "ms": 2.0, "times": 1.0, "error": 1e-6},
            {"epsilon": 0.1, "solver": "POT", "ms": 40.0, "times": 20.0, "error": float("nan")},
        ],
    },
    "images": {
        "bare_pictures_per_second": 60.0,
        "batch": 8,
        "target": 0.85,
        "rows": [{"way": "pixels", "pictures_per_second": 57.0, "of_bare": 0.95}],
    },
    "texts": {
        "texts": 64,
        "rows": [
            {"way": "cl2cm", "per second": 90.0, "times": 1.0},
            {"way": "torch", "per second": 60.0, "times": 1.5},
        ],
    },
    "neighbours": {
        "rows": [
            {"rows": n, "queries": 1, "way": way, "own": "exact", "ms": n * factor, "times": factor,
             "recall": 1.0}
            for n in (1000, 10_000)
            for way, factor in (("exact", 1.0), ("numpy", 0.5))
        ]
    },
    "index": [
        {
            "rows": 1000,
            "1 queries, ms": {"numpy": 1.0, "faiss flat": 2.0, "exact float16": 4.0},
            "int8 recall@10": 0.99,
            "look-up by id, ms": 0.01,
        }
    ],
    "capacity": [
        {"looking at a file, us": {"scan": 3.0}},
        *(
            {
                "rows": n,
                "open and first search, wall": 0.013,
                "plain read, wall": 0.010,
                "search of parts, wall ms": 4.0,
                "search of one part, wall ms": 3.0,
                "update": {"find out": 0.2, "write": 0.4},
            }
            for n in (10_000, 100_000)
        ),
    ],
    "grad_cache": {
        "batch": 1024,
        "chunks": 8,
        "stages": {"cross-lingual": {"ratio": 0.25}, "cross-modal": {"ratio": 0.4}},
    },
    "training": {
        "steps": {
            "cross-lingual, 0 layers": {"share": {"transport": 0.13}},
            "cross-modal, 0 layers": {"share": {"transport": 0.0}},
        }
    },
    "features": {
        "clips": 2000,
        "cold": {"open seconds": 1.4, "MB at most": 92},
        "warm": {"open seconds": 0.2},
    },
    "service": {
        "overhead_ms": {"whole median": 1.35},
        "load": {"errors": 0, "p99 / median": 4.2},
        "batching": {"one by one": 100.0, "together": 410.0, "ratio": 4.1},
    },
    "export": {
        "export_ms": {"median": 4.0},
        "torch_fp32_ms": {"median": 12.0},
        "times_faster": {"median": 3.0},
    },
}  # fmt: skip


def test_every_script_gives_rows_with_a_peer_or_a_limit(module):
    rows = module("rows")
    used = {task.rows.__name__ for _, tasks in rows.TASKS.values() for task in tasks}
    assert used == set(SAMPLES)
    for name, printed in SAMPLES.items():
        found = [rows.as_json(row) for row in getattr(rows, name)(printed)]
        assert found, name
        for row in found:
            assert row["case"]
            if row["kind"] == "peer":
                assert row["peer"]
                assert row["theirs"] > 0
                assert row["times"] > 0
            else:
                assert row["limit"] is not None
    slow, fast = rows.features(SAMPLES["features"])[:2]
    assert (slow.kept, fast.kept) == (False, True)
    assert rows.index(SAMPLES["index"])[0].times == 0.25  # a quarter of numpy's speed
    assert rows.index(SAMPLES["index"][0]) == rows.index(SAMPLES["index"])  # one object alone


def report_of(rows, *, quick=True, quiet=False):
    suites = []
    for name, (title, tasks) in rows.TASKS.items():
        made = [
            rows.as_json(row)
            for function in dict.fromkeys(task.rows for task in tasks)
            for row in function(SAMPLES[function.__name__])
        ]
        suites.append(
            {"name": name, "title": title, "rows": made, "left_out": [], "failed": ["x.py: why"]}
        )
    machine = {
        "date": "2026-01-31",
        "processor": "a processor",
        "cores": 2,
        "system": "Linux",
        "load_at_the_start": 3.0,
        "load_at_the_end": 2.0,
        "minutes": 4.2,
        "processor_minutes": 6.1,
        "quiet": quiet,
        "quick": quick,
    }
    return {"machine": machine, "versions": {"numpy": "2"}, "suites": suites}


def test_the_page_is_written_between_its_marks(module, tmp_path):
    rows, writer = module("rows"), module("page")
    page = tmp_path / "docs" / "performance.md"
    page.parent.mkdir()
    page.write_text(
        f"# Mine\n\n{writer.BEGIN}\nformer words\n{writer.END}\n\nkept\n", encoding="utf-8"
    )
    writer.write_page(page, report_of(rows))
    once = page.read_text(encoding="utf-8")
    assert once.startswith("# Mine\n")
    assert once.endswith(f"{writer.END}\n\nkept\n")
    assert "former words" not in once
    assert "Other jobs ran" in once
    assert "no basis for claims" in once
    assert "Not measured: x.py: why." in once
    assert "**no**" in once  # a limit that is not kept
    assert (page.parent / "images" / "performance-search.svg").read_text().startswith("<svg")
    writer.write_page(page, report_of(rows, quick=False, quiet=True))
    again = page.read_text(encoding="utf-8")
    assert "The machine was quiet." in again
    assert again.count(writer.BEGIN) == again.count(writer.END) == 1
    page.write_text("# Mine\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="restore them"):
        writer.write_page(page, report_of(rows))


def test_no_figure_stands_alone_on_the_page(module):
    """Generated rows have a peer or a limit in their cell; the words beside have no figure."""
    writer = module("page")
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(writer.BEGIN)
    made, end, after = rest.partition(writer.END)
    assert end
    heads: list[str] = []
    for line in made.splitlines():
        if not line.startswith("|"):
            heads = []
            assert not FIGURE.search(line), line
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        heads = heads or cells
        if cells == heads or set(line) <= set("|-: ") or heads[0] == "machine":
            continue
        assert len(cells) == len(heads) >= 3
        if heads[2] == "limit":
            assert re.match(r"at (most|least) [\d.,]+", cells[2]), line
        else:  # peers
            assert all(re.fullmatch(r"\*\*[\d.,]+\*\* \([\d.,]+ .+\)", c) for c in cells[2:]), line
    for line in f"{before}{after}".splitlines():
        if line.startswith("|"):
            assert len(line.strip("|").split("|")) == 4, line
            continue
        assert not FIGURE.search(line), line


def test_numbers_have_three_digits(module):
    number = module("page").number
    assert [number(x) for x in (0.01234, 1.234, 12.34, 123.4, 12345.6, 0, 85.0)] == [
        "0.0123", "1.23", "12.3", "123", "12,346", "0", "85.0",
    ]  # fmt: skip


def test_the_arguments_of_every_script_are_its_own(module):
    for _, tasks in module("rows").TASKS.values():
        for task in tasks:
            source = (ROOT / "benchmarks" / task.script).read_text(encoding="utf-8")
            for word in (*task.arguments, *(task.quick or ())):
                assert not word.startswith("--") or f'"{word}"' in source, (task.script, word)
