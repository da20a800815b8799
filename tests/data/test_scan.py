from pathlib import Path

import pytest

from cl2cm.data.scan import scan_folder
from cl2cm.errors import MediaError


def test_scan_takes_pictures_in_order_and_nothing_else(tmp_path):
    root = tmp_path / "photos"
    wanted = ["B.JPG", "a/1.webp", "a/b/ü 2.gif", "c.tiff", "d.bmp", "e.jpeg", "f.png", "g.tif"]
    unwanted = ["notes.txt", ".hidden.png", ".cache/x.png", "a/.x/y.png", "noext", "x.png.part"]
    for name in wanted + unwanted:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "folder.png").mkdir()
    examples = scan_folder(root)
    assert [example.id for example in examples] == sorted(wanted)
    assert [example.image for example in examples] == [root / name for name in sorted(wanted)]
    assert {Path(name).suffix.lower() for name in wanted} | {".jpg"} == IMAGE_SUFFIXES


def test_scan_follows_no_link_out_of_the_folder(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key.png").touch()
    (root / "real.png").touch()
    (root / "within.png").symlink_to(root / "real.png")
    (root / "out.png").symlink_to(secret / "key.png")
    (root / "album").symlink_to(secret)
    (root / "loop").symlink_to(root)
    (root / "broken.png").symlink_to(root / "gone.png")
    assert [example.id for example in scan_folder(root)] == ["real.png", "within.png"]


def test_scan_of_a_folder_that_is_itself_a_link(tmp_path, pictures):
    (tmp_path / "link").symlink_to(pictures)
    assert len(scan_folder(tmp_path / "link")) == 4


def test_scan_refuses_what_holds_no_pictures(tmp_path):
    with pytest.raises(MediaError, match="at least one picture"):
        scan_folder(tmp_path)
    with pytest.raises(MediaError, match="no such folder"):
        scan_folder(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="a file"):
        scan_folder(tmp_path / "file")
