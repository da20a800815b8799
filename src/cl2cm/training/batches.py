"""From caption pairs to batches: tokens or means of texts, features of images, and their order.

One epoch shows every caption pair once, each with one target language drawn among those it has,
then one of that language's translations. Order and draws depend on the seed and the epoch alone,
so a position (epoch, step) is all that a resumed run needs to continue exactly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cl2cm.data.caption_pairs import CaptionPairs
from cl2cm.encode.rows import StoredFeatures
from cl2cm.encode.tokens import PooledStates, TextSource
from cl2cm.types import Batch, Floats, Frames, Ints, Pairing


class _Targets(NamedTuple):
    """What stands opposite the pairs of an epoch, in its order.

    Attributes:
        languages: of the targets.
        rows: of the targets among the texts, int64 [P].
        confidence: of the targets, float32 [P]; None where all count alike.
        others: row of a target of another caption of each image; None where not asked for.
        other_confidence: of these.
    """

    languages: list[str]
    rows: Ints
    confidence: Floats | None = None
    others: Ints | None = None
    other_confidence: Floats | None = None


@dataclass(frozen=True, slots=True)
class Batches:
    """All epochs of batches of a data set.

    Attributes:
        pairs: what is paired.
        text: tokens of the texts.
        means: the same texts as means, where the heads need no more.
        vision: the images' features.
        vision_rows: row in the store of each image, int64.
        batch_size: B; the last, smaller batch of an epoch is left out unless it is the only one.
        seed: of order and draws.
        every_language: whether a batch has its pairs in all target languages (``Batch.also``).
    """

    pairs: CaptionPairs
    text: TextSource
    means: PooledStates | None
    vision: StoredFeatures
    vision_rows: Tensor
    batch_size: int
    seed: int
    every_language: bool = False

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return max(1, len(self.pairs) // self.batch_size)

    @property
    def sentences(self) -> TextSource:
        """The cheapest source that gives sentence vectors."""
        return self.means or self.text

    def epoch(
        self,
        epoch: int,
        *,
        start: int = 0,
        words: int | None = None,
        others: bool = False,
        pairing: Pairing = "translations",
    ) -> Iterator[Batch]:
        """Yield batches of one epoch.

        Args:
            epoch: its number.
            start: first step.
            words: rows of a batch whose tokens are looked at; the texts are means where this
                leaves rows out and there are means. None: all.
            others: add a translation of another caption of each image.
            pairing: what stands as the target of each source caption.
        """
        rows = self.batch_size if words is None else min(words, self.batch_size)
        rng = np.random.default_rng([self.seed, epoch])
        order = self.pairs.order(rng)
        every = self.every_language and pairing != "source"
        drawn = [
            self._targets(order, rng, pairing, others=others, language=number)
            for number in (range(len(self.pairs.languages)) if every else (None,))
        ]
        for step in range(start, self.steps):
            part = slice(step * self.batch_size, (step + 1) * self.batch_size)
            batches = []
            for targets in drawn:
                batch = self._batch(order[part], targets.languages[part], targets.rows[part], rows)
                batch = batch._replace(confidence=_part(targets.confidence, part))
                if targets.others is not None:
                    rows_of_others = torch.from_numpy(targets.others[part])
                    batch = batch._replace(
                        other=self._text(rows).gather(rows_of_others),
                        other_confidence=_part(targets.other_confidence, part),
                    )
                batches.append(batch)
            yield batches[0]._replace(also=tuple(batches[1:]))

    def _targets(
        self,
        order: Ints,
        rng: np.random.Generator,
        pairing: Pairing,
        *,
        others: bool,
        language: int | None,
    ) -> _Targets:
        """Draw the targets; ``language`` is the number of the one that is wanted; None: any."""
        pairs = self.pairs
        if pairing == "source":
            target = pairs.source[pairs.siblings(order, rng)]
            other = pairs.source[pairs.mates(order, rng)] if others else None
            return _Targets(["source"] * len(order), target, others=other)
        origin = pairs.shuffled(self.seed)[order] if pairing == "shuffled" else order

        def draw(chosen: Ints) -> tuple[Ints, Ints]:
            if language is None:
                return pairs.draw(chosen, rng)
            return pairs.draw_in(chosen, language, rng)

        trusted = pairs.confidence if pairing == "translations" else None

        def confidence(chosen: Ints) -> Floats | None:
            return None if trusted is None else trusted[chosen]

        languages, choice = draw(origin)
        names = [pairs.languages[i] for i in languages.tolist()]
        found = _Targets(names, pairs.target[choice], confidence(choice))
        if others:
            other = draw(pairs.mates(origin, rng))[1]
            return found._replace(others=pairs.target[other], other_confidence=confidence(other))
        return found

    def _text(self, words: int) -> TextSource:
        return self.text if words >= self.batch_size else self.sentences

    def _batch(self, pairs: Ints, languages: list[str], target: Ints, words: int) -> Batch:
        text = self._text(words)
        pictures = torch.from_numpy(self.pairs.pictures[pairs])
        sources = torch.from_numpy(self.pairs.source[pairs])
        targets = torch.from_numpy(target)
        frames = self.vision.gather(self.vision_rows[pictures])
        back, has_back = None, torch.from_numpy(self.pairs.back[pairs] >= 0)
        if bool(has_back.any()):
            rows = torch.from_numpy(self.pairs.back[pairs])
            back = text.gather(torch.where(has_back, rows, sources))
        return Batch(
            vision=Frames(frames.values, frames.mask),
            source=text.gather(sources),
            target=text.gather(targets),
            languages=tuple(languages),
            pictures=pictures,
            source_texts=sources,
            target_texts=targets,
            words=(self.text.gather(sources[:words]), self.text.gather(targets[:words]))
            if words and text is self.means
            else None,
            back=back,
            has_back=None if back is None else has_back,
        )


def _part(values: Floats | None, part: slice) -> Tensor | None:
    return None if values is None else torch.from_numpy(values[part])
