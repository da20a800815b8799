"""The transformer of a head, which starts as the identity."""

from torch import Tensor, nn


class IdentityTransformer(nn.Module):
    """Pre-norm transformer layers on [B, T, D] whose residual branches start at zero."""

    def __init__(self, dim: int, *, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim,
                heads,
                dim_feedforward=dim,
                dropout=dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(layers)
        )
        for name, parameter in self.named_parameters():
            if "out_proj" in name or "linear2" in name:
                nn.init.zeros_(parameter)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Map values [B, T, D] and mask bool [B, T] -> [B, T, D]."""
        for layer in self.layers:
            values = layer(values, src_key_padding_mask=~mask)
        return values
