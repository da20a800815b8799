"""NRCCR, a rival: translate-train with losses that are robust against noisy translations.

Wang, Dong, Liang, Zhang, Cai, Wang: "Cross-Lingual Cross-Modal Retrieval with Noise-Robust
Learning", ACM MM 2022, arXiv 2208.12526. Formulas of the losses, default weights (but for
``target`` and ``fused``) and the direction of the attention are those of the authors' public
implementation.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cl2cm.losses.noise_robust import (
    deception,
    discrimination,
    feature_distance,
    reverse_gradient,
    soft_targets,
)
from cl2cm.methods.base import Losses, Method, Setup, Stage, matching
from cl2cm.model.networks import same_picture
from cl2cm.model.settings import require
from cl2cm.types import Batch, Encoded

Parts = dict[str, tuple[float, Tensor]]  # name in the log → weight, loss


@dataclass(frozen=True, slots=True)
class NrccrConfig:
    """Weights of the parts of NRCCR, relative to M(V, S); 0 switches a part off."""

    target: float = 1.0  # weight of M(V, T), times match.target; published: 0.6
    soft: float = 0.4  # weight of the soft targets from the fused text
    tau: float = 0.07  # temperature of the soft targets
    feature: float = 0.1  # weight of the distance to the fused text
    fused: float = 1.0  # weight of the fused text's own matching loss; published: none
    query: Literal["source", "target"] = "source"  # side whose tokens are the queries of the
    # cross-attention: source or target
    key: int = 16  # width of the keys per attention head
    cycle: float = 0.5  # weight of matching source captions with their back-translations
    adversarial: float = 0.001  # weight of the adversarial loss of the text encoder
    game: Literal["gan", "reversal"] = "gan"  # gan: non-saturating; reversal: gradient reversal

    def __post_init__(self) -> None:
        for key in ("target", "soft", "feature", "fused", "cycle", "adversarial"):
            require(f"nrccr.{key}", getattr(self, key) >= 0, "0 or more", getattr(self, key))
        require("nrccr.tau", self.tau > 0, "more than 0", self.tau)
        require("nrccr.key", self.key >= 1, "1 or more", self.key)


class Fusion(nn.Module):
    """Cross-attention of one text on another, averaged together with the target's own tokens.

    The mean over tokens is linear, and so it is taken before the value and output maps: the same
    vector as mapping every token first, for one position in place of T. The output map starts at
    zero: training starts from the mean of the target's tokens. The publication instead shares its
    encoder's attention layer, and normalises every token before the mean.

    Args:
        dim: D, a multiple of ``heads``.
        heads: of the attention.
        key: width of a head's queries and keys.
    """

    def __init__(self, dim: int, *, heads: int, key: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, heads * key)
        self.key = nn.Linear(dim, heads * key)
        self.value = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, asking: Encoded, asked: Encoded, target: Encoded) -> Tensor:
        """Mean [B, D] of the asking tokens' answers from ``asked`` and the target's tokens."""
        q = self.query(asking.tokens).unflatten(2, (self.heads, -1))  # [B, n, H, K]
        k = self.key(asked.tokens).unflatten(2, (self.heads, -1))  # [B, m, H, K]
        scores = torch.einsum("bnhk,bmhk->bhnm", q, k) / q.shape[-1] ** 0.5
        wordless = ~asked.mask.any(1, keepdim=True)  # attends to its padding, which is worth zero
        hidden = ~(asked.mask | wordless)[:, None, None]
        weights = scores.masked_fill(hidden, -torch.inf).softmax(3)
        of_all = (weights * asking.mask[:, None, :, None]).sum(2)  # [B, H, m], over the askers
        context = of_all @ _raw(asked)  # [B, H, D]
        values = self.value.weight.unflatten(0, (self.heads, -1))  # [H, D / H, D]
        answers = self.out(torch.einsum("bhd,hed->bhe", context, values).flatten(1))
        count = (asking.mask.sum(1) + target.mask.sum(1)).clamp(min=1)[:, None]
        total: Tensor = (answers + _raw(target).sum(1)) / count
        return total


def _raw(text: Encoded) -> Tensor:
    """Return tokens [B, T, D] before normalisation, zero outside the mask."""
    return text.tokens * text.salience[:, :, None]


class Nrccr(Method):
    """Eq. 8 with soft targets, feature distillation, a cycle and a language discriminator.

    Ablations are settings: a weight of 0 in ``[nrccr]`` takes its part out; with none left, this
    is translate-train.
    """

    name = "nrccr"
    sections: ClassVar = {"nrccr": NrccrConfig}

    def __init__(self, setup: Setup, nrccr: NrccrConfig) -> None:
        super().__init__(setup)
        self.settings = nrccr
        network = setup.network
        self.fusion = Fusion(network.dim, heads=network.heads, key=nrccr.key)
        self.discriminator = nn.Sequential(
            nn.Linear(network.dim, 256),
            nn.Tanh(),
            nn.Linear(256, 128),
            nn.Tanh(),
            nn.Linear(128, 1),
        )

    def stages(self) -> list[Stage]:
        """Return one stage, which trains the student and what only training needs."""
        trained = (self.student, self.fusion, self.discriminator)
        words = None if self.attends else 0
        return [Stage("cross-modal", self.epochs, trained, self.loss, words=words)]

    @property
    def attends(self) -> bool:
        """Whether any part needs the cross-attention."""
        return self.settings.soft > 0 or self.settings.feature > 0 or self.settings.fused > 0

    def loss(self, batch: Batch) -> Losses:
        """Return the weighted sum of all parts, each of which is logged without its weight."""
        vision, source, target = self.encode(batch)
        same = same_picture(batch.pictures)
        on_source = matching(vision, source.sentence, same, self.match)
        on_target = matching(vision, target.sentence, same, self.match, batch.confidence)
        parts = {
            "match_source": (1.0, on_source),
            "match_target": (self.match.target * self.settings.target, on_target),
        }
        if self.attends:
            parts |= self.distillation(vision, source, target, same)
        if self.settings.cycle > 0:
            parts |= self.cycle(batch, source.sentence, same)
        if self.settings.adversarial > 0:
            parts |= self.game(source.sentence, target.sentence)
        total = torch.stack([weight * part for weight, part in parts.values() if weight]).sum()
        return {"loss": total} | {name: part.detach() for name, (_, part) in parts.items()}

    def distillation(self, vision: Tensor, source: Encoded, target: Encoded, same: Tensor) -> Parts:
        """Return the fused text as the target's teacher, and its own matching loss.

        The publication trains the fused text through the encoder that it shares; ours has an
        attention of its own, and so needs a loss of its own.
        """
        settings = self.settings
        asking, asked = (source, target) if settings.query == "source" else (target, source)
        fused = self.student.text.residual(self.fusion(asking, asked, target))
        return {
            "soft": (settings.soft, soft_targets(fused, target.sentence, vision, tau=settings.tau)),
            "feature": (settings.feature, feature_distance(fused, target.sentence)),
            "fused": (settings.fused, matching(vision, fused, same, self.match)),
        }

    def cycle(self, batch: Batch, source: Tensor, same: Tensor) -> Parts:
        """M(S, S'), S' the round trip of S through the target language, where there is one."""
        if batch.back is None or batch.has_back is None or not bool(batch.has_back.any()):
            return {}
        rows = batch.has_back
        back = self.student.encode_text(batch.back).sentence
        found = matching(source[rows], back[rows], same[rows][:, rows], self.match)
        return {"cycle": (self.settings.cycle, found)}

    def game(self, source: Tensor, target: Tensor) -> Parts:
        """Return the losses of the discriminator and of the text encoder that deceives it."""
        weight = self.settings.adversarial
        if self.settings.game == "reversal":
            seen = [self.discriminator(reverse_gradient(x, weight)) for x in (source, target)]
            return {"discrimination": (1.0, discrimination(*seen))}
        told = discrimination(*(self.discriminator(x.detach()) for x in (source, target)))
        fixed = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        fooled = deception(functional_call(self.discriminator, fixed, (target,)))
        return {"discrimination": (1.0, told), "deception": (weight, fooled)}
