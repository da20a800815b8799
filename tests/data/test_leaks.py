"""The same picture in two splits: what is found, and what is not mistaken for it."""

import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from cl2cm.data import leaks
from cl2cm.data.leaks import Leak, find_leaks, leak_lines
from cl2cm.data.manifest import read_manifest
from cl2cm.types import Example


def draw(seed, size=(300, 240)):
    """A picture of many coloured things, soft enough to be one of a camera."""
    rng = random.Random(seed)
    image = Image.new("RGB", size, tuple(rng.randrange(256) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for _ in range(25):
        x, y = rng.randrange(size[0]), rng.randrange(size[1])
        box = (x, y, x + rng.randrange(10, 150), y + rng.randrange(10, 150))
        shape = rng.choice([pen.ellipse, pen.rectangle])
        shape(box, fill=tuple(rng.randrange(256) for _ in range(3)))
    noise = np.random.default_rng(seed).normal(0, 6, (size[1], size[0], 3))
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(1.5))) + noise
    return Image.fromarray(soft.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Sixty different pictures in three splits; not to be changed."""
    folder = tmp_path_factory.mktemp("pictures")
    items = []
    for seed in range(60):
        draw(seed).save(folder / f"{seed}.jpg", quality=92)
        split = ("train", "val", "test")[seed % 3]
        items.append(Example(f"p{seed}", split, image=folder / f"{seed}.jpg"))
    return items


def plant(items, folder, change, **options):
    """Copies in test of ten pictures of train and val."""
    chosen = [item for item in items if item.split != "test"][:10]
    made = []
    for item in chosen:
        path = folder / f"again-{item.id}.jpg"
        change(Image.open(item.image)).save(path, **options)
        made.append(replace(item, id=path.stem, image=path, split="test"))
    return made


def pairs(leaks):
    return {(leak.first.id, leak.second.id, leak.why) for leak in leaks}


def scaled(factor):
    return lambda image: image.resize((int(image.width * factor), int(image.height * factor)))


def test_different_pictures_are_not_the_same(pictures):
    assert find_leaks(pictures, progress=False) == []


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda image: image, {"quality": 40}),
        (scaled(0.5), {"quality": 90}),
        (scaled(0.5), {"quality": 40}),
        (scaled(0.33), {"quality": 75}),
        (scaled(2), {"quality": 60}),
    ],
    ids=["quality 40", "half", "half, quality 40", "a third", "double"],
)
def test_every_copy_is_found_and_nothing_else(pictures, tmp_path, change, options):
    planted = plant(pictures, tmp_path, change, **options)
    found = pairs(find_leaks([*pictures, *planted], progress=False))
    assert found == {(item.id.removeprefix("again-"), item.id, "picture") for item in planted}


def test_a_copy_in_another_format_and_turned_by_its_orientation(pictures, tmp_path):
    Image.open(pictures[0].image).save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.open(pictures[1].image).rotate(90, expand=True)
    turned.save(tmp_path / "b.jpg", quality=95, exif=exif)
    planted = [
        Example("a", "test", image=tmp_path / "a.png"),
        Example("b", "test", image=tmp_path / "b.jpg"),
    ]
    found = find_leaks([*pictures, *planted], progress=False)
    assert pairs(found) == {("p0", "a", "picture"), ("p1", "b", "picture")}


def test_equal_bytes_and_equal_ids(pictures, tmp_path):
    shutil.copy(pictures[0].image, tmp_path / "copy.jpg")
    copy = Example("copy", "val", image=tmp_path / "copy.jpg")
    again = replace(pictures[1], split="test", image=pictures[2].image)  # p2 is in test itself
    stored = [Example("x", "train", features="f"), Example("y", "test", features="f")]
    found = pairs(find_leaks([*pictures, copy, again, *stored], progress=False))
    assert found == {("p0", "copy", "bytes"), ("p1", "p1", "id"), ("x", "y", "id")}


def test_copies_in_one_split_do_no_harm(pictures):
    assert find_leaks([*pictures, replace(pictures[0], id="twice")], progress=False) == []
    one = [replace(item, split="train") for item in plant_all_alike(pictures)]
    assert find_leaks(one, progress=False) == []


def plant_all_alike(pictures):
    return [replace(pictures[0], id=f"same{n}", split=f"s{n % 3}") for n in range(30)]


def test_of_many_that_are_the_same_each_is_named_and_not_every_pair(pictures):
    found = find_leaks(plant_all_alike(pictures), progress=False)
    named = {(a.id, b.split) for a, b, *_ in found} | {(b.id, a.split) for a, b, *_ in found}
    assert len(named) == 60  # each with both other splits
    assert len(found) < 60
    assert {leak.why for leak in found} == {"bytes"}


def face(eyes, colour, size=256):
    image = Image.new("RGB", (size, size), "white")
    pen = ImageDraw.Draw(image)
    pen.ellipse((20, 20, 236, 236), fill=colour, outline="black", width=6)
    for x in (85, 160):
        if eyes == "open":
            pen.ellipse((x - 10, 85, x + 10, 105), fill="black")
        else:
            pen.line((x - 14, 95, x + 14, 95), fill="black", width=5)
    pen.arc((80, 100, 176, 190), 20, 160, fill="black", width=6)
    return image


def test_drawings_that_differ_in_little_are_not_the_same(tmp_path):
    made = {
        "a": face("open", "yellow"),
        "b": face("shut", "yellow"),
        "c": face("open", (250, 200, 60)),
    }
    items = []
    for number, (name, image) in enumerate(made.items()):
        image.save(tmp_path / f"{name}.png")
        items.append(Example(name, f"split{number}", image=tmp_path / f"{name}.png"))
    assert find_leaks(items, progress=False) == []
    made["b"].resize((128, 128)).save(tmp_path / "d.jpg", quality=50)
    items.append(Example("d", "test", image=tmp_path / "d.jpg"))
    assert pairs(find_leaks(items, progress=False)) == {("b", "d", "picture")}


def test_flat_pictures(tmp_path):
    items = []
    for name, colour, quality in (("a", 250, 95), ("b", 250, 30), ("c", 120, 95)):
        path = tmp_path / f"{name}.jpg"
        Image.new("RGB", (200, 150), (colour, colour, colour)).save(path, quality=quality)
        items.append(Example(name, name, image=path))
    assert pairs(find_leaks(items, progress=False)) == {("a", "b", "picture")}


def test_films_are_the_same_where_their_parts_overlap(tmp_path):
    for name, content in (("a", b"film"), ("b", b"other"), ("copy", b"film"), ("size", b"mlif")):
        (tmp_path / f"{name}.mp4").write_bytes(content)

    def part(name, split, film, start=None, end=None):
        return Example(name, split, video=tmp_path / f"{film}.mp4", start=start, end=end)

    items = [
        part("a1", "train", "a", 0, 10),
        part("a2", "test", "a", 10, 20),
        part("a3", "val", "copy", 9, 11),
        part("a4", "train", "a", 30),
        part("b1", "train", "b"),
        part("b2", "test", "b", 5, 6),
        part("s", "test", "size"),
        part("gone", "test", "gone"),
    ]
    found = pairs(find_leaks(items, progress=False))
    assert found == {("a1", "a3", "bytes"), ("a2", "a3", "bytes"), ("b1", "b2", "bytes")}


def test_what_cannot_be_read_is_said_and_not_compared(pictures, tmp_path, capsys):
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    bad = [Example(f"bad{n}", f"s{n}", image=tmp_path / "bad.jpg") for n in range(2)]
    gone = Example("gone", "test", image=tmp_path / "gone.jpg")
    assert find_leaks([*pictures, *bad, gone], progress=False) == []
    said = capsys.readouterr().err
    assert "3 of 63 images could not be read" in said
    assert "bad.jpg" in said
    assert "gone.jpg" in said


def test_progress_and_silence(pictures, capsys):
    find_leaks(pictures)
    assert "looking for leaks: 60/60" in capsys.readouterr().err
    find_leaks(pictures, progress=False)
    assert capsys.readouterr() == ("", "")
    assert find_leaks([]) == []


def test_lines(pictures):
    one, other = pictures[0], pictures[2]
    lines = leak_lines(
        [Leak(one, other, "id"), Leak(one, other, "bytes"), Leak(one, other, "picture", 2.14)]
    )
    assert lines == [
        "p2 (test) has the same id as p0 (train)",
        "p2 (test) is the same file as p0 (train)",
        "p2 (test) looks like p0 (train), 2.1 of 255 levels apart",
    ]


def test_the_distance_of_images_that_look_alike(pictures, tmp_path):
    planted = plant(pictures, tmp_path, lambda image: image, quality=40)[:3]
    found = find_leaks([*pictures, *planted], progress=False)
    assert len(found) == 3
    assert all(leak.why == "picture" and 0 < leak.distance <= 8 for leak in found)


@pytest.mark.data
def test_ten_planted_copies_in_real_photos_and_no_false_one(tmp_path):
    manifest = Path(os.environ.get("CL2CM_DATA", "none"), "flickr8k-multi", "manifest.jsonl.gz")
    if not manifest.exists():
        pytest.skip("no flickr8k-multi below $CL2CM_DATA")
    items = [item for item in read_manifest(manifest) if item.split != "train"]
    assert find_leaks(items, progress=False) == []
    planted = plant(items, tmp_path, lambda image: image, quality=40)[:5]
    planted += plant(items, tmp_path, scaled(0.5), quality=85)[5:]
    found = pairs(find_leaks([*items, *planted], progress=False))
    assert found == {(item.id.removeprefix("again-"), item.id, "picture") for item in planted}


def test_what_was_found_is_kept_until_a_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("CL2CM_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.png" for name in "ab"]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).resize((64, 64)).save(path)
    items = [
        Example(id=path.stem, split=split, image=path)
        for path, split in zip(paths, ("train", "test"), strict=True)
    ]
    assert leaks.known_leaks(items) == []
    monkeypatch.setattr(leaks, "find_leaks", None)  # would fail if it were asked again
    assert leaks.known_leaks(items) == []
    monkeypatch.undo()
    monkeypatch.setenv("CL2CM_CACHE", str(tmp_path / "cache"))
    paths[1].write_bytes(paths[0].read_bytes())
    assert len(leaks.known_leaks(items)) == 1
