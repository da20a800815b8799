import csv
import dataclasses
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import cl2cm.evaluation.bench.plan
from cl2cm.cli.evaluation import evaluate_manifest
from cl2cm.data.manifest import read_manifest
from cl2cm.encode.encoding import encode_pictures
from cl2cm.encode.vision import load_vision
from cl2cm.errors import CL2CMError, ConfigError, ManifestError, MissingExtraError
from cl2cm.evaluation.bench.plan import Choice, bench
from cl2cm.evaluation.bench.report import TARGETS, gaps, report, summarise
from cl2cm.evaluation.bench.run import Job, Ranks, read_ranks, run_job
from cl2cm.evaluation.bench.suites import Suite, find_manifest, load_suite, suite_names
from cl2cm.evaluation.bench.table import csv_text, table_lines
from cl2cm.methods.settings import settings_of
from cl2cm.model.config import Config, parse_config

METHODS = ("zero-shot", "translate-train", "cl2cm", "supervised")


@pytest.fixture(scope="module")
def suite(small):
    """A suite on the small world; workers are processes, so it travels by settings alone."""
    return Suite(
        name="small",
        languages=("xx", "yy"),
        regimes={"last": {}, "first": {"text": {"layer": 1}}},
        methods={method: {} for method in METHODS},
        ablations={"no warm start": {"transfer": {"warm_start": False}}},
        default_regimes=("last",),
        single=("cl2cm",),
        seeds=2,
        base={
            "text": {"encoder": f"hf:{small.text}", "prefix": "", "max_tokens": 16},
            "vision": {"encoder": f"onnx:{small.vision}"},
            "network": {"dim": 16, "heads": 2, "layers": 0},
            "match": {"tau": 0.1},
            "teacher": {"epochs": 1},
            "train": {"epochs": 3, "batch_size": 32, "lr": 3e-3, "device": "cpu", "threads": 1},
        },
        tuned={"first": {"cl2cm": {"transfer": {"beta": 0.5}}}},
        quick={"train": {"epochs": 1}},
    )


@pytest.fixture(scope="module")
def done(suite, small, tmp_path_factory):
    """A benchmark of two methods and one that stands alone, with its folder."""
    out = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cl2cm.evaluation.bench.plan, "load_suite", lambda name: suite)
        result = bench("small", small.manifest, out, Choice(seeds=(0, 1)), jobs=2, trec=True)
        stamps = {p: p.stat().st_mtime_ns for p in out.rglob("model.safetensors")}
        again = bench("small", small.manifest, out, Choice(seeds=(0, 1)), jobs=1)
    after = {p: p.stat().st_mtime_ns for p in out.rglob("model.safetensors")}
    return SimpleNamespace(out=out, result=result, again=again, stamps=stamps, after=after)


def test_every_run_is_there_and_run_again_changes_nothing(done):
    runs = {(row["table"], row["method"], row["seed"]) for row in done.result["rows"]}
    assert len(runs) == 2 * (len(METHODS) + 2)  # two seeds; cl2cm for each language, too
    assert done.stamps == done.after
    assert done.again == done.result
    assert json.loads((done.out / "results.json").read_text()) == done.result


def test_rows_agree_with_evaluate(done, small):
    """Stored features and the whole model give the same figures."""
    run = done.out / "last" / "all" / "cl2cm" / "0"
    expected = evaluate_manifest(run, small.manifest, split="test")["languages"]
    for code in ("en", "xx", "yy"):
        row = next(
            r
            for r in done.result["rows"]
            if (r["table"], r["method"], r["seed"], r["language"]) == ("all", "cl2cm", 0, code)
        )
        assert row["SumR"] == pytest.approx(expected[code]["SumR"], abs=5)  # features are fp16
        assert row["queries"] == expected[code]["queries"]


def test_trec_runs(done):
    lines = (done.out / "last" / "all" / "cl2cm" / "0" / "test.trec").read_text().splitlines()
    assert {line.split()[0].split("-")[0] for line in lines} == {"en", "xx", "yy"}
    assert all(len(line.split()) == 6 for line in lines)


def test_the_contract_of_the_json(done):
    result = done.result
    assert set(result) == {"suite", "rows", "summary", "tests", "gap", "mrv", "skipped"}
    assert {"method", "seed", "language", "SumR"} <= result["rows"][0].keys()
    assert {"method", "language", "mean", "std"} <= result["summary"][0].keys()
    assert {"a", "b", "language", "difference", "ci95", "p"} <= result["tests"][0].keys()
    assert {row["b"] for row in result["tests"]} == set(METHODS) - {"cl2cm"}
    text = "\n".join(table_lines(result))
    assert "upper bound" in text
    assert all(method in text for method in METHODS)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_name_in_a_csv_is_a_formula(name):
    written = csv_text([{"method": name, "SumR": -1.5, "seed": -1}])
    assert list(csv.reader(io.StringIO(written)))[1] == [f"'{name.strip()}", "-1.5000", "-1"]


def test_csv(done):
    lines = csv_text(done.result["rows"]).splitlines()
    assert len(lines) == 1 + len(done.result["rows"])
    assert len({line.count(",") for line in lines}) == 1
    named = csv_text([{"method": "L_word, L_ot only", "SumR": 1.5}])
    assert list(csv.reader(named.splitlines())) == [
        ["method", "SumR"],
        ["L_word, L_ot only", "1.5000"],
    ]


def ranks(captions, pictures, rows):
    ids = np.array([f"p{i}" for i in range(len(pictures))])
    return Ranks(np.array(captions), np.array(pictures), np.array(rows), ids)


def job(method, seed=0, languages=("de", "fr"), regime="r"):
    return Job(regime, method, seed, languages, Config(), *[None] * 3, "test")


def test_figures_by_hand():
    """Two pictures, two captions each; SumR of ranks that a reader can count."""
    found = {code: ranks([1, 6, 2, 11], [1, 20], [0, 0, 1, 1]) for code in ("en", "de", "fr")}
    result = report("s", [(job("cl2cm"), found)], source="en")
    row = result["rows"][0]
    assert row["t2v R@1"] == 25
    assert row["t2v R@5"] == 50
    assert row["t2v R@10"] == 75
    assert row["v2t R@1"] == row["v2t R@10"] == 50
    assert row["SumR"] == 25 + 50 + 75 + 3 * 50
    assert row["t2v MRR"] == pytest.approx(100 * (1 + 1 / 6 + 1 / 2 + 1 / 11) / 4)
    assert result["mrv"][0]["MRV"] == 0  # all languages rank alike


def test_mean_deviation_and_gap_by_hand():
    rows = [
        {"regime": "r", "table": "all", "method": m, "language": "de", "seed": s, "SumR": v}
        for m, values in {"zero-shot": [10, 30], "cl2cm": [50, 70], "supervised": [90, 110]}.items()
        for s, v in enumerate(values)
    ]
    table = summarise(rows, "en")
    ours = next(r for r in table if r["method"] == "cl2cm" and r["language"] == "de")
    assert (ours["mean"], ours["std"]) == (60, pytest.approx(200**0.5))
    assert any(r["language"] == TARGETS for r in table)
    assert {g["closed"] for g in gaps(table) if g["language"] == "de"} == {0.5}


def test_the_mean_over_targets_wants_all_targets():
    """translate-test may lack an engine; a mean over fewer languages is another quantity."""
    rows = [
        {"regime": "r", "table": "all", "method": m, "language": c, "seed": 0, "SumR": 1.0}
        for m, codes in {"cl2cm": ("de", "pt"), "translate-test": ("pt",)}.items()
        for c in codes
    ]
    assert [r["method"] for r in summarise(rows, "en") if r["language"] == TARGETS] == ["cl2cm"]


def test_a_real_difference_is_found_and_none_is_not():
    rng = np.random.default_rng(0)
    rows = np.repeat(np.arange(200), 3)
    good = ranks(rng.integers(1, 8, 600), rng.integers(1, 8, 200), rows)
    bad = ranks(rng.integers(3, 40, 600), rng.integers(3, 40, 200), rows)
    results = [
        (job("cl2cm"), {"de": good, "fr": good}),
        (job("translate-train"), {"de": bad, "fr": good}),
    ]
    tests = {row["language"]: row for row in report("s", results, source="en")["tests"]}
    assert tests["de"]["ci95_corrected"][0] > 0
    assert tests["de"]["p_holm"] < 0.01
    assert tests["fr"]["difference"] == 0
    assert tests["fr"]["p_holm"] == 1


def test_a_suite_merges_its_trees(suite, small):
    config = suite.config("first", "cl2cm", manifest=small.manifest, seed=3)
    assert settings_of(config)["transfer"].beta == 0.5
    assert config.text.layer == 1
    assert config.train.seed == 3
    assert config.data.languages == ("xx", "yy")
    plain = suite.config("last", "cl2cm", manifest=small.manifest, seed=0)
    assert settings_of(plain)["transfer"].beta == 1.0
    ablated = suite.config("first", "no warm start", manifest=small.manifest, seed=0)
    assert ablated.method == "cl2cm"
    assert settings_of(ablated)["transfer"].beta == 0.5
    assert not settings_of(ablated)["transfer"].warm_start
    short = suite.config("last", "cl2cm", manifest=small.manifest, seed=0, quick=True)
    assert short.train.epochs == 1


@pytest.mark.parametrize("name", suite_names())
def test_every_shipped_suite_is_sound(name, tmp_path):
    shipped = load_suite(name)
    for regime in shipped.regimes:
        for ablation in shipped.ablations:
            assert shipped.config(regime, ablation, manifest=tmp_path, seed=0).method == "cl2cm"
        for method in shipped.methods:
            for quick in (False, True):
                config = shipped.config(regime, method, manifest=tmp_path, seed=0, quick=quick)
                assert config.method == method
    assert set(shipped.default_regimes) <= set(shipped.regimes)
    assert set(shipped.single) <= set(shipped.methods)
    known = {(r, m) for r in shipped.regimes for m in shipped.methods}
    assert {(r, m) for r, by in shipped.tuned.items() for m in by} <= known


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(methods=("cl2cn",)), "did you mean 'cl2cm'"),
        (Choice(regimes=("lst",)), "did you mean 'last'"),
        (Choice(languages=("zz",)), "--languages"),
    ],
)
def test_unknown_names_are_refused(choice, message, suite, small, tmp_path, monkeypatch):
    monkeypatch.setattr(cl2cm.evaluation.bench.plan, "load_suite", lambda name: suite)
    with pytest.raises(ConfigError, match=message):
        bench("small", small.manifest, tmp_path / "out", choice)
    assert not (tmp_path / "out").exists()


def test_unknown_suite_and_absent_data(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'flickr8k-multi'"):
        load_suite("flickr8k-multl")
    with pytest.raises(ManifestError, match="--data"):
        find_manifest("flickr8k-multi", None)
    with pytest.raises(ManifestError, match=r"manifest\.jsonl\.gz"):
        find_manifest("flickr8k-multi", tmp_path)


def test_data_is_found_in_the_folder_or_below(tmp_path):
    below = tmp_path / "flickr8k-multi" / "manifest.jsonl.gz"
    below.parent.mkdir()
    below.touch()
    assert find_manifest("flickr8k-multi", tmp_path) == below.resolve()
    assert find_manifest("flickr8k-multi", below.parent) == below.resolve()


def test_ranks_of_other_settings_are_not_taken(done, suite, small):
    folder = done.out / "last" / "all" / "cl2cm" / "0"
    config = parse_config({"method": "cl2cm"})
    other = Job("last", "cl2cm", 0, ("xx", "yy"), config, folder, folder, folder, "test")
    assert other.ranks.exists()
    assert read_ranks(other, "another key") is None


def test_ranks_of_another_split_or_other_captions_are_not_taken(suite, small, tmp_path):
    """A benchmark of val in the folder of one of test must rank the captions of val."""
    examples = list(read_manifest(small.manifest))
    config = suite.config("last", "translate-train", manifest=small.manifest, seed=0)
    stores = cl2cm.evaluation.bench.plan.make_stores(config, examples)
    found = {}
    for split in ("test", "val"):
        one = Job("last", "translate-train", 0, ("xx",), config, tmp_path / "run", *stores, split)
        asked = [example for example in examples if example.split == split]
        found[split] = run_job(one, asked, trec=True)["xx"]
        assert one.trec.exists()
        fewer = run_job(one, asked[:5])["xx"]
        assert len(fewer.pictures) == 5
    assert set(found["test"].ids.tolist()).isdisjoint(found["val"].ids.tolist())


def test_a_regime_may_train_the_backbone(suite, small, tmp_path):
    """The fine-tuned regime: queries go through the run's own backbone, not the stores."""
    tuned = dataclasses.replace(suite, regimes={"tuned": {"text": {"freeze": 1}}})
    examples = list(read_manifest(small.manifest))
    config = tuned.config("tuned", "translate-train", manifest=small.manifest, seed=0)
    stores = cl2cm.evaluation.bench.plan.make_stores(config, examples)
    one = Job("tuned", "translate-train", 0, ("xx",), config, tmp_path / "run", *stores, "test")
    found = run_job(one, [example for example in examples if example.split == "test"])
    expected = evaluate_manifest(one.folder, small.manifest, languages=["xx"])["languages"]["xx"]
    recall = 100 * np.mean(found["xx"].captions <= 5)
    assert recall == pytest.approx(expected["text_to_vision"]["R@5"])


@pytest.mark.parametrize("layout", ["files", "bin"])
def test_features_that_others_computed_stay_where_they_are(layout, suite, small, tmp_path):
    """Any layout that train accepts, without an image; the same figures as of evaluate."""
    examples = list(read_manifest(small.manifest))
    stored = encode_pictures(examples, load_vision(f"onnx:{small.vision}"))
    values = {
        e.id: stored.gather(torch.tensor([stored.row(e.id)])).values[0].numpy() for e in examples
    }
    folder = tmp_path / "features"
    folder.mkdir()
    if layout == "files":
        for name, value in values.items():
            np.save(folder / f"{name}.npy", value)
    else:
        matrix = np.concatenate(list(values.values())).astype("<f4")
        (folder / "feature.bin").write_bytes(matrix.tobytes())
        (folder / "id.txt").write_text(" ".join(values))
        (folder / "shape.txt").write_text(f"{matrix.shape[0]} {matrix.shape[1]}")
    base = {**suite.base, "vision": {"encoder": f"features:{folder}"}}
    given = dataclasses.replace(suite, base=base)
    found = []
    for one in (given, suite):
        config = one.config("last", "translate-train", manifest=small.manifest, seed=0)
        stores = cl2cm.evaluation.bench.plan.make_stores(config, examples)
        out = tmp_path / f"run{len(found)}"
        job = Job("last", "translate-train", 0, ("xx",), config, out, *stores, "test")
        asked = [example for example in examples if example.split == "test"]
        found.append(run_job(job, asked)["xx"])
        expected = evaluate_manifest(out, small.manifest, languages=["xx"])["languages"]["xx"]
        recall = 100 * np.mean(found[-1].captions <= 5)
        assert recall == pytest.approx(expected["text_to_vision"]["R@5"])
    assert found[0].ids.tolist() == found[1].ids.tolist()


def test_an_unknown_split_is_refused(suite, small, tmp_path, monkeypatch):
    monkeypatch.setattr(cl2cm.evaluation.bench.plan, "load_suite", lambda name: suite)
    with pytest.raises(ManifestError, match="splits test, train, val"):
        bench("small", small.manifest, tmp_path / "out", Choice(split="tset"))
    assert not (tmp_path / "out").exists()


def test_a_run_that_fails_says_so_in_one_line(suite, small, tmp_path, monkeypatch):
    """An error of a worker process reaches the caller whole."""
    broken = dataclasses.replace(suite, methods={"smoothing": {}}, single=())
    monkeypatch.setattr(cl2cm.evaluation.bench.plan, "load_suite", lambda name: broken)
    with pytest.raises(ConfigError, match=r"match.smoothing") as caught:
        bench("small", small.manifest, tmp_path / "out", Choice(seeds=(0,)))
    assert "\n" not in str(caught.value)


def test_errors_travel_between_processes():
    import pickle

    for error in (
        ConfigError("a", expected="b", found="c", remedy="d"),
        MissingExtraError("package", "extra"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert isinstance(again, CL2CMError)
        assert again.remedy == error.remedy


def test_a_killed_benchmark_goes_on(suite, small, tmp_path, done):
    """One run of it, killed in training, ends as the unbroken one did."""
    reference = done.out / "last" / "all" / "cl2cm" / "1"
    examples = list(read_manifest(small.manifest))
    stores = cl2cm.evaluation.bench.plan.make_stores(
        suite.config("last", "cl2cm", manifest=small.manifest, seed=1), examples
    )
    config = suite.config("last", "cl2cm", manifest=small.manifest, seed=1)
    one = Job("last", "cl2cm", 1, ("xx", "yy"), config, tmp_path / "run", *stores, "test")
    with pytest.MonkeyPatch.context() as patch:
        from cl2cm.training.stages import Loop

        def stop(self, *args):
            raise KeyboardInterrupt

        patch.setattr(Loop, "_validate", stop)
        with pytest.raises(KeyboardInterrupt):
            run_job(one, examples)
    test = [example for example in examples if example.split == "test"]
    found = run_job(one, test)
    with np.load(reference / "ranks-test.npz") as file:
        np.testing.assert_array_equal(found["xx"].captions, file["xx/captions"])


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc here")
def test_workers_end_with_a_killed_benchmark(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import multiprocessing, os, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from cl2cm.evaluation.bench.plan import _start_worker\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    pool = ProcessPoolExecutor(1, context, _start_worker)\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    pool.submit(time.sleep, 600).result()\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while running(worker):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def running(process):
    """Whether a process is there and not yet ended."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_the_command(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "CL2CM_DATA"}
    done = subprocess.run(
        [sys.executable, "-m", "cl2cm", "bench", "flickr8k-multi", "--seeds", "0"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "CL2CM_DATA" in done.stderr


def test_the_mean_over_targets_is_compared_on_common_pictures():
    rng = np.random.default_rng(1)
    rows = np.repeat(np.arange(50), 2)

    def draw(high):
        return ranks(rng.integers(1, high, 100), rng.integers(1, high, 50), rows)

    ours, theirs = ({code: draw(high) for code in ("de", "fr")} for high in (9, 20))
    results = [(job("cl2cm"), ours), (job("dcot"), theirs)]
    tests = {row["language"]: row for row in report("s", results, source="en")["tests"]}
    mean = (tests["de"]["difference"] + tests["fr"]["difference"]) / 2
    assert tests[TARGETS]["difference"] == pytest.approx(mean)
    assert tests[TARGETS]["ci95"][0] < mean < tests[TARGETS]["ci95"][1]

    def fewer(one):  # the last ten pictures have no caption in this language
        return Ranks(one.captions[:80], one.pictures[:40], one.rows[:80], one.ids[:40])

    part = [(j, {"de": found["de"], "fr": fewer(found["fr"])}) for j, found in results]
    both = [(j, {code: fewer(one) for code, one in found.items()}) for j, found in results]
    some, same = (
        next(r for r in report("s", x, source="en")["tests"] if r["language"] == TARGETS)
        for x in (part, both)
    )
    assert some["difference"] == pytest.approx(same["difference"])
