import dataclasses
import itertools
import json
import shutil
import unicodedata

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch.testing import assert_close

from cl2cm.errors import CheckpointError, QueryError
from cl2cm.evaluation.alignment import gold as alignment_gold
from cl2cm.evaluation.alignment.gold import (
    GOLD_LANGUAGES,
    GoldPair,
    centred,
    gold_lines,
    gold_report,
    gold_scores,
    joined,
    read_gold,
    read_pairs,
    score,
)
from cl2cm.evaluation.alignment.links import (
    align,
    align_texts,
    argmax_masks,
    link_strength,
    links_of,
    load_reader,
    pairs_of,
    word_plan,
    word_similarity,
)
from cl2cm.evaluation.alignment.words import Words, token_shares, token_spans, word_spans
from cl2cm.methods.word_level import TransportConfig
from fixtures import world

# Words that may lack a counterpart of their own.
FUNCTION_WORDS = {",", "，"}


def words_of(text, pieces=()):
    return [text[first:last] for first, last in word_spans(text, pieces)]


def random_words(seed, count, tokens, width=8):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(tokens, width, generator=generator)
    share = torch.zeros(count, tokens)
    share[torch.arange(tokens) * count // tokens, torch.arange(tokens)] = 1
    names = tuple(f"w{i}" for i in range(count))
    return Words(names, torch.nn.functional.normalize(vectors, dim=-1), vectors.norm(dim=-1), share)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog, running.", ["A", "dog", ",", "running", "."]),
        ("its  carrot-nose!?", ["its", "carrot", "-", "nose", "!", "?"]),
        ("كلبٌ في الثلج", ["كلبٌ", "في", "الثلج"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("می\u200cرود", ["می\u200cرود"]),
        ("a\x00b", ["a", "b"]),
        ("  ", []),
    ],
)
def test_words_are_runs_of_letters_and_single_marks(text, expected):
    assert words_of(text) == expected


def test_tokens_cut_scripts_without_spaces_only():
    text = "一只狗 ok2"
    assert words_of(text, [(0, 2), (2, 3), (3, 6), (6, 7)]) == ["一只", "狗", "ok2"]


def test_shares_by_hand():
    # "ab cd": one token on "a", one over "b cd".
    share = token_shares([(0, 2), (3, 5)], [(0, 0), (0, 1), (1, 5)])
    assert_close(share, torch.tensor([[0.0, 1.0, 1 / 3], [0.0, 0.0, 2 / 3]]))


@given(st.text(max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)), max_size=9))
@settings(deadline=None)
def test_words_cover_what_is_no_space_once(text, pieces):
    spans = word_spans(text, [(first, first + length) for first, length in pieces])
    covered = [place for first, last in spans for place in range(first, last)]
    assert covered == [
        place
        for place, letter in enumerate(text)
        if not letter.isspace() and unicodedata.category(letter) != "Cc"
    ]
    if spans:
        assert_close(token_shares(spans, [(0, len(text))]).sum(0), torch.ones(1))


def test_token_spans_know_prefix_and_specials(small):
    from cl2cm.encode.text import TextBackbone

    for prefix in ("", "one: "):
        backbone = TextBackbone.load(f"hf:{small.text}", prefix=prefix, max_tokens=16)
        text = "red  circle"
        spans = [span for span in token_spans(backbone, text) if span != (0, 0)]
        assert [text[first:last] for first, last in spans] == ["red", "circle"]


def test_plan_over_words_sums_over_tokens():
    source, target = random_words(1, 3, 5), random_words(2, 2, 4)
    plan = word_plan(source, target, TransportConfig(max_iterations=2000, tolerance=1e-6))
    assert plan.shape == (3, 2)
    assert_close(plan.sum(1), source.share.sum(1) / 5, atol=1e-4, rtol=0)
    assert_close(plan.sum(0), target.share.sum(1) / 4, atol=1e-4, rtol=0)


def test_small_epsilon_gives_the_best_assignment():
    source, target = random_words(3, 6, 6), random_words(4, 6, 6)
    settings = TransportConfig(epsilon=0.002, max_iterations=5000, tolerance=1e-6)
    links = links_of(link_strength(word_plan(source, target, settings)), floor=2)
    cost = 1 - source.tokens @ target.tokens.T
    assert links == tuple(zip(*(x.tolist() for x in linear_sum_assignment(cost)), strict=True))


def test_salience_decides_the_marginals_where_asked():
    source, target = random_words(5, 4, 4), random_words(6, 4, 4)
    wanted = TransportConfig(marginals="salience", max_iterations=2000, tolerance=1e-6)
    plan = word_plan(source, target, wanted)
    assert_close(plan.sum(1), source.salience / source.salience.sum(), atol=1e-4, rtol=0)


def test_similarity_is_the_cosine_of_mean_vectors():
    source, target = random_words(7, 2, 4), random_words(8, 3, 3)
    found = word_similarity(source, target)
    for i in range(2):
        mean = source.tokens[2 * i : 2 * i + 2].mean(0)
        for j in range(3):
            expected = torch.cosine_similarity(mean, target.tokens[j], dim=0)
            assert_close(found[i, j], expected)


def test_strength_by_hand_and_against_loops():
    plan = torch.tensor([[0.3, 0.1, 0.0], [0.0, 0.2, 0.0]])
    expected = torch.zeros(2, 3)
    for i in range(2):
        for j in range(3):
            row, column = float(plan[i].sum()), float(plan[:, j].sum())
            if row and column:
                expected[i, j] = (float(plan[i, j]) ** 2 / (row * column)) ** 0.5
    assert_close(link_strength(plan), expected)
    assert_close(link_strength(plan)[0, 0], torch.tensor(0.3 / (0.4 * 0.3) ** 0.5))
    assert links_of(link_strength(plan)) == ((0, 0), (1, 1))


def test_words_left_over_get_their_strongest_counterpart():
    strength = torch.tensor([[0.6, 0.2, 0.1], [0.5, 0.1, 0.0], [0.2, 0.1, 0.0]])
    assert links_of(strength) == ((0, 0), (1, 0))  # the last row and column are too weak
    assert links_of(strength, floor=0.2) == ((0, 0), (0, 1), (1, 0), (2, 0))
    assert links_of(strength, floor=2) == ((0, 0),)
    assert links_of(torch.zeros(2, 2)) == ()


@given(st.integers(0, 10_000), st.floats(0.01, 1))
@settings(deadline=None, max_examples=30)
def test_links_are_the_same_from_either_side_and_under_permutation(seed, floor):
    generator = torch.Generator().manual_seed(seed)
    strength = torch.rand(4, 5, generator=generator)
    links = links_of(strength, floor=floor)
    assert set(links_of(strength, floor=2)) <= set(links)
    assert links_of(strength, floor=2) == pairs_of(argmax_masks(strength)["mutual"])
    assert sorted((i, j) for j, i in links_of(strength.T, floor=floor)) == sorted(links)
    order = torch.randperm(4, generator=generator)
    assert sorted((int(order[i]), j) for i, j in links_of(strength[order], floor=floor)) == sorted(
        links
    )


def test_argmax_masks_by_hand():
    masks = argmax_masks(torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.1]]))
    found = {name: pairs_of(mask) for name, mask in masks.items()}
    assert found["source"] == ((0, 0), (1, 0), (2, 0))
    assert found["target"] == ((0, 0), (1, 1))
    assert found["mutual"] == ((0, 0),)


def test_score_by_hand():
    gold = GoldPair(
        ("en", "de"), ("a", "b"), ("x", "y"), frozenset({(0, 0), (1, 1)}), frozenset({(0, 1)})
    )
    found = score([([(0, 0), (0, 1), (1, 0)], gold)])
    assert found.links == 3
    assert found.precision == pytest.approx(200 / 3)
    assert found.recall == pytest.approx(50)
    assert found.aer == pytest.approx(100 * (1 - (1 + 2) / (3 + 2)))
    assert score([(gold.sure, gold)]).aer == 0
    assert score([([], gold)]).aer == 100


@pytest.mark.parametrize("language", GOLD_LANGUAGES)
def test_gold_is_sound(language):
    pairs = read_gold(language)
    assert len(pairs) == {"de": 40, "zh": 20}[language]
    assert len({pair.source for pair in pairs}) == len(pairs)
    for pair in pairs:
        assert pair.languages == ("en", language)
        assert 8 <= len(pair.source) <= 15
        links = pair.sure | pair.possible
        assert not pair.sure & pair.possible
        assert all(0 <= i < len(pair.source) and 0 <= j < len(pair.target) for i, j in links)
        for words, linked in (
            (pair.source, {i for i, _ in links}),
            (pair.target, {j for _, j in links}),
        ):
            alone = {word for i, word in enumerate(words) if i not in linked}
            assert alone <= FUNCTION_WORDS, (alone, pair.source)


def test_gold_words_are_found_again_in_the_text():
    text, spans = joined(["Ein", "Hund"], "de")
    assert (text, spans) == ("Ein Hund", [(0, 3), (4, 8)])
    text, spans = joined(["一", "只", "狗"], "zh")
    assert (text, spans) == ("一只狗", [(0, 1), (1, 2), (2, 3)])


def test_centring_takes_the_mean_of_each_side():
    pairs = [(random_words(i, 3, 4), random_words(i + 50, 2, 3)) for i in range(4)]
    shifted = [
        tuple(
            Words(t.words, t.tokens + offset, t.salience, t.share)
            for t, offset in zip(p, (2.0, -3.0), strict=True)
        )
        for p in pairs
    ]
    for pair, other in zip(centred(pairs), centred(shifted), strict=True):
        for text, same in zip(pair, other, strict=True):
            assert_close(text.tokens, same.tokens)


def test_similarity_apart_does_not_see_what_the_tokens_of_a_text_share():
    source, target = random_words(3, 4, 6), random_words(4, 3, 5)
    x = source.tokens - source.tokens.mean(0)
    y = target.tokens - target.tokens.mean(0)
    x, y = (
        text.share @ (v / v.norm(dim=1, keepdim=True)) for text, v in ((source, x), (target, y))
    )
    expected = (x / x.norm(dim=1, keepdim=True)) @ (y / y.norm(dim=1, keepdim=True)).T
    assert_close(word_similarity(source, target, apart=True), expected)
    shifted = dataclasses.replace(target, tokens=target.tokens + 5)
    assert_close(word_similarity(source, shifted, apart=True), expected, atol=1e-5, rtol=0)


def test_gold_scores_are_perfect_on_equal_words_of_their_own():
    vectors = torch.eye(6)
    gold, pairs = [], []
    for order in (torch.tensor([2, 0, 1]), torch.tensor([1, 2, 0])):
        text = Words(("a", "b", "c"), vectors[:3], torch.ones(3), torch.eye(3))
        other = Words(("x", "y", "z"), vectors[order], torch.ones(3), torch.eye(3))
        pairs.append((text, other))
        sure = frozenset((int(i), j) for j, i in enumerate(order))
        gold.append(GoldPair(("en", "de"), text.words, other.words, sure, frozenset()))
    assert {result.aer for result in gold_scores(pairs, gold, TransportConfig()).values()} == {0.0}


def test_align_finds_the_words_of_a_run(trained):
    found = align(trained, "red circle", "derxx elcricxx")
    assert found.side == "teacher"
    assert found.source == ("red", "circle")
    assert found.target == ("derxx", "elcricxx")
    assert found.strength.shape == (2, 2)
    assert found.links == links_of(found.strength)


def test_training_brings_translations_together(trained):
    def right(weights):
        reader = load_reader(trained, weights)
        count = 0
        for colour, shape in itertools.product(world.COLOURS, world.SHAPES):
            source, target = (world.caption(colour, shape, code) for code in ("en", "xx"))
            count += align_texts(reader, source, target).links == ((0, 0), (1, 1))
        return count

    before, after = right("fresh"), right("trained")
    assert after > before
    assert after >= 20


def test_align_is_the_same_both_ways(trained):
    reader = load_reader(trained)
    there = link_strength(
        word_plan(reader.read("one red bar"), reader.read("derxx rabxx"), reader.transport)
    )
    back = link_strength(
        word_plan(reader.read("derxx rabxx"), reader.read("one red bar"), reader.transport)
    )
    assert_close(there, back.T, atol=1e-2, rtol=0)


def test_weights_of_a_reader(trained):
    after, before, none = (load_reader(trained, w) for w in ("trained", "fresh", "none"))
    assert none.network is None
    assert none.side == "backbone"
    again = load_reader(trained, "fresh")
    assert_close(dict(before.network.state_dict()), dict(again.network.state_dict()))
    moved = [
        not torch.equal(value, after.network.state_dict()[name])
        for name, value in before.network.state_dict().items()
    ]
    assert any(moved)


def test_run_without_a_teacher_is_read_by_its_student(settings, tmp_path):
    from cl2cm.training.loop import train

    run = tmp_path / "run"
    train(settings("translate-train", train={"epochs": 1}), run)
    found = align(run, "red circle", "derxx elcricxx")
    assert found.side == "student"
    assert not (run / "teacher.safetensors").exists()


def test_a_lost_teacher_is_an_error(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "teacher.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"teacher\.safetensors"):
        align(run, "red circle", "derxx elcricxx")


@pytest.mark.parametrize("text", ["", "  ", "\x00\x01"])
def test_text_without_words_is_refused(trained, text):
    with pytest.raises(QueryError, match="some words"):
        align(trained, "red circle", text)


def test_text_that_is_too_long_is_refused(trained):
    with pytest.raises(QueryError, match="at most 16 tokens"):
        align(trained, "red circle " * 10, "derxx")


def test_gold_report(trained, monkeypatch):
    short = {
        language: [p for p in read_gold(language) if max(len(p.source), len(p.target)) <= 12]
        for language in GOLD_LANGUAGES
    }  # the small backbone reads no more
    monkeypatch.setattr(alignment_gold, "read_gold", short.__getitem__)
    report = gold_report(trained)
    assert json.loads(json.dumps(report)) == report
    assert set(report["networks"]) == {"backbone", "backbone, centred", "before", "after"}
    for network in report["networks"].values():
        assert {len(scores) for scores in network.values()} == {7}
    assert len(gold_lines(report)) == 1 + 2 * 6


@pytest.mark.weights("multilingual-e5-small")
def test_every_gold_word_has_a_token():
    from cl2cm.encode.text import TextBackbone
    from cl2cm.evaluation.alignment.words import Reader

    backbone = TextBackbone.load("hf:multilingual-e5-small", layer=1, prefix="query: ")
    reader = Reader(backbone, None, TransportConfig(), "backbone")
    for language in GOLD_LANGUAGES:
        gold = read_gold(language)
        for pair, texts in zip(gold, read_pairs(reader, gold), strict=True):
            assert tuple(text.words for text in texts) == (pair.source, pair.target)
            assert all(bool((text.share.sum(1) > 0).all()) for text in texts)


def test_before_training_means_with_the_whitening_that_training_began_with(settings, tmp_path):
    from cl2cm.training.loop import train

    short = {"epochs": 1}
    train(
        settings("cl2cm", network={"whitening": 0.1}, train=short, teacher=short), tmp_path / "run"
    )
    after, before = (load_reader(tmp_path / "run", kind) for kind in ("trained", "fresh"))
    assert before.network.text.whitening.mean.abs().max() > 0
    torch.testing.assert_close(
        before.network.text.whitening.matrix, after.network.text.whitening.matrix
    )
    assert not torch.equal(before.network.text.linear.weight, after.network.text.linear.weight)
