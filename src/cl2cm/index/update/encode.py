"""Encode items for an index in batches, and write new vectors to the journal."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from cl2cm.data.scan import check_name
from cl2cm.errors import CL2CMError, MediaError, OnSkip
from cl2cm.index.update.journal import Content, Journal
from cl2cm.media.kinds import source_of
from cl2cm.progress import Advance
from cl2cm.types import Example, Floats, VisualModel

Known = list[tuple[Example, Content]]

PASSES = 3  # over files that change while they are read


def encode_batches(
    model: VisualModel,
    examples: Sequence[Example],
    batch_size: int,
    on_skip: OnSkip | None = None,
) -> Iterator[tuple[int, list[tuple[Example, Floats]]]]:
    """Encode examples batch by batch.

    Args:
        model: encodes them.
        examples: images, videos, or parts of videos.
        batch_size: examples given to the model at once.
        on_skip: told id and error of each example that cannot be read, which is then left out.

    Yields:
        The number of examples of each batch, and the batch's examples with their vectors.

    Raises:
        MediaError: an example that cannot be read, without ``on_skip``.
    """
    for start in range(0, len(examples), batch_size):
        batch = examples[start : start + batch_size]
        yield len(batch), _encode_batch(model, batch, on_skip)


def _encode_batch(
    model: VisualModel, batch: Sequence[Example], on_skip: OnSkip | None
) -> list[tuple[Example, Floats]]:
    """Encode a batch; one by one if it has a bad example and ``on_skip`` takes it."""
    try:
        vectors = model.encode_visual([_media(example) for example in batch])
        return list(zip(batch, vectors, strict=True))
    except MediaError as error:
        if on_skip is None:
            raise
        if len(batch) == 1:
            on_skip(batch[0].id, error)
            return []
    return [pair for example in batch for pair in _encode_batch(model, [example], on_skip)]


def _media(example: Example) -> Path | Example:
    if example.media is None:
        raise MediaError(
            f"item {example.id!r}",
            expected="an image or video",
            found="features only",
            remedy="encode it first and give its vectors",
        )
    check_name(example)
    return source_of(example)


def encode_new(
    journal: Journal,
    model: VisualModel,
    examples: Sequence[Example],
    *,
    verify: bool = False,
    batch_size: int = 64,
    roots: Sequence[Path] | None = None,
    on_skip: OnSkip | None = None,
    progress: Advance | None = None,
) -> tuple[Known, int]:
    """Encode all contents without a vector, each once.

    A vector is stored only if the file is unchanged since its content was read; otherwise the file
    is encoded again.

    Args:
        journal: where vectors are kept.
        model: encodes what is new.
        examples: with their files.
        verify: read every file, even if size and time are unchanged.
        batch_size: items encoded between two savings.
        roots: folders that the files are in; None: the folder of each.
        on_skip: told id and error of each file that cannot be read, which is then left out.
        progress: called with the number of items just done.

    Returns:
        The examples that could be read, each with its content, and the number of new vectors.

    Raises:
        MediaError: a file that cannot be read or does not stay as it is, without ``on_skip``.
    """
    bad: set[str] = set()

    def report(name: str, error: CL2CMError) -> None:
        if on_skip is None:
            raise error
        bad.add(name)
        on_skip(name, error)

    handler = None if on_skip is None else report
    known: Known = []
    changed: list[Example] = []
    count = 0
    for number in range(PASSES):
        left = [example for example in examples if example.id not in bad]
        known = _contents(journal, left, handler, roots, verify=verify and number == 0)
        told = progress if number == 0 else None  # each item once
        encoded, changed = _encode(journal, model, known, batch_size, handler, told)
        count += encoded
        if not changed:
            break
    else:
        for example in changed:
            report(example.id, _restless(example))
    return [pair for pair in known if pair[0].id not in bad], count


def _contents(
    journal: Journal,
    examples: Sequence[Example],
    on_skip: OnSkip | None,
    roots: Sequence[Path] | None,
    *,
    verify: bool,
) -> Known:
    found = []
    for number, example in enumerate(examples, start=1):
        try:
            found.append((example, _content(journal, example, roots, verify=verify)))
        except MediaError as bad:
            if on_skip is None:
                raise
            on_skip(example.id, bad)
        if number % 1000 == 0:
            journal.commit()
    journal.commit()
    return found


def _content(
    journal: Journal, example: Example, roots: Sequence[Path] | None, *, verify: bool
) -> Content:
    check_name(example)
    path = example.path
    try:
        if path is not None and path.is_file():
            return journal.content(example, roots, verify=verify)
        found = "features only" if path is None else "no such file"
    except OSError as error:
        found = (error.strerror or str(error)).lower()
    raise MediaError(
        str(path or f"item {example.id!r}"),
        expected="an image or video",
        found=found,
        remedy="correct the path, or skip it (--skip-bad)",
    )


def _encode(
    journal: Journal,
    model: VisualModel,
    known: Known,
    batch_size: int,
    on_skip: OnSkip | None,
    progress: Advance | None,
) -> tuple[int, list[Example]]:
    """Encode what has no vector; return how many, and the files that changed meanwhile."""
    copies = _without_vector(journal, model, known)
    content_of = {same[0].id: content for content, same in copies.items()}
    alike = {same[0].id: same for same in copies.values()}
    handler = None if on_skip is None else partial(_all_bad, alike, on_skip)
    encoded, changed = 0, list[Example]()
    if progress:
        progress(len(known) - len(copies))
    waiting = [same[0] for same in copies.values()]
    for done, batch in encode_batches(model, waiting, batch_size, handler):
        sound = []
        for example, vector in batch:
            if _is_still(journal, example, content_of[example.id]):
                sound.append((content_of[example.id], vector))
            else:
                changed.append(example)
        if sound:
            vectors: Floats = np.stack([vector for _, vector in sound])
            journal.add([content for content, _ in sound], vectors, model=model.fingerprint)
        encoded += len(sound)
        if progress:
            progress(done)
    return encoded, changed


def _without_vector(
    journal: Journal, model: VisualModel, known: Known
) -> dict[Content, list[Example]]:
    """Return the contents that the model has not encoded, each with all examples that have it."""
    contents = (content for _, content in known)
    there = journal.vectors(contents, model=model.fingerprint, dim=model.dim)
    copies: dict[Content, list[Example]] = {}
    for example, content in known:
        if content not in there:
            copies.setdefault(content, []).append(example)
    return copies


def _all_bad(
    alike: dict[str, list[Example]], on_skip: OnSkip, name: str, error: CL2CMError
) -> None:
    """Say of each file of a content that it cannot be read."""
    for one in alike[name]:
        path = one.path
        about = MediaError(
            str(path), expected=error.expected, found=error.found, remedy=error.remedy
        )
        on_skip(one.id, error if one.id == name else about)


def _is_still(journal: Journal, example: Example, content: Content) -> bool:
    try:
        return journal.content(example) == content
    except OSError:  # gone
        return False


def _restless(example: Example) -> MediaError:
    return MediaError(
        str(example.path),
        expected="a file that does not change while it is encoded",
        found="one that changed each time",
        remedy="wait until it is written, and run again",
    )
