"""An index that is made again: only what is new or changed is encoded, what is gone is dropped.

The vectors of what was encoded are kept by content (journal.py), a batch at a time, and the index
is written from them in one step. So a run that is killed at any moment goes on where it was, a
renamed file is not encoded again, and the index is at every moment the old one or the new one.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cl2cm.errors import MediaError, MissingExtraError, VectorIndexError
from cl2cm.index import Choice, Index
from cl2cm.index.backends import check_backend
from cl2cm.index.head import read_head, refuse_other_folder
from cl2cm.index_building import (
    BadHandler,
    build_index,
    check_examples,
    check_name,
    encode_examples,
)
from cl2cm.journal import JOURNAL, Content, Journal
from cl2cm.progress import say
from cl2cm.storage import locked, storage_errors
from cl2cm.types import Example, Floats, VisualModel

MANY = 100_000  # vectors, whose index is not written at once
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Update:
    """An index, and what it took to make it: items encoded, kept as they were, and dropped."""

    index: Index
    encoded: int
    kept: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Care:
    """How an index is made again.

    Attributes:
        verify: read every file, in place of those whose size or time has changed.
        rebuild: replace an index of another model, in place of refusing to.
        batch_size: items encoded between two savings.
        choice: what the index is searched with, where that shall change.
    """

    verify: bool = False
    rebuild: bool = False
    batch_size: int = 64
    choice: Choice = field(default_factory=Choice)


def update_index(
    model: VisualModel,
    examples: Iterable[Example],
    out: Path,
    *,
    run: Path,
    care: Care | None = None,
    on_bad: BadHandler | None = None,
    progress: Progress | None = None,
) -> Update:
    """Make an index, or bring the one that is there up to date.

    Args:
        model: encodes what is new.
        examples: all that the index shall hold, with their files.
        out: the index folder.
        run: the run or export that ``model`` was loaded from.
        care: see `Care`.
        on_bad: called for each file that cannot be read, which is then left out.
        progress: called after each batch with the number of items done.

    Raises:
        MediaError: a file that cannot be read, without ``on_bad``.
        VectorIndexError: an index of another model, without ``care.rebuild``; nothing to index, a
            folder of something else, or a damaged one.
    """
    care = care or Care()
    examples = list(examples)
    check_examples(examples)
    out = out.resolve()
    refuse_other_folder(out)
    before = _open(out, model, care)
    new_folder = not out.exists()
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    with locked(
        out / f"{JOURNAL}.lock", lambda: say(f"{out}: another process updates it, waiting")
    ):
        journal = Journal(out / JOURNAL)
        try:
            known = _contents(journal, examples, on_bad, verify=care.verify)
            encoded = _encode_new(journal, model, known, care.batch_size, on_bad, progress)
            made, kept = _write(journal, model, known, out, run, care)
        finally:
            useless = journal.is_empty()
            journal.close()
            if useless:  # nothing was encoded: leave no trace
                _discard(out, folder=new_folder)
    return Update(made, encoded, len(kept) - encoded, len(before - kept))


def _write(
    journal: Journal,
    model: VisualModel,
    known: Sequence[tuple[Example, Content]],
    out: Path,
    run: Path,
    care: Care,
) -> tuple[Index, set[str]]:
    """Write the index of all that has a vector, and forget the rest; returns the ids, too."""
    contents = (content for _, content in known)
    vectors = journal.vectors(contents, model=model.fingerprint, dim=model.dim)
    kept = [(example, content) for example, content in known if content in vectors]
    examples = [example for example, _ in kept]
    matrix: Floats = np.array([vectors[content] for _, content in kept], np.float32)
    matrix = matrix.reshape(-1, model.dim)
    if len(matrix) >= MANY:
        say(f"{out}: writing an index of {len(matrix):,} vectors; a graph takes minutes")
    made = build_index(model, examples, out, run=run, vectors=matrix, choice=care.choice)
    paths = (str(example.image or example.video) for example in examples)
    journal.forget(paths, {content for _, content in kept}, model=model.fingerprint)
    return made, {example.id for example in examples}


def watch(
    once: Callable[[], object],
    look: Callable[[], Sequence[Example]],
    *,
    seconds: float = 2.0,
    stop: Callable[[], bool] = lambda: False,
    on_bad: Callable[[MediaError], None] | None = None,
) -> None:
    """Call ``once`` now, and again whenever a file that ``look`` finds is another.

    A folder is looked at by names, sizes and times, and a change counts once it has lasted from
    one look to the next: a file that is still being written is waited for.

    Args:
        once: brings the index up to date.
        look: finds the files.
        seconds: between two looks.
        stop: asked between two looks whether to end.
        on_bad: called with what ``once`` could not read, which the next change may mend; without
            it that is an error.

    Raises:
        MediaError: a file that cannot be read, without ``on_bad``.
    """
    done = None
    while not stop():
        seen = _seen(look)
        if seen != done:
            time.sleep(seconds if done is not None else 0)
            if (again := _seen(look)) == seen:
                try:
                    once()
                except MediaError as error:
                    if on_bad is None:
                        raise
                    on_bad(error)
                done = again
                continue
        time.sleep(seconds)


def _seen(look: Callable[[], Sequence[Example]]) -> object:
    try:
        found = look()
    except MediaError:  # an empty folder may fill
        return frozenset()
    state = set()
    for example in found:
        path = example.image or example.video
        try:
            file = path.stat() if path is not None else None
        except OSError:  # gone between the two
            continue
        if file is not None:
            state.add((example.id, file.st_size, file.st_mtime_ns))
    return frozenset(state)


def _open(out: Path, model: VisualModel, care: Care) -> set[str]:
    """Ids of the index that is there.

    Raises:
        ConfigError: a choice that cannot be.
        MissingExtraError: the backend's package is not installed.
        VectorIndexError: the index is of another model, and not to be replaced; a server that
            does not answer.
    """
    try:
        head = read_head(out)
    except VectorIndexError:  # none, or a damaged one: it is made anew
        head = {}
    if head and head["model"] != model.fingerprint and not care.rebuild:
        raise VectorIndexError(
            str(out),
            expected=f"an index of the model {model.fingerprint}",
            found=f"one of {head['model']}",
            remedy="choose another folder, or replace it with --rebuild",
        )
    check_backend(care.choice.resolve(head))
    try:
        index = Index.open(out)
    except (VectorIndexError, MissingExtraError):
        return set()
    ids = {item.id for item in index.items(range(len(index)))}
    index.close()
    return ids


def _discard(out: Path, *, folder: bool) -> None:
    for path in out.glob(f"{JOURNAL}*"):
        path.unlink(missing_ok=True)
    if folder and not any(out.iterdir()):
        out.rmdir()


def _contents(
    journal: Journal, examples: Sequence[Example], on_bad: BadHandler | None, *, verify: bool
) -> list[tuple[Example, Content]]:
    found = []
    for number, example in enumerate(examples, start=1):
        try:
            found.append((example, _content(journal, example, verify=verify)))
        except MediaError as bad:
            if on_bad is None:
                raise
            on_bad(example, bad)
        if number % 1000 == 0:
            journal.commit()
    journal.commit()
    return found


def _content(journal: Journal, example: Example, *, verify: bool) -> Content:
    check_name(example)
    path = example.image or example.video
    try:
        if path is not None and path.is_file():
            return journal.content(example, verify=verify)
        found = "features only" if path is None else "no such file"
    except OSError as error:
        found = (error.strerror or str(error)).lower()
    raise MediaError(
        str(path or f"item {example.id!r}"),
        expected="a picture or film",
        found=found,
        remedy="correct the path, or skip what is broken",
    )


def _encode_new(
    journal: Journal,
    model: VisualModel,
    known: Sequence[tuple[Example, Content]],
    batch_size: int,
    on_bad: BadHandler | None,
    progress: Progress | None,
) -> int:
    """Encode each content that has no vector, once; returns the number of new vectors."""
    contents = (content for _, content in known)
    there = journal.vectors(contents, model=model.fingerprint, dim=model.dim)
    new = {content: example for example, content in known if content not in there}
    waiting, encoded = list(new.items()), 0
    if progress:
        progress(len(known) - len(waiting))
    for first in range(0, len(waiting), batch_size):
        batch = waiting[first : first + batch_size]
        contents_of = {example.id: content for content, example in batch}
        made = encode_examples(model, [example for _, example in batch], on_bad)
        if made:
            vectors: Floats = np.stack([vector for _, vector in made])
            keys = [contents_of[example.id] for example, _ in made]
            journal.add(keys, vectors, model=model.fingerprint)
        encoded += len(made)
        if progress:
            progress(len(known) - len(waiting) + first + len(batch))
    return encoded
