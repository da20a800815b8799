"""Results of a benchmark that come from strangers."""

import json
import os

import numpy as np
import pytest

from cl2cm.errors import ConfigError
from cl2cm.evaluation.report.results import RECALLS, read_results, read_run_ranks
from cl2cm.evaluation.report.subjects import read_subjects

ROW = {
    "regime": "r",
    "table": "all",
    "method": "cl2cm",
    "seed": 0,
    "language": "de",
    "SumR": 100.0,
    "queries": 4,
    "gallery": 2,
    **dict.fromkeys(RECALLS, 50.0),
}


def write(path, **changes):
    row = {**ROW, **changes}
    path.write_text(json.dumps({"suite": "s", "rows": [row], "mrv": []}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"rows": [], "suite": "s"}', '{"rows": [1], "suite": "s"}', "[" * 100_000],
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="cl2cm bench"):
        read_results(path)


@pytest.mark.parametrize(
    "changes", [{"SumR": float("nan")}, {"t2v R@1": "<b>"}, {"seed": None}, {"seed": float("inf")}]
)
def test_rows_that_are_none_are_refused(tmp_path, changes):
    with pytest.raises(ConfigError):
        read_results(write(tmp_path / "results.json", **changes))


def test_a_pipe_in_the_place_of_results_is_refused(tmp_path):
    os.mkfifo(tmp_path / "results.json")
    with pytest.raises(ConfigError):
        read_results(tmp_path / "results.json")


def ranks_file(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "languages": np.array(["de"]),
        "de/captions": np.array([1, 2, 1, 2]),
        "de/pictures": np.array([1, 1]),
        "de/rows": np.array([0, 0, 1, 1]),
        "de/ids": np.array(["a", "b"]),
    }
    path = folder / "ranks-test.npz"
    with path.open("wb") as file:
        np.savez(file, **(arrays | changes))
    return path


def test_whole_ranks_are_read(tmp_path):
    ranks_file(tmp_path / "run")
    found = read_run_ranks(tmp_path, tmp_path / "run", "test")
    assert found is not None
    assert found["de"].captions.tolist() == [1, 2, 1, 2]
    assert read_run_ranks(tmp_path, tmp_path / "run", "val") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"de/captions": np.array([object()] * 4)},  # pickled
        {"de/captions": np.array([0, 1, 1, 1])},
        {"de/captions": np.array([1.5, 1, 1, 1])},
        {"de/rows": np.array([0, 0, 1, 10**12])},
        {"de/rows": np.array([0, 0, 1])},
        {"de/ids": np.array(["a"])},
        {"de/pictures": np.array([[1, 1]])},
        {"languages": np.array(["fr"])},
    ],
)
def test_damaged_ranks_are_none(tmp_path, changes):
    ranks_file(tmp_path / "run", **changes)
    assert read_run_ranks(tmp_path, tmp_path / "run", "test") is None


def test_no_file_outside_of_the_benchmark_is_read(tmp_path):
    outside = ranks_file(tmp_path / "outside").parent
    root = tmp_path / "bench"
    root.mkdir()
    (root / "link").symlink_to(outside)
    for run in (root / ".." / "outside", outside, root / "link"):
        assert read_run_ranks(root, run, "test") is None
    for method in ("../../outside", str(outside)):
        write(root / "results.json", method=method)
        (run,) = read_subjects([str(root)], "test").runs
        assert run.config is None
        assert run.ranks is None


def test_ranks_that_unpack_to_more_than_memory_are_none(tmp_path, monkeypatch):
    monkeypatch.setattr("cl2cm.evaluation.report.results._MOST_RANKS", 100)
    ranks_file(tmp_path / "run")
    assert read_run_ranks(tmp_path, tmp_path / "run", "test") is None
