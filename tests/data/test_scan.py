import os
import sys
from pathlib import Path

import pytest

from cl2cm.data import scan
from cl2cm.data.ignored import FOLDERS
from cl2cm.data.scan import LeftOut, scan_folder, survey_folder
from cl2cm.errors import ConfigError, MediaError
from cl2cm.media.kinds import IMAGE_SUFFIXES


@pytest.fixture
def root(tmp_path):
    return tmp_path / "photos"


def fill(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def ids(root, **options):
    return [example.id for example in scan_folder(root, **options)]


def test_scan_takes_images_in_order_and_nothing_else(root):
    wanted = [f"{number}{suffix}" for number, suffix in enumerate(sorted(IMAGE_SUFFIXES))]
    wanted += ["B.JPG", "a/1.webp", "a/b/ü 2.gif"]
    unwanted = ["notes.txt", ".hidden.png", ".cache/x.png", "a/.x/y.png", "noext", "x.png.part"]
    fill(root, wanted + unwanted)
    (root / "folder.png").mkdir()
    examples = scan_folder(root)
    assert [example.id for example in examples] == sorted(wanted)
    assert [example.image for example in examples] == [root / name for name in sorted(wanted)]


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
    assert ids(root) == ["real.png", "within.png"]


def test_scan_of_a_folder_that_is_itself_a_link(tmp_path, root):
    fill(root, ["a.png"])
    (tmp_path / "link").symlink_to(root)
    assert ids(tmp_path / "link") == ["a.png"]


def test_scan_refuses_what_holds_no_images(tmp_path):
    with pytest.raises(MediaError, match="at least one image"):
        scan_folder(tmp_path)
    with pytest.raises(MediaError, match="no such folder"):
        scan_folder(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="a file"):
        scan_folder(tmp_path / "file")
    (tmp_path / "logo.svg").touch()
    with pytest.raises(
        MediaError, match=r"found left out: 1 \.svg \(not supported\), 1 \(no suffix\)"
    ):
        scan_folder(tmp_path)


BOOKKEEPING = [
    "2024/@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "@eaDir/x.jpg", "#recycle/old.jpg", "lost+found/x.jpg",
    "$RECYCLE.BIN/x.jpg", "$Recycle.Bin/S-1-5/y.jpg", "System Volume Information/x.jpg",
    "node_modules/logo.png", "__MACOSX/a.jpg", ".Trash-1000/files/x.jpg",
    "private/.nomedia", "private/p.jpg", "private/deeper/q.jpg",
]  # fmt: skip


def test_folders_of_other_programs_are_left_out(root):
    fill(root, ["2024/a.jpg", *BOOKKEEPING])
    assert ids(root) == ["2024/a.jpg"]
    assert not survey_folder(root).left_out.suffixes
    assert ids(root / "private") == ["deeper/q.jpg", "p.jpg"]  # named by the user itself
    assert ids(root / "@eaDir") == ["x.jpg"]


def test_the_documentation_lists_these_folders():
    text = (Path(__file__).parents[2] / "docs" / "media.md").read_text(encoding="utf-8").lower()
    assert all(f"`{name}`" in text for name in FOLDERS)


FILES = [
    "a.jpg",
    "a.png",
    "drafts/1.jpg",
    "drafts/keep.jpg",
    "x/drafts/2.jpg",
    "x/b.jpg",
    "Ka\u0308fer/c.jpg",
]


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["*.png"], ["a.png"]),
        (["drafts"], ["drafts/1.jpg", "drafts/keep.jpg", "x/drafts/2.jpg"]),
        (["/drafts/"], ["drafts/1.jpg", "drafts/keep.jpg"]),
        (["drafts/*", "!keep.jpg"], ["drafts/1.jpg"]),
        (["x/**/*.jpg"], ["x/drafts/2.jpg", "x/b.jpg"]),
        (["K\u00e4fer/"], ["Ka\u0308fer/c.jpg"]),
        ([], []),
    ],
)
def test_patterns_leave_out_as_in_gitignore(root, patterns, left):
    fill(root, FILES)
    expected = sorted(set(FILES) - set(left))
    assert ids(root, exclude=patterns) == expected
    (root / ".cl2cmignore").write_text("# comment\n\n" + "\n".join(patterns), encoding="utf-8")
    assert ids(root) == expected


def test_ignore_files_hold_for_their_folder_and_the_nearest_decides(root):
    fill(root, FILES)
    (root / ".cl2cmignore").write_text("*.jpg\n")
    (root / "x" / ".cl2cmignore").write_text("!b.jpg\n")
    assert ids(root) == ["a.png", "x/b.jpg"]
    assert ids(root, exclude=["b.jpg"]) == ["a.png"]


def test_a_hash_on_the_command_line_is_no_comment(root):
    fill(root, ["#old/a.jpg", "b.jpg"])
    assert ids(root, exclude=["#old"]) == ["b.jpg"]


def test_bad_patterns_are_named(root):
    fill(root, ["a.jpg"])
    with pytest.raises(ConfigError, match=r"--exclude: expected a pattern .* found '!'"):
        scan_folder(root, exclude=["!"])
    (root / ".cl2cmignore").write_text("*.png\n!\n")
    with pytest.raises(ConfigError, match=r"\.cl2cmignore:2: expected a pattern"):
        scan_folder(root)
    (root / ".cl2cmignore").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MediaError, match=r"\.cl2cmignore: expected patterns"):
        scan_folder(root)


def test_what_is_left_out_is_counted_and_named(root, monkeypatch, capfd):
    monkeypatch.setattr(scan, "has_extra", lambda extra: not extra)
    fill(
        root,
        ["a.jpg", "1.heic", "b/2.HEIC", "3.hif", "film.mp4", "logo.svg", "raw.DNG", "list.csv"],
    )
    found = survey_folder(root)
    assert [example.id for example in found.examples] == ["a.jpg"]
    assert sorted(found.left_out.media) == [
        "1.heic",
        "3.hif",
        "b/2.HEIC",
        "film.mp4",
        "logo.svg",
        "raw.DNG",
    ]
    line = (
        "left out: 2 .heic (pip install 'cl2cm[heic]'), 1 .dng (not supported), "
        "1 .hif (pip install 'cl2cm[heic]'), 1 .mp4 (pip install 'cl2cm[video]'), "
        "1 .svg (not supported), 1 .csv"
    )
    assert found.left_out.line() == line
    scan_folder(root)
    assert line in capfd.readouterr().err
    assert LeftOut().line() == ""


def test_a_program_in_typescript_is_no_video(root):
    fill(root, ["a.jpg"])
    (root / "index.ts").write_text("export const G = 1;\n" * 200)
    (root / "tv.ts").write_bytes((b"G" + bytes(187)) * 20)
    found = survey_folder(root)
    assert [example.id for example in found.examples] == ["a.jpg", "tv.ts"]
    assert found.left_out.media == ["index.ts"]


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="everything can be read by this user"
)
def test_a_folder_that_cannot_be_read_is_not_gone(root):
    fill(root, ["a.jpg", "closed/b.jpg"])
    (root / "closed").chmod(0)
    try:
        with pytest.raises(
            MediaError, match=r"closed: expected a folder that can be read.*--exclude"
        ):
            scan_folder(root)
        assert ids(root, exclude=["closed"]) == ["a.jpg"]
    finally:
        (root / "closed").chmod(0o755)


def test_an_error_of_walking_is_an_error(root, monkeypatch):
    fill(root, ["a.jpg", "closed/b.jpg"])
    real = os.scandir

    def scandir(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(MediaError, match="closed: expected a folder that can be read"):
        scan_folder(root)
    assert ids(root, exclude=["closed/"]) == ["a.jpg"]
