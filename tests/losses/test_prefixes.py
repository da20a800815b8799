"""A loss over prefixes, against a slow loop."""

import pytest
import torch
from torch.nn import functional as F

from cl2cm.losses.contrastive import info_nce
from cl2cm.losses.prefixes import over_prefixes, prefix_widths


def unit(rows, width, seed):
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize(
    ("dim", "smallest", "wanted"),
    [
        (512, 64, (512, 256, 128, 64)),
        (384, 64, (384, 192, 96, 64)),
        (32, 0, (32,)),
        (30, 8, (30, 15, 8)),
        (9, 8, (9, 8)),
        (8, 8, (8,)),
    ],
)
def test_widths_are_halved_down_to_the_smallest(dim, smallest, wanted):
    assert prefix_widths(dim, smallest) == wanted


def test_the_mean_over_prefixes_of_unit_length_by_a_slow_loop():
    x, y = unit(5, 32, 0), unit(5, 32, 1)
    parts = []
    for width in (32, 16, 8):
        rows = [[row[i] for i in range(width)] for row in x]
        columns = [[row[i] for i in range(width)] for row in y]
        short = [torch.stack([torch.stack(row) for row in side]) for side in (rows, columns)]
        parts.append(info_nce(*(side / side.norm(dim=1, keepdim=True) for side in short)))
    torch.testing.assert_close(over_prefixes(info_nce, x, y, smallest=8), sum(parts) / 3)


def test_without_prefixes_it_is_the_loss_bit_for_bit():
    x, y = unit(5, 32, 0), unit(5, 32, 1)
    assert over_prefixes(info_nce, x, y) == info_nce(x, y)


def test_gradients_flow_through_every_prefix():
    x = unit(5, 32, 0).requires_grad_()
    over_prefixes(info_nce, x, unit(5, 32, 1), smallest=8).backward()
    assert torch.isfinite(x.grad).all()
    with pytest.raises(ValueError, match="equal shape"):
        over_prefixes(info_nce, unit(5, 32, 0), unit(5, 16, 1))
