import io

import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from cl2cm.media.animation import is_uniform
from cl2cm.media.images import Preprocess, load_frames
from cl2cm.serve.media import shrink, shrink_upload

TO_32 = Preprocess(32)
KINDS = {"gif": {"duration": 80}, "webp": {"lossless": True}, "png": {}}


def drawn(seed):
    colours = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((32, 32), Image.Resampling.NEAREST)


def packed(kind, frames):
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], **KINDS[kind])
    return file.getvalue()


def plain(colour, mode="RGB"):
    return Image.new(mode, (32, 32), colour)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([plain("black"), drawn(1), drawn(2), drawn(3)], 2),  # the middle
        ([plain("black"), plain("black"), plain("white"), drawn(3)], 3),
        ([drawn(1), plain("black"), plain("white"), plain("black")], 0),
        ([plain("red"), plain("green"), plain("blue")], 1),  # all of one colour
        ([drawn(1)], 0),
    ],
)
def test_the_frame_near_the_middle_stands_for_an_animation(kind, frames, expected):
    data = packed(kind, frames)
    found = load_frames(data, TO_32)[0]
    assert_allclose(found.astype(int), np.asarray(frames[expected]).astype(int), atol=6)
    for draw in (shrink(data, 320, "x"), shrink_upload(data, 320, lossless=True)):
        shown = np.asarray(Image.open(io.BytesIO(draw[0])).convert("RGB")).astype(int)
        assert_allclose(shown.mean((0, 1)), found.mean((0, 1)), atol=12)


def test_a_clear_first_frame():
    frames = [
        Image.new("RGBA", (32, 32), (0, 0, 0, 0)),
        *(drawn(n).convert("RGBA") for n in (1, 2, 3)),
    ]
    assert_allclose(load_frames(packed("webp", frames), TO_32)[0], np.asarray(drawn(2)), atol=6)


def test_a_file_that_is_damaged_later_on_shows_its_first_frame():
    data = packed("gif", [drawn(1), drawn(2), drawn(3), drawn(4)])
    first = load_frames(data[: len(data) // 2], TO_32)[0]
    assert_allclose(first.astype(int), np.asarray(drawn(1)).astype(int), atol=6)


def test_pages_are_no_frames():
    file = io.BytesIO()
    drawn(1).save(file, "TIFF", save_all=True, append_images=[drawn(2), drawn(3)])
    assert_allclose(load_frames(file.getvalue(), TO_32)[0], np.asarray(drawn(1)))


def test_uniform():
    noise = np.random.default_rng(0).normal(16, 2, (90, 160, 3)).clip(0, 255).astype(np.uint8)
    assert is_uniform(noise)
    title = noise.copy()
    title[40:50, 40:120] = 200
    assert not is_uniform(title)
    assert is_uniform(np.zeros((1, 1, 3), np.uint8))
