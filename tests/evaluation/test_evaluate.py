import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from cl2cm.data.queries import caption_queries
from cl2cm.errors import LanguageError, NumberError
from cl2cm.evaluation.evaluate import evaluate
from cl2cm.metrics import metrics, text_to_vision, trec_name, vision_to_text
from cl2cm.types import Example


def unit(rng, *shape):
    values = rng.normal(size=shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def problem(seed=0, pictures=30, captions=4):
    rng = np.random.default_rng(seed)
    vision = unit(rng, pictures, 8)
    rows = rng.permutation(np.repeat(np.arange(pictures), captions))
    text = vision[rows] + 0.4 * unit(rng, len(rows), 8)
    return (text / np.linalg.norm(text, axis=1, keepdims=True)).astype(np.float32), vision, rows


def test_by_hand():
    vision = np.eye(3, dtype=np.float32)
    text = np.array([[1, 0, 0], [0.9, 0.1, 0], [0.8, 0, 0.6]], dtype=np.float32)
    rows = np.array([0, 1, 2])
    result = metrics(text, vision, rows)
    assert_array_equal(text_to_vision(text, vision, rows).best, [1, 2, 2])
    assert result["text_to_vision"]["R@1"] == pytest.approx(100 / 3)
    assert result["text_to_vision"]["MedR"] == 2
    assert result["text_to_vision"]["mAP"] == pytest.approx(100 * (1 + 0.5 + 0.5) / 3)
    assert_array_equal(vision_to_text(text, vision, rows).best, [1, 1, 1])
    assert result["SumR"] == pytest.approx(100 / 3 + 5 * 100)


def test_against_sorting_in_a_loop():
    text, vision, rows = problem()
    to_vision, to_text = text_to_vision(text, vision, rows), vision_to_text(text, vision, rows)
    for i, row in enumerate(rows):
        order = sorted(range(len(vision)), key=lambda j: (-float(text[i] @ vision[j]), j))
        assert to_vision.best[i] == order.index(row) + 1
    for row in range(len(vision)):
        order = sorted(range(len(text)), key=lambda j: (-float(text[j] @ vision[row]), j))
        ranks = [order.index(i) + 1 for i in range(len(text)) if rows[i] == row]
        assert to_text.best[row] == min(ranks)


def test_against_trec_eval():
    text, vision, rows = problem(1)
    scores = text @ vision.T
    found = metrics(text, vision, rows)
    truth = {f"t{i}": {f"v{row}": 1} for i, row in enumerate(rows)}
    run = {
        f"t{i}": {f"v{j}": float(s) for j, s in enumerate(line)} for i, line in enumerate(scores)
    }
    names = {"map", "success_1,5,10"}
    measured = pytrec_eval.RelevanceEvaluator(truth, names).evaluate(run)
    back = {f"v{j}": {f"t{i}": 1 for i in np.flatnonzero(rows == j)} for j in range(len(vision))}
    run = {
        f"v{j}": {f"t{i}": float(s) for i, s in enumerate(line)} for j, line in enumerate(scores.T)
    }
    other = pytrec_eval.RelevanceEvaluator(back, names).evaluate(run)
    for side, result in (("text_to_vision", measured), ("vision_to_text", other)):
        for name, key in (("mAP", "map"), ("R@1", "success_1"), ("R@10", "success_10")):
            mean = 100 * np.mean([query[key] for query in result.values()])
            assert_allclose(found[side][name], mean, rtol=1e-6)


@settings(deadline=None, max_examples=20)
@given(chunk=st.integers(1, 130), seed=st.integers(0, 5))
def test_in_pieces_equals_at_once(chunk, seed):
    text, vision, rows = problem(seed)
    assert metrics(text, vision, rows, chunk=chunk) == metrics(text, vision, rows)


def test_equal_scores_are_broken_by_row_not_in_our_favour():
    vision = np.tile(np.float32([1, 0]), (20, 1))
    text = vision.copy()
    rows = np.arange(20)
    assert_array_equal(text_to_vision(text, vision, rows).best, np.arange(1, 21))
    assert metrics(text, vision, rows)["text_to_vision"]["R@1"] == 5


def example(name, **captions):
    return Example(id=name, split="test", captions={k: tuple(v) for k, v in captions.items()})


def test_gallery_is_what_has_a_caption_in_the_language():
    examples = [example("a", en=["x", "y"], de=["z"]), example("b", en=["w"]), example("c")]
    english = caption_queries(examples, "en")
    assert english.texts == ["x", "y", "w"]
    assert_array_equal(english.rows, [0, 0, 1])
    assert [e.id for e in caption_queries(examples, "de").gallery] == ["a"]
    with pytest.raises(LanguageError, match="de, en"):
        caption_queries(examples, "fr")


class Oracle:
    """Knows which picture each caption is of."""

    fingerprint, dim = "oracle", 3

    def encode_text(self, texts):
        return np.stack([np.eye(3, dtype=np.float32)[int(text[-1])] for text in texts])

    def encode_visual(self, paths):
        return np.stack([np.eye(3, dtype=np.float32)[int(example.id)] for example in paths])


def test_evaluate_writes_trec_runs(tmp_path):
    examples = [example(str(i), en=[f"about {i}"], de=[f"zu {i}"]) for i in range(3)]
    result = evaluate(Oracle(), examples, trec=tmp_path / "run.trec")
    assert set(result) == {"de", "en"}
    assert result["de"]["SumR"] == 600
    assert result["de"]["queries"] == result["de"]["gallery"] == 3
    first = (tmp_path / "run.trec").read_text().splitlines()[0].split()
    assert first[:4] == ["de-0", "Q0", "0", "1"]
    assert float(first[4]) == 1


class Words(Oracle):
    """An oracle that reads "about N" alone."""

    def encode_text(self, texts):
        assert all(text.startswith("about ") for text in texts), texts
        return super().encode_text(texts)


def test_queries_are_translated_before_they_are_encoded(tmp_path):
    examples = [example(str(i), en=[f"about {i}"], de=[f"zu {i}"]) for i in range(3)]
    asked = []

    def translate(language, texts):
        asked.append((language, texts))
        return [text.replace("zu", "about") for text in texts]

    result = evaluate(Words(), examples, translate=translate, trec=tmp_path / "run.trec")
    assert asked == [("de", ["zu 0", "zu 1", "zu 2"]), ("en", ["about 0", "about 1", "about 2"])]
    assert result["de"] == result["en"]
    assert result["de"]["SumR"] == 600
    first = (tmp_path / "run.trec").read_text().splitlines()[0].split()
    assert first[0] == "de-0"  # a query keeps its language
    with pytest.raises(AssertionError, match="zu 0"):
        evaluate(Words(), examples)


# --- what cannot be measured -------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("direction", [text_to_vision, vision_to_text, metrics])
def test_a_score_that_is_not_finite_is_an_error(value, side, direction):
    text, vision, rows = problem(pictures=5, captions=2)
    for whole in (True, False):
        spoilt = [text.copy(), vision.copy()]
        spoilt[side][... if whole else 1, 0] = value
        with pytest.raises(NumberError, match=r"score of \w+ \d+ and \w+ \d+: expected a finite"):
            direction(*spoilt, rows, chunk=2)


@pytest.mark.parametrize(
    ("captions", "pictures", "rows"), [(0, 0, []), (0, 3, []), (3, 4, [0, 1, 2]), (3, 2, [0, 1])]
)
def test_what_has_no_ranks_is_an_error(captions, pictures, rows):
    text, vision = np.ones((captions, 4), "f4"), np.ones((pictures, 4), "f4")
    with pytest.raises(NumberError, match="at least one caption of each item"):
        metrics(text, vision, np.array(rows, np.int64))


class Broken(Oracle):
    """An oracle that knows nothing of one caption or of one item."""

    def __init__(self, text=None, item=None):
        self.text, self.item = text, item

    def encode_text(self, texts):
        factors = [np.nan if text == self.text else 1 for text in texts]
        return super().encode_text(texts) * np.array(factors, np.float32)[:, None]

    def encode_visual(self, paths):
        factors = [np.nan if example.id == self.item else 1 for example in paths]
        return super().encode_visual(paths) * np.array(factors, np.float32)[:, None]


def test_evaluate_names_the_vector_that_is_not_finite(tmp_path):
    examples = [example(str(i), en=[f"about {i}"], de=[f"zu {i}"]) for i in range(3)]
    with pytest.raises(NumberError, match="vector of de caption 'zu 1': expected finite numbers"):
        evaluate(Broken(text="zu 1"), examples)
    with pytest.raises(NumberError, match="vector of item '2'"):
        evaluate(Broken(item="2"), examples, trec=tmp_path / "run.trec")
    assert not (tmp_path / "run.trec").exists()


def test_equal_items_tie_whatever_rounding_makes_of_them():
    vision = np.eye(4, dtype=np.float32)[[0, 0, 1, 2]]
    text, rows = vision.copy(), np.arange(4)
    for sign in (-1, 1):
        noisy = vision.copy()
        noisy[1] *= 1 + sign * 1e-7
        assert_array_equal(text_to_vision(text, noisy, rows).best, [1, 2, 1, 1])
        assert_array_equal(vision_to_text(noisy, vision, rows).best, [1, 2, 1, 1])


def test_equal_captions_are_encoded_once():
    asked = []

    class Once(Oracle):
        def encode_text(self, texts):
            asked.append(list(texts))
            return super().encode_text(texts)

    evaluate(Once(), [example("0", en=["a 0", "a 0"]), example("1", en=["a 1", "a 0"])])
    assert asked == [["a 0", "a 1"]]


@pytest.mark.parametrize(
    "mark", [" ", "\t", "\n", "\v", "\x1b", "\x9b", "\u2003", "\u2028", "\ud800"]
)
def test_an_id_is_one_column_of_a_trec_run(mark):
    assert trec_name(f"a{mark}b") == "a_b"
