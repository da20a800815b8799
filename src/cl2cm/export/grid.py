"""Weights that were rounded before: in each block they are multiples of one number.

The text backbone that needs no hub was rounded to 4 bits: a block of 32 numbers of an output is
-8 to 7 times its scale. Found again, the grid keeps such weights without a further error.
"""

from typing import Any, NamedTuple

import numpy as np

BLOCK = 32


class Grid(NamedTuple):
    """Rows of weights [N, K] on their grid.

    codes: int8 [N, K / 32, 32], from -8 to 7; scales: float32 [N, K / 32]. Their product is the
    weights, bit for bit.
    """

    codes: Any
    scales: Any


def grid_of(rows: Any) -> Grid | None:  # noqa: ANN401 - arrays
    """Return the grid of weights float32 [N, K]; None where they are on none."""
    count, depth = rows.shape
    if depth % BLOCK:
        return None
    blocks = np.ascontiguousarray(rows).reshape(count, depth // BLOCK, BLOCK)
    if _fit(blocks[:64]) is None:  # most weights are on none, and this is quick
        return None
    return _fit(blocks)


def packed(grid: Grid) -> tuple[Any, Any]:
    """Return weights in the layout of ``MatMulNBits`` for 4 bits.

    Returns:
        uint8 [N, K / 32, 16], two numbers each, 8 standing for zero; the scales float32
        [N, K / 32].
    """
    raised = (grid.codes + 8).astype(np.uint8)
    return raised[..., 0::2] | (raised[..., 1::2] << 4), grid.scales


def _fit(blocks: Any) -> Grid | None:  # noqa: ANN401
    """Return blocks [N, k, 32] as multiples of the eighth of the number that is farthest from 0."""
    at = np.abs(blocks).argmax(2)[..., None]
    scales = np.take_along_axis(blocks, at, 2)[..., 0] / np.float32(-8)
    scales = np.where(scales == 0, np.float32(1), scales)
    codes = np.rint(blocks / scales[..., None])
    fits = codes.min() >= -8 and codes.max() <= 7
    if not fits or not np.array_equal(codes * scales[..., None], blocks):
        return None
    return Grid(codes.astype(np.int8), scales.astype(np.float32))
