"""The texts of a training: their case, their unknown words, and their tokens or states."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cl2cm.data.caption_pairs import CaptionPairs
from cl2cm.encode.encoding import encode_texts
from cl2cm.encode.known_texts import known_texts
from cl2cm.encode.store import FeatureStore
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.tokens import PooledStates, StoredStates, TextSource, TokenIds
from cl2cm.errors import EncoderError
from cl2cm.model.config import Config
from cl2cm.progress import say
from cl2cm.text import in_case
from cl2cm.types import Example

UNKNOWN_TEXTS = 200  # of a language, whose tokens are looked at
SOME_UNKNOWN, MOST_UNKNOWN = 0.1, 0.5  # share of a language's tokens: a warning, an error


def lower_cased(example: Example) -> Example:
    """Return an example whose captions and translations are in lower case, as queries will be."""

    def lower(texts: Sequence[str | None]) -> tuple[Any, ...]:
        return tuple(text and in_case(text, "lower") for text in texts)

    return replace(
        example,
        captions={code: lower(texts) for code, texts in example.captions.items()},
        translations={
            code: {engine: lower(texts) for engine, texts in engines.items()}
            for code, engines in example.translations.items()
        },
    )


def text_sources(
    config: Config,
    texts: Sequence[str],
    backbone: TextBackbone,
    store: FeatureStore | None,
    *,
    reuse: bool,
) -> tuple[TextSource, PooledStates | None]:
    """Return tokens of all texts; and their means, where frozen states go to heads without layers.

    With ``reuse``, states in the stores of other trainings are not computed again.
    """
    if config.text.freeze != "all":
        return TokenIds(backbone.tokenize(texts), backbone.special), None
    if store is None:
        root = Path(config.data.features) if config.data.features else None
        known = known_texts(root, backbone, texts) if reuse else ()
        store = encode_texts(texts, backbone, root=root, known=known)
    rows = torch.tensor([store.row(text) for text in texts])
    means = None if config.network.layers else PooledStates(store.means(), rows)
    return StoredStates(store, rows), means


def frozen_states(
    config: Config, texts: Sequence[str], backbone: TextBackbone, source: TextSource
) -> StoredStates:
    """Return the states of all texts before training: the source, where it has them."""
    if isinstance(source, StoredStates):
        return source
    root = Path(config.data.features) if config.data.features else None
    store = encode_texts(texts, backbone, root=root)
    return StoredStates(store, torch.tensor([store.row(text) for text in texts]))


def check_unknown(
    backbone: TextBackbone, pairs: CaptionPairs, texts: Sequence[str], source: str
) -> None:
    """Refuse training texts whose words the tokenizer does not know.

    Raises:
        EncoderError: most tokens of a language are unknown.
    """
    owner = np.repeat(pairs.group_language, np.diff(pairs.choices))
    rows = {code: pairs.target[owner == i] for i, code in enumerate(pairs.languages)}
    for language, of_language in {source: pairs.source, **rows}.items():
        distinct = np.unique(of_language)
        picked = distinct[:: max(1, len(distinct) // UNKNOWN_TEXTS)]
        share = backbone.unknown_share([texts[row] for row in picked.tolist()])
        if share > MOST_UNKNOWN:
            raise EncoderError(
                f"{backbone.name}, captions in {language!r}",
                expected="a vocabulary that has their words",
                found=f"{share:.0%} unknown tokens",
                remedy="choose a text encoder for that language, or check text.lower_case",
            )
        if share > SOME_UNKNOWN:
            say(f"warning: {share:.0%} of the tokens of {language} are unknown to {backbone.name}")
