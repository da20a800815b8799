"""Damaged runs, stores and indexes, and disks that are full or closed; see test_bad_input.py."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors import SafetensorError

from cl2cm.encode.store import FeatureStore
from cl2cm.errors import StoreError
from cl2cm.training.loop import train
from cl2cm.training.stages import Loop
from fixtures.runs import change_settings


def edit(path: Path, **changes) -> None:
    """Change a record and drop its checksum, so that it is as of an earlier version."""
    value = json.loads(path.read_text()) | changes
    value.pop("checksum", None)
    path.write_text(json.dumps(value))


def with_example(contract: Path, **changes) -> None:
    first, *others = json.loads(contract.read_text())["examples"]
    edit(contract, examples=[first | changes, *others])


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_before(path: Path, line: str) -> None:
    """What is left is a whole file of other settings."""
    words = path.read_text()
    assert line in words
    path.write_text(words[: words.index(line)])


def spoil(path: Path) -> None:
    """The same size, other bytes."""
    path.write_bytes(b"\xaa" * path.stat().st_size)


RUNS = {
    "no folder": (shutil.rmtree, "no such folder", "cl2cm train"),
    "of other files": (lambda run: (run / "provenance.json").unlink(), "a finished run"),
    "unfinished": (
        lambda run: ((run / "provenance.json").unlink(), (run / "state").mkdir()),
        "still to be finished",
        "--resume",
    ),
    "without weights": (lambda run: (run / "model.safetensors").unlink(), "model.safetensors"),
    "truncated weights": (lambda run: halve(run / "model.safetensors"), "model.safetensors"),
    "spoilt weights": (lambda run: spoil(run / "model.safetensors"), "model.safetensors"),
    "weights of the teacher": (
        lambda run: shutil.copy(run / "teacher.safetensors", run / "model.safetensors"),
        "weights that do not fit",
    ),
    "another width": (
        lambda run: change_settings(run, "dim = 32", "dim = 64"),
        "weights that do not fit",
    ),
    "no settings": (lambda run: (run / "config.toml").unlink(), "unreadable settings"),
    "damaged settings": (
        lambda run: halve(run / "config.toml"),
        "config.toml",
        "damaged or edited",
    ),
    "an encoder elsewhere": (
        lambda run: change_settings(run, '"onnx:', '"onnx:/none'),
        "a folder that you have named",
        "--model-root",
    ),
    "no contract": (lambda run: (run / "contract.json").unlink(), "unreadable settings"),
    "truncated contract": (lambda run: halve(run / "contract.json"), "unreadable settings"),
    "a list as contract": (lambda run: (run / "contract.json").write_text("[]"), "unreadable"),
    "a deep contract": (lambda run: (run / "contract.json").write_text("[" * 20000), "unreadable"),
    "a contract of words": (lambda run: edit(run / "contract.json", vision="x"), "unreadable"),
    "no examples": (lambda run: edit(run / "contract.json", examples=[]), "unreadable"),
    "a number as text": (lambda run: with_example(run / "contract.json", text=3), "unreadable"),
    "a number as ids": (lambda run: with_example(run / "contract.json", ids=3), "unreadable"),
    "another tokenizer": (
        lambda run: edit(run / "contract.json", tokenizer="0" * 64),
        ": tokenizer: expected",
        "000000000000",
    ),
    "another backbone": (lambda run: edit(run / "contract.json", backbone="1" * 64), "backbone"),
    "another vision backbone": (
        lambda run: edit(run / "contract.json", vision={"fingerprint": "2" * 64}),
        "vision backbone",
    ),
    "other ids": (lambda run: with_example(run / "contract.json", ids=[1, 2]), "tokens of"),
    "other vectors": (
        lambda run: with_example(run / "contract.json", vector=[0.5] * 32),
        "vectors of the contract's texts",
    ),
    "shorter vectors": (
        lambda run: with_example(run / "contract.json", vector=[0.5]),
        "vectors of two widths",
    ),
    "settings that end early": (
        lambda run: cut_before(run / "config.toml", "\n[train]"),
        "config.toml: expected the settings of training",
        "damaged or edited",
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_runs(name, bench):
    change, *words = RUNS[name]
    run = bench.run()
    change(run)
    place = list(RUNS).index(name)
    if place % 3 == 0:
        arguments = ["index", run, bench.pictures, bench.out]
    elif place % 3 == 1:
        manifest = bench.manifest(bench.item(split="test"))
        arguments = ["evaluate", run, manifest, "--trec", bench.out]
    else:
        arguments = ["search", bench.index(), "red circle", "--run", run]
    bench.refused(arguments, *words)


def test_where_a_run_is_not_made(bench):
    config = bench.config()
    bench.refused(["train", config, "--out", bench.pictures], "something in it", "--out")
    bench.refused(["train", config, "--out", config], "something in it")
    bench.refused(["train", config, "--out", config / "run"], "a file in its path")
    bench.refused(["train", config, "--out", bench.folder / ("r" * 300)], "too long")
    bench.refused(["train", config, "--out", bench.out, "--resume"], "a started run", "none")
    bench.refused(["train", config, "--out", bench.pictures, "--resume"], "a started run")


@pytest.mark.parametrize("content", ["nonsense", "[]", "{}"])
def test_resuming_a_damaged_run(content, bench):
    config, run = bench.config(), bench.run()
    (run / "provenance.json").write_text(content)
    bench.refused(["train", config, "--out", run, "--resume"], "provenance.json")


def test_resuming_from_a_damaged_state(bench, monkeypatch):
    config, run = bench.config(), bench.out
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Loop, "_save", stop_after(Loop._save, KeyboardInterrupt))
        train(bench.settings("cl2cm"), run)
    (state,) = (path for path in (run / "state").iterdir() if path.is_dir())
    resume = ["train", config, "--out", run, "--resume"]
    bench.refused([*resume, "--set", "train.epochs=9"], "that the run was started with")
    halve(state / "state.safetensors")
    bench.refused(resume, "a damaged one")
    (run / "state" / "current.json").write_text("[]")
    bench.refused(resume, "a damaged one")


def stop_after(call, error):
    def stopping(*arguments):
        call(*arguments)
        raise error

    return stopping


def test_stores_of_others(bench):
    encode = ["encode", bench.pictures, "--out", bench.out, "--encoder", bench.vision]
    other = shutil.copytree(bench.small.vision, bench.folder / "vision")
    edit(other / "preprocess.json", resize=20)
    bench.accepted(*encode)
    bench.refused([*encode[:-1], f"onnx:{other}"], "features of encoder")
    (bench.pictures / "red.png").unlink()
    bench.refused(encode, "a store of the same items")
    bench.refused([*encode[:3], bench.pictures, *encode[4:]], "something else there")
    bench.refused([*encode[:3], bench.config(), *encode[4:]], "something else there")
    bench.refused([*encode[:3], bench.config() / "out", *encode[4:]], "a file in its path")
    (bench.out / "store.json").unlink()
    bench.refused(encode, "an unfinished store of the same encoder")
    (bench.out / "plan.json").write_text("[" * 20000)
    bench.accepted(*encode)  # each shard has its own record


STORES = {
    "no JSON": (lambda store: halve(store / "store.json"), "store.json"),
    "a list": (lambda store: (store / "store.json").write_text("[]"), "store.json"),
    "deep": (lambda store: (store / "store.json").write_text("[" * 20000), "store.json"),
    "of another format": (lambda store: edit(store / "store.json", format=9), "format 1"),
    "shards as word": (lambda store: edit(store / "store.json", shards="x"), "shards"),
    "no shards": (lambda store: edit(store / "store.json", shards=[]), "shards"),
    "width as word": (lambda store: edit(store / "store.json", width="x"), "width"),
    "another width": (lambda store: edit(store / "store.json", width=5), "shard"),
    "no shard": (lambda store: (store / "00000.safetensors").unlink(), "00000"),
    "truncated shard": (lambda store: halve(store / "00000.safetensors"), "00000"),
    "spoilt shard": (lambda store: spoil(store / "00000.safetensors"), "00000"),
    "no ids": (lambda store: (store / "00000.ids.json").unlink(), "00000"),
    "ids as number": (lambda store: (store / "00000.ids.json").write_text("7"), "00000"),
    "too few ids": (lambda store: (store / "00000.ids.json").write_text('["a"]'), "00000.ids.json"),
}


@pytest.mark.parametrize("name", STORES)
def test_stores(name, bench):
    change, *words = STORES[name]
    encode = ["encode", bench.pictures, "--out", bench.out, "--encoder", bench.vision]
    bench.accepted(*encode)
    whole = (bench.out / "00000.safetensors").read_bytes()
    change(bench.out)
    with pytest.raises(StoreError) as told:
        FeatureStore.open(bench.out)
    assert all(word in str(told.value) for word in words), told.value
    bench.accepted(*encode)  # what is damaged is encoded again
    assert (bench.out / "00000.safetensors").read_bytes() == whole


def test_what_is_no_index(bench, small):
    for place in (bench.pictures, bench.config()):
        bench.refused(["search", place, "a dog"], "an index, a folder with index.json")
    for place in (bench.folder / "none", bench.config() / "x"):
        bench.refused(["search", place, "a dog"], "no such folder")
    bench.refused(["search", bench.folder / ("i" * 300), "a dog"], "too long")


INDEXES = {
    "no JSON": (lambda index: halve(index / "index.json"), "index.json"),
    "another version": (lambda index: edit(index / "index.json", version=9), "version 9"),
    "no count": (lambda index: edit(index / "index.json", count="x"), "count"),
    "truncated vectors": (lambda index: halve(next(index.glob("vectors-*"))), "vectors-", "bytes"),
    "spoilt vectors": (lambda index: spoil(next(index.glob("vectors-*"))), "vectors-"),
    "no items": (lambda index: next(index.glob("items-*")).unlink(), "items-", "no such file"),
    "spoilt items": (lambda index: spoil(next(index.glob("items-*"))), "items-", "a damaged file"),
    "another model": (lambda index: edit(index / "index.json", model="0" * 64), "one of 0000"),
}


@pytest.mark.parametrize("name", INDEXES)
def test_indexes(name, bench):
    change, *words = INDEXES[name]
    index = bench.index()
    change(index)
    bench.refused(["search", index, "red circle", "--run", bench.trained], *words, "index")


def test_index_and_run(bench):
    other = bench.folder / "other"
    train(bench.settings("zero-shot", train={"epochs": 1}), other)
    run = bench.run()
    index = bench.index(run)
    bench.refused(
        ["search", index, "a dog", "--run", other], "an index of the model", "index again"
    )
    shutil.rmtree(run)
    bench.refused(["search", index, "a dog"], str(run), "no such folder", "--run")
    bench.refused(["serve", index], str(run), "no such folder", "--run")


def failing(number: int, after: int = 0):
    """Something that fails as a disk does, after so many calls that go well."""
    calls = 0
    real = os.fsync

    def fail(*arguments, **_):
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(number, os.strerror(number))
        return real(*arguments)

    return fail


def write_commands(bench):
    """Name -> a command that writes; all but the writing would go well."""
    config = bench.config(train={"epochs": 1}, teacher={"epochs": 1})
    manifest = bench.manifest(bench.item(split="test"))
    return {
        "encode": ["encode", bench.pictures, "--out", bench.out, "--encoder", bench.vision],
        "train": ["train", config, "--out", bench.out],
        "evaluate": ["evaluate", bench.trained, manifest, "--trec", bench.out],
        "index": ["index", bench.trained, bench.pictures, bench.out],
    }


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("command", ["encode", "train", "evaluate", "index"])
def test_full_disk(command, after, bench, monkeypatch):
    bench.accepted(*write_commands(bench)["train"])  # its features are in the cache now
    shutil.rmtree(bench.out)
    if command == "evaluate":
        after = 0  # it writes one file
    monkeypatch.setattr("os.fsync", failing(errno.ENOSPC, after))
    kept = command in ("train", "index") or (command == "encode" and after)  # what was computed
    leaves = "out" if kept else None
    bench.refused(write_commands(bench)[command], "a full disk", "free some space", leaves=leaves)
    assert not (bench.out / "provenance.json").exists()
    assert not (bench.out / "store.json").exists()
    assert not (bench.out / "index.json").exists()
    monkeypatch.undo()
    resume = ["--resume"] if command == "train" else []
    bench.accepted(*write_commands(bench)[command], *resume)  # it goes on when there is room


def test_full_disk_leaves_an_index_as_it_was(bench, monkeypatch):
    index = bench.index()
    again = ["index", bench.trained, bench.pictures, index]
    for after in range(4):
        monkeypatch.setattr("os.fsync", failing(errno.ENOSPC, after))
        bench.refused(again, "a full disk")
    monkeypatch.undo()
    bench.accepted("search", index, "red circle")


@pytest.mark.parametrize("module", ["encode.shards", "training.resume", "model.weights"])
def test_full_disk_as_safetensors_says_it(module, bench, monkeypatch):
    def full(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(f"cl2cm.{module}.save_file", full)
    command = "encode" if module == "encode.shards" else "train"
    bench.refused(write_commands(bench)[command], "a full disk", leaves="out")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("command", ["encode", "train", "evaluate", "index"])
def test_closed_disk(command, number, bench, monkeypatch):
    for warm in ("evaluate", "train"):  # their features are in the cache now
        bench.accepted(*write_commands(bench)[warm])
        bench.out.unlink() if warm == "evaluate" else shutil.rmtree(bench.out)
    arguments = write_commands(bench)[command]
    for name in ("tempfile.mkstemp", "tempfile.mkdtemp", "pathlib.Path.mkdir"):
        monkeypatch.setattr(name, failing(number))
    bench.refused(arguments, str(bench.out), "choose another place")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no such files")
def test_devices_are_not_replaced(bench):
    pipe = bench.folder / "pipe"
    os.mkfifo(pipe)
    manifest = bench.manifest(bench.item(split="test"))
    bench.refused(["evaluate", bench.trained, manifest, "--trec", pipe], "a device or a pipe")
    assert pipe.is_fifo()


def test_closed_file(bench, monkeypatch):
    config, real = bench.config(), Path.read_text

    def closed(path, *arguments, **options):
        if path == config:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", closed)
    bench.refused(["train", config, "--out", bench.out], "config.toml", "permission denied")
