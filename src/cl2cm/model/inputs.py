"""What a model is given: lists of texts that have something in them."""

from collections.abc import Iterable

from cl2cm.errors import QueryError
from cl2cm.text import is_blank


def text_list(texts: Iterable[str]) -> list[str]:
    """Return texts as a list.

    Raises:
        QueryError: one text in place of a list, or a text without a word.
    """
    if isinstance(texts, str):
        raise QueryError(
            "texts",
            expected="a list of texts",
            found=f"a single one ({texts[:40]!r})",
            remedy="put it into a list: [...]",
        )
    listed = list(texts)
    for text in listed:
        if not isinstance(text, str) or is_blank(text):
            found = "an empty text" if isinstance(text, str) else f"{text!r:.40}"
            raise QueryError("query", expected="some words", found=found, remedy="type a word")
    return listed
