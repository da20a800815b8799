"""One update of an index: the part with what is new, or all of it."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cl2cm.errors import MissingExtraError, OnSkip, VectorIndexError
from cl2cm.index import Allowed, BackendConfig, BackendOptions, Index
from cl2cm.index.backends.registry import load_backend
from cl2cm.index.media import folders_of
from cl2cm.index.metadata import is_ours, read_metadata
from cl2cm.index.update.build import item_of
from cl2cm.index.update.change import away_from, plan_change, read_before
from cl2cm.index.update.encode import Known, encode_new
from cl2cm.index.update.journal import JOURNAL, Journal
from cl2cm.index.update.state import states_of
from cl2cm.index.write import write_change, write_index
from cl2cm.progress import Advance, say
from cl2cm.types import Example, Floats, Item, StrPath, VisualModel

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
        folder: that the examples were found in; items of a subfolder that is there and empty stay
            in the index, since it may be a disk that is not mounted at the moment.
    """

    verify: bool = False
    rebuild: bool = False
    batch_size: int = 64
    backend: BackendOptions = field(default_factory=BackendOptions)
    roots: tuple[Path, ...] | None = None
    wait: bool = True
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """One update; the arguments are as for `update_index`."""

    model: VisualModel
    examples: list[Example]
    out: Path
    run: StrPath
    options: UpdateOptions
    on_skip: OnSkip | None
    progress: Advance | None

    def change(self) -> Update | None:
        """Write what is new beside what is there; None if everything has to be written."""
        metadata = metadata_of(self.out)
        config = self.options.backend.resolve(metadata)
        if self.options.verify or not _may_change(metadata, config, self.model, self.out):
            return None
        try:
            before = read_before(self.out, metadata)
        except VectorIndexError:  # damaged: it is made anew
            return None
        away = self._away(before.states.keys() - {example.id for example in self.examples})
        states = states_of(self.examples)
        change = plan_change(before, self.examples, states, away)
        if change is None:
            return None
        if self.progress:
            self.progress(len(self.examples) - len(change.todo))
        with closing(Journal(self.out / JOURNAL)) as journal:
            known, encoded = self._encode(journal, change.todo)
            vectors, kept = self._vectors(journal, known)
            if not kept and not change.names:
                raise self._nothing()
            state_of = dict(zip((e.id for e in self.examples), states, strict=True))
            write_change(
                self.out,
                vectors,
                _items(journal, kept),
                [state_of[example.id] for example, _ in kept],
                old=metadata,
                kept=change.kept,
                removed=change.removed,
                config=config,
                run=self.run,
                roots=self._roots(),
            )
            names = change.names | {example.id for example, _ in kept}
            replaced = len(before.states) - len(change.names)
            if journal.outdate(replaced, len(names)):
                journal.forget(self._paths(away), model=self.model.fingerprint)
        made = Index.open(self.out, self._allowed(config))
        return Update(made, encoded, len(names) - encoded, len(before.states.keys() - names))

    def everything(self) -> Update:
        """Write the index of all examples, and forget the rest."""
        before = ids_of(self.out, self.options.backend)
        states = states_of(self.examples)
        state_of = dict(zip((e.id for e in self.examples), states, strict=True))
        with closing(Journal(self.out / JOURNAL)) as journal:
            known, encoded = self._encode(journal, self.examples)
            vectors, kept = self._vectors(journal, known)
            if not kept:
                raise self._nothing()
            if len(kept) >= MANY:
                say(f"{self.out}: writing an index of {len(kept):,} vectors; a graph takes minutes")
            known_states = [state_of[example.id] for example, _ in kept]
            made = self.write(vectors, _items(journal, kept), known_states)
            names = {example.id for example, _ in kept}
            journal.forget((str(example.path) for example, _ in kept), model=self.model.fingerprint)
        return Update(made, encoded, len(names) - encoded, len(before - names))

    def write(self, vectors: Floats, items: Sequence[Item], states: Sequence[int | None]) -> Index:
        """Write all of the index, and open it."""
        config = write_index(
            self.out,
            vectors,
            items,
            model=self.model.fingerprint,
            run=self.run,
            options=self.options.backend,
            roots=self._roots(),
            states=states,
        )
        return Index.open(self.out, self._allowed(config))

    def _encode(self, journal: Journal, examples: Sequence[Example]) -> tuple[Known, int]:
        return encode_new(
            journal,
            self.model,
            examples,
            verify=self.options.verify,
            batch_size=self.options.batch_size,
            roots=self.options.roots,
            on_skip=self.on_skip,
            progress=self.progress,
        )

    def _vectors(self, journal: Journal, known: Known) -> tuple[Floats, Known]:
        """Return the vectors of what has one, and what that is."""
        contents = (content for _, content in known)
        found = journal.vectors(contents, model=self.model.fingerprint, dim=self.model.dim)
        kept = [(example, content) for example, content in known if content in found]
        matrix: Floats = np.array([found[content] for _, content in kept], np.float32)
        return matrix.reshape(-1, self.model.dim), kept

    def _away(self, gone: set[str]) -> set[str]:
        """Return the ids that stay although they are not found, and say so."""
        folder = self.options.folder
        if folder is None or not gone:
            return set()
        found = away_from(gone, folder)
        for inner, names in found.items():
            say(
                f"{folder / inner}: empty, {len(names):,} items of it stay in the index in case "
                "it is not mounted; remove the folder to drop them"
            )
        return set().union(*found.values())

    def _paths(self, away: set[str]) -> set[str]:
        paths = {str(example.path) for example in self.examples}
        folder = self.options.folder
        return paths | {str(folder / name.partition("#t=")[0]) for name in away if folder}

    def _roots(self) -> Sequence[Path]:
        if self.options.roots is not None:
            return self.options.roots
        return folders_of(path.absolute() for e in self.examples if (path := e.path) is not None)

    def _allowed(self, config: BackendConfig) -> Allowed:
        asked = self.options.backend
        return Allowed.of(asked.url, cleartext=asked.cleartext, backends=(config.name,))

    def _nothing(self) -> VectorIndexError:
        return VectorIndexError(
            str(self.out),
            expected="at least one image or video that can be read",
            found="none",
            remedy="see what was skipped",
        )


def _items(journal: Journal, known: Known) -> list[Item]:
    """Return the items of examples; the journal keeps when images were taken."""
    dates = {
        example.id: journal.taken(content, example.path)
        for example, content in known
        if example.kind == "image" and example.path is not None
    }
    journal.commit()
    return [item_of(example, dates) for example, _ in known]


def metadata_of(out: Path) -> dict[str, Any]:
    """Return the metadata of the index that is there; empty without one, or of a damaged one."""
    try:
        return read_metadata(out)
    except VectorIndexError:
        return {}


def _may_change(
    metadata: Mapping[str, Any], config: BackendConfig, model: VisualModel, out: Path
) -> bool:
    """Whether a part can be added to an index: ours, of this model and backend, in this place."""
    return (
        bool(metadata)
        and is_ours(metadata)
        and (metadata["model"], metadata["dim"]) == (model.fingerprint, model.dim)
        and (metadata["backend"], metadata["dtype"]) == (config.name, config.dtype)
        and metadata["folder"] == str(out)
        and load_backend(config.name).parted
    )


def ids_of(out: Path, backend: BackendOptions) -> set[str]:
    """Return ids of the index that is there."""
    named = (backend.backend,) if backend.backend else ()
    try:
        index = Index.open(out, Allowed.of(backends=named))
    except (VectorIndexError, MissingExtraError):
        return set()
    ids = {item.id for item in index.items(range(len(index)))}
    index.close()
    return ids
