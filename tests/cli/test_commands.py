"""``--skip-bad``: the same meaning in every command that reads a manifest, and everything is named."""

import json
import shutil

import pytest
from PIL import Image

from cl2cm.cli.app import run as command_line
from cl2cm.cli.evaluation import evaluate_manifest, evaluation_lines
from cl2cm.cli.indexing import index_source
from cl2cm.errors import ManifestError, MediaError


@pytest.fixture
def damaged(small, tmp_path):
    """The small world with a damaged image, an absent one and two lines that do not fit."""
    folder = tmp_path / "data"
    shutil.copytree(small.manifest.parent, folder)
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    broken, absent = [line for line in lines if line["split"] == "test"][:2]
    (folder / broken["image"]).write_bytes(b"damaged")
    (folder / absent["image"]).unlink()
    texts = [json.dumps(line) for line in lines]
    texts[3:3] = ["{", json.dumps({"id": "x", "split": "test", "features": "x", "captions": "a"})]
    (folder / "manifest.jsonl").write_text("\n".join(texts) + "\n")
    return folder / "manifest.jsonl", broken["id"], absent["id"]


def names(skipped):
    return [name.rpartition("/")[2] for name in skipped]


PLACES = ["manifest.jsonl:4", "manifest.jsonl:5: captions"]


def test_evaluate(trained, small, damaged, capfd):
    manifest, broken, absent = damaged
    with pytest.raises(ManifestError, match=r"manifest\.jsonl:4"):
        evaluate_manifest(trained, manifest, leak_check=False)
    for _ in range(2):  # encoded, then from the cache: named both times
        found = evaluate_manifest(trained, manifest, leak_check=False, skip_bad=True)
        assert names(found["skipped"]) == [*PLACES, broken, absent]
        said = capfd.readouterr().err
        assert said.count(f"skipped {broken}:") == said.count(f"skipped {absent}:") == 1
    whole = evaluate_manifest(trained, small.manifest, leak_check=False)
    gallery = whole["languages"]["en"]["gallery"]
    assert (whole["skipped"], found["languages"]["en"]["gallery"]) == ([], gallery - 2)
    table = evaluation_lines(found)
    assert "queries" in table[1]
    assert "gallery" in table[1]
    assert str(gallery - 2) in table[2]
    assert table[-1].startswith("4 skipped: ")


def test_evaluate_from_the_command_line(trained, damaged, capfd):
    arguments = ["evaluate", str(trained), str(damaged[0]), "--no-leak-check"]
    assert command_line(arguments) == 2
    assert command_line([*arguments, "--skip-bad", "--json"]) == 0
    assert len(json.loads(capfd.readouterr().out)["skipped"]) == 4


def test_encode_index_and_translate(trained, damaged, small, tmp_path, capfd):
    manifest, broken, absent = damaged
    made = index_source(trained, manifest, tmp_path / "index", skip_bad=True)
    assert sorted(names(made["skipped"])) == sorted([*PLACES, broken, absent])
    vision = f"onnx:{small.vision}"
    (tmp_path / "t.tsv").write_text("red circle\trot\n")
    for arguments, items in (
        (["encode", str(manifest), "--encoder", vision, "--out", str(tmp_path / "store")],
         [broken, absent]),
        (["translate", str(manifest), "--to", "de", "--engine", f"file:{tmp_path / 't.tsv'}",
          "--out", str(tmp_path / "m.jsonl"), "--cache", str(tmp_path / "c.sqlite")], []),
    ):  # fmt: skip
        assert command_line(arguments) == 2
        capfd.readouterr()
        assert command_line([*arguments, "--skip-bad", "--json"]) == 0
        assert names(json.loads(capfd.readouterr().out)["skipped"]) == [*PLACES, *items]


def test_an_item_is_only_skipped_when_asked(trained, small, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(small.manifest.parent, folder)
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    test = next(json.loads(line) for line in lines if json.loads(line)["split"] == "test")
    Image.new("RGB", (4, 4)).save(folder / test["image"])
    evaluate_manifest(trained, folder / "manifest.jsonl", leak_check=False)
    (folder / test["image"]).write_bytes(b"damaged")
    with pytest.raises(MediaError):
        evaluate_manifest(trained, folder / "manifest.jsonl", leak_check=False)
