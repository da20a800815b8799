"""Every kind of file that we write, damaged: it is an error, or the result is the same as before.

Nothing else may happen: no other result, no exception that is not ours.
"""

import os
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from cl2cm.encode.rows import Rows
from cl2cm.encode.store import FeatureStore
from cl2cm.encode.store_writing import write_store
from cl2cm.errors import CL2CMError
from cl2cm.evaluation.alignment.links import align
from cl2cm.index import BackendConfig, Index
from cl2cm.index.metadata import parts_of, read_metadata
from cl2cm.index.update.journal import JOURNAL, Content, Journal
from cl2cm.index.write import write_change
from cl2cm.model.checkpoint import load
from cl2cm.storage import has_hash, sha256_file, verified
from cl2cm.training.resume import Position, load_state, save_state
from cl2cm.translate.cache import Origin, TranslationCache
from cl2cm.types import Item
from fixtures.damage import DAMAGES, swap

DIM = 32


def unit(count, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


# --- kinds: how a folder is made, and what is read from it ----------------------------------------


class Indexes:
    files = ("vectors-*", "items-*", "index.json")
    backend = "exact"

    @classmethod
    def make(cls, folder, seed):
        items = [
            Item(f"{i:03}", f"{i}.png", None, None, {"en": (f"caption {i * 7 + seed}",)})
            for i in range(300)
        ]
        Index.create(
            folder, unit(300, seed), items, model="m", run=folder / "run", backend=cls.backend
        ).close()

    @staticmethod
    def read(folder):
        index = Index.open(folder)
        scores, rows = index.nearest(unit(5, 9), 10, model="m")
        about = [str(index.item(row)) for row in range(0, 300, 7)]
        index.close()
        return scores.tolist(), rows.tolist(), about, index.ours


class Parts(Indexes):
    """An index with a second part, and with removed rows in the first."""

    files = ("removed-*", "index.json")

    @classmethod
    def make(cls, folder, seed):
        super().make(folder, seed)
        old = read_metadata(folder)
        write_change(
            folder, unit(20, seed + 2), [Item(f"new {i}", "") for i in range(20)], [None] * 20,
            old=old, kept=parts_of(old), removed={0: np.arange(1 + seed, 21 + seed)},
            config=BackendConfig("exact", old["dtype"]), run=folder / "run", roots=[],
        )  # fmt: skip


class Graphs(Indexes):
    files = ("graph-*",)
    backend = "faiss"


class Journals:
    files = (JOURNAL,)
    contents = tuple(Content(f"{i:064}") for i in range(200))

    @classmethod
    def make(cls, folder, seed):
        folder.mkdir()
        journal = Journal(folder / JOURNAL)
        journal.add(cls.contents, unit(200, seed), model="m")
        journal.close()

    @classmethod
    def read(cls, folder):
        """A vector that was changed is missing, and so made again."""
        journal = Journal(folder / JOURNAL)
        try:
            found = journal.vectors(cls.contents, model="m", dim=DIM)
        finally:
            journal.close()
        expected = dict(zip(cls.contents, unit(200), strict=True))
        return all(np.array_equal(vector, expected[one]) for one, vector in found.items())


class Stores:
    files = ("00000.safetensors", "00001.ids.json", "store.json", "means.safetensors")

    @staticmethod
    def make(folder, seed):
        rng = torch.Generator().manual_seed(seed)

        def encode(part):
            values = torch.randn(len(part), 64, generator=rng).half()
            return Rows(
                values, torch.ones(len(part), dtype=torch.long), values[:, 0] == values[:, 0]
            )

        ids = [f"item {i:03}" for i in range(80)]
        write_store(
            folder, ids, encode, encoder="e", fingerprint="f" * 64, width=64, shard_items=40,
            contents=[f"{i} 1" for i in range(80)],
        ).means()  # fmt: skip

    @staticmethod
    def read(folder):
        store = FeatureStore.open(folder)
        rows = store.gather(torch.arange(80)).values
        return rows.tolist(), store.ids, store.means().tolist()


class States:
    files = ("state/*/state.safetensors", "state/*/state.json", "state/current.json")

    @staticmethod
    def make(folder, seed):
        torch.manual_seed(seed)
        save_state(
            folder / "state", config_hash="k", position=Position(step=3, total=5),
            method=nn.Linear(40, 30), best={"a": torch.randn(20)}, optimizer=None,
            scaler=torch.amp.GradScaler("cpu", enabled=False),
        )  # fmt: skip

    @staticmethod
    def read(folder):
        state = load_state(folder / "state", config_hash="k")
        tensors = {name: value.tolist() for name, value in state.tensors.items()}
        return tensors, state.position, state.scaler


class Translations:
    files = ("cache.sqlite",)
    origin = Origin("engine", "1", "en", "de")
    texts = tuple(f"text {i}" for i in range(300))

    @classmethod
    def make(cls, folder, seed):
        folder.mkdir()
        with TranslationCache(folder / "cache.sqlite") as cache:
            cache.add(cls.origin, {text: f"{text} {seed} auf Deutsch" for text in cls.texts})
            cache.add_cosines("m", {(text, text): 0.5 for text in cls.texts})

    @classmethod
    def read(cls, folder):
        """An entry that was changed is missing, and so made again."""
        with TranslationCache(folder / "cache.sqlite") as cache:
            found = cache.find(cls.origin, cls.texts)
            cosines = cache.find_cosines("m", [(text, text) for text in cls.texts])
        return all(made == f"{text} 0 auf Deutsch" for text, made in found.items()) and all(
            value == 0.5 for value in cosines.values()
        )


KINDS = {
    kind.__name__: kind for kind in (Indexes, Parts, Graphs, Journals, Stores, States, Translations)
}
CASES = [
    (name, pattern, damage, seed)
    for name, kind in KINDS.items()
    for pattern in kind.files
    for damage in DAMAGES
    for seed in range(3)
]


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Makes and reads a kind once, for all its cases: folder, and what is read from it."""
    made = {}

    def original(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("kinds") / name
            KINDS[name].make(folder, 0)
            made[name] = folder, KINDS[name].read(folder)
        return made[name]

    return original


def one_of(folder, pattern):
    return next(path for path in folder.glob(pattern) if path.suffix not in ("-wal", "-shm"))


def same_or_refused(read, before):
    """Hold a reading to the promise; return the error."""
    try:
        found = read()
    except CL2CMError as error:
        return error
    assert found == before or (before is True and found), "another result, without a word"
    return None


@pytest.mark.parametrize(("name", "pattern", "damage", "seed"), CASES)
def test_damage_is_an_error_or_changes_nothing(name, pattern, damage, seed, originals, tmp_path):
    if name == "Graphs":
        pytest.importorskip("faiss", reason="pip install 'cl2cm[faiss]'")
    folder, before = originals(name)
    spoilt = shutil.copytree(folder, tmp_path / "copy")
    path = one_of(spoilt, pattern)
    DAMAGES[damage](path, seed)
    error = same_or_refused(lambda: KINDS[name].read(spoilt), before)
    assert "\n" not in str(error)
    if error is not None and name not in ("Journals", "Translations", "States"):
        assert path.name.partition(".")[0] in str(error), error  # it names the file


SWAPS = [
    ("Indexes", "vectors-*"),
    ("Parts", "removed-*"),
    ("Journals", JOURNAL),
    ("Stores", "00000.safetensors"),
    ("Stores", "means.safetensors"),
    ("States", "state/*/state.safetensors"),
    ("Translations", "cache.sqlite"),
]


@pytest.mark.parametrize(("name", "pattern"), SWAPS)
def test_a_file_of_equal_size_of_another_is_refused(name, pattern, originals, tmp_path):
    folder, before = originals(name)
    spoilt = shutil.copytree(folder, tmp_path / "copy")
    KINDS[name].make(tmp_path / "other", 1)
    swap(one_of(spoilt, pattern), one_of(tmp_path / "other", pattern))
    if name in ("Journals", "Translations"):  # a whole file of another is as sound as this one
        KINDS[name].read(spoilt)
        return
    same_or_refused(lambda: KINDS[name].read(spoilt), before)


def test_two_shards_that_changed_places_are_refused(originals, tmp_path):
    spoilt = shutil.copytree(originals("Stores")[0], tmp_path / "copy")
    swap(spoilt / "00000.safetensors", spoilt / "00001.safetensors")
    with pytest.raises(CL2CMError, match=r"00000\.safetensors"):
        FeatureStore.open(spoilt)


# --- runs and weights -----------------------------------------------------------------------------


@contextmanager
def spoilt(path, damage, seed):
    """Damage a file, and put it back."""
    before = path.read_bytes()
    try:
        DAMAGES[damage](path, seed)
        yield
    finally:
        path.write_bytes(before)


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    return shutil.copytree(trained, tmp_path_factory.mktemp("spoilt") / "run")


def vectors_of(run):
    return load(run).encode_text(["red circle"]).tolist(), str(align(run, "red circle", "red star"))


@pytest.fixture(scope="module")
def before(run):
    return vectors_of(run)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "teacher.safetensors", "contract.json", "provenance.json", "config.toml"],
)
def test_runs(name, damage, run, before):
    with spoilt(run / name, damage, 1):
        error = same_or_refused(lambda: vectors_of(run), before)
    assert error is not None


# --- comparing with a hash ------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch):
    """Paths of the files that were hashed; also small files are remembered."""
    paths = []
    monkeypatch.setattr(verified, "SMALL", 0)
    monkeypatch.setattr(verified, "_known", set())
    monkeypatch.setattr(verified, "_FRESH_NS", 0)
    monkeypatch.setattr(verified, "sha256_file", lambda p: paths.append(p) or sha256_file(p))
    return paths


def test_a_file_is_hashed_once_until_it_changes(reads, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    right = sha256_file(path)
    assert all(has_hash(path, right) for _ in range(3))
    assert len(reads) == 1
    monkeypatch.setattr(verified, "_known", set())  # as another process
    assert has_hash(path, right)
    assert len(reads) == 1
    assert has_hash(path, right, again=True)
    assert len(reads) == 2


@pytest.mark.parametrize("how", ["written in place", "time set back", "replaced"])
def test_a_file_that_changed_is_hashed_again(how, reads, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    right, then = sha256_file(path), path.stat()
    assert has_hash(path, right)
    if how == "replaced":
        (tmp_path / "new").write_bytes(b"behind")
        (tmp_path / "new").replace(path)
    else:
        path.write_bytes(b"behind")
    if how != "written in place":
        os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert not has_hash(path, right)


def test_damage_that_left_no_other_time_is_remembered_once_it_is_found(
    reads, tmp_path, monkeypatch
):
    """As of a disk that lost a bit: an update must not take the file for whole afterwards."""
    path = tmp_path / "file"
    path.write_bytes(b"before")
    right = sha256_file(path)
    assert has_hash(path, right)
    monkeypatch.setattr(verified, "sha256_file", lambda _: "0" * 64)
    assert has_hash(path, right)
    assert not has_hash(path, right, again=True)
    assert not has_hash(path, right)


def test_another_hash_of_a_known_file_is_not_known(reads, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    assert has_hash(path, sha256_file(path))
    assert not has_hash(path, "0" * 64)


def test_a_file_that_was_just_written_is_not_remembered(reads, tmp_path, monkeypatch):
    """A change within the same tick of the file system's clock would go unnoticed."""
    monkeypatch.setattr(verified, "_FRESH_NS", 10**12)
    path = tmp_path / "file"
    path.write_bytes(b"before")
    right = sha256_file(path)
    assert has_hash(path, right)
    assert has_hash(path, right)
    assert len(reads) == 2


def test_without_a_cache_files_are_compared_all_the_same(reads, tmp_path, monkeypatch):
    monkeypatch.setenv("CL2CM_CACHE", str(tmp_path / "file" / "cache"))
    path = tmp_path / "file"
    path.write_bytes(b"before")
    assert has_hash(path, sha256_file(path))
    assert not has_hash(path, "0" * 64)
