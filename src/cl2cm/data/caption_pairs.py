"""Caption pairs as ragged tables of rows, and the draws that an epoch makes from them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cl2cm.data.noise import elsewhere
from cl2cm.types import Ints

_SHUFFLED = 0x5F  # random stream of the shuffled pairs, which no epoch's draws share


@dataclass(frozen=True, slots=True)
class CaptionPairs:
    """All caption pairs of a split, with their translations as ragged tables.

    Attributes:
        pictures: row of each pair's image, int64 [P].
        source: row of each pair's source caption among the texts, int64 [P].
        groups: first group of each pair, int64 [P + 1]; a group is one language of one pair.
        group_language: index into ``languages`` of each group, int64 [G].
        choices: first choice of each group, int64 [G + 1].
        target: row of each choice's translation among the texts, int64 [C].
        back: row of each pair's back-translation among the texts, -1 where it has none, int64 [P].
        languages: the target languages.
        weights: chance of each choice within its pair, not normalised, float64 [C]; None where
            every language, and then every choice of it, is as likely as any other.
        confidence: how much the losses of each choice count, 0 to 1, float32 [C]; None: all alike.
    """

    pictures: Ints
    source: Ints
    groups: Ints
    group_language: Ints
    choices: Ints
    target: Ints
    back: Ints
    languages: tuple[str, ...]
    weights: npt.NDArray[np.float64] | None = None
    confidence: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.source)

    def mates(self, pairs: Ints, rng: np.random.Generator) -> Ints:
        """For each pair, any pair of the same image, int64 [n]; itself among them."""
        pictures = self.pictures[pairs]  # pairs are in the order of their images
        first = np.searchsorted(self.pictures, pictures, side="left")
        after = np.searchsorted(self.pictures, pictures, side="right")
        return first + (rng.random(len(pairs)) * (after - first)).astype(np.int64)

    def siblings(self, pairs: Ints, rng: np.random.Generator) -> Ints:
        """For each pair, another pair of the same image, int64 [n]; itself if there is none."""
        first = np.searchsorted(self.pictures, self.pictures[pairs], side="left")
        count = np.searchsorted(self.pictures, self.pictures[pairs], side="right") - first
        step = 1 + (rng.random(len(pairs)) * (count - 1)).astype(np.int64)
        return first + (pairs - first + step) % count

    def shuffled(self, seed: int) -> Ints:
        """For each pair, one of another image whose translation may stand for its own [P]."""
        rng = np.random.default_rng([seed, _SHUFFLED])
        return elsewhere(self.pictures, self.source, rng)

    def draw(self, pairs: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Return a language and a choice of it for each pair, int64 [n]."""
        if self.weights is None:
            group = _pick(self.groups, pairs, rng)
            choice = _pick(self.choices, group, rng)
        else:
            before, after = self.choices[self.groups[pairs]], self.choices[self.groups[pairs + 1]]
            choice = _weighted(self.weights, before, after, rng)
            group = np.searchsorted(self.choices, choice, side="right") - 1
        return self.group_language[group], choice

    def draw_in(self, pairs: Ints, language: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """As ``draw``, but in one language, by its number, where the pair has it."""
        languages, choices = self.draw(pairs, rng)
        owner = np.repeat(np.arange(len(self)), np.diff(self.groups))
        known = np.full(len(self), -1)
        here = self.group_language == language
        known[owner[here]] = np.flatnonzero(here)
        group = known[pairs]
        has = group >= 0
        choice = _pick(self.choices, group[has], rng)
        if self.weights is not None:
            before, after = self.choices[group[has]], self.choices[group[has] + 1]
            choice = _weighted(self.weights, before, after, rng)
        choices[has] = choice
        languages[has] = language
        return languages, choices

    def order(self, rng: np.random.Generator) -> Ints:
        """Return the pairs of an epoch, int64 [P]: each once, or in proportion to its weight.

        A pair of twice the mean weight stands twice, one of a tenth in every tenth epoch.
        """
        count = len(self)
        if self.weights is None:
            return rng.permutation(count)
        sums = np.add.reduceat(self.weights, self.choices[self.groups[:-1]])
        total = np.cumsum(sums / np.diff(self.groups))  # of each pair, the mean of its languages
        drawn = (rng.random() + np.arange(count)) * (total[-1] / count)
        return rng.permutation(np.minimum(np.searchsorted(total, drawn, side="right"), count - 1))


def _pick(starts: Ints, rows: Ints, rng: np.random.Generator) -> Ints:
    first, after = starts[rows], starts[rows + 1]
    return first + (rng.random(len(rows)) * (after - first)).astype(np.int64)


def _weighted(
    weights: npt.NDArray[np.float64], before: Ints, after: Ints, rng: np.random.Generator
) -> Ints:
    """Return one choice of each range [before, after), by weight."""
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    drawn = sums[before] + rng.random(len(before)) * (sums[after] - sums[before])
    found: Ints = np.clip(np.searchsorted(sums, drawn, side="right") - 1, before, after - 1)
    return found
