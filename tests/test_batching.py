from collections import Counter

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cl2cm.batching import (
    Batches,
    Texts,
    TokenIds,
    caption_pairs,
    target_languages,
)
from cl2cm.errors import LanguageError, ManifestError
from cl2cm.features import Rows, write_store
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
        language, target = pairs.draw(np.arange(3), rng)
        seen.update(
            (i, pairs.languages[code], texts[row])
            for i, (code, row) in enumerate(zip(language, target, strict=True))
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
