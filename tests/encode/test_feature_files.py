import json
import os
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as fuzz
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from torch.testing import assert_close

from cl2cm import evaluate, load, read_manifest
from cl2cm.cli.app import run as command_line
from cl2cm.cli.encoding import encode_store
from cl2cm.cli.evaluation import evaluate_manifest
from cl2cm.cli.indexing import index_source, open_searcher
from cl2cm.encode import feature_layouts
from cl2cm.encode.encoding import encode_pictures, find_pictures
from cl2cm.encode.feature_files import Agreed, FeatureFiles
from cl2cm.encode.rows import Rows
from cl2cm.encode.store import FeatureStore
from cl2cm.encode.store_writing import write_store
from cl2cm.encode.vision import encode_paths, load_vision
from cl2cm.errors import CL2CMError, EncoderError, MediaError, MissingExtraError, StoreError
from cl2cm.model.networks import build_vision_head
from cl2cm.model.retrieval import VisualSide
from cl2cm.model.settings import NetworkConfig
from cl2cm.types import Example
from fixtures import world
from fixtures.runs import change_settings

WIDTH = 6
LENGTHS = {"film_a": 3, "film_b": 1, "film_c": 4, "film_d": 2}


def made(lengths=None, width=WIDTH, seed=0):
    rng = np.random.default_rng(seed)
    lengths = lengths or LENGTHS
    return {name: rng.random((n, width), dtype=np.float32) for name, n in lengths.items()}


def write_rows(folder, ids, rows):
    folder.mkdir(exist_ok=True)
    (folder / "id.txt").write_text(" ".join(ids))
    (folder / "shape.txt").write_text(f"{len(rows)} {rows.shape[1]}\n")
    (folder / "feature.bin").write_bytes(np.asarray(rows, "<f4").tobytes())
    return folder


def write_bin(folder, items, *, listed=False, order=None):
    """Frame-level layout; ``order`` deals the rows anew, ``listed`` writes other ids and a list."""
    rows = [(name, n, row) for name, values in items.items() for n, row in enumerate(values)]
    rows = [rows[i] for i in order] if order is not None else rows
    ids = [f"{'z' if listed else ''}{name}_{n}" for name, n, _ in rows]
    write_rows(folder, ids, np.stack([row for _, _, row in rows]))
    if listed:
        frames = {name: [f"z{name}_{n}" for n in range(len(v))] for name, v in items.items()}
        (folder / "video2frames.txt").write_text(str(frames))
    return folder


def write_shuffled(folder, items):
    count = sum(map(len, items.values()))
    return write_bin(folder, items, order=np.random.default_rng(3).permutation(count))


def write_listed(folder, items):
    return write_bin(folder, items, listed=True)


def write_arrays(folder, items):
    folder.mkdir()
    for name, values in items.items():
        np.save(folder / f"{name}.npy", values[0] if len(values) == 1 else values)
    return folder


def write_array(folder, items):
    folder.mkdir()
    ids = [f"{name}_{n}" for name, values in items.items() for n in range(len(values))]
    np.save(folder / "resnet.npy", np.concatenate(list(items.values())))
    (folder / "ids.txt").write_text("\n".join(ids))
    return folder / "resnet.npy"


def write_hdf5(folder, items):
    h5py = pytest.importorskip("h5py")
    folder.mkdir()
    with h5py.File(folder / "i3d.hdf5", "w") as file:
        for name, values in items.items():
            file[name] = values[0] if len(values) == 1 else values
    return folder


LAYOUTS = {
    "bin": write_bin,
    "bin, rows in any order": write_shuffled,
    "bin, with a list of frames": write_listed,
    "a file for each item": write_arrays,
    "one array": write_array,
    "hdf5": write_hdf5,
}


def examples(*names, **fields):
    return [Example(name, "test", **fields) for name in names]


def features(path, items):
    files = FeatureFiles(f"features:{path}", path)
    assert len(files) == len(items)
    return files


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)
def test_frames_of_every_layout_and_one_fingerprint(write, tmp_path):
    items = made()
    files = features(write(tmp_path / "there", items), items)
    assert files.width == WIDTH
    assert files.fingerprint == features(write_bin(tmp_path / "plain", items), items).fingerprint
    chosen = files.choose(examples("film_c", "film_b", "film_a"))
    assert list(chosen.ids) == ["film_c", "film_b", "film_a"]
    found = chosen.gather(torch.tensor([2, 0]))
    assert found.mask.tolist() == [[True, True, True, False], [True] * 4]
    assert_close(found.values[0, :3].numpy(), items["film_a"], rtol=0, atol=0)
    assert_close(found.values[1].numpy(), items["film_c"], rtol=0, atol=0)
    assert not found.values[0, 3].any()


def test_our_own_store_is_a_layout_too(tmp_path):
    items = made()
    files = features(write_bin(tmp_path / "bin", items), items)
    store = files.choose(examples(*items, "none"), skip_bad=True).write(tmp_path / "store")
    assert isinstance(store, FeatureStore)
    assert not store.has("none")
    again = features(tmp_path / "store", items)
    got = again.choose(examples("film_c")).gather(torch.tensor([0])).values[0]
    assert_close(got, torch.from_numpy(items["film_c"]).half().float(), rtol=0, atol=0)


def test_three_dimensions_and_half_precision(tmp_path):
    values = np.random.default_rng(0).random((5, 3, WIDTH)).astype(np.float16)
    np.save(tmp_path / "all.npy", values)
    (tmp_path / "all.txt").write_text("\n".join(f"item {i}" for i in range(5)))
    files = FeatureFiles("features:x", tmp_path / "all.npy")
    assert_array_equal(files.frames(4), values[4].astype(np.float32))
    assert files.has(Example("item 4", "test"))


@pytest.mark.parametrize(
    "ids",
    [
        ["COCO_train2014_000000000009", "COCO_train2014_000000000025", "COCO_val2014_000000000042"],
        ["-0aR_000010_000020", "-0aR_000020_000030", "x_000001_000011"],
        ["video_0", "video_1", "video_2"],
        ["a_0", "b_0", "c"],
        ["12345", "67890"],
        ["cat_0", "dog_0", "red_cat_0"],
        ["cat_1", "dog_1"],
    ],
)
def test_ids_with_numbers_that_are_no_frames(ids, tmp_path):
    rows = np.random.default_rng(0).random((len(ids), 2), dtype=np.float32)
    files = FeatureFiles("features:x", write_rows(tmp_path / "f", ids, rows))
    assert [files.has(Example(name, "test")) for name in ids] == [True] * len(ids)
    assert_array_equal(files.frames(1), rows[1:2])


def test_ids_are_found_in_either_form(tmp_path):
    rows = np.random.default_rng(0).random((2, 2), dtype=np.float32)
    files = FeatureFiles("features:x", write_rows(tmp_path / "f", ["Ka\u0308fer", "\u00e9"], rows))
    items = [Example("K\u00e4fer", "test"), Example("e\u0301", "test")]
    assert all(map(files.has, items))
    assert files.choose(items).gather(torch.tensor([1])).values[0, 0].tolist() == rows[1].tolist()


def test_frames_are_sorted_by_number_not_by_text(tmp_path):
    ids = [f"{film}_{n}" for film in "ab" for n in (10, 2, 0, 1)]
    rows = np.arange(8, dtype=np.float32)[:, None]
    files = FeatureFiles("features:x", write_rows(tmp_path / "f", ids, rows))
    found = files.choose(examples("b")).gather(torch.tensor([0]))
    assert found.values[0, :, 0].tolist() == [6, 7, 5, 4]


def test_the_id_of_the_features_comes_first(tmp_path):
    items = made()
    files = features(write_bin(tmp_path / "bin", items), items)
    (chosen,) = [files.choose([Example("mine", "test", features="film_b")])]
    assert_close(
        chosen.gather(torch.tensor([chosen.row("mine")])).values[0].numpy(), items["film_b"]
    )
    assert not files.has(Example("film_b", "test", features="other"))
    with pytest.raises(StoreError, match="features of 'film_a', found 1 other"):
        chosen.row("film_a")


def test_missing_items(tmp_path):
    items = made()
    files = features(write_bin(tmp_path / "bin", items), items)
    asked = examples("film_a", "none", "film_d")
    with pytest.raises(
        MediaError, match=r"item 'none': expected features of 'none', found feat.* 4"
    ):
        encode_pictures(asked, files)
    assert find_pictures(asked, files) is None
    told = []
    store = encode_pictures(asked, files, skip_bad=True, on_skip=lambda *x: told.append(x))
    assert [name for name, _ in told] == ["none"]
    assert [store.has(example.id) for example in asked] == [True, False, True]
    assert [e.id for e in files.known(asked)] == ["film_a", "film_d"]
    with pytest.raises(MediaError, match="features of at least one"):
        encode_pictures(examples("none"), files, skip_bad=True)


def test_pictures_cannot_be_encoded(tmp_path):
    path = write_bin(tmp_path / "bin", made())
    encoder = load_vision(f"features:{path}")
    world.draw("red", "bar", 0).save(tmp_path / "red.png")
    head = build_vision_head(NetworkConfig(dim=8, heads=1), WIDTH)
    model = VisualSide(head, encoder, fingerprint="f", dim=8)
    with pytest.raises(
        EncoderError, match="expected items whose features it holds, found an image"
    ):
        model.encode_visual([tmp_path / "red.png"])
    assert model.encode_visual(examples("film_b", "film_a")).shape == (2, 8)
    assert json.loads(encoder.preprocessing)["items"] == 4


def test_fingerprint_tells_features_apart(tmp_path):
    items = made()
    changed = {**items, "film_b": items["film_b"] + 1e-3}
    renamed = {"film_x" if name == "film_a" else name: v for name, v in items.items()}
    cut = {**items, "film_c": items["film_c"][:3]}
    prints = set()
    for number, other in enumerate((items, changed, renamed, cut)):
        prints.add(features(write_bin(tmp_path / str(number), other), other).fingerprint)
    assert len(prints) == 4


def test_what_was_read_is_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_layouts, "MAPPED_BYTES", 30)
    items = made()
    files = features(write_shuffled(tmp_path / "bin", items), items)
    chosen = files.choose(examples(*items))
    for _ in range(3):
        for row, values in enumerate(items.values()):
            assert_array_equal(files.frames(files._rows[chosen.ids[row]]), values)


# --- damage ----------------------------------------------------------------------------------


def cut_bin(folder):
    data = (folder / "feature.bin").read_bytes()
    (folder / "feature.bin").write_bytes(data[:-3])


def put(name, text):
    def change(folder):
        (folder / name).write_text(text)

    return change


def infinite(folder):
    rows = np.fromfile(folder / "feature.bin", "<f4")
    rows[0] = np.nan
    rows.tofile(folder / "feature.bin")


DAMAGE = {
    "cut": (cut_bin, "feature.bin", "240 bytes", "237"),
    "another shape": (put("shape.txt", "10 5"), "feature.bin", "200 bytes"),
    "more rows than ids": (put("shape.txt", "11 6"), "id.txt", "11 ids", "found 10"),
    "no shape": (put("shape.txt", "ten"), "shape.txt", "two numbers", "'ten'"),
    "no width": (put("shape.txt", "10 0"), "shape.txt", "width"),
    "an id twice": (put("id.txt", "a_0 " * 10), "id.txt", "'a_0' twice"),
    "an id too few": (put("id.txt", "a_0 b_0"), "id.txt", "found 2"),
    "an unknown frame": (put("video2frames.txt", "{'a': ['x_0']}"), "video2frames.txt", "'x_0'"),
    "an item without frames": (put("video2frames.txt", "{'a': []}"), "video2frames.txt", "'a'"),
    "code": (put("video2frames.txt", "__import__('os')"), "video2frames.txt", "a mapping"),
    "a list": (put("video2frames.txt", "['a']"), "video2frames.txt", "a mapping"),
    "no finite numbers": (infinite, "'film_a'", "finite"),
    "no items": (put("video2frames.txt", "{}"), "no item"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_has_a_name(name, tmp_path):
    change, *words = DAMAGE[name]
    folder = write_bin(tmp_path / "bin", made())
    change(folder)
    with pytest.raises(StoreError) as caught:
        FeatureFiles("features:x", folder).choose(examples(*made()))
    assert all(word in str(caught.value) for word in words), caught.value


def test_arrays_that_do_not_fit(tmp_path):
    folder = write_arrays(tmp_path / "npy", made())
    np.save(folder / "film_b.npy", np.ones((2, WIDTH + 1)))
    with pytest.raises(StoreError, match=r"'film_b'.*\[F, 6\].*\[2, 7\]"):
        FeatureFiles("features:x", folder).choose(examples("film_b"))
    np.save(folder / "film_b.npy", np.array([{}], dtype=object))
    with pytest.raises(StoreError, match=r"film_b.npy.*array of numbers"):
        FeatureFiles("features:x", folder).choose(examples("film_b"))
    np.save(folder / "film_b.npy", np.array(["a"] * WIDTH))
    with pytest.raises(StoreError, match="'film_b'"):
        FeatureFiles("features:x", folder).choose(examples("film_b"))


def test_hdf5_that_does_not_fit(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "a.h5").write_bytes(b"no hdf5")
    with pytest.raises(StoreError, match="an HDF5 file"):
        FeatureFiles("features:x", tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_group("resnet")
    with pytest.raises(StoreError, match="a data set"):
        FeatureFiles("features:x", tmp_path / "b.h5")


def test_without_h5py(tmp_path, monkeypatch):
    (tmp_path / "a.h5").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"cl2cm\[features\]"):
        FeatureFiles("features:x", tmp_path / "a.h5")


def test_nothing_there(tmp_path):
    with pytest.raises(EncoderError, match="features:none: expected features, found no such"):
        load_vision("features:none")
    with pytest.raises(EncoderError, match="features:PATH"):
        load_vision("features:")
    with pytest.raises(StoreError, match="found none of them"):
        load_vision(f"features:{tmp_path}")


@fuzz(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    file=st.sampled_from(["id.txt", "shape.txt", "video2frames.txt", "feature.bin"]),
    place=st.floats(0, 1),
    byte=st.integers(0, 255),
    cut=st.booleans(),
)
def test_any_damage_is_an_error_or_none(file, place, byte, cut, tmp_path):
    folder = write_bin(tmp_path / "bin", made(), listed=True)
    data = bytearray((folder / file).read_bytes())
    at = int(place * (len(data) - 1))
    data[at] = byte
    (folder / file).write_bytes(data[:at] if cut else data)
    try:
        files = FeatureFiles("features:x", folder)
        for row in range(len(files)):
            assert files.frames(row).shape[1] == files.width
    except CL2CMError:
        pass


# --- train, evaluate, index -------------------------------------------------------------------


@pytest.fixture(scope="module")
def films(small, tmp_path_factory) -> Path:
    """A manifest of the small world by features, and its pictures' features as films of 1 to 3."""
    folder = tmp_path_factory.mktemp("films")
    lines = [json.loads(line) for line in small.manifest.read_text().splitlines()]
    pictures = [Path(small.manifest.parent, line["image"]) for line in lines]
    pixels = encode_paths(load_vision(f"onnx:{small.vision}"), pictures).features
    rng = np.random.default_rng(0)
    items = {}
    for number, line in enumerate(lines):
        noise = rng.normal(0, 0.01, (1 + number % 3, world.WIDTH)).astype(np.float32)
        items[f"f{number}"] = pixels[number] + noise
        del line["image"]
        line["features"] = f"f{number}"
    write_bin(folder / "resnet", items)
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def trained_on_films(films, settings):
    from cl2cm.training.loop import train

    config = settings(
        "translate-train",
        data={"manifest": str(films / "manifest.jsonl")},
        vision={"encoder": f"features:{films / 'resnet'}"},
        network={"layers": 1},
        train={"epochs": 12},
    )
    train(config, films / "run")
    return films / "run"


def test_train_and_evaluate_on_films(films, trained_on_films):
    result = evaluate_manifest(trained_on_films, films / "manifest.jsonl")
    chance = 100 * 10 / 24
    for language in ("en", "xx", "yy"):
        assert result["languages"][language]["text_to_vision"]["R@10"] > 1.5 * chance
        assert result["languages"][language]["gallery"] == 24
    contract = json.loads((trained_on_films / "contract.json").read_text())
    assert contract["vision"]["width"] == world.WIDTH


def test_index_and_search_on_films(films, trained_on_films, tmp_path):
    made_ = index_source(trained_on_films, films / "manifest.jsonl", tmp_path / "index")
    assert made_["items"] == 144
    hits = open_searcher(tmp_path / "index").search("red circle", 10)
    assert sum("red" in hit.id or "circle" in hit.id for hit in hits) >= 5
    with pytest.raises(EncoderError, match="found an image or video to encode"):
        open_searcher(tmp_path / "index").similar(Path("red.png"))


def test_items_without_features_in_an_index(films, trained_on_films, tmp_path):
    lines = (films / "manifest.jsonl").read_text().splitlines()[:3]
    lines.append(json.dumps({"id": "new", "split": "test", "image": "new.png"}))
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("\n".join(lines) + "\n")
    with pytest.raises(MediaError, match="features of 'new'"):
        index_source(trained_on_films, manifest, tmp_path / "index")
    made_ = index_source(trained_on_films, manifest, tmp_path / "index", skip_bad=True)
    assert (made_["items"], made_["skipped"]) == (3, ["new"])


def test_a_run_refuses_other_features(films, trained_on_films, capfd):
    path = films / "resnet" / "feature.bin"
    whole = path.read_bytes()
    try:
        changed = np.frombuffer(whole, "<f4") + np.float32(0.5)
        path.write_bytes(changed.tobytes())
        with pytest.raises(StoreError, match="as in training, found other numbers"):
            evaluate_manifest(trained_on_films, films / "manifest.jsonl")
        assert command_line(["index", str(trained_on_films), str(films), str(films / "i")]) == 2
        assert "Traceback" not in capfd.readouterr().err
    finally:
        path.write_bytes(whole)


def test_another_file_in_the_folder_changes_nothing(tmp_path):
    items = made()
    folder = write_arrays(tmp_path / "npy", items)
    chosen = FeatureFiles("features:x", folder).only(examples("film_a", "film_b", "none"))
    agreed = Agreed(WIDTH, chosen.fingerprint, chosen.samples())
    assert set(agreed.samples) == {"film_a", "film_b"}
    np.save(folder / "film_0.npy", np.ones(WIDTH, np.float32))
    again = FeatureFiles("features:x", folder).only(examples("film_a", "film_b"))
    assert again.fingerprint == agreed.fingerprint
    files = FeatureFiles("features:x", folder, agreed)
    assert files.choose(examples("film_0")).has("film_0")
    np.save(folder / "film_a.npy", items["film_a"] + 1)
    with pytest.raises(StoreError, match="'film_a' as in training, found other numbers"):
        FeatureFiles("features:x", folder, agreed).choose(examples("film_b"))


def test_features_elsewhere(tmp_path, capfd):
    items = made()
    files = FeatureFiles("features:x", write_arrays(tmp_path / "npy", items))
    agreed = Agreed(WIDTH, files.fingerprint, files.samples())
    new = write_arrays(tmp_path / "new", {"a": np.ones((1, WIDTH), np.float32)})
    with pytest.raises(StoreError, match="expected the items that it was trained on, found 1"):
        FeatureFiles("features:x", new, agreed).choose(examples("a"))
    elsewhere = agreed._replace(elsewhere=True)
    assert FeatureFiles("features:x", new, elsewhere).choose(examples("a")).has("a")
    assert capfd.readouterr().err.count("cannot be checked") == 1
    wide = write_arrays(tmp_path / "wide", {"a": np.ones((1, WIDTH + 1), np.float32)})
    with pytest.raises(StoreError, match=f"width {WIDTH}, found width {WIDTH + 1}"):
        FeatureFiles("features:x", wide, elsewhere).choose(examples("a"))
    old = agreed._replace(samples={})  # a run of cl2cm 0.1.0
    assert FeatureFiles("features:x", tmp_path / "npy", old).choose(examples("film_a"))
    with pytest.raises(StoreError, match="expected the features that it was trained on"):
        FeatureFiles("features:x", new, old).choose(examples("a"))
    nowhere = FeatureFiles("features:x", tmp_path / "nowhere", agreed)
    assert (nowhere.width, nowhere.fingerprint) == (WIDTH, files.fingerprint)
    with pytest.raises(EncoderError, match="--features PATH"):
        nowhere.choose(examples("a"))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 3e38, 1e300])
def test_items_whose_features_are_not_finite_are_named_or_left_out(number, tmp_path):
    items = {**made(), "film_b": np.array([[1.0] * (WIDTH - 1) + [number]])}
    files = FeatureFiles("features:x", write_arrays(tmp_path / "npy", items))
    with pytest.raises(StoreError, match="'film_b': expected finite numbers"):
        files.choose(examples("film_a", "film_b"))
    told = []
    chosen = files.choose(
        examples("film_a", "film_b"), skip_bad=True, on_skip=lambda *x: told.append(x)
    )
    assert [name for name, _ in told] == ["film_b"]
    assert (chosen.has("film_a"), chosen.has("film_b")) == (True, False)


def test_evaluate_takes_examples_of_a_run_on_features(films, trained_on_films):
    whole = evaluate_manifest(trained_on_films, films / "manifest.jsonl")["languages"]
    test = [e for e in read_manifest(films / "manifest.jsonl") if e.split == "test"]
    assert evaluate(load(trained_on_films), test) == whole


def test_a_run_and_its_features_on_another_machine(films, trained_on_films, small, tmp_path, capfd):
    """Texts alone need no features; everything else is told where they are, with two options."""
    shutil.copytree(trained_on_films, tmp_path / "run")
    change_settings(tmp_path / "run", films, "/gone")
    change_settings(tmp_path / "run", small.text, "/gone/text")
    shutil.copytree(films / "resnet", tmp_path / "feat")
    shutil.copytree(small.text, tmp_path / "text")
    shutil.copy(films / "manifest.jsonl", tmp_path)
    run, manifest = str(tmp_path / "run"), str(tmp_path / "manifest.jsonl")
    text = ["--text-encoder", f"hf:{tmp_path / 'text'}"]
    features = ["--features", str(tmp_path / "feat")]
    assert command_line(["evaluate", run, manifest]) == 2
    assert command_line(["evaluate", run, manifest, *text]) == 2
    assert "--features" in capfd.readouterr().err
    assert command_line(["evaluate", run, manifest, *text, *features, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)["languages"]
    assert found == evaluate_manifest(trained_on_films, films / "manifest.jsonl")["languages"]
    assert command_line(["index", run, manifest, str(tmp_path / "i"), *features]) == 0
    assert command_line(["search", str(tmp_path / "i"), "red circle", *text]) == 0
    assert command_line(["align", run, "red circle", "red", *text]) == 0
    assert load(run, text_encoder=text[1]).encode_text(["red"]).shape == (1, 32)


def test_copy_into_a_store(films, tmp_path):
    encoder = f"features:{films / 'resnet'}"
    made_ = encode_store(films / "manifest.jsonl", tmp_path / "store", encoder, side="vision")
    assert (made_["items"], made_["width"]) == (144, world.WIDTH)
    assert FeatureStore.open(tmp_path / "store").meta["encoder"] == encoder


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
@pytest.mark.parametrize("pipe", [True, False], ids=["pipe", "device"])
@pytest.mark.parametrize(
    "name", ["feature.bin", "id.txt", "shape.txt", "video2frames.txt", "a.npy", "a.h5", "store.json",
             "00000.ids.json", "00000.safetensors"],
)  # fmt: skip
def test_a_pipe_or_a_device_among_features_is_refused(tmp_path, name, pipe):
    """They would keep a reader waiting, or never end."""
    rows = np.ones((2, 3), np.float32)
    if name[:1] in "s0" and name != "shape.txt":
        write_stored(tmp_path / "f", rows)
    else:
        write_rows(tmp_path / "f", ["one", "two"], rows)
    file = tmp_path / "f" / name
    if file.suffix in (".npy", ".h5"):
        (tmp_path / "f" / "feature.bin").unlink()
    file.unlink(missing_ok=True)
    if pipe:
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    with ended_after(10), pytest.raises(CL2CMError):
        FeatureFiles("features:x", tmp_path / "f")


@contextmanager
def ended_after(seconds):
    def end(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def write_stored(folder, rows):
    values = torch.from_numpy(rows).half()
    stored = Rows(values, torch.ones(len(rows), dtype=torch.int64), torch.ones(len(rows)).bool())
    return write_store(
        folder, ["one", "two"], lambda _: stored, encoder="x", fingerprint="f" * 64, width=3
    )
