"""Update an index: encode new and changed files, drop removed ones.

The vectors of what was encoded are kept by content (journal.py), a batch at a time, and the index
is written from them in one step. So a run that is killed at any moment continues where it was, a
renamed file is not encoded again, and the index is at every moment the old one or the new one.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from cl2cm.errors import MissingExtraError, OnSkip, StorageError, VectorIndexError
from cl2cm.index import Allowed, BackendOptions, Index
from cl2cm.index.generation import check_backend
from cl2cm.index.layout import refuse_other_folder, sweep_killed
from cl2cm.index.metadata import read_metadata
from cl2cm.index.update.build import build_index, check_examples
from cl2cm.index.update.encode import Known, encode_new
from cl2cm.index.update.journal import (
    JOURNAL,
    DamagedJournalError,
    Journal,
    discard,
    is_useless,
)
from cl2cm.progress import Advance, say
from cl2cm.storage import locked
from cl2cm.types import Example, Floats, StrPath, VisualModel

MANY = 100_000  # vectors, whose index is not written at once


@dataclass(frozen=True, slots=True)
class Update:
    """An index, and what it took to make it: items encoded, kept as they were, and dropped."""

    index: Index
    encoded: int
    kept: int
    dropped: int


@dataclass(frozen=True, slots=True)
class UpdateOptions:
    """How an index is made again.

    Attributes:
        verify: read every file, in place of those whose size or time has changed.
        rebuild: replace an index of another model, in place of refusing to.
        batch_size: items encoded between two savings.
        backend: what the index is searched with, where that shall change.
        roots: folders that the files are in; see `Index.create`.
        wait: wait for another process that updates the index; else it is an error.
    """

    verify: bool = False
    rebuild: bool = False
    batch_size: int = 64
    backend: BackendOptions = field(default_factory=BackendOptions)
    roots: tuple[Path, ...] | None = None
    wait: bool = True


def update_index(
    model: VisualModel,
    examples: Iterable[Example],
    out: Path,
    *,
    run: StrPath,
    options: UpdateOptions | None = None,
    on_skip: OnSkip | None = None,
    progress: Advance | None = None,
) -> Update:
    """Make an index, or bring the one that is there up to date.

    Args:
        model: encodes what is new.
        examples: all that the index shall hold, with their files.
        out: the index folder.
        run: the run or export that ``model`` was loaded from.
        options: see `UpdateOptions`.
        on_skip: told id and error of each file that cannot be read, which is then left out.
        progress: called with the number of items just done.

    Raises:
        MediaError: a file that cannot be read, without ``on_skip``.
        VectorIndexError: an index of another model, without ``options.rebuild``; nothing to
            index, a folder of something else, or a damaged one.
    """
    options = options or UpdateOptions()
    examples = list(examples)
    check_examples(examples)
    out = out.resolve()
    with _exclusive(out, model, options) as before:

        def once() -> tuple[Index, set[str], int]:
            with closing(Journal(out / JOURNAL)) as journal:
                known, encoded = encode_new(
                    journal,
                    model,
                    examples,
                    verify=options.verify,
                    batch_size=options.batch_size,
                    roots=options.roots,
                    on_skip=on_skip,
                    progress=progress,
                )
                return *_write(journal, model, known, out, run, options), encoded

        try:
            made, kept, encoded = once()
        except DamagedJournalError as error:
            say(f"{error.subject}: {error.found}, so everything is encoded again")
            discard(out / JOURNAL)
            made, kept, encoded = once()
    return Update(made, encoded, len(kept) - encoded, len(before - kept))


def replace_index(
    model: VisualModel,
    examples: Sequence[Example],
    vectors: Floats,
    out: Path,
    *,
    run: StrPath,
    options: UpdateOptions | None = None,
) -> Update:
    """Make an index of vectors that are known, in place of the one that may be there.

    Args:
        model: made the vectors.
        examples: all that the index shall hold.
        vectors: theirs, float32 [N, D].
        out: the index folder.
        run: the run or export that ``model`` was loaded from.
        options: see `UpdateOptions`.

    Raises:
        VectorIndexError: as `update_index`.
    """
    options = options or UpdateOptions()
    out = out.resolve()
    with _exclusive(out, model, options) as before:
        made = build_index(
            model,
            examples,
            out,
            run=run,
            vectors=vectors,
            backend=options.backend,
            roots=options.roots,
        )
    return Update(made, len(made), 0, len(before - {example.id for example in examples}))


@contextmanager
def _exclusive(out: Path, model: VisualModel, options: UpdateOptions) -> Iterator[set[str]]:
    """Wait until no other process updates the index, and yield the ids in it.

    What was made in vain is removed.
    """
    _check(out, model, options)  # before the wait, and what was there then may be another after it
    new_folder = not out.exists()

    def on_wait() -> None:
        if not options.wait:
            raise StorageError(
                str(out),
                expected="one process at a time",
                found="another process that is writing",
                remedy="wait until it has finished",
            )
        say(f"{out}: another process is updating it, waiting")

    with locked(out / f"{JOURNAL}.lock", on_wait):
        try:
            _check(out, model, options)
            sweep_killed(out)
            yield _ids(out, options.backend)
        finally:
            if is_useless(out / JOURNAL):
                _discard(out, folder=new_folder)


def _write(
    journal: Journal,
    model: VisualModel,
    known: Known,
    out: Path,
    run: StrPath,
    options: UpdateOptions,
) -> tuple[Index, set[str]]:
    """Write the index of all that has a vector, and forget the rest; returns the ids, too."""
    contents = (content for _, content in known)
    vectors = journal.vectors(contents, model=model.fingerprint, dim=model.dim)
    kept = [(example, content) for example, content in known if content in vectors]
    if not kept:
        raise VectorIndexError(
            str(out),
            expected="at least one image or video that can be read",
            found="none",
            remedy="see what was skipped",
        )
    examples = [example for example, _ in kept]
    matrix: Floats = np.array([vectors[content] for _, content in kept], np.float32)
    matrix = matrix.reshape(-1, model.dim)
    if len(matrix) >= MANY:
        say(f"{out}: writing an index of {len(matrix):,} vectors; a graph takes minutes")
    made = build_index(
        model,
        examples,
        out,
        run=run,
        vectors=matrix,
        backend=options.backend,
        roots=options.roots,
        dates=_dates(journal, kept),
    )
    paths = (str(example.path) for example in examples)
    journal.forget(paths, {content for _, content in kept}, model=model.fingerprint)
    return made, {example.id for example in examples}


def _dates(journal: Journal, known: Known) -> dict[str, datetime | None]:
    """Return when the images among examples were taken, by id."""
    dates = {
        example.id: journal.taken(content, example.path)
        for example, content in known
        if example.kind == "image" and example.path is not None
    }
    journal.commit()
    return dates


def _check(out: Path, model: VisualModel, options: UpdateOptions) -> None:
    """Refuse what must not be replaced, and what could not be written after hours of encoding.

    Raises:
        ConfigError: a choice that cannot be.
        MissingExtraError: the backend's package is not installed.
        VectorIndexError: a folder of something else; an index of another model, that is not to be
            replaced; a server that does not answer.
    """
    refuse_other_folder(out)
    try:
        metadata = read_metadata(out)
    except VectorIndexError:  # none, or a damaged one: it is made anew
        metadata = {}
    if metadata and metadata["model"] != model.fingerprint and not options.rebuild:
        raise VectorIndexError(
            str(out),
            expected=f"an index of the model {model.fingerprint}",
            found=f"one of {metadata['model']}",
            remedy="choose another folder, or replace it with --rebuild",
        )
    check_backend(options.backend.resolve(metadata))


def _ids(out: Path, backend: BackendOptions) -> set[str]:
    """Return ids of the index that is there."""
    named = (backend.backend,) if backend.backend else ()
    try:
        index = Index.open(out, Allowed.of(backends=named))
    except (VectorIndexError, MissingExtraError):
        return set()
    ids = {item.id for item in index.items(range(len(index)))}
    index.close()
    return ids


def _discard(out: Path, *, folder: bool) -> None:
    for path in out.glob(f"{JOURNAL}*"):
        with suppress(OSError):  # the lock is open, and Windows then keeps it
            path.unlink()
    if folder:
        with suppress(OSError):  # there is something in it
            out.rmdir()
