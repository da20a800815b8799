import csv
import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cl2cm.cli.app import run
from cl2cm.data.manifest import read_manifest
from cl2cm.data.queries import caption_queries
from cl2cm.errors import ConfigError
from cl2cm.evaluation.per_query import COLUMNS, PerQueryWriter
from cl2cm.evaluation.trec import trec_files


@pytest.fixture(scope="module")
def written(trained, small, tmp_path_factory):
    """The figures of an evaluation, and its lines as JSON and as a table."""
    out = tmp_path_factory.mktemp("per-query")
    command = ["evaluate", str(trained), str(small.manifest), "--no-leak-check", "--json"]
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("cl2cm.cli.measure.show", lambda value, **_: printed.append(value))
        assert (
            run([*command, "--per-query", str(out / "a.jsonl"), "--trec", str(out / "a.trec")]) == 0
        )
        assert run([*command, "--per-query", str(out / "a.csv"), "--top", "0"]) == 0
    lines = [json.loads(line) for line in (out / "a.jsonl").read_text("utf-8").splitlines()]
    with (out / "a.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    return printed[0]["languages"], lines, table, out


def test_the_figures_follow_from_the_lines(written):
    languages, lines, _, _ = written
    for code, figures in languages.items():
        for direction in ("text_to_vision", "vision_to_text"):
            own = [x for x in lines if (x["language"], x["direction"]) == (code, direction)]
            ranks = np.array([line["rank"] for line in own])
            assert_allclose(100 * np.mean(ranks <= 5), figures[direction]["R@5"])
            precision = [
                np.mean([(i + 1) / rank for i, rank in enumerate(line["ranks"])]) for line in own
            ]
            assert_allclose(100 * np.mean(precision), figures[direction]["mAP"])
        assert (
            sum(x["caption"] is not None for x in lines if x["language"] == code)
            == figures["queries"]
        )


def test_a_line_names_query_caption_and_items(written, small):
    _, lines, _, out = written
    asked = caption_queries([e for e in read_manifest(small.manifest) if e.split == "test"], "en")
    text = [x for x in lines if (x["language"], x["direction"]) == ("en", "text_to_vision")]
    assert [line["caption"] for line in text] == asked.texts
    assert [line["query"] for line in text] == [f"en-{i}" for i in range(len(text))]
    for line, row in zip(text, asked.rows, strict=True):
        assert line["relevant"] == [line["item"]] == [asked.gallery[row].id]
        assert len(line["top"]) == len(line["scores"]) == 10
        assert (line["item"] in line["top"]) == (line["rank"] <= 10)
    back = [x for x in lines if (x["language"], x["direction"]) == ("en", "vision_to_text")]
    assert [line["item"] for line in back] == [example.id for example in asked.gallery]
    assert all(line["caption"] is None and len(line["relevant"]) == 2 for line in back)
    names = {
        line.split(" ")[0] for f in trec_files(out / "a.trec").values() for line in f.run.open()
    }
    assert names == {line["query"] for line in lines}


def test_the_table_says_the_same_with_whole_lists(written):
    languages, lines, table, _ = written
    assert list(table[0]) == list(COLUMNS)
    assert len(table) == len(lines)
    for row, line in zip(table, lines, strict=True):
        assert (row["query"], int(row["rank"]), row["caption"] or None) == (
            *(line["query"], line["rank"]),
            line["caption"],
        )
        size = "gallery" if line["direction"] == "text_to_vision" else "queries"
        assert len(json.loads(row["top"])) == languages[line["language"]][size]
        assert json.loads(row["top"])[:10] == line["top"]


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--per-query: expected a file that ends in \.jsonl or"):
        PerQueryWriter(tmp_path / "a.txt")
