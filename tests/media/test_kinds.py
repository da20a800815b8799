"""What an image is and what a video, and that no other room decides it."""

import ast
import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest

import cl2cm
from cl2cm.errors import MediaError
from cl2cm.media.images import Preprocess, is_video, load_frames
from cl2cm.media.kinds import (
    IMAGE_SUFFIXES,
    SUFFIXES,
    VIDEO_SUFFIXES,
    format_of,
    is_unread,
    is_video_type,
    kind_by_name,
    media_of,
    media_type,
    plays_in_browsers,
    supported,
)
from cl2cm.types import Example, Media
from fixtures.videos import grey, write_film

SOURCE = Path(cl2cm.__file__).parent
MEDIA = {path.relative_to(SOURCE).as_posix() for path in (SOURCE / "media").glob("*.py")}
FORMAT = {"types.py", "data/lines.py"}  # an example, and its line in a manifest


def test_a_bare_file_is_known_by_its_name():
    assert kind_by_name("a.JPG") == kind_by_name(Path("b/c.tiff")) == "image"
    assert kind_by_name("a.b.MP4") == "video"
    assert kind_by_name("mp4") is kind_by_name("a.txt") is kind_by_name("") is None
    assert media_of(Path("a.webm")) == Media(Path("a.webm"), "video")
    assert media_of(Path("a.dat")).kind == "image"
    assert not IMAGE_SUFFIXES & VIDEO_SUFFIXES


def test_the_word_of_a_manifest_stands_above_the_name(tmp_path):
    assert is_video(Example("x", "test", video=tmp_path / "x.dat"))
    assert not is_video(Example("x", "test", image=tmp_path / "x.mp4"))
    assert not is_video(Example("x", "test", features="x"))
    assert not is_video(b"bytes")


def test_a_video_without_the_suffix_of_one_is_read_as_the_manifest_says(tmp_path):
    pytest.importorskip("av")
    path = write_film(tmp_path / "x.mp4", [grey(number) for number in range(8)])
    path = path.rename(tmp_path / "x.dat")
    assert len(load_frames(Example("x", "test", video=path), Preprocess(32))) > 1


def test_an_example_has_one_media():
    part = Example("x", "test", video="a.mp4", start=1.0, end=2.0)
    assert part.media == Media(Path("a.mp4"), "video", 1.0, 2.0)
    assert part.kind == "video"
    stored = Example("x", "test", features="x")
    assert stored.media is stored.path is stored.kind is None
    assert stored.with_media(part.media) == part
    image = Media(Path("b.png"), "image")
    assert part.with_media(image) == Example("x", "test", image="b.png")
    assert replace(image, kind="video").is_video


def test_a_file_is_known_by_its_first_bytes():
    assert media_type(b"\xff\xd8\xff\xe0") == "image/jpeg"
    assert is_video_type(media_type(b"\0\0\0\x18ftypmp42"))
    assert not is_video_type(media_type(b"\0\0\0\x18ftypavif"))
    with pytest.raises(MediaError, match="x: expected an image or video"):
        media_type(b"text", "x")


def brands(*names):
    return (
        struct.pack(">I", 16 + 4 * (len(names) - 1))
        + b"ftyp"
        + names[0]
        + bytes(4)
        + b"".join(names[1:])
    )


def packets(size, first=0):
    return bytes(first) + b"".join(b"G" + bytes([n]) * (size - 1) for n in range(1, 9))


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (brands(b"heic", b"mif1"), "image/heic"),
        (brands(b"mif1", b"mif1", b"heic"), "image/heic"),
        (brands(b"msf1"), "image/heic"),
        (brands(b"mif1", b"avif", b"mif1"), "image/avif"),
        (brands(b"avis", b"msf1"), "image/avif"),
        (brands(b"isom", b"mp42"), "video/mp4"),
        (packets(188), "video/mp2t"),
        (packets(192, 4), "video/mp2t"),
        (packets(204), "video/mp2t"),
        (packets(188, 57), "video/mp2t"),  # cut out of a broadcast
        (b"\xff\x4f\xff\x51", "image/jp2"),
        (b"II+\0", "image/tiff"),
    ],
)
def test_types_by_first_bytes(start, expected):
    assert media_type(start) == expected


@pytest.mark.parametrize(
    "start", [brands(b"crx ", b"isom"), b"G" * 4000, b"GIF8", b"", packets(188)[:400]]
)
def test_first_bytes_of_other_files(start):
    assert format_of(start) is None


def test_every_suffix_is_documented():
    text = supported()
    assert all(suffix in text for suffix in SUFFIXES)
    assert "with cl2cm[heic]: HEIF (.heic .heif .hif)" in text
    assert not any(map(is_unread, (f"x{suffix}" for suffix in SUFFIXES)))
    assert is_unread("a.SVG")


def test_the_documentation_lists_every_suffix():
    text = (Path(__file__).parents[2] / "docs" / "media.md").read_text(encoding="utf-8")
    table = text[text.index("| format") : text.index("`cl2cm index --help`")]
    assert set(re.findall(r"\.[0-9a-z]+", table)) == SUFFIXES


def test_what_browsers_play():
    assert all(map(plays_in_browsers, ("a.mp4", "a.MOV", "a.webm", "a.ogv")))
    assert not any(
        map(plays_in_browsers, ("a.MTS", "a.m2ts", "a.mpg", "a.avi", "a.wmv", "a.jpg", ""))
    )


def _trees():
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE).as_posix(), ast.parse(path.read_text("utf-8"))


def test_no_other_room_asks_whether_an_example_has_an_image_or_a_video():
    found = {
        f"{name}:{node.lineno}"
        for name, tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("image", "video")
        and name not in FORMAT | MEDIA
        and not name.startswith(("encode/clip/", "model/off_the_shelf", "data/containers/"))
        and name not in ("export/describe.py", "methods/new_language.py")  # as the first two:
        # models with an image side; members of containers with a caption or an image
    }  # fmt: skip
    assert not found


def test_no_other_room_decides_by_suffix():
    """Neither the sets of suffixes nor a suffix of a video is compared with anything elsewhere."""
    found = set()
    for name, tree in _trees():
        if name in MEDIA:
            continue
        for node in ast.walk(tree):
            inside = list(ast.walk(node))
            named = {part.id for part in inside if isinstance(part, ast.Name)}
            texts = {part.value for part in inside if isinstance(part, ast.Constant)}
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            tests = isinstance(node, ast.Compare) or (
                called and node.func.attr in ("endswith", "startswith", "match", "fullmatch")
            )
            if tests and (
                named & {"SUFFIXES", "IMAGE_SUFFIXES", "VIDEO_SUFFIXES"}
                or {text for text in texts if isinstance(text, str)} & (VIDEO_SUFFIXES | {"video/"})
            ):
                found.add(f"{name}:{node.lineno}")
            if isinstance(node, ast.Set | ast.List | ast.Tuple | ast.Dict):
                kinds = {kind_by_name(f"x{text}") for text in texts if text in SUFFIXES}
                assert len(kinds) < 2, f"{name}:{node.lineno} lists suffixes of images and videos"
    assert not found
