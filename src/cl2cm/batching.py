"""From a manifest to batches: which texts there are, which are paired, and in what order.

A caption pair is a picture with one human source caption and its translations. One epoch shows
every caption pair once, each with one target language drawn among those it has, then one of that
language's translations. Order and draws depend on the seed and the epoch alone, so a position
(epoch, step) is all that a resumed run needs to go on exactly.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cl2cm.config import nearest
from cl2cm.errors import ConfigError, LanguageError, ManifestError
from cl2cm.features import FeatureStore
from cl2cm.types import Batch, Example, Frames, Ints, Special, Tokens


class TextSource(Protocol):
    """Where the texts' tokens come from: ids for a backbone, or its frozen states."""

    def gather(self, rows: Tensor) -> Tokens:
        """Padded tokens of the texts of rows int64 [B]."""
        ...


@dataclass(frozen=True, slots=True)
class StoredStates:
    """Frozen backbone states, read from a feature store.

    rows: row in the store of each text, int64.
    """

    store: FeatureStore
    rows: Tensor

    def gather(self, rows: Tensor) -> Tokens:
        """Padded states float32 [B, T, D_b]."""
        return Tokens(*self.store.gather(self.rows[rows]))


@dataclass(frozen=True, slots=True)
class PooledStates:
    """Means of the texts' normalised states, float32 [N, D_b]; rows as in ``StoredStates``."""

    means: Tensor
    rows: Tensor

    def gather(self, rows: Tensor) -> Tokens:
        """Means float32 [B, 1, D_b]."""
        mask = torch.ones(len(rows), 1, dtype=torch.bool)
        return Tokens(self.means[self.rows[rows]][:, None], mask, mask, pooled=True)


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Token ids, for a backbone that is trained."""

    ids: Sequence[Sequence[int]]
    special: Special

    def gather(self, rows: Tensor) -> Tokens:
        """Padded ids int64 [B, T]."""
        return pad_tokens([self.ids[row] for row in rows.tolist()], self.special)


def pad_tokens(ids: Sequence[Sequence[int]], special: Special) -> Tokens:
    """Padded batch of tokenised texts: ids int64 [B, T], mask and content bool [B, T]."""
    width = max((len(text) for text in ids), default=0)
    values = torch.tensor(
        [[*text, *[special.pad] * (width - len(text))] for text in ids], dtype=torch.int64
    ).reshape(len(ids), width)
    columns = torch.arange(width)
    mask = columns < torch.tensor([len(text) for text in ids])[:, None]
    no_word = torch.isin(values, torch.tensor(sorted(special.ids), dtype=torch.int64))
    return Tokens(values, mask, mask & ~no_word & (columns >= special.start))


@dataclass(frozen=True, slots=True)
class CaptionPairs:
    """All caption pairs of a split, with their translations as ragged tables.

    Attributes:
        pictures: row of each pair's picture, int64 [P].
        source: row of each pair's source caption among the texts, int64 [P].
        groups: first group of each pair, int64 [P + 1]; a group is one language of one pair.
        group_language: index into ``languages`` of each group, int64 [G].
        choices: first choice of each group, int64 [G + 1].
        target: row of each choice's translation among the texts, int64 [C].
        back: row of each pair's back-translation among the texts, -1 where it has none, int64 [P].
        languages: the target languages.
    """

    pictures: Ints
    source: Ints
    groups: Ints
    group_language: Ints
    choices: Ints
    target: Ints
    back: Ints
    languages: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.source)

    def mates(self, pairs: Ints, rng: np.random.Generator) -> Ints:
        """For each pair, any pair of the same picture, int64 [n]; itself among them."""
        pictures = self.pictures[pairs]  # pairs stand in the order of their pictures
        first = np.searchsorted(self.pictures, pictures, side="left")
        after = np.searchsorted(self.pictures, pictures, side="right")
        return first + (rng.random(len(pairs)) * (after - first)).astype(np.int64)

    def draw(self, pairs: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """One language, then one translation for each pair: (language, text row), int64 [n]."""
        group = _pick(self.groups, pairs, rng)
        choice = _pick(self.choices, group, rng)
        return self.group_language[group], self.target[choice]


def _pick(starts: Ints, rows: Ints, rng: np.random.Generator) -> Ints:
    first, after = starts[rows], starts[rows + 1]
    return first + (rng.random(len(rows)) * (after - first)).astype(np.int64)


class Texts:
    """The distinct texts of a data set, each with a row."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, text: str) -> int:
        """Row of a text, new or known."""
        return self.rows.setdefault(text, len(self.rows))

    def all(self) -> list[str]:
        """All texts, in the order of their rows."""
        return list(self.rows)


def target_languages(
    examples: Sequence[Example], *, source: str, chosen: Sequence[str], human: bool = False
) -> tuple[str, ...]:
    """The target languages to train on: the chosen ones, or all that there are.

    Raises:
        LanguageError: a chosen language is not in the data, or there is none at all.
    """
    there = {
        language
        for example in examples
        for language in (example.captions if human else example.translations)
    } - {source}
    for language in chosen:
        if language not in there:
            raise LanguageError(
                f"language {language!r}",
                expected="training texts in it",
                found=f"texts in {', '.join(sorted(there)) or 'no target language'}",
                remedy=nearest(language, there) if there else "translate the manifest first",
            )
    if not there:
        raise LanguageError(
            "training data",
            expected="human captions in at least one target language"
            if human
            else "translations in at least one language",
            found="none",
            remedy="translate the manifest first, or train the method 'zero-shot'",
        )
    return tuple(chosen) or tuple(sorted(there))


def caption_pairs(
    examples: Sequence[Example],
    texts: Texts,
    *,
    source: str,
    languages: Sequence[str],
    engines: Sequence[str] = (),
    human: bool = False,
) -> CaptionPairs:
    """Pair the source captions of all examples with their translations.

    Captions without any translation in the languages are left out; where ``languages`` is
    empty, every caption is its own only choice, in the source language (``zero-shot``).
    Translations *into* the source language are back-translations, by whatever engine.

    Args:
        examples: of the training split; a picture's row is its position.
        texts: gets the texts that are new.
        source: language of the human captions.
        languages: target languages.
        engines: translation engines to use; empty uses all.
        human: pair with the picture's human captions in place of translations (``supervised``).

    Raises:
        ConfigError: an engine that no translation is of.
        ManifestError: no pair is left.
    """
    names = tuple(languages) or (source,)
    if not human:
        _check_engines(examples, languages, engines)
    pictures, sources, groups, group_language, choices, target = [], [], [0], [], [0], []
    backs = []
    for row, example in enumerate(examples):
        captions = _human(example, names)
        for i, caption in enumerate(example.captions.get(source, ())):
            if not languages:
                found = [(0, [caption])]
            else:
                found = captions if human else _translations(example, i, names, engines)
            for language, options in found:
                group_language.append(language)
                target += [texts.add(option) for option in options]
                choices.append(len(target))
            if found:
                pictures.append(row)
                sources.append(texts.add(caption))
                back = _back_translation(example, source, i)
                backs.append(texts.add(back) if back else -1)
                groups.append(len(group_language))
    if not sources:
        raise ManifestError(
            "training data",
            expected=f"captions in {source!r} with "
            f"{'human captions' if human else 'translations'} in {', '.join(names)}",
            found=f"none among {len(examples)} items",
            remedy="check data.source, data.languages and data.engines",
        )
    return CaptionPairs(
        pictures=np.asarray(pictures, dtype=np.int64),
        source=np.asarray(sources, dtype=np.int64),
        groups=np.asarray(groups, dtype=np.int64),
        group_language=np.asarray(group_language, dtype=np.int64),
        choices=np.asarray(choices, dtype=np.int64),
        target=np.asarray(target, dtype=np.int64),
        back=np.asarray(backs, dtype=np.int64),
        languages=names,
    )


def _check_engines(
    examples: Sequence[Example], languages: Sequence[str], engines: Sequence[str]
) -> None:
    there = {
        engine
        for example in examples
        for language in languages
        for engine in example.translations.get(language, ())
    }
    for engine in engines if there else ():
        if engine not in there:
            raise ConfigError(
                "data.engines",
                expected=f"engines among {', '.join(sorted(there))}",
                found=repr(engine),
                remedy=nearest(engine, there),
            )


def _translations(
    example: Example, caption: int, languages: Sequence[str], engines: Sequence[str]
) -> list[tuple[int, list[str]]]:
    found = []
    for number, language in enumerate(languages):
        by_engine = example.translations.get(language, {})
        options = [
            text
            for engine, column in by_engine.items()
            if (not engines or engine in engines) and (text := column[caption])
        ]
        if options:
            found.append((number, options))
    return found


def _human(example: Example, languages: Sequence[str]) -> list[tuple[int, list[str]]]:
    """The picture's human captions in each of the languages that it has."""
    captions = ((number, example.captions.get(code)) for number, code in enumerate(languages))
    return [(number, list(texts)) for number, texts in captions if texts]


def _back_translation(example: Example, source: str, caption: int) -> str | None:
    """The first back-translation of a source caption, if there is one."""
    columns = example.translations.get(source, {}).values()
    return next((text for column in columns if (text := column[caption])), None)


@dataclass(frozen=True, slots=True)
class Batches:
    """All epochs of batches of a data set.

    Attributes:
        pairs: what is paired.
        text: tokens of the texts.
        means: the same texts as means, where the heads need no more.
        vision: store of the pictures' features.
        vision_rows: row in the store of each picture, int64.
        batch_size: B; the last, smaller batch of an epoch is left out unless it is the only one.
        seed: of order and draws.
    """

    pairs: CaptionPairs
    text: TextSource
    means: PooledStates | None
    vision: FeatureStore
    vision_rows: Tensor
    batch_size: int
    seed: int

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return max(1, len(self.pairs) // self.batch_size)

    @property
    def sentences(self) -> TextSource:
        """The cheapest source that gives sentence vectors."""
        return self.means or self.text

    def epoch(
        self, epoch: int, *, start: int = 0, words: int | None = None, others: bool = False
    ) -> Iterator[Batch]:
        """Batches of one epoch.

        Args:
            epoch: its number.
            start: first step.
            words: rows of a batch whose tokens are looked at; the texts are means where this
                leaves rows out and there are means. None: all.
            others: add a translation of another caption of each picture.
        """
        rows = self.batch_size if words is None else min(words, self.batch_size)
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.pairs))
        language, target = self.pairs.draw(order, rng)
        other = self.pairs.draw(self.pairs.mates(order, rng), rng)[1] if others else None
        for step in range(start, self.steps):
            part = slice(step * self.batch_size, (step + 1) * self.batch_size)
            batch = self._batch(order[part], language[part], target[part], rows)
            if other is not None:
                rows_of_others = torch.from_numpy(other[part])
                batch = batch._replace(other=self._text(rows).gather(rows_of_others))
            yield batch

    def _text(self, words: int) -> TextSource:
        return self.text if words >= self.batch_size else self.sentences

    def _batch(self, pairs: Ints, language: Ints, target: Ints, words: int) -> Batch:
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
            languages=tuple(self.pairs.languages[i] for i in language),
            pictures=pictures,
            source_texts=sources,
            target_texts=targets,
            words=(self.text.gather(sources[:words]), self.text.gather(targets[:words]))
            if words and text is self.means
            else None,
            back=back,
            has_back=None if back is None else has_back,
        )
