"""How likely each translation belongs to its caption, by word-level transport.

The idea is ours. The cost of transporting a caption's words onto its translation's (Eq. 2 to 4),
on the states of the text encoder before training, less their language's mean, is low where the two
say the same, also with an encoder whose sentence vectors of two languages are far apart. The same
cost between the translation and a caption of another image shows what a wrong pair costs. The costs
of a language are a mixture of right and wrong pairs, whose share is unknown, while the distribution
of the wrong ones is known; the confidence is the posterior of "right".
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from cl2cm.data.caption_pairs import CaptionPairs
from cl2cm.data.noise import elsewhere
from cl2cm.encode.tokens import StoredStates
from cl2cm.losses.transport import cost_matrix, transport, uniform_marginals
from cl2cm.progress import say
from cl2cm.types import Floats, Ints, Tokens

EPSILON = 0.05  # of Eq. 3, as in training
FEWEST = 30  # pairs of a language that a mixture is fitted to; fewer are all trusted
APART = 1.0  # least distance of right and wrong costs, in standard deviations
ROWS = 512  # pairs whose plans are computed at once
ROUNDS = 200  # of expectation-maximisation, at most
_STREAM = 0x0C  # random stream of the wrong pairs

Doubles = npt.NDArray[np.float64]
Gather = Callable[[Tensor], Tokens]  # states float [B, T, D_b] of texts by their rows


class Judged(NamedTuple):
    """Caption pairs with their confidence, and what is recorded of it.

    pairs: with ``confidence``; means: mean confidence of each language that was judged.
    """

    pairs: CaptionPairs
    means: dict[str, float]


def with_confidence(pairs: CaptionPairs, states: StoredStates) -> Judged:
    """Estimate the confidence of each translation, for each language by itself.

    A language is trusted as a whole, with a warning, where it has too few translations, or where
    the encoder cannot tell right pairs from wrong ones.

    Args:
        pairs: all caption pairs.
        states: of the texts, by the encoder before training.
    """
    owner = np.repeat(np.arange(len(pairs)), np.diff(pairs.groups))  # pair of each group
    group = np.repeat(np.arange(len(owner)), np.diff(pairs.choices))  # group of each choice
    pair, language = owner[group], pairs.group_language[group]
    other = elsewhere(pairs.pictures, pairs.source, np.random.default_rng(_STREAM))[pair]
    # An untranslated copy says nothing of what a translation costs; where there is no other image,
    # the pair that should be wrong is not.
    translated = pairs.source[pair] != pairs.target
    wrong = translated & (pairs.pictures[other] != pairs.pictures[pair])
    centre = mean_token(states.gather, pairs.source)
    confidence, means = np.ones(len(group), dtype=np.float32), {}
    for number, code in enumerate(pairs.languages):
        here = language == number
        own, others = np.flatnonzero(here & translated), np.flatnonzero(here & wrong)
        if min(len(own), len(others)) < FEWEST:
            say(f"warning: {code} has too few translations to judge them; all are trusted")
            continue
        centres = centre, mean_token(states.gather, pairs.target[here])
        found = posterior(
            word_costs(states, pairs.source[pair[own]], pairs.target[own], centres),
            word_costs(states, pairs.source[other[others]], pairs.target[others], centres),
        )
        if found is None:
            say(f"warning: the text encoder cannot judge the translations into {code}; all count")
            continue
        confidence[own] = found
        means[code] = round(float(confidence[here].mean()), 4)
    if means:
        listed = ", ".join(f"{code} {mean:.0%}" for code, mean in means.items())
        say(f"translations that belong to their captions: {listed} (estimated)")
    return Judged(dataclasses.replace(pairs, confidence=confidence), means)


@torch.no_grad()
def mean_token(gather: Gather, rows: Ints) -> Tensor:
    """Return the mean unit state of the words of texts, float [D_b]."""
    total, count = torch.zeros(()), 0
    for part in torch.from_numpy(np.unique(rows)).split(ROWS):
        tokens = gather(part)
        words = F.normalize(tokens.values, dim=-1) * tokens.content[..., None]
        total, count = total + words.sum((0, 1)).double(), count + int(tokens.content.sum())
    return (total / max(1, count)).float()


@torch.no_grad()
def word_costs(
    states: StoredStates, sources: Ints, targets: Ints, centres: tuple[Tensor, Tensor]
) -> Floats:
    """Return the transport cost <P, C> of each pair of texts, float32 [P], 0 to 2.

    Args:
        states: of the texts.
        sources: rows of the captions, int64 [P].
        targets: rows of the translations.
        centres: mean unit state of the captions and of the translations.

    Returns:
        The costs; NaN where one of the two has no word.
    """
    found = np.empty(len(sources), dtype=np.float32)
    lengths = [states.lengths(torch.from_numpy(rows)).numpy() for rows in (sources, targets)]
    order = np.argsort(np.maximum(*lengths), kind="stable")  # little padding
    for first in range(0, len(order), ROWS):
        part = order[first : first + ROWS]
        sides = [states.gather(torch.from_numpy(rows[part])) for rows in (sources, targets)]
        x, y = (
            F.normalize(F.normalize(side.values, dim=-1) - centre, dim=-1)
            for side, centre in zip(sides, centres, strict=True)
        )
        cost = cost_matrix(x, y)
        mass = [uniform_marginals(side.content) for side in sides]
        plan = transport(cost, *mass, epsilon=EPSILON, max_iterations=50, tolerance=1e-3).plan
        wordless = ~(sides[0].content.any(1) & sides[1].content.any(1))
        found[part] = (plan * cost).sum((1, 2)).masked_fill(wordless, torch.nan).numpy()
    return found


def posterior(costs: Floats, wrong: Floats) -> Floats | None:
    """Return the probability that each cost is a right pair's, float32 [P], 0 to 1.

    The costs are taken for a mixture of two normal distributions. The one of wrong pairs is fitted
    to ``wrong``; the other one and the share of the two to ``costs``, by expectation-maximisation.
    Costs beyond the two means count as these, so that a cheaper pair is never less likely.

    Args:
        costs: of pairs that are right or wrong, [P]; those that are NaN are trusted.
        wrong: of pairs that are wrong, any number.

    Returns:
        The probabilities; None where right and wrong pairs are not `APART`.
    """
    known = np.isfinite(costs)
    x, wrong = costs[known].astype(np.float64), wrong[np.isfinite(wrong)]
    if not len(x) or not len(wrong):
        return None
    away, spread = float(wrong.mean()), float(wrong.std()) + 1e-6
    near, width, share = float(np.quantile(x, 0.25)), max(spread, float(x.std())), 0.5
    for _ in range(ROUNDS):
        p, before = _right(x, (near, width), (away, spread), share), share
        total = max(float(p.sum()), 1e-9)
        share = float(np.clip(p.mean(), 1e-3, 1 - 1e-3))
        near = float((p * x).sum() / total)
        width = float(np.sqrt((p * (x - near) ** 2).sum() / total)) + 1e-6
        if abs(share - before) < 1e-5:
            break
    if away - near < APART * np.sqrt((width**2 + spread**2) / 2):
        return None
    found = np.ones(len(costs), dtype=np.float32)
    found[known] = _right(np.clip(x, near, away), (near, width), (away, spread), share)
    return found


def _right(
    x: Doubles, right: tuple[float, float], wrong: tuple[float, float], share: float
) -> Doubles:
    """Return the posterior of "right"; the distributions are (mean, standard deviation)."""
    likely, unlikely = (
        np.exp(-(((x - mean) / width) ** 2) / 2) / width for mean, width in (right, wrong)
    )
    return share * likely / (share * likely + (1 - share) * unlikely + 1e-300)
