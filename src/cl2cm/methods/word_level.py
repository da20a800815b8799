"""The word level of the cross-lingual network, L_word (Eq. 2 to 6), and the plan's settings."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cl2cm.losses.alignment import mutual_pairs, word_alignment
from cl2cm.losses.transport import (
    centred,
    cost_matrix,
    salience_marginals,
    transport,
    uniform_marginals,
)
from cl2cm.model.settings import require
from cl2cm.types import Encoded


@dataclass(frozen=True, slots=True)
class TransportConfig:
    """The word-level transport plan of Eq. 3."""

    solver: Literal["sinkhorn", "ipot"] = "sinkhorn"  # sinkhorn or ipot
    epsilon: float = 0.05  # entropy regularisation of Sinkhorn, in units of the cost (0 to 2)
    rho: float = 0.0  # strength of the relaxed marginals; 0: balanced
    marginals: Literal["uniform", "salience"] = "uniform"  # uniform, or salience: proportional to
    # the norm of a token
    centred: bool = False  # subtract the batch's mean token of each language before the plan is
    # computed
    max_iterations: int = 200  # maximum number of iterations
    tolerance: float = 1e-3  # L1 error of the marginals at which to stop

    def __post_init__(self) -> None:
        require("transport.epsilon", self.epsilon > 0, "more than 0", self.epsilon)
        require("transport.rho", self.rho >= 0, "0 (balanced) or more", self.rho)
        require(
            "transport.rho",
            self.rho == 0 or self.solver == "sinkhorn",
            "0 with the solver 'ipot', which is balanced",
            self.rho,
        )
        iterations = self.max_iterations
        require("transport.max_iterations", 1 <= iterations <= 10_000, "1 to 10000", iterations)
        require("transport.tolerance", self.tolerance >= 0, "0 or more", self.tolerance)


Labels = tuple[Tensor, Tensor]  # unit vectors of source and target tokens
Sided = tuple[Tensor, Tensor]  # salience and mask of one side's tokens


def word_level(
    source: Encoded,
    target: Encoded,
    languages: tuple[str, ...],
    ot: TransportConfig,
    labels: Labels | None = None,
    *,
    tau_word: float = 0.1,
    transport_cost: bool = True,
    alignment: bool = True,
    mutual: bool = False,
    unit_mass: bool = False,
    apart: float = 0.0,
) -> Tensor:
    """Return L_word: transport as the pseudo-label of the word alignment.

    Args:
        source: B texts.
        target: their translations.
        languages: of the targets; more than B are cut.
        ot: of Eq. 3.
        labels: vectors [B, T, any width] of the same tokens to make the plan of; None: those of
            the texts.
        tau_word: temperature of Eq. 5.
        transport_cost: L_ot is a part of Eq. 6.
        alignment: L_align is a part of Eq. 6.
        mutual: look only at pairs that are the largest of their row and column.
        unit_mass: scale each plan to a mass of 1, so that L_ot weighs the same however much of a
            plan is left; an empty one stays empty.
        apart: share of L_align that sees tokens less their text's mean token, 0 to 1.
    """
    plan = word_plans(source, target, languages, ot, labels)
    if mutual:  # our choice: a word whose counterpart is in doubt teaches nothing
        plan = mutual_pairs(plan)
    if unit_mass:  # our choice; Eq. 5 normalises rows and columns anyway
        plan = plan / plan.sum((1, 2), keepdim=True).clamp_min(torch.finfo(plan.dtype).tiny)
    tokens = source.tokens, target.tokens
    masks = source.mask, target.mask
    parts = word_alignment(*tokens, plan, *masks, tau_w=tau_word)
    align = parts.align
    if apart > 0:  # our choice: what all tokens of a text share says nothing about its words
        alone = [_apart(*side) for side in zip(tokens, masks, strict=True)]
        other = word_alignment(alone[0], alone[1], plan, *masks, tau_w=tau_word).align
        align = (1 - apart) * align + apart * other
    total = torch.zeros((), device=plan.device)
    if transport_cost:
        total = total + parts.ot
    if alignment:
        total = total + align
    return total


@torch.no_grad()
def word_plans(
    source: Encoded,
    target: Encoded,
    languages: tuple[str, ...],
    ot: TransportConfig,
    labels: Labels | None = None,
) -> Tensor:
    """Return the plans [B, n, m] of Eq. 3; see ``word_level``."""
    x, y = (source.tokens, target.tokens) if labels is None else labels
    if ot.centred:  # our choice: less the mean of their language in the batch
        x, y = centred(x, source.mask), centred(y, target.mask, _groups(languages, y))
    return transport_plan(
        cost_matrix(x, y), (source.salience, source.mask), (target.salience, target.mask), ot
    )


def transport_plan(cost: Tensor, source: Sided, target: Sided, ot: TransportConfig) -> Tensor:
    """Return the plans [B, n, m] of Eq. 3 for costs [B, n, m], as the settings choose them.

    Args:
        cost: of every source token with every target token.
        source: salience [B, n] and mask bool [B, n] of the tokens, for the marginals.
        target: the same of the other side, [B, m].
        ot: solver, marginals and their strength.
    """
    return transport(
        cost,
        _marginal(*source, ot),
        _marginal(*target, ot),
        solver=ot.solver,
        epsilon=ot.epsilon,
        rho=ot.rho or None,
        max_iterations=ot.max_iterations,
        tolerance=ot.tolerance,
    ).plan


def _groups(languages: tuple[str, ...], rows: Tensor) -> Tensor:
    """Return int64 [B]: rows of the same language have the same number."""
    names = sorted(set(languages))
    return torch.tensor([names.index(name) for name in languages[: len(rows)]], device=rows.device)


def _apart(tokens: Tensor, mask: Tensor) -> Tensor:
    """Return the tokens less the mean of their own text."""
    return centred(tokens, mask, torch.arange(len(tokens), device=tokens.device))


def _marginal(salience: Tensor, mask: Tensor, ot: TransportConfig) -> Tensor:
    if ot.marginals == "salience":
        return salience_marginals(salience.detach(), mask)
    return uniform_marginals(mask)
