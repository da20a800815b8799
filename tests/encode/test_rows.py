import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from cl2cm.encode.rows import join, length_batches, ragged

WIDTH = 3


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 4))
def test_ragged_is_the_inverse_of_padding(lengths, padding):
    width = max(lengths) + padding
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    values = torch.randn(len(lengths), width, WIDTH).half().float() * mask[..., None]
    rows = join([ragged(values[:1], mask[:1]), ragged(values[1:], mask[1:])])
    assert_close(rows.values.float(), values[mask])
    assert rows.lengths.tolist() == lengths


@given(st.lists(st.integers(0, 60), max_size=40), st.integers(1, 100))
def test_length_batches_hold_every_position_once(lengths, tokens):
    batches = list(length_batches(lengths, tokens))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= tokens
