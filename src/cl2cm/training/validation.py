"""Validation data of a training, and the items that it excludes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cl2cm.data.caption_pairs import CaptionPairs
from cl2cm.data.pairs import Texts
from cl2cm.data.queries import Queries, caption_languages, caption_queries
from cl2cm.encode.rows import StoredFeatures
from cl2cm.progress import say
from cl2cm.types import Example, Ints

NAMED = 100  # items left out that are named on the screen; the record names all


@dataclass(frozen=True, slots=True)
class ValidationLanguage:
    """Validation captions of one language, by rows of the stores.

    texts: row of each caption, int64 [Q]; answers: its item in the gallery, int64 [Q]; gallery:
    rows of the N items, int64 [N]: of their features, or of their first source captions.
    """

    texts: Tensor
    answers: Ints
    gallery: Tensor


class Validation(NamedTuple):
    """What an epoch is measured on: language → captions, where the split has any.

    images: captions against images and videos, as ``evaluate --split val`` does. texts: against
    source captions, for the cross-lingual stage; items without one are left out.
    """

    pictures: dict[str, ValidationLanguage]
    texts: dict[str, ValidationLanguage]


def make_validation(
    examples: Sequence[Example],
    texts: Texts,
    vision: StoredFeatures,
    languages: Sequence[str],
    source: str,
) -> Validation:
    """Queries and galleries as in ``evaluate``; and of texts, for the cross-lingual stage."""
    pictures, of_texts = {}, {}
    with_source = [example for example in examples if example.captions.get(source)]
    for language in languages:
        if language in caption_languages(examples):
            asked = caption_queries(examples, language)
            rows = [vision.row(example.id) for example in asked.gallery]
            pictures[language] = _queries(asked, texts, rows)
        if language != source and language in caption_languages(with_source):
            asked = caption_queries(with_source, language)
            rows = [texts.add(example.captions[source][0]) for example in asked.gallery]
            of_texts[language] = _queries(asked, texts, rows)
    return Validation(pictures, of_texts)


def _queries(asked: Queries, texts: Texts, gallery: Sequence[int]) -> ValidationLanguage:
    rows = torch.tensor([texts.add(text) for text in asked.texts])
    return ValidationLanguage(rows, np.asarray(asked.rows), torch.tensor(gallery))


def left_out_items(
    train: Sequence[Example],
    pairs: CaptionPairs,
    val: Sequence[Example],
    languages: Sequence[str],
) -> dict[str, list[str]]:
    """Return items without usable captions, by split; each is reported once."""
    paired = set(pairs.pictures.tolist())
    unused = {
        "train": [example.id for row, example in enumerate(train) if row not in paired],
        "val": [e.id for e in val if not any(e.captions.get(code) for code in languages)],
    }
    targets = ", ".join(languages[1:])
    translated = f" that is translated into {targets}" if targets else ""
    reasons = {
        "train": f"a caption in {languages[0]}{translated}",
        "val": f"a caption in {', '.join(languages)}",
    }
    for split, names in unused.items():
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            say(
                f"{split}: {len(names)} items left out, without {reasons[split]}: "
                f"{', '.join(names[:NAMED])}{more}"
            )
    return {split: names for split, names in unused.items() if names}


def say_validation(
    validation: Validation,
    val: Sequence[Example],
    languages: Sequence[str],
    translated: Sequence[str] = (),
) -> None:
    """Say what the epochs are not measured on, or not by captions that people wrote."""
    if translated:
        say(
            f"validation: no human captions in {', '.join(translated)}: machine translations of "
            "the validation captions are used instead"
        )
    there = ", ".join(validation.pictures)
    missing = ", ".join(code for code in languages if code not in validation.pictures)
    if not there:
        what = f"no captions in {missing}" if val else "no items of the split 'val'"
        say(f"validation: {what}: no epoch is measured, and the last one is kept")
    elif missing:
        say(f"validation: no captions in {missing}: the epoch is chosen by {there} alone")


def teacher_note_of(validation: Validation, val: Sequence[Example], source: str) -> str:
    """Return what a cross-lingual stage is not measured on; empty if on everything."""
    without = [example.id for example in val if not example.captions.get(source)]
    if val and not validation.texts:
        return (
            f"validation: no item has captions in {source!r} and in another language: the "
            "cross-lingual stage is not measured, and its last epoch is kept"
        )
    if without:
        return (
            f"validation: {len(without)} items without captions in {source!r} are left out of the "
            "cross-lingual stage's measurement alone"
        )
    return ""
