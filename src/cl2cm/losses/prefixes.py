"""A loss on prefixes of vectors, so that short vectors can be searched, too.

Kusupati et al.: "Matryoshka Representation Learning", NeurIPS 2022.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from cl2cm.losses.checks import require_paired


def prefix_widths(dim: int, smallest: int) -> tuple[int, ...]:
    """Return D, D / 2, D / 4, ... down to the smallest width; D alone where that is 0.

    Widths are rounded up, and none is below ``smallest``.
    """
    widths = [dim]
    while smallest and widths[-1] > smallest:
        widths.append(max(smallest, -(-widths[-1] // 2)))
    return tuple(widths)


def over_prefixes(
    loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, *, smallest: int = 0
) -> Tensor:
    """Return the mean of a loss over the prefixes of both sides, each made unit vectors again.

    Args:
        loss: of two tensors of unit vectors [B, d], for any d; a scalar.
        x: [B, D], unit vectors.
        y: [B, D], unit vectors.
        smallest: width of the shortest prefix; 0: the loss of the whole vectors alone.

    Returns:
        Scalar, in the range of the loss.

    Raises:
        ValueError: the shapes differ.
    """
    require_paired(x, y)
    whole = loss(x, y)
    widths = prefix_widths(x.shape[1], smallest)[1:]
    if not widths:
        return whole
    short = [loss(F.normalize(x[:, :d], dim=1), F.normalize(y[:, :d], dim=1)) for d in widths]
    return torch.stack([whole, *short]).mean()
