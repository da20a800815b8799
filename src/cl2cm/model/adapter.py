"""What a text head learns of one more language, added to what it knows already."""

from torch import Tensor, nn
from torch.nn import functional as F

from cl2cm.model.whitening import Whitening

SHUT = -4.0  # logit of a fresh gate; 0 opens it halfway, 3 wholly, and -3 shuts it
GAIN = 10.0  # of the gate's linear map: Adam moves all weights alike, and the gate has to be
# decided within few steps

DROPOUT = 0.2  # 0.5, which is good for a head, costs an adapter 4 to 8 SumR of its language


class LanguageAdapter(nn.Module):
    """A residual for one language: gate(x) · MLP(x), of the mean x [B, D_b] of a text's states.

    The states are whitened: before that, texts of all languages lie so close together that the
    gate cannot be decided within few steps.

    The gate is a hard sigmoid of one linear map. Where it is exactly 0, as for texts in other
    languages, the head's vector is bit for bit what it was without the adapter. The MLP starts at
    zero.
    """

    def __init__(self, inputs: int, dim: int, width: int, *, whiten: bool) -> None:
        super().__init__()
        self.whitening = Whitening(inputs) if whiten else None  # None: the head has done so
        self.gate = nn.Linear(inputs, 1)
        self.up = nn.Linear(inputs, width)
        self.down = nn.Linear(width, dim)
        self.dropout = nn.Dropout(DROPOUT)
        for parameter in (self.gate.weight, *self.down.parameters()):
            nn.init.zeros_(parameter)
        nn.init.constant_(self.gate.bias, SHUT / GAIN)

    def logit(self, x: Tensor) -> Tensor:
        """Map [B, D_b] -> logits [B] of the text being in the adapter's language."""
        return self._logit(self._whitened(x))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, D_b] -> residuals [B, D]."""
        x = self._whitened(x)
        opening = F.hardsigmoid(self._logit(x))[:, None]
        residual: Tensor = opening * self.down(self.dropout(F.gelu(self.up(x))))
        return residual

    def _whitened(self, x: Tensor) -> Tensor:
        return x if self.whitening is None else self.whitening(x)

    def _logit(self, x: Tensor) -> Tensor:
        logit: Tensor = GAIN * self.gate(x).squeeze(-1)
        return logit
