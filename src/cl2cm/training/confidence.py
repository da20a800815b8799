"""How likely each translation belongs to its caption, by word-level transport.

The idea is ours. The cost of transporting a caption's words onto its translation's (Eq. 2 to 4),
on the frozen states of the text encoder less their language's mean, is low where the two say the
same, also with an encoder whose sentence vectors of two languages are far apart. The same cost
between the translation and a caption of another item shows what a wrong pair costs. The costs of
all pairs of a language are then a mixture of right and wrong ones, whose share is unknown, while
the distribution of the wrong ones is known; the confidence is the posterior of "right".
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from cl2cm.data.caption_pairs import CaptionPairs
from cl2cm.data.noise import elsewhere
from cl2cm.encode.steps import text_states
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.tokens import TextSource
from cl2cm.losses.transport import cost_matrix, transport, uniform_marginals
from cl2cm.progress import say
from cl2cm.types import Floats, Ints, Tokens

EPSILON = 0.05  # of Eq. 3, as in training
FEWEST = 30  # pairs of a language that a mixture is fitted to; fewer are all trusted
ROWS = 512  # pairs whose plans are computed at once
ROUNDS = 200  # of expectation-maximisation, at most
_STREAM = 0x0C  # random stream of the wrong pairs

Doubles = npt.NDArray[np.float64]
Gather = Callable[[Tensor], Tokens]  # states float [B, T, D_b] of texts by their rows


def states_of(text: TextSource, backbone: TextBackbone) -> Gather:
    """Return what gives the states of texts, by the backbone as it is now where none are stored."""

    def gather(rows: Tensor) -> Tokens:
        tokens = text.gather(rows)
        if tokens.values.is_floating_point():
            return tokens
        return text_states(backbone, tokens)

    return gather


def with_confidence(pairs: CaptionPairs, gather: Gather) -> CaptionPairs:
    """Return caption pairs whose ``confidence`` is estimated, for each language by itself."""
    owner = np.repeat(np.arange(len(pairs)), np.diff(pairs.groups))  # pair of each group
    group = np.repeat(np.arange(len(owner)), np.diff(pairs.choices))  # group of each choice
    pair, language = owner[group], pairs.group_language[group]
    rng = np.random.default_rng(_STREAM)
    wrong = elsewhere(pairs.pictures, pairs.source, rng)[pair]  # a caption of another image
    centre = mean_token(gather, pairs.source)
    confidence = np.ones(len(group), dtype=np.float32)
    for number in range(len(pairs.languages)):
        here = np.flatnonzero(language == number)
        if len(here) < FEWEST:
            continue
        target = pairs.target[here]
        centres = centre, mean_token(gather, target)
        right = word_costs(gather, pairs.source[pair[here]], target, centres)
        other = word_costs(gather, pairs.source[wrong[here]], target, centres)
        confidence[here] = posterior(right, other)
    return dataclasses.replace(pairs, confidence=confidence)


def mean_confidence(pairs: CaptionPairs) -> dict[str, float]:
    """Return the mean confidence of each language's translations."""
    language = np.repeat(pairs.group_language, np.diff(pairs.choices))
    assert pairs.confidence is not None  # noqa: S101 - callers have estimated it
    found = {}
    for number, code in enumerate(pairs.languages):
        if (here := language == number).any():
            found[code] = round(float(pairs.confidence[here].mean()), 4)
    return found


def say_confidence(means: Mapping[str, float]) -> None:
    """Tell the mean confidence of each language."""
    listed = ", ".join(f"{code} {mean:.0%}" for code, mean in means.items())
    say(f"translations that belong to their captions: {listed} (estimated)")


@torch.no_grad()
def mean_token(gather: Gather, rows: Ints) -> Tensor:
    """Return the mean unit state of the words of texts, float [D_b]."""
    total, count = torch.zeros(()), 0
    for part in torch.from_numpy(np.unique(rows)).split(2048):
        tokens = gather(part)
        words = F.normalize(tokens.values, dim=-1) * tokens.content[..., None]
        total, count = total + words.sum((0, 1)).double(), count + int(tokens.content.sum())
    return (total / max(1, count)).float()


@torch.no_grad()
def word_costs(
    gather: Gather, sources: Ints, targets: Ints, centres: tuple[Tensor, Tensor]
) -> Floats:
    """Return the transport cost <P, C> of each pair of texts, float32 [P], 0 to 2.

    Args:
        gather: of the states.
        sources: rows of the captions, int64 [P].
        targets: rows of the translations.
        centres: mean unit state of the captions and of the translations.
    """
    found = np.empty(len(sources), dtype=np.float32)
    for first in range(0, len(sources), ROWS):
        part = slice(first, first + ROWS)
        sides = [gather(torch.from_numpy(rows[part])) for rows in (sources, targets)]
        x, y = (
            F.normalize(F.normalize(side.values, dim=-1) - centre, dim=-1)
            for side, centre in zip(sides, centres, strict=True)
        )
        cost = cost_matrix(x, y)
        mass = [uniform_marginals(side.content) for side in sides]
        plan = transport(cost, *mass, epsilon=EPSILON, max_iterations=50, tolerance=1e-3).plan
        found[part] = (plan * cost).sum((1, 2)).numpy()
    return found


def posterior(costs: Floats, wrong: Floats) -> Floats:
    """Return the probability that each cost is a right pair's, float32 [P], 0 to 1.

    The costs are taken for a mixture of two normal distributions. The one of wrong pairs is fitted
    to ``wrong``; the other one and the share of the two to ``costs``, by expectation-maximisation.
    A higher cost never has a higher probability.

    Args:
        costs: of pairs that are right or wrong, [P].
        wrong: of pairs that are wrong, any number.
    """
    x = costs.astype(np.float64)
    away, spread = float(wrong.mean()), float(wrong.std()) + 1e-6
    near, width, share = float(np.quantile(x, 0.25)), spread, 0.5
    for _ in range(ROUNDS):
        right = share * _normal(x, near, width)
        p = right / (right + (1 - share) * _normal(x, away, spread) + 1e-300)
        before = share
        share = float(np.clip(p.mean(), 1e-3, 1 - 1e-3))
        near = float((p * x).sum() / p.sum())
        width = float(np.sqrt((p * (x - near) ** 2).sum() / p.sum())) + 1e-6
        if abs(share - before) < 1e-5:
            break
    order = np.argsort(x)
    p[order] = np.minimum.accumulate(p[order])
    return p.astype(np.float32)


def _normal(x: Doubles, mean: float, deviation: float) -> Doubles:
    return np.exp(-(((x - mean) / deviation) ** 2) / 2) / deviation
