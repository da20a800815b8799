"""Commands on a folder: a broken file does not stop the rest, and everything is named."""

import json
import shutil

import pytest

from cl2cm.cli.app import run as command_line
from cl2cm.data import scan
from cl2cm.index import Index


@pytest.fixture
def photos(small, tmp_path):
    """Three images, a broken one, and files of other kinds."""
    folder = tmp_path / "photos"
    (folder / "drafts").mkdir(parents=True)
    for number, image in enumerate(sorted((small.manifest.parent / "images").iterdir())[:3]):
        shutil.copy(image, folder / f"{number}.png")
    shutil.copy(folder / "0.png", folder / "drafts" / "d.png")
    (folder / "broken.jpg").write_bytes(b"damaged")
    (folder / "logo.svg").write_text("<svg/>")
    (folder / "notes.txt").write_text("notes")
    return folder


@pytest.fixture(params=["index", "encode"])
def command(request, trained, small, photos, tmp_path):
    if request.param == "index":
        return ["index", str(trained), str(photos), str(tmp_path / "out")]
    vision = f"onnx:{small.vision}"
    return ["encode", str(photos), "--encoder", vision, "--out", str(tmp_path / "out")]


def test_the_rest_is_done_and_the_exit_code_says_that_something_is_missing(command, capfd):
    assert command_line([*command, "--json"]) == 1
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert (found["items"], found["broken"]) == (4, 1)
    assert found["skipped"] == ["broken.jpg", "logo.svg"]
    assert found["left_out"] == {".svg": 1, ".txt": 1}
    assert "left out: 1 .svg (not supported), 1 .txt" in err
    assert "1 could not be read and were skipped: broken.jpg; everything else was done." in err
    assert "--skip-bad" in err


def test_broken_files_may_be_accepted(command, capfd):
    assert command_line([*command, "--skip-bad", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["broken"] == 1


def test_strict_stops_at_the_first(command, capfd, tmp_path):
    assert command_line([*command, "--strict"]) == 2
    assert "broken.jpg: expected an image" in capfd.readouterr().err
    assert command_line([*command, "--strict", "--skip-bad"]) == 2
    assert "expected one of them, found both" in capfd.readouterr().err


def test_nothing_broken_is_success(command, photos):
    (photos / "broken.jpg").unlink()
    assert command_line(command) == 0
    assert command_line([*command, "--strict"]) == 0


def test_patterns_are_left_out(command, capfd):
    arguments = ["--exclude", "drafts/", "--exclude", "broken.*", "--json"]
    assert command_line([*command, *arguments]) == 0
    assert json.loads(capfd.readouterr().out)["items"] == 3


def test_patterns_are_of_folders(command, small, capfd):
    place = command.index(next(part for part in command if part.endswith("photos")))
    command[place] = str(small.manifest)
    assert command_line([*command, "--exclude", "x"]) == 2
    assert "--exclude: expected a folder" in capfd.readouterr().err


def test_videos_without_their_extra_do_not_stop_the_images(command, photos, capfd, monkeypatch):
    monkeypatch.setattr(scan, "has_extra", lambda extra: not extra)
    (photos / "broken.jpg").unlink()
    (photos / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    assert command_line([*command, "--strict"]) == 2
    assert "pip install 'cl2cm[video]'" in capfd.readouterr().err
    assert command_line([*command, "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["skipped"] == ["film.mp4", "logo.svg"]
    assert "1 .mp4 (pip install 'cl2cm[video]')" in err


def test_videos_of_a_manifest_without_their_extra(trained, photos, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("cl2cm.cli.sources.has_extra", lambda extra: not extra)
    lines = [
        {"id": "a", "split": "test", "image": "0.png"},
        {"id": "v", "split": "test", "video": "v.mp4"},
    ]
    (photos / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    command = ["index", str(trained), str(photos / "m.jsonl"), str(tmp_path / "out"), "--json"]
    assert command_line([*command, "--skip-bad"]) == 0
    assert json.loads(capfd.readouterr().out)["skipped"] == ["v"]
    assert len(Index.open(tmp_path / "out")) == 1


def test_a_folder_that_is_not_there(command, photos, tmp_path, capfd):
    place = command.index(str(photos))
    command[place] = str(tmp_path / "fotos")
    assert command_line(command) == 2
    assert (
        "fotos: expected a folder of images and videos, or a manifest, found no such"
        in capfd.readouterr().err
    )


@pytest.mark.parametrize("command", ["index", "encode"])
def test_the_help_lists_the_formats(command, capfd):
    command_line([command, "--help"])
    text = " ".join(capfd.readouterr().out.split())
    assert ".jfif" in text
    assert "with cl2cm[heic]: HEIF (.heic .heif .hif)" in text


def test_the_help_says_which_day_counts(capfd):
    command_line(["search", "--help"])
    text = " ".join(capfd.readouterr().out.split())
    assert "in local time" in text
