"""Update an index: encode new and changed files, drop removed ones.

The vectors of what was encoded are kept by content (journal.py), a batch at a time, and the index
is written from them in one step. So a run that is killed at any moment continues where it was, a
renamed file is not encoded again, and the index is at every moment the old one or the new one.

What is unchanged is known by the state of its file (state.py) and stays in the files that hold it;
only a part with the other items is written (change.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cl2cm.errors import OnSkip, StorageError, VectorIndexError
from cl2cm.index.generation import check_backend
from cl2cm.index.layout import refuse_other_folder, sweep_killed
from cl2cm.index.update.build import check_examples, item_of
from cl2cm.index.update.journal import JOURNAL, DamagedJournalError, discard, is_useless
from cl2cm.index.update.state import states_of
from cl2cm.index.update.work import Update, UpdateOptions, Work, ids_of, metadata_of
from cl2cm.progress import Advance, say
from cl2cm.storage import locked
from cl2cm.types import Example, Floats, StrPath, VisualModel

__all__ = ["Update", "UpdateOptions", "has_index_of", "replace_index", "update_index"]


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
    with _exclusive(out, model, options):
        work = Work(model, examples, out, run, options, on_skip, progress)
        try:
            return work.change() or work.everything()
        except DamagedJournalError as error:
            say(f"{error.subject}: {error.found}, so everything is encoded again")
            discard(out / JOURNAL)
            return work.everything()


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
    with _exclusive(out, model, options):
        before = ids_of(out, options.backend)
        work = Work(model, [*examples], out, run, options, None, None)
        made = work.write(vectors, [item_of(e) for e in examples], states_of(examples))
    return Update(made, len(made), 0, len(before - {example.id for example in examples}))


@contextmanager
def _exclusive(out: Path, model: VisualModel, options: UpdateOptions) -> Iterator[None]:
    """Wait until no other process updates the index; what was made in vain is removed."""
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
            yield
        finally:
            if is_useless(out / JOURNAL):
                _discard(out, folder=new_folder)


def has_index_of(model: VisualModel, out: Path) -> bool:
    """Return whether there is an index of a model, which an update can add to."""
    return metadata_of(out).get("model") == model.fingerprint


def _check(out: Path, model: VisualModel, options: UpdateOptions) -> None:
    """Refuse what must not be replaced, and what could not be written after hours of encoding.

    Raises:
        ConfigError: a choice that cannot be.
        MissingExtraError: the backend's package is not installed.
        VectorIndexError: a folder of something else; an index of another model, that is not to be
            replaced; a server that does not answer.
    """
    refuse_other_folder(out)
    metadata = metadata_of(out)  # none of a damaged one: it is made anew
    if metadata and metadata["model"] != model.fingerprint and not options.rebuild:
        raise VectorIndexError(
            str(out),
            expected=f"an index of the model {model.fingerprint}",
            found=f"one of {metadata['model']}",
            remedy="choose another folder, or replace it with --rebuild",
        )
    check_backend(options.backend.resolve(metadata))


def _discard(out: Path, *, folder: bool) -> None:
    for path in out.glob(f"{JOURNAL}*"):
        with suppress(OSError):  # the lock is open, and Windows then keeps it
            path.unlink()
    if folder:
        with suppress(OSError):  # there is something in it
            out.rmdir()
