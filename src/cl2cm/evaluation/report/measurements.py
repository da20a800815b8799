"""The measurements of a report that need a model: ranks, and looks at single items.

The similarities of a batch follow Eq. 9: CL between source captions and target texts by the
cross-lingual network, CM between images and the same target texts by the student. Transfer shows
where CM has the pattern of CL.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from cl2cm.data.queries import Queries, caption_queries
from cl2cm.encode.steps import text_states
from cl2cm.encode.tokens import pad_tokens
from cl2cm.errors import QueryError
from cl2cm.evaluation.alignment.links import Alignment, align_texts
from cl2cm.evaluation.alignment.words import Reader
from cl2cm.evaluation.bench.report import figures_of
from cl2cm.evaluation.evaluate import measure
from cl2cm.evaluation.ranks import Ranks, ranks_of
from cl2cm.evaluation.report.subjects import Run
from cl2cm.evaluation.report.tsne import tsne
from cl2cm.evaluation.subject import Subject
from cl2cm.text import normalise
from cl2cm.types import Example, Floats

Matrix = npt.NDArray[np.float64]

BATCH = 32  # items of the batch
_FEWEST = 4  # items that make a batch
_POINTS = 600  # of the map
_WORDS = 14  # of a text whose alignment is shown
IMAGES = "images and videos"  # series of the map


def measure_run(run: Run, subject: Subject) -> None:
    """Rank the captions of all languages by a run, and note its ranks and figures."""
    found = measure(
        subject.model,
        subject.examples,
        subject.languages,
        vectors=subject.vectors,
        translate=subject.translate,
    )
    run.ranks = {one.language: ranks_of(one) for one in found}
    run.rows = [
        {"label": run.label, "language": code, **figures_of(ranks)}
        for code, ranks in run.ranks.items()
    ]


# --- one batch -------------------------------------------------------------------------------


class Batch(NamedTuple):
    """Items with a source caption and a text in each target language.

    Attributes:
        items: the items.
        source: a caption of each.
        targets: language → a text of each: a translation of the caption, or a human caption.
        translated: languages whose texts are translations.
    """

    items: list[Example]
    source: list[str]
    targets: dict[str, list[str]]
    translated: list[str]


def choose_batch(
    examples: Sequence[Example], source: str, languages: Sequence[str], most: int = BATCH
) -> Batch | None:
    """Return items spread over a split that have texts in the source and in all languages.

    Languages that would leave too few items are left out; None where there is none.
    """
    kept: list[str] = []
    items = [example for example in examples if example.captions.get(source)]
    for code in (code for code in languages if code != source):
        fewer = [example for example in items if _target(example, source, code)]
        if len(fewer) >= _FEWEST:
            items, kept = fewer, [*kept, code]
    if not kept:
        return None
    places = np.linspace(0, len(items) - 1, min(most, len(items)), dtype=int)
    items = [items[place] for place in places]
    return Batch(
        items,
        [example.captions[source][0] for example in items],
        {code: [_target(example, source, code) for example in items] for code in kept},
        [code for code in kept if any(_translation(e, source, code) for e in items)],
    )


def _target(example: Example, source: str, code: str) -> str:
    """Return the text of an item in a language; empty without one."""
    human = example.captions.get(code)
    return _translation(example, source, code) or (human[0] if human else "")


def _translation(example: Example, source: str, code: str) -> str:
    """Return the translation of an item's first source caption; empty without one."""
    captions = example.captions.get(source, ())
    for column in example.translations.get(code, {}).values():
        if column and column[0] and len(column) == len(captions):
            return column[0]
    return ""


def cross_modal(subject: Subject, batch: Batch) -> dict[str, Matrix]:
    """Return language → similarity of the images with the texts [B, B] by the student."""
    missing = [example.id for example in batch.items if example.id not in subject.vectors]
    if missing:
        return {}
    images = np.stack([subject.vectors[example.id] for example in batch.items])
    return {
        code: (images @ _encode(subject, code, texts).T).astype(np.float64)
        for code, texts in batch.targets.items()
        if code in subject.languages
    }


def _encode(subject: Subject, code: str, texts: list[str]) -> Floats:
    asked = subject.translate(code, texts) if subject.translate else texts
    return subject.model.encode_text(asked)


def cross_lingual(reader: Reader, batch: Batch) -> dict[str, Matrix]:
    """Return language → similarity of the captions with the texts [B, B] by the teacher."""
    source = _sentences(reader, batch.source)
    return {
        code: (source @ _sentences(reader, texts).T).astype(np.float64)
        for code, texts in batch.targets.items()
    }


@torch.no_grad()
def _sentences(reader: Reader, texts: Sequence[str]) -> Floats:
    """Return unit vectors [N, D] of texts by a reader's network."""
    assert reader.network is not None  # noqa: S101 - only a backbone alone has none
    ids = reader.backbone.tokenize([normalise(text) for text in texts])
    tokens = pad_tokens(ids, reader.backbone.special)
    if reader.network.backbone is None:
        tokens = text_states(reader.backbone, tokens)
    vectors: Floats = reader.network.encode_text(tokens).sentence.float().numpy()
    return vectors


def likeness(one: Matrix, other: Matrix) -> float | None:
    """Return Pearson's correlation of two similarities [B, B] without their diagonals.

    None where one of them is constant, as with equal captions.
    """
    off = ~np.eye(len(one), dtype=bool)
    if one[off].std() == 0 or other[off].std() == 0:
        return None
    return float(np.corrcoef(one[off], other[off])[0, 1])


def chained(similarity: Matrix) -> list[int]:
    """Return an order of the items in which each is followed by the most similar one left."""
    alike = similarity + similarity.T
    order = [int(alike.sum(1).argmax())]
    left = set(range(len(alike))) - set(order)
    while left:
        order.append(max(left, key=lambda item: (alike[order[-1], item], -item)))
        left.remove(order[-1])
    return order


def alignments(reader: Reader, batch: Batch, languages: int = 6) -> list[tuple[str, Alignment]]:
    """Return the alignment of one short caption with its text in each language."""
    lengths = [len(text.split()) for text in batch.source]
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i] > _WORDS, -lengths[i]))
    found = []
    for code, texts in list(batch.targets.items())[:languages]:
        for place in order:
            try:
                one = align_texts(reader, batch.source[place], texts[place])
            except QueryError:
                continue
            if len(one.source) <= 2 * _WORDS and len(one.target) <= 2 * _WORDS:
                found.append((code, one))
                break
    return found


# --- single queries --------------------------------------------------------------------------


def worst_queries(
    run: Run, subject: Subject, languages: Sequence[str], most: int
) -> list[dict[str, Any]] | None:
    """Return the captions whose image or video has the worst rank, worst first.

    None where the ranks belong to other captions than the manifest has.

    Returns:
        ``{"language", "caption", "item", "rank", "gallery", "first", "elsewhere"}``: ``first`` is
        the item in the first place, ``elsewhere`` the best rank of the same item in each other
        language.
    """
    ranks = run.ranks or {}
    galleries = {code: _queries(code, ranks[code], subject) for code in languages if code in ranks}
    asked = {code: found for code, found in galleries.items() if found is not None}
    if not asked:
        return None
    queries = [
        (rank, code, row)
        for code in asked
        for row, rank in enumerate(ranks[code].captions.tolist())
        if rank > 1
    ]
    chosen = sorted(queries, key=lambda query: -query[0])[:most]
    first: dict[tuple[str, int], str] = {}
    for code in dict.fromkeys(code for _, code, _ in chosen):
        rows = [row for _, other, row in chosen if other == code]
        first |= _first_items(subject, code, asked[code], rows)
    best = {code: _best_by_item(ranks[code]) for code in asked}
    return [
        {
            "language": code,
            "caption": asked[code].texts[row],
            "item": (item := asked[code].gallery[int(asked[code].rows[row])].id),
            "rank": rank,
            "gallery": len(asked[code].gallery),
            "first": first[code, row],
            "elsewhere": {o: best[o][item] for o in best if o != code and item in best[o]},
        }
        for rank, code, row in chosen
    ]


def _queries(code: str, ranks: Ranks, subject: Subject) -> Queries | None:
    """Return the captions that were ranked; None where the manifest has others."""
    by_id = {example.id: example for example in subject.examples}
    items = [by_id[name] for name in ranks.ids.tolist() if name in by_id]
    if len(items) < len(ranks.ids) or not all(item.captions.get(code) for item in items):
        return None
    found = caption_queries(items, code)
    return found if np.array_equal(found.rows, ranks.rows) else None


def _first_items(
    subject: Subject, code: str, asked: Queries, rows: Sequence[int]
) -> dict[tuple[str, int], str]:
    texts = _encode(subject, code, [asked.texts[row] for row in rows])
    gallery = np.stack([subject.vectors[example.id] for example in asked.gallery])
    firsts = (texts @ gallery.T).argmax(1).tolist()
    return {(code, row): asked.gallery[first].id for row, first in zip(rows, firsts, strict=True)}


def _best_by_item(ranks: Ranks) -> dict[str, int]:
    best = np.full(len(ranks.ids), np.iinfo(np.int64).max)
    np.minimum.at(best, ranks.rows, ranks.captions)
    return dict(zip(ranks.ids.tolist(), best.tolist(), strict=True))


# --- the map ---------------------------------------------------------------------------------


class MapPoint(NamedTuple):
    """A point of the map: a language or ``IMAGES``, what it is, and its place."""

    series: str
    text: str
    x: float
    y: float


def map_of(subject: Subject, languages: Sequence[str]) -> list[MapPoint]:
    """Return the places of items and of one caption of each in every language."""
    codes = [code for code in languages if code in subject.languages]
    whole = [e for e in subject.examples if all(e.captions.get(code) for code in codes)]
    count = min(len(whole), _POINTS // (1 + len(codes)))
    if not codes or count < _FEWEST:
        return []
    items = [whole[place] for place in np.linspace(0, len(whole) - 1, count, dtype=int)]
    vectors = [np.stack([subject.vectors[example.id] for example in items])]
    names = [(IMAGES, example.id) for example in items]
    for code in codes:
        texts = [example.captions[code][0] for example in items]
        vectors.append(_encode(subject, code, texts))
        names += [(code, text) for text in texts]
    places = tsne(np.concatenate(vectors)).tolist()
    return [MapPoint(*name, *place) for name, place in zip(names, places, strict=True)]
