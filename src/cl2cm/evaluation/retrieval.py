"""The metrics of the method page: R@1, R@5, R@10, median rank, mAP, both directions, SumR.

Each caption is its own query (text -> vision); a picture asks for its captions, and the best rank
among them counts for recall and median rank, all of them for mAP. The gallery of a language is
every picture that has a caption in it. Similarities are computed in pieces, so memory stays
bounded; ties are broken by row, as in the exact index. A score that is NaN or infinite is an error,
because no comparison puts it in its place.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cl2cm.data.queries import caption_languages, caption_queries
from cl2cm.data.source import examples_of
from cl2cm.errors import LanguageError
from cl2cm.media.kinds import source_of
from cl2cm.metrics import metrics, trec_lines
from cl2cm.model.finite import check_vectors
from cl2cm.storage import atomic_file
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
    translate: Translate | None = None,
) -> dict[str, Any]:
    """Metrics per language of a model on one split.

    Args:
        model: the model under test.
        examples: the items to search among, or a manifest.
        split: only items of this split; by default all examples, or ``test`` of a manifest.
        languages: caption languages; empty: all.
        vectors: id -> unit vector [D] of pictures that are encoded already.
        trec: write the text -> vision runs to this file, for trec_eval.
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
    asked = {language: caption_queries(examples, language) for language in chosen}
    known = dict(vectors or {})
    missing = [
        example
        for example in {e.id: e for q in asked.values() for e in q.gallery}.values()
        if example.id not in known
    ]
    if missing:
        media = [source_of(example) for example in missing]
        known |= dict(zip((e.id for e in missing), model.encode_visual(media), strict=True))
    result = {}
    lines: list[str] = []
    for language, (texts, rows, gallery) in asked.items():
        vision = np.stack([known[example.id] for example in gallery])
        check_vectors(vision, [example.id for example in gallery], "item")
        text = _encode_once(model, translate(language, texts) if translate else texts)
        check_vectors(text, texts, f"{language} caption")
        result[language] = metrics(text, vision, rows)
        if trec is not None:
            lines += trec_lines(language, text, vision, [example.id for example in gallery])
    if trec is not None:
        with atomic_file(Path(trec)) as file:
            file.write("".join(lines).encode())
    return result


def _encode_once(model: SearchModel, texts: Sequence[str]) -> Floats:
    """Unit vectors [Q, D]; equal texts get equal vectors, so that they tie, whatever the batch."""
    rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    vectors: Floats = model.encode_text(list(rows))[[rows[text] for text in texts]]
    return vectors
