"""``cl2cm encode`` in this process, in processes, as an array and by Ray: the same bytes."""

import json
import random

import pytest

from cl2cm.cli.app import run
from fixtures import world
from fixtures.slow_step import hashes

JOBS = 7
REFERENCE = {"vision": 18, "text": 12}  # shards


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr("cl2cm.encode.encoding.LEAST_PICTURES", 8)
    monkeypatch.setattr("cl2cm.encode.encoding.LEAST_TEXTS", 8)


@pytest.fixture(scope="module")
def sides(small, tmp_path_factory):
    """144 images with captions; the arguments of a command for each side."""
    manifest = world.write_pictures(tmp_path_factory.mktemp("photos"))
    text = world.write_text(tmp_path_factory.mktemp("text"), max_tokens=64)
    return {
        "vision": [manifest.parent / "images", "--encoder", f"onnx:{small.vision}"],
        "text": [manifest, "--encoder", f"hf:{text}", "--side", "text"],
    }


@pytest.fixture(scope="module")
def expected(sides, tmp_path_factory):
    """The files of each store, as one process writes it."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cl2cm.encode.encoding.LEAST_PICTURES", 8)
        patch.setattr("cl2cm.encode.encoding.LEAST_TEXTS", 8)
        for side, command in sides.items():
            out = tmp_path_factory.mktemp("expected") / side
            assert encode(command, out) == 0
            found[side] = hashes(out)
            assert sum(name.endswith(".safetensors") for name in found[side]) == REFERENCE[side]
    return found


def encode(command, out, *options):
    return run(["encode", *map(str, command), "--out", str(out), *options])


@pytest.mark.parametrize("side", ["vision", "text"])
def test_two_processes(side, sides, expected, tmp_path):
    assert encode(sides[side], tmp_path / "s", "--workers", "2") == 0
    assert hashes(tmp_path / "s") == expected[side]


@pytest.mark.parametrize("side", ["vision", "text"])
def test_an_array_in_random_order(side, sides, expected, tmp_path, capsys):
    jobs = list(range(1, JOBS + 1))
    random.Random(3).shuffle(jobs)
    for job in jobs:
        assert encode(sides[side], tmp_path / "s", "--shard", f"{job}/{JOBS}", "--json") == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["part"].endswith(f"part-{jobs[-1]:05}-of-{JOBS:05}")
    assert told["of_shards"] == REFERENCE[side]
    assert encode(sides[side], tmp_path / "s", "--merge") == 0
    assert hashes(tmp_path / "s") == expected[side]


def test_a_merge_without_all_parts_names_the_job(sides, expected, tmp_path, capsys):
    for job in (1, 3):
        assert encode(sides["vision"], tmp_path / "s", "--shard", f"{job}/3") == 0
    assert encode(sides["vision"], tmp_path / "s", "--merge") == 2
    assert "run again: --shard 2/3" in capsys.readouterr().err
    assert encode(sides["vision"], tmp_path / "s", "--shard", "2/3") == 0
    assert encode(sides["vision"], tmp_path / "s", "--merge") == 0
    assert hashes(tmp_path / "s") == expected["vision"]


def test_broken_images_are_listed_by_every_engine(sides, small, tmp_path, capsys):
    folder = world.write_pictures(tmp_path / "photos", copies=1).parent / "images"
    (folder / "broken.png").write_bytes(b"no image")
    command = [folder, "--encoder", f"onnx:{small.vision}"]
    for name, options in {"here": (), "two": ("--workers", "2")}.items():
        assert encode(command, tmp_path / name, "--json", *options) == 1
        assert json.loads(capsys.readouterr().out)["skipped"] == ["broken.png"]
    assert hashes(tmp_path / "here") == hashes(tmp_path / "two")
    for job in ("1/2", "2/2"):
        encode(command, tmp_path / "array", "--shard", job)
    capsys.readouterr()
    assert encode(command, tmp_path / "array", "--merge", "--json") == 1
    assert json.loads(capsys.readouterr().out)["skipped"] == ["broken.png"]
    assert hashes(tmp_path / "array") == hashes(tmp_path / "here")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "spark"], "--engine: expected local or ray, found 'spark'"),
        (["--address", "10.0.0.1:6379"], "--address: expected --engine ray"),
        (["--shard", "1/2", "--merge"], "--shard and --merge: expected one of them"),
        (["--shard", "3/2"], "--shard: expected a job of an array"),
    ],
)
def test_options_that_contradict_each_other(options, message, sides, tmp_path, capsys):
    assert encode(sides["vision"], tmp_path / "s", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
