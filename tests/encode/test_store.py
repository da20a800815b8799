import json
import shutil
import threading

import pytest
import torch

from cl2cm.encode.rows import Rows
from cl2cm.encode.store import FeatureStore
from cl2cm.encode.store_writing import write_store
from cl2cm.errors import StorageError, StoreError

WIDTH = 3


def rows_of(positions):
    """Item i has i % 4 + 1 vectors, all of value i."""
    lengths = torch.tensor([i % 4 + 1 for i in positions])
    values = torch.tensor([float(i) for i in positions]).repeat_interleave(lengths)
    return Rows(values[:, None].expand(-1, WIDTH).half(), lengths, torch.ones(len(values)) > 0)


def make(folder, count=10, encode=rows_of, **options):
    ids = [f"item {i}" for i in range(count)]
    return write_store(
        folder, ids, encode, encoder="onnx:x", fingerprint="f" * 64, width=WIDTH, shard_items=4,
        **options,
    )  # fmt: skip


def test_gives_back_what_was_written_over_all_shards(tmp_path):
    store = make(tmp_path / "s")
    assert len(store) == 10
    assert store.row("item 7") == 7
    found = store.gather(torch.tensor([9, 0, 3, 4]))
    assert found.mask.sum(1).tolist() == [2, 1, 4, 1]
    assert found.values.shape == (4, 4, WIDTH)
    assert found.values[2].tolist() == [[3.0] * WIDTH] * 4
    assert found.values[0, 2:].abs().sum() == 0


def test_opens_again_and_verifies(tmp_path):
    make(tmp_path / "s")
    FeatureStore.open(tmp_path / "s", fingerprint="f" * 64).verify()


def test_another_encoder_is_refused(tmp_path):
    make(tmp_path / "s")
    with pytest.raises(StoreError, match="features of encoder gggg"):
        FeatureStore.open(tmp_path / "s", fingerprint="g" * 64)


def test_other_items_are_refused(tmp_path):
    make(tmp_path / "s")
    with pytest.raises(StoreError, match="the same items"):
        make(tmp_path / "s", count=9)


def test_a_restart_does_only_what_is_missing(tmp_path):
    asked = []

    def stops(positions):
        if positions[0] == 4:
            raise KeyboardInterrupt
        asked.append(positions[0])
        return rows_of(positions)

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "s", encode=stops)
    with pytest.raises(StoreError, match="unfinished"):
        FeatureStore.open(tmp_path / "s")

    def goes_on(positions):
        asked.append(positions[0])
        return rows_of(positions)

    store = make(tmp_path / "s", encode=goes_on)
    assert asked == [0, 4, 8]
    assert store.gather(torch.arange(10)).mask.sum().item() == sum(i % 4 + 1 for i in range(10))
    make(tmp_path / "s", encode=None)


def test_an_unfinished_store_of_other_settings_is_refused(tmp_path):
    with pytest.raises(ZeroDivisionError):
        make(tmp_path / "s", encode=lambda p: rows_of(p) if p[0] == 0 else 1 / 0)
    with pytest.raises(StoreError, match="unfinished store of the same"):
        make(tmp_path / "s", count=3)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(StoreError, match="new or empty"):
        make(tmp_path)


@pytest.mark.parametrize("damage", ["truncate", "delete", "other ids", "json", "keys"])
def test_damage_is_told(tmp_path, damage):
    make(tmp_path / "s")
    shard = tmp_path / "s" / "00001.safetensors"
    if damage == "truncate":
        shard.write_bytes(shard.read_bytes()[:-7])
    elif damage == "delete":
        shard.unlink()
    elif damage == "other ids":
        shard.with_suffix(".ids.json").write_text(json.dumps(["only one"]))
    else:
        (tmp_path / "s" / "store.json").write_text("{" if damage == "json" else "{}")
    with pytest.raises(StoreError, match="run the same cl2cm encode"):
        FeatureStore.open(tmp_path / "s")
    asked = []
    make(tmp_path / "s", encode=lambda positions: asked.append(positions[0]) or rows_of(positions))
    assert asked == ([] if damage in ("json", "keys") else [4])
    FeatureStore.open(tmp_path / "s").verify()


def test_a_changed_byte_is_found_by_verify(tmp_path):
    store = make(tmp_path / "s")
    shard = tmp_path / "s" / "00000.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StoreError, match="hash"):
        store.verify()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e5])
def test_features_that_are_not_finite_name_their_item(value, tmp_path):
    def spoilt(positions):
        rows = rows_of(positions)
        values = rows.values.float()
        if 2 in positions:
            values[int(rows.lengths[: list(positions).index(2)].sum())] = value
        return rows._replace(values=values.half())

    with pytest.raises(StoreError, match=r"'item 2': expected finite features"):
        make(tmp_path / "new", encode=spoilt)
    with pytest.MonkeyPatch.context() as patch:  # as a store of before, or of another program
        patch.setattr("cl2cm.encode.store_writing._check_finite", lambda *_: None)
        store = make(tmp_path / "old", encode=spoilt)
    assert store.gather(torch.tensor([0, 1])).values.isfinite().all()
    with pytest.raises(StoreError, match=r"'item 2': expected finite features"):
        store.gather(torch.tensor([1, 2]))
    with pytest.raises(StoreError, match=r"'item 2': expected finite features"):
        store.means()


def test_a_skipped_item_has_no_features(tmp_path):
    def encode(positions):
        lengths = torch.tensor([0 if i == 2 else 1 for i in positions])
        count = int(lengths.sum())
        return Rows(torch.ones(count, WIDTH).half(), lengths, torch.ones(count) > 0)

    store = make(tmp_path / "s", encode=encode)
    assert [store.has(f"item {i}") for i in (1, 2, 3)] == [True, False, True]
    assert not store.has("nobody")
    with pytest.raises(StoreError, match="nobody"):
        store.row("nobody")


def test_an_index_of_other_ids_is_refused(tmp_path):
    """As after two that wrote one store at once."""
    make(tmp_path / "s")
    make(tmp_path / "t", count=8)
    for name in ("00000", "00001"):
        for suffix in ("safetensors", "ids.json"):
            shutil.copy(tmp_path / "t" / f"{name}.{suffix}", tmp_path / "s" / f"{name}.{suffix}")
    record = json.loads((tmp_path / "s" / "store.json").read_text())
    del record["checksum"]
    ids = tmp_path / "s" / "00002.ids.json"
    ids.write_text(json.dumps(["item 8", "another"]))
    record["shards"] = [
        {"items": shard["items"], "sha256": shard["sha256"]} for shard in record["shards"]
    ]
    (tmp_path / "s" / "store.json").write_text(json.dumps(record))
    with pytest.raises(StoreError, match="ids of other items"):
        FeatureStore.open(tmp_path / "s")


def test_a_store_of_an_earlier_version_opens(tmp_path):
    make(tmp_path / "s")
    record = json.loads((tmp_path / "s" / "store.json").read_text())
    del record["checksum"]
    record["shards"] = [{k: shard[k] for k in ("items", "sha256")} for shard in record["shards"]]
    (tmp_path / "s" / "store.json").write_text(json.dumps(record))
    for path in (tmp_path / "s").glob("*.shard.json"):
        path.unlink()
    assert len(FeatureStore.open(tmp_path / "s")) == 10
    assert len(make(tmp_path / "s", encode=None)) == 10


def test_only_the_shard_of_a_replaced_file_is_encoded_again(tmp_path):
    contents = [f"state {i}" for i in range(10)]
    make(tmp_path / "s", contents=contents)
    asked = []

    def encode(positions):
        asked.append(positions[0])
        return rows_of(positions)

    make(tmp_path / "s", encode=encode, contents=["", *contents[1:5], "new", *contents[6:]])
    assert asked == [4]


@pytest.mark.parametrize("left", [".plan.json.partial-abcdefgh", ".writer.lock"])
def test_what_a_kill_leaves_is_no_obstacle(tmp_path, left):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / left).write_bytes(b"")
    make(tmp_path / "s")
    assert not (tmp_path / "s" / left).exists()


def test_a_second_writer_is_refused_or_waits(tmp_path):
    begun, go_on = threading.Event(), threading.Event()

    def slow(positions):
        begun.set()
        assert go_on.wait(10)
        return rows_of(positions)

    first = threading.Thread(target=make, args=(tmp_path / "s",), kwargs={"encode": slow})
    first.start()
    assert begun.wait(10)
    with pytest.raises(StorageError, match="another process that is writing"):
        make(tmp_path / "s")
    waiting = threading.Thread(
        target=make, args=(tmp_path / "s",), kwargs={"encode": None, "shared": True}
    )
    waiting.start()
    go_on.set()
    first.join()
    waiting.join()
    assert len(FeatureStore.open(tmp_path / "s")) == 10


def test_damaged_means_are_computed_again(tmp_path):
    store = make(tmp_path / "s")
    means = store.means()
    path = tmp_path / "s" / "means.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 64
    path.write_bytes(data)
    assert torch.equal(store.means(), means)
