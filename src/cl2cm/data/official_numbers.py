"""Published item and caption counts of a data set, which `prepare` checks.

A protocol lists items and captions for each split and language, and a checksum of each split's
ids. Files that give other numbers are refused; with ``allow_partial`` what is missing is said.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cl2cm.errors import DatasetError
from cl2cm.types import Example


@dataclass(frozen=True, slots=True)
class Split:
    """The published counts of one split.

    Attributes:
        items: images or videos.
        captions: language → captions; a language that is not named must not be there.
        translations: language → machine translations that are known.
        checksum: of the ids, by `id_checksum`; empty: not locked.
    """

    items: int
    captions: Mapping[str, int] = field(default_factory=dict[str, int])
    translations: Mapping[str, int] = field(default_factory=dict[str, int])
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class Protocol:
    """The splits of a data set.

    Attributes:
        name: of the data set.
        splits: its splits.
        source: where their numbers are published.
        free: data of which nothing is published, such as the user's: any numbers will do.
        fixed: nobody can change the splits, so an image in two of them is said and not refused;
            so it is where numbers are published.
    """

    name: str
    splits: Mapping[str, Split]
    source: str = ""
    free: bool = False
    fixed: bool = False


def id_checksum(ids: Iterable[str]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the sorted ids, one per line."""
    text = "".join(f"{name}\n" for name in sorted(ids))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(examples: Sequence[Example], protocol: Protocol) -> list[str]:
    """Return the differences from a protocol as lines: ``train: 29,000 items, found 28,999``."""
    found: list[str] = []
    by_split: dict[str, list[Example]] = {name: [] for name in protocol.splits}
    for example in examples:
        by_split.setdefault(example.split, []).append(example)
    for name, chosen in by_split.items():
        if name not in protocol.splits:
            found.append(f"{name}: no such split, found {len(chosen):,} items")
            continue
        found += [f"{name}: {line}" for line in _split_differences(chosen, protocol.splits[name])]
    return found


def check(
    examples: Sequence[Example],
    protocol: Protocol,
    *,
    allow_partial: bool = False,
    notes: Sequence[str] = (),
) -> list[str]:
    """Hold a data set to its protocol.

    Args:
        examples: what was read.
        protocol: the numbers that it must have.
        allow_partial: continue where they differ.
        notes: what the reader says of the files: the reasons where nothing is left of them.

    Returns:
        What differs, one per line; empty unless ``allow_partial``.

    Raises:
        DatasetError: something differs, and ``allow_partial`` is not set; or there is no item.
    """
    found = [] if protocol.free else differences(examples, protocol)
    if examples and (allow_partial or not found):
        return found
    if not examples:
        reasons = "; ".join(note[:200] for note in notes)
        raise DatasetError(
            protocol.name,
            expected="at least one image or video with a caption"
            if protocol.free
            else "the published numbers",
            found=f"no item at all{f': {reasons}' if reasons else ''}",
            remedy="see docs/data.md for the supported layouts"
            if protocol.free
            else "give the folder as its publisher ships it",
        )
    rest = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    raise DatasetError(
        protocol.name,
        expected="the published numbers",
        found="; ".join(found[:3]) + rest,
        remedy="fetch the files again, or continue with --allow-partial",
    )


def _split_differences(examples: Sequence[Example], split: Split) -> list[str]:
    lines = []
    if len(examples) != split.items:
        lines.append(f"{split.items:,} items, found {len(examples):,}")
    captions = _count(
        (language, len(texts)) for e in examples for language, texts in e.captions.items()
    )
    lines += _counts("captions", split.captions, captions)
    known = _count(
        (language, sum(text is not None for text in column))
        for e in examples
        for language, engines in e.translations.items()
        for column in engines.values()
    )
    lines += _counts("translations", split.translations, known)
    ids = id_checksum(example.id for example in examples)
    if not lines and split.checksum and ids != split.checksum:
        lines.append(f"the published ids (checksum {split.checksum}), found others ({ids})")
    return lines


def _count(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for language, number in pairs:
        total[language] = total.get(language, 0) + number
    return total


def _counts(what: str, wanted: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    return [
        f"{wanted.get(language, 0):,} {what} in {language}, found {found.get(language, 0):,}"
        for language in sorted({*wanted, *found})
        if wanted.get(language, 0) != found.get(language, 0)
    ]
