import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cl2cm.data.pairs import Texts, caption_pairs, target_languages
from cl2cm.encode.rows import Rows
from cl2cm.encode.store_writing import write_store
from cl2cm.encode.tokens import PooledStates, TokenIds
from cl2cm.errors import ConfigError, LanguageError, ManifestError
from cl2cm.training.batches import Batches
from cl2cm.types import Example, Special

SPECIAL = Special(pad=0, ids=frozenset({0, 1, 2}), start=1)

EXAMPLES = [
    Example(
        id="a",
        split="train",
        captions={"en": ("one", "two")},
        translations={"de": {"x": ("eins", None), "y": ("ein", "zwei")}, "fr": {"x": (None, None)}},
    ),
    Example(
        id="b", split="train", captions={"en": ("three",)}, translations={"fr": {"x": ("trois",)}}
    ),
    Example(id="c", split="train", captions={"en": ("four",)}),
]


def pairs_of(**options):
    texts = Texts()
    return caption_pairs(EXAMPLES, texts, source="en", **options), texts.all()


def test_pairs_leave_out_what_has_no_translation():
    pairs, texts = pairs_of(languages=("de", "fr"))
    assert [texts[i] for i in pairs.source] == ["one", "two", "three"]
    assert list(pairs.pictures) == [0, 0, 1]
    assert pairs.languages == ("de", "fr")


def test_draws_are_translations_of_the_pair():
    pairs, texts = pairs_of(languages=("de", "fr"))
    rng = np.random.default_rng(0)
    seen = Counter()
    for _ in range(400):
        language, choice = pairs.draw(np.arange(3), rng)
        seen.update(
            (i, pairs.languages[code], texts[row])
            for i, (code, row) in enumerate(zip(language, pairs.target[choice], strict=True))
        )
    assert set(seen) == {
        (0, "de", "eins"),
        (0, "de", "ein"),
        (1, "de", "zwei"),
        (2, "fr", "trois"),
    }
    assert 130 < seen[0, "de", "eins"] < 270


def test_engines_can_be_chosen():
    pairs, texts = pairs_of(languages=("de",), engines=("x",))
    assert [texts[i] for i in pairs.target] == ["eins"]


def test_without_languages_a_caption_stands_for_itself():
    pairs, texts = pairs_of(languages=())
    assert [texts[i] for i in pairs.target] == ["one", "two", "three", "four"]
    assert list(pairs.target) == list(pairs.source)


def test_nothing_to_pair():
    with pytest.raises(ManifestError, match="none among 3"):
        pairs_of(languages=("zh",))


def test_target_languages():
    assert target_languages(EXAMPLES, source="en", chosen=()) == ("de", "fr")
    with pytest.raises(LanguageError, match="did you mean 'de'"):
        target_languages(EXAMPLES, source="en", chosen=("den",))
    with pytest.raises(LanguageError, match="none"):
        target_languages(EXAMPLES[2:], source="en", chosen=())


@pytest.fixture
def batches(tmp_path):
    count = 40
    texts = Texts()
    examples = [
        Example(
            id=str(i),
            split="train",
            captions={"en": (f"s{i}",)},
            translations={"de": {"m": (f"t{i}",)}},
        )
        for i in range(count)
    ]
    pairs = caption_pairs(examples, texts, source="en", languages=("de",))
    store = write_store(
        tmp_path / "store",
        [str(i) for i in range(count)],
        lambda positions: Rows(
            torch.tensor([[float(i)] for i in positions]).half(),
            torch.ones(len(positions), dtype=torch.int64),
            torch.ones(len(positions), dtype=torch.bool),
        ),
        encoder="e",
        fingerprint="f",
        width=1,
    )
    ids = [[1, *[7] * (i % 5 + 1), 2] for i in range(len(texts))]
    return Batches(
        pairs=pairs,
        text=TokenIds(ids, SPECIAL),
        means=None,
        vision=store,
        vision_rows=torch.arange(count),
        batch_size=12,
        seed=3,
    )


def test_an_epoch_shows_every_pair_once_and_drops_the_rest(batches):
    seen = torch.cat([batch.pictures for batch in batches.epoch(0)])
    assert batches.steps == 3
    assert len(seen) == len(seen.unique()) == 36


def test_rows_of_a_batch_belong_together(batches):
    for batch in batches.epoch(1):
        assert_close(batch.vision.values[:, 0, 0], batch.pictures.float())
        assert_close(batch.source_texts, batch.target_texts + 1)  # added one after the other


def test_an_epoch_can_start_in_the_middle(batches):
    whole, rest = list(batches.epoch(5)), list(batches.epoch(5, start=2))
    assert_close(whole[2].pictures, rest[0].pictures)
    assert_close(whole[2].target.values, rest[0].target.values)
    assert len(rest) == 1


def test_epochs_differ_and_repeat(batches):
    first, second, again = (next(batches.epoch(i)).pictures for i in (0, 1, 0))
    assert not torch.equal(first, second)
    assert torch.equal(first, again)


def test_token_ids_are_padded_and_masked():
    source = TokenIds([[1, 5, 2], [1, 2]], SPECIAL)
    tokens = source.gather(torch.tensor([1, 0]))
    assert tokens.values.tolist() == [[1, 2, 0], [1, 5, 2]]
    assert tokens.mask.tolist() == [[True, True, False], [True, True, True]]
    assert tokens.content.tolist() == [[False, False, False], [False, True, False]]


def test_means_for_the_batch_and_tokens_for_its_first_rows(batches):
    size = len(batches.text.ids)
    means = PooledStates(torch.arange(float(size))[:, None], torch.arange(size))
    both = dataclasses.replace(batches, means=means)
    some = next(both.epoch(0, words=3))
    whole = next(batches.epoch(0))
    assert some.source.pooled
    assert_close(some.source.values[:, 0, 0], some.source_texts.float())
    assert_close(some.words[0].mask.sum(1), whole.source.mask.sum(1)[:3])
    assert_close(some.words[1].mask.sum(1), whole.target.mask.sum(1)[:3])
    assert next(both.epoch(0, words=0)).words is None
    full = next(both.epoch(0))
    assert not full.source.pooled
    assert full.words is None
    assert_close(full.source.values, whole.source.values)


def test_back_translations_stand_for_their_captions():
    examples = [
        Example(
            id=str(i),
            split="train",
            captions={"en": (f"a{i}", f"b{i}")},
            translations={"de": {"e": (f"x{i}", f"y{i}")}, "en": {"e": (f"back{i}", None)}},
        )
        for i in range(2)
    ]
    texts = Texts()
    pairs = caption_pairs(examples, texts, source="en", languages=("de",))
    names = texts.all()
    assert [names[row] if row >= 0 else None for row in pairs.back] == [
        "back0",
        None,
        "back1",
        None,
    ]
    assert "en" not in pairs.languages


def test_other_captions_are_of_the_same_picture():
    texts = Texts()
    examples = [
        Example(
            id=str(i),
            split="train",
            captions={"en": tuple(f"{i} s{k}" for k in range(3))},
            translations={"de": {"e": tuple(f"{i} t{k}" for k in range(3))}},
        )
        for i in range(5)
    ]
    pairs = caption_pairs(examples, texts, source="en", languages=("de",))
    rng = np.random.default_rng(0)
    drawn = np.stack([pairs.mates(np.arange(15), rng) for _ in range(60)])
    assert (pairs.pictures[drawn] == pairs.pictures[np.arange(15)]).all()
    assert all(len(set(column)) == 3 for column in drawn.T)  # every caption of it comes up


def test_an_engine_of_another_language_is_no_mistake():
    made = {"xx": {"one": ("a",)}, "yy": {"two": ("b",)}}
    examples = [Example(id="p", split="train", captions={"en": ("e",)}, translations=made)]
    pairs = caption_pairs(
        examples, Texts(), source="en", languages=("xx",), engines=("one", "two")
    )  # fmt: skip
    assert len(pairs) == 1
    with pytest.raises(ConfigError, match="engines among one, two"):
        caption_pairs(examples, Texts(), source="en", languages=("xx",), engines=("three",))


def told(batches, pairing, **options):
    """Of each row of an epoch: picture, source, target and other text, and target language."""
    rows = []
    for batch in batches.epoch(1, pairing=pairing, others=True, **options):
        rows += zip(
            batch.pictures.tolist(),
            batch.source_texts.tolist(),
            batch.target_texts.tolist(),
            batch.languages,
            strict=True,
        )
    return rows


def test_shuffled_translations_are_of_other_pictures_and_the_same_in_every_epoch(batches):
    pairs = batches.pairs
    origin = pairs.shuffled(batches.seed)
    assert sorted(origin.tolist()) == list(range(len(pairs)))
    assert (pairs.pictures[origin] != pairs.pictures).all()
    assert (pairs.shuffled(batches.seed) == origin).all()
    assert (pairs.shuffled(batches.seed + 1) != origin).any()
    own = {
        (picture, source): set(pairs.target[pairs.choices[pairs.groups[i]] : pairs.choices[pairs.groups[i + 1]]].tolist())
        for i, (picture, source) in enumerate(zip(pairs.pictures[:].tolist(), pairs.source.tolist(), strict=True))
    }  # fmt: skip
    strange = {
        (int(pairs.pictures[i]), int(pairs.source[i])): own[int(pairs.pictures[j]), int(pairs.source[j])]
        for i, j in enumerate(origin.tolist())
    }  # fmt: skip
    for picture, source, target, _ in told(batches, "shuffled"):
        assert target in strange[picture, source]


def test_source_pairs_are_captions_of_one_picture(batches):
    pairs = batches.pairs
    for picture, source, target, language in told(batches, "source"):
        of_picture = set(pairs.source[pairs.pictures == picture].tolist())
        assert language == "source"
        assert target in of_picture
        assert target != source or len(of_picture) == 1


def test_translations_are_the_default(batches):
    assert told(batches, "translations") == [
        row
        for batch in batches.epoch(1, others=True)
        for row in zip(
            batch.pictures.tolist(),
            batch.source_texts.tolist(),
            batch.target_texts.tolist(),
            batch.languages,
            strict=True,
        )
    ]


def several(captions=3, weighted=False):
    """Pairs of five pictures in two languages, one of which the first picture lacks."""
    texts = Texts()
    examples = [
        Example(
            id=str(i),
            split="train",
            captions={"en": tuple(f"{i} s{k}" for k in range(captions))},
            translations={
                code: {"e": tuple(f"{i} {code}{k}" for k in range(captions))}
                for code in (("de", "fr") if i else ("de",))
            },
            quality={"de": {"e": (0.5,) * captions}},
        )
        for i in range(5)
    ]
    pairs = caption_pairs(
        examples, texts, source="en", languages=("de", "fr"), quality_weighting=float(weighted)
    )
    return pairs, texts.all()


def test_siblings_are_other_captions_of_the_same_picture():
    pairs, _ = several()
    rng = np.random.default_rng(0)
    drawn = np.stack([pairs.siblings(np.arange(15), rng) for _ in range(60)])
    assert (pairs.pictures[drawn] == pairs.pictures[np.arange(15)]).all()
    assert (drawn != np.arange(15)).all()
    assert all(len(set(column)) == 2 for column in drawn.T)
    alone, _ = several(captions=1)
    assert (alone.siblings(np.arange(5), rng) == np.arange(5)).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_a_language_may_be_asked_for(weighted):
    pairs, names = several(weighted=weighted)
    rows = np.arange(15)
    for number, code in enumerate(pairs.languages):
        languages, choices = pairs.draw_in(rows, number, np.random.default_rng(0))
        target = pairs.target[choices]
        for row in rows:
            there = pairs.pictures[row] > 0 or code == "de"
            assert pairs.languages[languages[row]] == (code if there else "de")
            source, k = names[pairs.source[row]].split(" s")
            assert names[target[row]] == f"{source} {pairs.languages[languages[row]]}{k}"


def test_every_step_may_see_all_languages(batches):
    pairs, names = several()
    texts = TokenIds([[1, *[7] * (i % 5 + 1), 2] for i in range(len(names))], SPECIAL)
    every = dataclasses.replace(batches, pairs=pairs, text=texts, batch_size=5, every_language=True)
    for batch in every.epoch(0, others=True):
        assert len(batch.also) == 1
        for one, code in zip((batch, *batch.also), ("de", "fr"), strict=True):
            assert_close(one.source_texts, batch.source_texts)
            assert one.other is not None
            for picture, language in zip(one.pictures.tolist(), one.languages, strict=True):
                assert language == (code if picture else "de")
    assert not any(
        batch.also for batch in dataclasses.replace(every, every_language=False).epoch(0)
    )
    assert not any(batch.also for batch in every.epoch(0, pairing="source"))


@pytest.mark.parametrize("every", [False, True])
def test_targets_bring_their_confidence(batches, every):
    pairs, names = several()
    trust = np.linspace(0, 1, len(pairs.target)).astype(np.float32)
    of = dict(zip(pairs.target.tolist(), trust.tolist(), strict=True))
    ids = [[1, *[i + 3] * 2, 2] for i in range(len(names))]  # a text's tokens tell which it is
    trusting = dataclasses.replace(
        batches,
        pairs=dataclasses.replace(pairs, confidence=trust),
        text=TokenIds(ids, SPECIAL),
        batch_size=5,
        every_language=every,
    )
    for first in trusting.epoch(0, others=True):
        for batch in (first, *first.also):
            for texts, confidence in (
                (batch.target, batch.confidence),
                (batch.other, batch.other_confidence),
            ):
                rows = (texts.values[:, 1] - 3).tolist()
                assert confidence.tolist() == [of[row] for row in rows]
    for pairing in ("shuffled", "source"):  # which are no translations of their captions
        batch = next(trusting.epoch(0, others=True, pairing=pairing))
        assert batch.confidence is None
        assert batch.other_confidence is None
    assert next(batches.epoch(0)).confidence is None
