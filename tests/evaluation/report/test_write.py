"""The page as a whole: its figures, what it says is missing, and what strangers' files cannot do."""

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from cl2cm.cli.app import run
from cl2cm.cli.evaluation import evaluate_manifest
from cl2cm.data.manifest import read_manifest
from cl2cm.errors import ConfigError, LanguageError, ManifestError, MissingExtraError
from cl2cm.evaluation.bench.report import report as bench_report
from cl2cm.evaluation.bench.run import Job, _write_ranks
from cl2cm.evaluation.evaluate import measure
from cl2cm.evaluation.ranks import ranks_of
from cl2cm.evaluation.report.gather import Choice
from cl2cm.evaluation.report.results import RECALLS
from cl2cm.evaluation.report.write import report
from cl2cm.evaluation.subject import open_subject
from cl2cm.model.config import load_config
from cl2cm.training.loop import train
from fixtures.runs import change_record

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SIDES = {"t2v": "text_to_vision", "v2t": "vision_to_text"}


class Read(HTMLParser):
    """A page as tags and texts, and the numbers of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._table = ""
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append((tag, values))
        if tag == "table":
            self._table = values["id"] or ""
            self.tables[self._table] = []
        elif tag == "tr" and self._table:
            self.tables[self._table].append([])
        elif tag == "td":
            self._cell = True
        elif tag == "data":
            self.tables[self._table][-1].append(values["value"] or "")
            self._cell = False

    def handle_data(self, data):
        self.texts.append(data)
        if self._cell:
            self.tables[self._table][-1].append(data)
            self._cell = False

    def handle_endtag(self, tag):
        self._cell = False


@pytest.fixture(scope="module")
def plain(settings, tmp_path_factory):
    """A run without a cross-lingual network."""
    out = tmp_path_factory.mktemp("plain") / "zero-shot"
    train(settings("zero-shot", train={"epochs": 3}), out)
    return out


@pytest.fixture(scope="module")
def done(trained, plain, tmp_path_factory):
    """A report of two runs, with all files."""
    folder = tmp_path_factory.mktemp("report")
    found = report(
        [str(trained), str(plain)],
        folder / "report.html",
        choice=Choice(worst=20),
        files=folder / "files",
        png=True,
    )
    text = (folder / "report.html").read_text(encoding="utf-8")
    return SimpleNamespace(found=found, folder=folder, text=text, page=Read(text))


def test_the_figures_of_the_page_are_those_of_evaluate(done, trained, plain, small):
    shown = {(row[0], row[1]): row for row in done.page.tables["table-recall"] if row}
    for label, folder in (("cl2cm", trained), ("zero-shot", plain)):
        measured = evaluate_manifest(folder, small.manifest)["languages"]
        for code, scores in measured.items():
            expected = [scores[SIDES[key[:3]]][key[4:]] for key in RECALLS]
            row = shown[code, label]
            assert [float(cell) for cell in row[4:10]] == expected
            assert float(row[3]) == scores["SumR"]
            found = next(
                one
                for one in done.found["recall"]
                if (one["label"], one["language"]) == (label, code)
            )
            assert [found[key]["value"] for key in RECALLS] == expected
            for key in RECALLS:
                low, high = found[key]["ci95"]
                assert 0 <= low <= found[key]["value"] <= high <= 100


def test_the_worst_queries_are_the_worst(done, trained, small, tmp_path):
    ranks = tmp_path / "ranks.jsonl"
    evaluate_manifest(trained, small.manifest, per_query=ranks)
    lines = [json.loads(line) for line in ranks.read_text(encoding="utf-8").splitlines()]
    texts = {
        (line["language"], line["caption"], line["item"]): line
        for line in lines
        if line["direction"] == "text_to_vision"
    }
    expected = sorted((line["rank"] for line in texts.values() if line["rank"] > 1), reverse=True)
    assert [query["rank"] for query in done.found["worst"]] == expected[:20]
    for query in done.found["worst"]:
        line = texts[query["language"], query["caption"], query["item"]]
        assert line["rank"] == query["rank"]
        assert line["top"][0] == query["first"]


def test_a_page_stands_alone(done):
    """No script, no address of anything outside, a policy that would forbid both."""
    assert done.found["bytes"] == len(done.text.encode()) < 15_000_000
    policy = next(
        values["content"]
        for tag, values in done.page.tags
        if values.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert "script" not in policy
    for tag, values in done.page.tags:
        assert tag not in {"script", "iframe", "object", "embed", "form", "base", "foreignobject"}
        assert not [name for name in values if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert values.get(name, "#").startswith(("#", "data:")), (tag, values)
    assert "url(" not in done.text
    assert "@import" not in done.text
    assert sum(tag == "img" for tag, _ in done.page.tags) == 2 * len(done.found["worst"])


def test_charts_have_a_text_alternative_and_more_than_colours(done):
    drawings = re.findall(r"<svg.*?</svg>", done.text, re.DOTALL)
    assert len(drawings) >= 8
    for drawing in drawings:
        assert 'role="img"' in drawing
        assert "<title" in drawing
        assert "<desc" in drawing
    names = [values["id"] for _, values in done.page.tags if values.get("id")]
    assert len(names) == len(set(names))


def test_transfer_and_alignment_are_shown_for_a_run_with_a_teacher(done):
    kinds = {(row["label"], row["language"]) for row in done.found["transfer"]}
    assert kinds == {(a, b) for a in ("cl2cm", "zero-shot") for b in ("xx", "yy")}
    assert all(-1 <= row["correlation"] <= 1 for row in done.found["transfer"])
    assert {"alignment-xx.svg", "transfer.svg", "map.svg"} <= {
        Path(path).name for path in done.found["files"]
    }
    assert done.found["quality"]["measure"] == "chrF"  # training items have both texts
    assert set(done.found["quality"]["means"]) == {"xx", "yy"}


def test_files_for_papers(done):
    folder = done.folder / "files"
    for path in folder.glob("*.svg"):
        ET.parse(path)
        with Image.open(path.with_suffix(".png")) as drawn:
            assert min(drawn.size) > 50
    rows = list(csv.DictReader((folder / "recall.csv").open(encoding="utf-8")))
    for row in rows:
        found = next(
            one
            for one in done.found["recall"]
            if (one["label"], one["language"]) == (row["run"], row["language"])
        )
        assert float(row["t2v R@1"]) == pytest.approx(found["t2v R@1"]["value"], abs=1e-4)
        assert float(row["t2v R@1 low"]) == pytest.approx(found["t2v R@1"]["ci95"][0], abs=1e-4)
    latex = (folder / "recall.tex").read_text(encoding="utf-8")
    assert latex.count("\\\\\n") == 1 + len(rows)
    assert all(path.stat().st_size for path in folder.iterdir())


def test_a_run_without_a_teacher_says_so(plain, tmp_path):
    found = report([str(plain)], tmp_path / "r.html", choice=Choice(worst=3))
    assert any("no cross-lingual network" in s for s in found["missing"]["transfer"])
    assert any("no cross-lingual network" in s for s in found["missing"]["alignment"])
    assert found["transfer"] == []
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    for sentences in found["missing"].values():
        for sentence in sentences:
            assert sentence.replace("'", "&#x27;") in text


def test_a_run_without_its_log_says_so(plain, tmp_path):
    copy = shutil.copytree(plain, tmp_path / "run")
    (copy / "metrics.jsonl").write_text('{"stage": "x", "epoch": 0, "step": 1, "loss": 1}\n')
    changed = report([str(copy)], tmp_path / "r.html", choice=Choice(worst=0))
    assert "changed after training" in changed["missing"]["curves"][0]
    assert changed["worst"] == []
    assert changed["missing"]["worst"] == ["None were asked for (--worst 0)."]


def test_the_manifest_of_training_is_read_only_as_it_was(trained, small, tmp_path):
    copy = shutil.copytree(small.manifest.parent, tmp_path / "data") / "manifest.jsonl"
    settings = load_config(trained / "config.toml")
    assert Path(settings.data.manifest) == small.manifest
    copy.write_text(copy.read_text() + "\n")
    from cl2cm.evaluation.report.subjects import Run, Subjects, find_manifest

    def named(path, digest):
        config = load_config(trained / "config.toml")
        object.__setattr__(config.data, "manifest", str(path))
        return Subjects([Run("a", str(trained), config=config, provenance=digest)])

    known = json.loads((trained / "provenance.json").read_text())
    assert find_manifest(named(small.manifest, known), None) == small.manifest
    for path in (copy, tmp_path / "absent.jsonl", trained / "model.safetensors", tmp_path):
        with pytest.raises(ManifestError, match="--manifest"):
            find_manifest(named(path, known), None)
    with pytest.raises(ManifestError):
        find_manifest(named(small.manifest, {}), None)
    assert find_manifest(named(copy, known), copy) == copy


def test_captions_and_names_of_strangers_stay_text(trained, small, tmp_path):
    """Markup in captions, ids and engines; an image that lies elsewhere; a file that is none."""
    evil = '</p><script>alert(1)</script><img src=x onerror="alert(2)">\u202e\x07'
    Image.new("RGB", (20, 20), "red").save(tmp_path / "outside.png")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    lines = []
    for line in small.manifest.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        if item["split"] != "test":
            continue
        item["image"] = str(small.manifest.parent / item["image"])
        item["id"] = f'{item["id"]}"><script>alert(3)</script>'
        item["captions"] = {c: [f"{evil} {t}" for t in ts] for c, ts in item["captions"].items()}
        item["captions"]["ar"] = ["قط" * 400]
        lines.append(item)
    lines[0]["image"] = "../outside.png"
    manifest = folder / "manifest.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    out = tmp_path / "report.html"
    found = report([str(trained)], out, manifest=manifest, choice=Choice(worst=100))
    text = out.read_text(encoding="utf-8")
    page = Read(text)
    assert not [tag for tag, values in page.tags if tag == "script" or "onerror" in values]
    assert "\x07" not in text
    assert any("alert(1)" in part for part in page.texts)
    assert not [values for tag, values in page.tags if tag == "img"]  # none below its folder
    assert "no file below the folders that may be shown" in text
    assert "--media-root" in found["missing"]["worst"][0]
    assert {query["language"] for query in found["worst"]} >= {"ar"}
    json.dumps(found, allow_nan=False)
    again = report(
        [str(trained)],
        out,
        manifest=manifest,
        choice=Choice(worst=5, languages=("en", "xx")),
        media_roots=[tmp_path, small.manifest.parent],
    )
    assert again["languages"] == ["en", "xx"]
    assert out.read_text(encoding="utf-8").count('<img src="data:image/') == 10


# --- benchmarks ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench_folder(trained, plain, small, tmp_path_factory):
    """A benchmark of two methods and two seeds, made of the runs that are there."""
    out = tmp_path_factory.mktemp("bench")
    examples = list(read_manifest(small.manifest))
    test = [example for example in examples if example.split == "test"]
    results = []
    for method, folder in (("cl2cm", trained), ("zero-shot", plain)):
        subject = open_subject(folder, examples, test)
        ranks = {
            one.language: ranks_of(one)
            for one in measure(subject.model, test, subject.languages, vectors=subject.vectors)
        }
        for seed in (0, 1):
            run_folder = shutil.copytree(folder, out / "last" / "all" / method / str(seed))
            config = load_config(folder / "config.toml")
            languages = ("xx", "yy")
            job = Job("last", method, seed, languages, config, run_folder, out, None, "test")
            moved = {
                code: one._replace(captions=np.minimum(one.captions + seed, 24))
                for code, one in ranks.items()
            }
            _write_ranks(job, moved, "key")
            results.append((job, moved))
    result = bench_report("small", results, source="en")
    (out / "results.json").write_text(json.dumps(result), encoding="utf-8")
    return SimpleNamespace(folder=out, result=result)


def mean_of(result, method, code, key):
    rows = [r for r in result["rows"] if (r["method"], r["language"]) == (method, code)]
    return np.mean([row[key] for row in rows])


def test_the_figures_of_a_benchmark_are_those_of_its_json(bench_folder, tmp_path):
    out = tmp_path / "report.html"
    found = report([str(bench_folder.folder)], out, choice=Choice(worst=5))
    rows = Read(out.read_text(encoding="utf-8")).tables["table-recall"]
    assert {(row[0], row[1]) for row in rows if row} == {
        (code, method) for code in ("en", "xx", "yy") for method in ("cl2cm", "zero-shot")
    }
    for row in (row for row in rows if row):
        assert float(row[2]) == 2
        for cell, key in zip(row[3:10], ("SumR", *RECALLS), strict=True):
            expected = mean_of(bench_folder.result, row[1], row[0], key)
            assert float(cell) == pytest.approx(expected, abs=1e-9)
    variance = {row["method"]: row["MRV"] for row in bench_folder.result["mrv"]}
    assert {row["label"]: row["MRV"] for row in found["consistency"]} == pytest.approx(variance)
    assert all(row["t2v R@1"]["ci95"] for row in found["recall"])
    assert "recall" not in found["missing"]
    assert len(found["worst"]) == 5
    assert {row["label"] for row in found["transfer"]} == {"cl2cm", "zero-shot"}


def test_ranks_of_another_benchmark_are_not_used(bench_folder, tmp_path):
    folder = shutil.copytree(bench_folder.folder, tmp_path / "bench")
    changed = json.loads((folder / "results.json").read_text())
    for row in changed["rows"]:
        row["t2v R@1"] += 1
    (folder / "results.json").write_text(json.dumps(changed))
    found = report([str(folder)], tmp_path / "r.html", choice=Choice(worst=5))
    assert "4 of 4 runs" in found["missing"]["recall"][0]
    assert all(row["t2v R@1"]["ci95"] is None for row in found["recall"])
    assert "no ranks of cl2cm" in found["missing"]["worst"][0]
    assert found["recall"][0]["t2v R@1"]["value"] == pytest.approx(
        mean_of(changed, "cl2cm", "en", "t2v R@1")
    )


def test_results_alone(bench_folder, small, tmp_path, capfd):
    """The JSON that a benchmark printed, without its folder."""
    alone = tmp_path / "printed.json"
    shutil.copy(bench_folder.folder / "results.json", alone)
    out = tmp_path / "r.html"
    assert run(["report", str(alone), "--out", str(out), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["manifest"] is None
    assert found["worst"] == []
    assert {"worst", "transfer", "alignment", "map", "curves"} <= found["missing"].keys()
    assert found["recall"][0]["SumR"] == pytest.approx(
        mean_of(bench_folder.result, "cl2cm", "en", "SumR")
    )
    assert Read(out.read_text(encoding="utf-8")).tables["table-recall"]
    again = report([str(alone)], out, manifest=small.manifest)
    assert again["missing"]["worst"] == ["There is no run folder to look into."]


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium")
def test_it_opens_from_disk_without_a_request(bench_folder, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    out = tmp_path / "report.html"
    report([str(bench_folder.folder)], out, choice=Choice(worst=10))
    asked, told = [], []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        for width in (390, 1200):
            page = browser.new_page(viewport={"width": width, "height": 800})
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: told.append(message.text))
            page.goto(out.as_uri())
            drawn = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
            assert page.evaluate(drawn)
            assert page.evaluate("document.images.length") == 20
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.close()
    assert {url for url in asked if not url.startswith("data:")} == {out.as_uri()}
    assert told == []


# --- refusals --------------------------------------------------------------------------------


def test_what_cannot_be_written_is_refused_first(trained, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"\.html"):
        report([str(trained)], tmp_path / "report.pdf")
    with pytest.raises(ConfigError, match="--files"):
        report([str(trained)], tmp_path / "r.html", png=True)
    with pytest.raises(ConfigError, match="twice"):
        report([str(trained), str(trained)], tmp_path / "r.html")
    import sys

    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(MissingExtraError, match=r"cl2cm\[report\]"):
        report([str(trained)], tmp_path / "r.html", files=tmp_path / "files", png=True)
    assert not list(tmp_path.iterdir())


def test_a_language_without_captions_is_refused(bench_folder, trained, tmp_path):
    for named in (str(bench_folder.folder), str(trained)):
        with pytest.raises(LanguageError, match="en, xx, yy"):
            report([named], tmp_path / "r.html", choice=Choice(languages=("de",)))


def test_a_run_beside_a_benchmark_of_its_method_has_a_line_of_its_own(
    bench_folder, trained, small, tmp_path
):
    measured = evaluate_manifest(trained, small.manifest)["languages"]["en"]
    for named in (
        [str(bench_folder.folder), str(trained)],
        [str(trained), str(bench_folder.folder)],
    ):
        found = report(named, tmp_path / "r.html", choice=Choice(worst=0, languages=("en",)))
        seeds = {row["label"]: row["seeds"] for row in found["recall"]}
        assert sorted(seeds.values()) == [1, 2, 2]
        (alone,) = [row for row in found["recall"] if row["seeds"] == 1]
        assert alone["SumR"] == measured["SumR"]


def test_a_strange_provenance_is_no_traceback(plain, tmp_path):
    copy = shutil.copytree(plain, tmp_path / "run")
    change_record(
        copy / "provenance.json",
        lambda record: record.update(data=[1], learned=7, seconds=10**400, files="none"),
    )
    manifest = load_config(copy / "config.toml").data.manifest
    out = tmp_path / "r.html"
    report([str(copy)], out, manifest=Path(manifest), choice=Choice(worst=0))
    rows = Read(out.read_text(encoding="utf-8")).tables["table-runs"]
    assert rows[1][0] == "zero-shot"


def test_an_unknown_folder_is_refused_in_one_line(tmp_path, capfd):
    assert run(["report", str(tmp_path / "absent"), "--out", str(tmp_path / "r.html")]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
