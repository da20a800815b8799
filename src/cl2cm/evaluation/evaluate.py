"""The metrics of the method page: R@1, R@5, R@10, median rank, mAP, both directions, SumR.

Each caption is its own query (text -> vision); an image asks for its captions, and the best rank
among them counts for recall and median rank, all of them for mAP. The gallery of a language is
every image that has a caption in it. Similarities are computed in pieces, so memory stays
bounded; ties are broken by row, as in the exact index. A score that is NaN or infinite is an error,
because no comparison puts it in its place.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from cl2cm.data.examples import examples_of
from cl2cm.data.queries import caption_languages, caption_queries
from cl2cm.errors import LanguageError
from cl2cm.evaluation.per_query import ENDINGS, TOP, PerQueryWriter
from cl2cm.evaluation.ranked_lists import Measured
from cl2cm.evaluation.trec import TrecWriter, trec_files
from cl2cm.media.kinds import source_of
from cl2cm.metrics import metrics
from cl2cm.model.finite import check_vectors
from cl2cm.storage import check_ending, check_writable
from cl2cm.types import Example, Floats, SearchModel, StrPath

Translate = Callable[[str, list[str]], list[str]]  # language, texts → texts in the source language


def evaluate(
    model: SearchModel,
    examples: Iterable[Example] | StrPath,
    *,
    split: str | None = None,
    languages: Sequence[str] = (),
    vectors: dict[str, Floats] | None = None,
    trec: StrPath | None = None,
    depth: int = 0,
    per_query: StrPath | None = None,
    top: int = TOP,
    translate: Translate | None = None,
) -> dict[str, Any]:
    """Return metrics per language of a model on one split.

    Args:
        model: the model under test.
        examples: the items to search among, or a manifest.
        split: only items of this split; by default all examples, or ``test`` of a manifest.
        languages: caption languages; empty: all.
        vectors: id -> unit vector [D] of images that are encoded already.
        trec: write ranked lists to this file, and relevant items and the other direction to files
            beside it, for trec_eval; see ``evaluation/trec.py``.
        depth: items of each of these lists; 0: all, which trec_eval needs for the same mAP.
        per_query: write ranks, relevant items and best items of each query to this file, ``.jsonl``
            or ``.csv``; see ``evaluation/per_query.py``.
        top: best items of each query in it; 0: all.
        translate: applied to the captions of each language before they are encoded.

    Returns:
        language -> metrics, see ``metrics``.

    Raises:
        LanguageError: a language has no captions.
        ManifestError: the manifest does not fit the format, or nothing is of the split.
        NumberError: the vector of an item or a caption is not finite.

    Example:
        >>> import cl2cm
        >>> found = cl2cm.evaluate(cl2cm.load("run"), "manifest.jsonl", languages=["en"])
        >>> found["en"]["queries"], found["en"]["gallery"]
        (48, 24)
        >>> found["en"]["text_to_vision"]["R@10"] > 50
        True
    """
    check_outputs(trec, per_query)
    if split is None and isinstance(examples, str | os.PathLike):
        split = "test"
    examples = examples_of(examples, split=split)
    chosen = list(languages) or caption_languages(examples)
    if not chosen:
        raise LanguageError(
            "evaluation",
            expected="captions in at least one language",
            found=f"none among {len(examples)} items",
            remedy="choose another split, or another manifest",
        )
    with ExitStack() as stack:
        writers: list[TrecWriter | PerQueryWriter] = []
        if trec is not None:
            writers.append(stack.enter_context(TrecWriter(Path(trec), depth=depth)))
        if per_query is not None:
            writers.append(stack.enter_context(PerQueryWriter(Path(per_query), top=top)))
        result = {}
        for measured in measure(model, examples, chosen, vectors=vectors, translate=translate):
            result[measured.language] = metrics(measured.text, measured.vision, measured.asked.rows)
            for writer in writers:
                writer.write(measured)
    return result


def check_outputs(trec: StrPath | None, per_query: StrPath | None) -> None:
    """Refuse files of an evaluation that could not be written, before anything is computed.

    Raises:
        ConfigError: a name has another ending than it needs.
        StorageError: a place that cannot be written.
    """
    paths = [] if trec is None else [p for both in trec_files(Path(trec)).values() for p in both]
    if per_query is not None:
        check_ending("--per-query", Path(per_query), ENDINGS)
        paths.append(Path(per_query))
    for path in paths:
        check_writable(path)


def measure(
    model: SearchModel,
    examples: Sequence[Example],
    languages: Iterable[str],
    *,
    vectors: Mapping[str, Floats] | None = None,
    translate: Translate | None = None,
) -> Iterator[Measured]:
    """Encode the captions of each language, and the items that have one.

    Args:
        model: the model under test.
        examples: the items to search among.
        languages: of the captions.
        vectors: id → unit vector [D] of items that are encoded already.
        translate: as in `evaluate`.

    Raises:
        LanguageError, NumberError: as `evaluate`.
    """
    asked = {language: caption_queries(examples, language) for language in languages}
    known = dict(vectors or {})
    missing = [
        example
        for example in {e.id: e for q in asked.values() for e in q.gallery}.values()
        if example.id not in known
    ]
    if missing:
        media = [source_of(example) for example in missing]
        known |= dict(zip((e.id for e in missing), model.encode_visual(media), strict=True))
    for language, queries in asked.items():
        texts, names = queries.texts, [example.id for example in queries.gallery]
        vision = np.stack([known[name] for name in names])
        check_vectors(vision, names, "item")
        text = _encode_once(model, translate(language, texts) if translate else texts)
        check_vectors(text, texts, f"{language} caption")
        yield Measured(language, queries, text, vision)


def _encode_once(model: SearchModel, texts: Sequence[str]) -> Floats:
    """Return unit vectors [Q, D]; equal texts get equal vectors in any batch."""
    rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    vectors: Floats = model.encode_text(list(rows))[[rows[text] for text in texts]]
    return vectors
