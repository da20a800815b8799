"""Alignment error rate of a run against word links written by hand (docs/alignment.md).

AER = 1 - (|A ∩ S| + |A ∩ P|) / (|A| + |S|), precision |A ∩ P| / |A| and recall |A ∩ S| / |S|,
where A are the links found, S the sure ones and P the sure and the possible ones (Och and Ney,
A Systematic Comparison of Various Statistical Alignment Models, Computational Linguistics 2003).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from cl2cm.evaluation.alignment.links import (
    Link,
    argmax_masks,
    link_strength,
    links_of,
    load_reader,
    pairs_of,
    word_plan,
    word_similarity,
)
from cl2cm.evaluation.alignment.words import Reader, Span, Words
from cl2cm.methods.word_level import TransportConfig
from cl2cm.model.encoders import AS_TRAINED, Encoders
from cl2cm.text import normalise

GOLD_LANGUAGES = ("de", "zh")
NO_SPACES = frozenset({"zh", "ja", "th"})
METHODS = (
    *("plan", "plan, argmax"),
    *("argmax source", "argmax target", "argmax mutual", "mutual, apart"),
)


@dataclass(frozen=True, slots=True)
class GoldPair:
    """A caption, its translation, and which words mean the same.

    Attributes:
        languages: codes of source and target.
        source: its words.
        target: its words.
        sure: links that every annotator would set.
        possible: links that are right but need not be there; none of them is sure.
    """

    languages: tuple[str, str]
    source: tuple[str, ...]
    target: tuple[str, ...]
    sure: frozenset[Link]
    possible: frozenset[Link]


class Score(NamedTuple):
    """In percent; of AER, lower is better. ``links`` is the number found."""

    aer: float
    precision: float
    recall: float
    links: int


def read_gold(language: str) -> list[GoldPair]:
    """Return the annotated pairs of English and another language (``de`` or ``zh``)."""
    text = (
        files("cl2cm.evaluation.alignment")
        .joinpath("hand_aligned", f"en-{language}.jsonl")
        .read_text(encoding="utf-8")
    )
    pairs = []
    for row in map(json.loads, text.splitlines()):
        sure, possible = (frozenset((i, j) for i, j in row[key]) for key in ("sure", "possible"))
        source, target = tuple(row["source"]), tuple(row["target"])
        first, second = row["languages"]
        pairs.append(GoldPair((first, second), source, target, sure, possible))
    return pairs


def joined(words: Sequence[str], language: str) -> tuple[str, list[Span]]:
    """Return words as a text, with spaces where the language has them, and where each is in it."""
    space = "" if language in NO_SPACES else " "
    words = [normalise(word) or word for word in words]
    spans, place = [], 0
    for word in words:
        spans.append((place, place + len(word)))
        place += len(word) + len(space)
    return space.join(words), spans


def score(pairs: Iterable[tuple[Iterable[Link], GoldPair]]) -> Score:
    """Score of links found, over all pairs together; no links at all have an AER of 100.

    Args:
        pairs: the links found in a pair, and the pair.
    """
    found = sure = in_sure = in_possible = 0
    for links, gold in pairs:
        chosen = set(links)
        found += len(chosen)
        sure += len(gold.sure)
        in_sure += len(chosen & gold.sure)
        in_possible += len(chosen & (gold.sure | gold.possible))
    return Score(
        aer=100 * (1 - (in_sure + in_possible) / max(found + sure, 1)),
        precision=100 * in_possible / max(found, 1),
        recall=100 * in_sure / max(sure, 1),
        links=found,
    )


def read_pairs(reader: Reader, gold: Sequence[GoldPair]) -> list[tuple[Words, Words]]:
    """Return the output of a network for both texts of each pair, by annotated words."""
    return [
        (
            reader.read(*joined(pair.source, pair.languages[0])),
            reader.read(*joined(pair.target, pair.languages[1])),
        )
        for pair in gold
    ]


def centred(pairs: Sequence[tuple[Words, Words]]) -> list[tuple[Words, Words]]:
    """Return the same without the mean of all tokens of a side, over all pairs."""
    sides = []
    for texts in zip(*pairs, strict=True):
        mean = torch.cat([text.tokens for text in texts]).mean(0)
        sides.append([replace(t, tokens=F.normalize(t.tokens - mean, dim=-1)) for t in texts])
    return list(zip(*sides, strict=True))


def gold_scores(
    pairs: Sequence[tuple[Words, Words]], gold: Sequence[GoldPair], settings: TransportConfig
) -> dict[str, Score]:
    """Return scores of the links decoded from the plan, and of the simple baselines.

    Returns:
        By method: ``plan`` (``links_of``), ``plan, argmax`` (its mutual argmax), three of the
        argmax of the words' similarity, ``mutual, apart`` (mutual argmax of what sets a text's
        words apart, see ``word_similarity``), and ``plan, held out``: ``plan`` on the pairs with
        an odd row, which had no say in the choice of its threshold.
    """
    links: dict[str, list[tuple[Link, ...]]] = {name: [] for name in METHODS}
    for source, target in pairs:
        strength = link_strength(word_plan(source, target, settings))
        simple = [
            *argmax_masks(word_similarity(source, target)).values(),
            argmax_masks(word_similarity(source, target, apart=True))["mutual"],
        ]
        found = (links_of(strength), links_of(strength, floor=2), *map(pairs_of, simple))
        for name, chosen in zip(METHODS, found, strict=True):
            links[name].append(chosen)
    scores = {name: score(zip(found, gold, strict=True)) for name, found in links.items()}
    held_out = zip(links["plan"][1::2], gold[1::2], strict=True)
    return scores | {"plan, held out": score(held_out)}


def gold_report(run: Path, encoders: Encoders = AS_TRAINED) -> dict[str, Any]:
    """Return the object of ``align --gold --json``: scores before and after training.

    ``before`` is the same network with the weights that training began with, ``backbone`` the
    states of the backbone as it came, ``backbone, centred`` the same without their mean.

    Args:
        run: a finished run.
        encoders: where they are by now.

    Raises:
        CheckpointError: no finished run, or a damaged one.
    """
    readers = {
        "backbone": load_reader(run, "none", encoders),
        "before": load_reader(run, "fresh", encoders),
        "after": load_reader(run, encoders=encoders),
    }
    settings = readers["after"].transport
    gold = {language: read_gold(language) for language in GOLD_LANGUAGES}
    networks: dict[str, Any] = {}
    for name, reader in readers.items():
        read = {language: read_pairs(reader, pairs) for language, pairs in gold.items()}
        networks[name] = _scores(read, gold, settings)
        if name == "backbone":
            middle = {language: centred(pairs) for language, pairs in read.items()}
            networks["backbone, centred"] = _scores(middle, gold, settings)
    return {
        "run": str(run),
        "side": readers["after"].side,
        "pairs": {language: len(pairs) for language, pairs in gold.items()},
        "networks": networks,
    }


def _scores(
    read: dict[str, list[tuple[Words, Words]]],
    gold: dict[str, list[GoldPair]],
    settings: TransportConfig,
) -> dict[str, Any]:
    return {
        language: {
            method: result._asdict()
            for method, result in gold_scores(pairs, gold[language], settings).items()
        }
        for language, pairs in read.items()
    }


def gold_lines(report: dict[str, Any]) -> list[str]:
    """Return a report as a table for people."""
    methods = (*METHODS, "plan, held out")
    lines = [f"alignment error rate in percent, lower is better; network: {report['side']}"]
    for language, count in report["pairs"].items():
        lines.append(f"en-{language}, {count} pairs")
        lines.append(f"{'':20}" + "".join(f"{name:>16}" for name in methods))
        for network, scores in report["networks"].items():
            cells = (f"{scores[language][name]['aer']:16.1f}" for name in methods)
            lines.append(f"{network:20}" + "".join(cells))
    return lines
