"""Batches of masked transport problems, for every test of the losses."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

Problems = Callable[..., tuple[Tensor, Tensor, Tensor]]


@pytest.fixture
def problems() -> Problems:
    """(cost [B, 32, 32], a, b): ragged 2..32 tokens; half random costs, half from unit vectors."""

    def make(count: int, *, seed: int = 0, most: int = 32, salience: bool = False):
        g = torch.Generator().manual_seed(seed)
        x = normalize(torch.randn(count, most, 8, generator=g), dim=-1)
        y = normalize(x + 0.4 * torch.randn(count, most, 8, generator=g), dim=-1)
        cost = 1 - x @ y.mT
        cost[::2] = 2 * torch.rand(count, most, most, generator=g)[::2]
        sides = []
        for _ in range(2):
            lengths = torch.randint(2, most + 1, (count, 1), generator=g)
            weights = torch.rand(count, most, generator=g) if salience else torch.ones(count, most)
            weights = weights * (torch.arange(most) < lengths)
            sides.append(weights / weights.sum(1, keepdim=True))
        return cost, *sides

    return make


@pytest.fixture
def valid() -> Callable[..., list[object]]:
    """Cost, marginals and plan of one pair without its padding, as float64 arrays."""

    def cut(cost: Tensor, a: Tensor, b: Tensor, *matrices: Tensor):
        rows, columns = a > 0, b > 0
        sides = [side[side > 0].double() for side in (a, b)]
        sides = [(side / side.sum()).numpy() for side in sides]
        return [m[rows][:, columns].double().numpy() for m in (cost, *matrices)], *sides

    return cut
