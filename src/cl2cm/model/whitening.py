"""Whitening of text states, fitted to the texts of a training."""

import torch
from torch import Tensor, nn

from cl2cm.errors import NumberError


class Whitening(nn.Module):
    """A fixed map x -> (x - mean) W that whitens its inputs; initially the identity.

    Sentence encoders keep all texts in a narrow cone. A head that starts there spends its first
    epochs, and its capacity to overfit, on getting out of it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.matrix: Tensor
        self.fixed = False  # fitted to the texts of an earlier training
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("matrix", torch.eye(width))

    @torch.no_grad()
    def fit(self, values: Tensor, *, ridge: float) -> None:
        """Take mean and covariance of values [N, width], N > 1.

        W is the symmetric (C + ridge · mean eigenvalue · I)^(-1/2), in float64: the ridge keeps
        directions that hardly vary from being blown up.

        Raises:
            NumberError: the values do not vary, or are not finite.
        """
        exact = values.double()
        covariance = torch.cov(exact.T) if len(exact) > 1 else torch.zeros(0)
        if not covariance.numel() or not float(covariance.diagonal().sum()) > 0:  # NaN, too
            raise NumberError(
                "network.whitening",
                expected="texts whose states differ",
                found=f"{len(exact)} texts whose states are all the same, or not finite",
                remedy="set network.whitening to 0, or check the texts and the text encoder",
            )
        eigenvalues, vectors = torch.linalg.eigh(covariance)
        scale = (eigenvalues.clamp(min=0) + ridge * eigenvalues.mean()).rsqrt()
        self.mean.copy_(exact.mean(0))
        self.matrix.copy_(vectors * scale @ vectors.T)

    def forward(self, values: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        whitened: Tensor = (values - self.mean) @ self.matrix
        return whitened
