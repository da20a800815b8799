"""Word links between two texts, decoded from the plan of Eq. 2 and 3.

The cross-lingual network of a run gives token vectors, transport (Eq. 3) a plan over tokens, and
the plan is summed over the tokens of words. Links are decoded from it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cl2cm.evaluation.alignment.words import Reader, Words
from cl2cm.losses.transport import centred, cost_matrix
from cl2cm.methods.build import build_method
from cl2cm.methods.word_level import TransportConfig, transport_plan
from cl2cm.model.checkpoint import load, load_backbone
from cl2cm.model.encoders import AS_TRAINED, Encoders
from cl2cm.model.networks import TextNetwork, build_teacher
from cl2cm.model.run_folder import check_hash, read_run
from cl2cm.model.weights import load_weights

Link = tuple[int, int]  # source word, target word
Weights = Literal["trained", "fresh", "none"]

FLOOR = 0.3  # see links_of; chosen on every second gold pair (docs/alignment.md)


@dataclass(frozen=True, slots=True)
class Alignment:
    """Two texts, word by word.

    Attributes:
        source: the n source words.
        target: the m target words.
        strength: [n, m], in [0, 1]; see ``link_strength``.
        links: pairs of a source and a target word, sorted.
        side: which network was asked: ``teacher``, ``student`` or ``backbone``.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    strength: Tensor
    links: tuple[Link, ...]
    side: str


def align(run: Path, source: str, target: str, encoders: Encoders = AS_TRAINED) -> Alignment:
    """Align two texts by the cross-lingual network of a run.

    A run without one is asked by its student's text side; ``side`` of the result says so.

    Args:
        run: a finished run.
        source: a text.
        target: its translation, in any language.
        encoders: where they are by now.

    Raises:
        CheckpointError: no finished run, or a damaged one.
        QueryError: a text without words, or one that is too long.
    """
    return align_texts(load_reader(run, encoders=encoders), source, target)


def align_texts(reader: Reader, source: str, target: str) -> Alignment:
    """Align two texts; see ``align``."""
    x, y = reader.read(source), reader.read(target)
    strength = link_strength(word_plan(x, y, reader.transport))
    return Alignment(x.words, y.words, strength, links_of(strength), reader.side)


def load_reader(run: Path, weights: Weights = "trained", encoders: Encoders = AS_TRAINED) -> Reader:
    """Return the cross-lingual network of a run, or the student's text side where it has none.

    Args:
        run: a finished run.
        weights: ``trained``; ``fresh``: the weights that training began with; ``none``: no
            network, but the states of the backbone as it came.
        encoders: where they are by now.

    Raises:
        CheckpointError: no finished run, or a damaged one.
    """
    model = load(run, text_encoder=encoders.text, vision_encoder=encoders.vision)
    config, _ = read_run(run, encoders)
    check_hash(run, "teacher.safetensors")
    transport = config.section("transport", TransportConfig)
    if weights == "none":
        return Reader(load_backbone(config), None, transport, "backbone")
    file = run / "teacher.safetensors"
    width = model.backbone.width
    backbone = None if config.text.freeze == "all" else load_backbone(config)
    network: TextNetwork = model.student
    if weights == "trained" and file.exists():
        side = "teacher"
        network = build_teacher(config.network, text_width=width, backbone=backbone)
        load_weights(network, file)
    else:
        torch.manual_seed(config.train.seed)
        method = build_method(
            config, text_width=width, vision_width=model.vision.width, backbone=backbone
        )
        side = "student" if method.teacher is None else "teacher"
        if weights == "fresh":
            network = method.teacher or method.student
        elif method.teacher is not None:
            load_weights(method.teacher, file)  # it is gone, which is an error
    fixed, fitted = network.text.whitening, model.student.text.whitening
    if fixed is not None and fitted is not None:  # fitted before training began, and kept
        fixed.load_state_dict(fitted.state_dict())
    return Reader(model.backbone, network, transport, side)


def word_plan(source: Words, target: Words, settings: TransportConfig) -> Tensor:
    """Return the plan of Eq. 3, summed over the tokens of words, [n, m]."""
    first, second = (
        (text.salience[None], torch.ones(1, len(text.tokens), dtype=torch.bool))
        for text in (source, target)
    )
    cost = cost_matrix(source.tokens, target.tokens)[None]
    plan = transport_plan(cost, first, second, settings)[0]
    return source.share @ plan @ target.share.T


def word_similarity(source: Words, target: Words, *, apart: bool = False) -> Tensor:
    """Return the cosine of the words' mean token vectors, [n, m].

    Args:
        source: a text.
        target: its translation.
        apart: take the mean token of each text off its tokens first. What all tokens of a text
            share, its language and its topic, says nothing about which words belong together.
    """
    x, y = (
        F.normalize(text.share @ (_apart(text.tokens) if apart else text.tokens), dim=-1)
        for text in (source, target)
    )
    return x @ y.T


def _apart(tokens: Tensor) -> Tensor:
    return centred(tokens[None], torch.ones(1, len(tokens), dtype=torch.bool))[0]


def link_strength(plan: Tensor) -> Tensor:
    """Return sqrt(P_row * P_col) of a plan [n, m], in [0, 1]: 1 for an exclusive pair of words.

    P_row and P_col are the plan normalised along rows and columns, as in Eq. 5, so that a word of
    many tokens is no stronger than a word of one.
    """
    tiny = torch.finfo(plan.dtype).tiny
    rows = plan / plan.sum(1, keepdim=True).clamp_min(tiny)
    columns = plan / plan.sum(0, keepdim=True).clamp_min(tiny)
    return (rows * columns).sqrt()


def links_of(strength: Tensor, *, floor: float = FLOOR) -> tuple[Link, ...]:
    """Mutual argmax, and a counterpart for the words that it leaves over.

    Pairs that are the strongest for both of their words are linked. Then a word without a link,
    such as a part of what is one compound in the other language, is linked to its strongest
    counterpart, if that is at least ``floor``.

    Args:
        strength: [n, m], in [0, 1].
        floor: more than 1 gives the mutual argmax alone.
    """
    both = argmax_masks(strength)
    links = both["mutual"] & (strength > 0)
    strong = strength >= floor
    rest = both["source"] & strong & ~links.any(1, keepdim=True)
    rest |= both["target"] & strong & ~links.any(0, keepdim=True)
    return pairs_of(links | rest)


def argmax_masks(scores: Tensor) -> dict[str, Tensor]:
    """Return simple links by scores [n, m], of similarity or strength.

    Returns:
        bool [n, m] each. ``source``: every source word with its best target word; ``target``: the
        reverse; ``mutual``: what is in both. Of equals, the first is the best.
    """
    source = torch.zeros_like(scores, dtype=torch.bool)
    target = source.clone()
    source[torch.arange(len(scores)), scores.argmax(1)] = True
    target[scores.argmax(0), torch.arange(scores.shape[1])] = True
    return {"source": source, "target": target, "mutual": source & target}


def pairs_of(chosen: Tensor) -> tuple[Link, ...]:
    """Return the places that are True in bool [n, m], sorted."""
    return tuple((i, j) for i, j in chosen.nonzero().tolist())
