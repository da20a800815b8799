"""Checksums of captions, which show whether a text differs from the published one.

Counts do not show a caption that lost its end. A difference here is reported and not refused: a
publisher may have corrected a word, and results are then still worth having, though not the same.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping

from cl2cm.types import Example


def wording_checksum(examples: Iterable[Example], language: str) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a language's captions.

    They are taken by sorted id and in their order, one per line after its id and a tab.
    """
    lines = sorted((item.id, item.captions.get(language, ())) for item in examples)
    text = "".join(f"{name}\t{caption}\n" for name, captions in lines for caption in captions)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def wording_notes(examples: Iterable[Example], published: Mapping[str, str]) -> Iterator[str]:
    """Return a note for each language whose captions differ from the published wording.

    Args:
        examples: what was read.
        published: language → checksum, by `wording_checksum`.
    """
    items = list(examples)
    for language, checksum in published.items():
        if (found := wording_checksum(items, language)) != checksum:
            yield (
                f"captions in {language} are not word for word those published "
                f"(checksum {checksum}, found {found}): a line may be cut; fetch its file again"
            )
