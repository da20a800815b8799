"""The files for trec_eval: it computes our figures from them, in both directions, ties included."""

from collections import defaultdict

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from cl2cm.cli.app import run
from cl2cm.data.queries import Queries
from cl2cm.errors import ConfigError, NumberError
from cl2cm.evaluation.evaluate import evaluate
from cl2cm.evaluation.ranked_lists import DIRECTIONS, Measured, falling, rankings
from cl2cm.evaluation.trec import TrecWriter, trec_files, trec_lines
from cl2cm.metrics import CUTOFFS, metrics, text_to_vision, vision_to_text
from cl2cm.types import Example


def read_run(path):
    found = defaultdict(dict)
    for line in path.read_text().splitlines():
        query, _, item, _, score, _ = line.split(" ")
        assert item not in found[query]
        found[query][item] = float(score)
    return dict(found)


def read_qrels(path):
    found = defaultdict(dict)
    for line in path.read_text().splitlines():
        query, _, item, relevant = line.split(" ")
        found[query][item] = int(relevant)
    return dict(found)


def by_trec_eval(files):
    """Recalls, median rank and mAP in percent by language, as trec_eval computes them."""
    names = {"map", "recip_rank", "success_1,5,10"}
    evaluator = pytrec_eval.RelevanceEvaluator(read_qrels(files.qrels), names)
    languages = defaultdict(list)
    for query, values in evaluator.evaluate(read_run(files.run)).items():
        languages[query[:2]].append(values)
    return {
        code: {f"R@{k}": 100 * np.mean([v[f"success_{k}"] for v in values]) for k in CUTOFFS}
        | {
            "MedR": np.median([round(1 / v["recip_rank"]) for v in values]),
            "mAP": 100 * np.mean([v["map"] for v in values]),
        }
        for code, values in languages.items()
    }


def measured(text, vision, rows, language="en"):
    gallery = [
        Example(id=f"v {i}", image=None, split="test", captions={}) for i in range(len(vision))
    ]
    return Measured(
        language, Queries([f"t{i}" for i in range(len(text))], rows, gallery), text, vision
    )


def with_ties(seed, steps, noise):
    """Vectors of few directions, so that many scores tie, exactly or but for rounding."""
    rng = np.random.default_rng(seed)
    items = int(rng.integers(1, 12))
    rows = np.concatenate([np.arange(items), rng.integers(items, size=rng.integers(0, 20))])
    rng.shuffle(rows)

    def vectors(count):
        angles = rng.integers(0, steps, count) * (np.pi / steps) + noise * rng.normal(size=count)
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)

    return vectors(len(rows)), vectors(items), rows


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([1, 3, 50]), st.sampled_from([0, 1e-7, 1e-6, 1e-3]))
def test_trec_eval_reproduces_every_figure(tmp_path_factory, seed, steps, noise):
    path = tmp_path_factory.mktemp("trec") / "run.trec"
    text, vision, rows = with_ties(seed, steps, noise)
    with TrecWriter(path) as writer:
        writer.write(measured(text, vision, rows))
    expected = metrics(text, vision, rows)
    for direction, files in trec_files(path).items():
        for key, value in by_trec_eval(files)["en"].items():
            assert_allclose(
                value, expected[direction][key], rtol=1e-6, err_msg=f"{direction} {key}"
            )


def test_of_a_run_by_the_command(trained, small, tmp_path, capsys):
    import json

    command = ["evaluate", str(trained), str(small.manifest), "--no-leak-check", "--json"]
    assert run([*command, "--trec", str(tmp_path / "out" / "my.trec")]) == 0
    expected = json.loads(capsys.readouterr().out)["languages"]
    names = {"my.trec", "my.qrels", "my.vision_to_text.trec", "my.vision_to_text.qrels"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    for direction, files in trec_files(tmp_path / "out" / "my.trec").items():
        found = by_trec_eval(files)
        assert set(found) == set(expected) == {"en", "xx", "yy"}
        for language, values in found.items():
            for key, value in values.items():
                assert_allclose(value, expected[language][direction][key], rtol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([1, 3, 50]), st.sampled_from([0, 1e-7, 1e-6, 1e-3]))
def test_the_lists_agree_with_the_ranks(seed, steps, noise):
    text, vision, rows = with_ties(seed, steps, noise)
    one = measured(text, vision, rows)
    for direction, of in zip(DIRECTIONS, (text_to_vision, vision_to_text), strict=True):
        found = list(rankings(one, direction, chunk=3))
        assert_array_equal([each.ranks[0] for each in found], of(text, vision, rows).best)
        for each in found:
            assert sorted(each.order.tolist()) == list(range(len(each.order)))
            assert_array_equal(each.order[each.ranks - 1], each.relevant)
            assert (np.diff(each.scores) <= 1e-4).all()
            lowered = falling(each.scores)
            assert (np.diff(lowered.astype(np.float64)) < 0).all()
            assert_allclose(lowered, each.scores, atol=1e-5)


@settings(deadline=None)
@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=40))
def test_scores_fall_by_the_smallest_step(values):
    scores = np.array(sorted(values, reverse=True), np.float32)
    found = falling(scores)
    assert found[0] == scores[0]
    last = found[0]
    for mine, own in zip(found[1:], scores[1:], strict=True):
        assert mine == min(own, np.nextafter(last, np.float32(-3)))
        last = mine
    assert [float(f"{score:.9g}") for score in found] == pytest.approx(found.tolist(), rel=1e-8)


def test_a_chain_of_near_ties_has_distinct_ranks():
    step = 0.8e-6
    vision = np.array([[1, 0]], np.float32)
    text = np.array([[0.5, 0], [0.5 + step, 0], [0.5 + 2 * step, 0]], np.float32)
    (found,) = rankings(measured(text, vision, np.zeros(3, np.int64)), "vision_to_text")
    assert_array_equal(found.ranks, [1, 2, 3])
    assert vision_to_text(text, vision, np.zeros(3, np.int64)).precision == [1]


def test_depth_cuts_the_lists_alone():
    text, vision, rows = with_ties(3, 50, 1e-3)
    lines = list(trec_lines(measured(text, vision, rows), "text_to_vision", depth=2))
    assert all([line.split()[3] for line in found] == ["1", "2"] for found, _ in lines)
    assert all(len(relevant) == 1 for _, relevant in lines)


def test_names_have_no_blanks_and_stay_apart(tmp_path):
    ids = ["a b", "a_b", "a\tb", "a_b~2"]
    gallery = [Example(id=name, image=None, split="test", captions={"en": ("x",)}) for name in ids]
    vectors = np.eye(4, dtype=np.float32)
    one = Measured("en", Queries(["x"] * 4, np.arange(4), gallery), vectors, vectors)
    with TrecWriter(tmp_path / "run.trec") as writer:
        writer.write(one)
    for files in trec_files(tmp_path / "run.trec").values():
        assert len(read_qrels(files.qrels)) == 4
        assert all(len(items) == 4 for items in read_run(files.run).values())
        assert by_trec_eval(files)["en"]["R@1"] == 100


def test_a_name_that_the_relevant_items_would_take_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--trec: expected a file for the ranked lists"):
        TrecWriter(tmp_path / "run.qrels")


def test_nothing_is_left_of_an_evaluation_that_fails(tmp_path):
    class Broken:
        fingerprint, dim = "broken", 2

        def encode_text(self, texts):
            return np.full((len(texts), 2), np.nan if "zu" in texts[0] else 1, np.float32)

        def encode_visual(self, items):
            return np.ones((len(items), 2), np.float32)

    examples = [
        Example(
            id="0", image=None, features="0", split="test", captions={"de": ("zu",), "aa": ("x",)}
        )
    ]
    with pytest.raises(NumberError):
        evaluate(Broken(), examples, trec=tmp_path / "a.trec", per_query=tmp_path / "a.csv")
    assert not list(tmp_path.iterdir())
