"""One writer at a time; images that were replaced; what is said when a command is stopped."""

import errno
import os

import pytest
import torch

from cl2cm.cli import app
from cl2cm.encode.store import FeatureStore
from cl2cm.errors import StoreError
from cl2cm.index.update.journal import JOURNAL
from cl2cm.model.config import to_toml
from cl2cm.storage import LOCK, locked, storage_error
from cl2cm.translate.cache import TranslationCache


def commands(bench):
    config = bench.config(train={"epochs": 1}, teacher={"epochs": 1})
    encode = ["encode", bench.pictures, "--out", bench.out, "--encoder", bench.vision]
    return {
        "encode": (encode, bench.out / LOCK),
        "train": (["train", config, "--out", bench.out], bench.out / LOCK),
        "resume": (["train", config, "--out", bench.out, "--resume"], bench.out / LOCK),
        "prepare": (
            ["prepare", "folder", bench.pictures, bench.out],
            bench.out.with_name(f".{bench.out.name}{LOCK}"),
        ),
        "index": (
            ["index", bench.trained, bench.pictures, bench.out],
            bench.out / f"{JOURNAL}.lock",
        ),
    }


@pytest.mark.parametrize("name", ["encode", "train", "resume", "prepare", "index"])
def test_the_second_writer_is_refused(name, bench):
    command, lock = commands(bench)[name]
    if name == "resume":
        bench.out.mkdir()
        (bench.out / "metrics.jsonl").write_bytes(b"")
    with locked(lock):
        bench.refused(command, "another process that is writing", "wait until it has finished")


def test_images_that_were_replaced_are_encoded_again(bench):
    encode = ["encode", bench.pictures, "--out", bench.out, "--encoder", bench.vision]
    bench.accepted(*encode)
    before = FeatureStore.open(bench.out)
    names = sorted(before.ids)
    first, second = (bench.pictures / name for name in names[:2])
    first.write_bytes(second.read_bytes())
    bench.accepted(*encode)
    after = FeatureStore.open(bench.out)
    assert _values(after, names[0]).equal(_values(after, names[1]))
    assert not _values(before, names[0]).equal(_values(after, names[0]))
    assert _values(before, names[1]).equal(_values(after, names[1]))


def _values(store, name):
    return store.gather(torch.tensor([store.row(name)])).values


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "c.toml"], "run the same command again with --resume"),
        (["train", "c.toml", "--resume"], "run the same command again\n"),
        (["encode", "x"], "run the same command again\n"),
    ],
)
def test_what_to_do_after_ctrl_c(arguments, said, monkeypatch, capfd):
    def stops(*_, **__):
        raise app.typer.Abort

    monkeypatch.setattr(app, "app", stops)
    assert app.run(arguments) == 130
    assert said in capfd.readouterr().err


@pytest.mark.parametrize("number", [errno.EFBIG, errno.EMFILE, errno.EIO, errno.EACCES])
def test_errors_of_the_system_are_one_line(number, tmp_path):
    told = storage_error(tmp_path, OSError(number, os.strerror(number)))
    assert told is not None
    assert "\n" not in str(told)


def test_a_cache_behind_a_dangling_link(tmp_path):
    (tmp_path / "cache.sqlite").symlink_to(tmp_path / "gone" / "file")
    with pytest.raises(StoreError, match="a broken link"):
        TranslationCache(tmp_path / "cache.sqlite")


def test_a_run_without_its_log_is_resumed_and_a_folder_of_others_is_not(bench, settings):
    config = bench.config(train={"epochs": 1}, teacher={"epochs": 1})
    bench.out.mkdir()
    (bench.out / "config.toml").write_text(
        to_toml(settings("cl2cm", train={"epochs": 1}, teacher={"epochs": 1}))
    )
    train = ["train", config, "--out", bench.out]
    bench.refused(train, "add --resume")
    (bench.out / "config.toml").rename(bench.out / "letter.txt")
    bench.refused(train, "choose another --out")
    bench.refused([*train, "--resume"], "other files", "choose another --out")
