import io
import struct
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from cl2cm.errors import MediaError
from cl2cm.media import decoding, image_decoding
from cl2cm.media import images as visual
from cl2cm.media.decoding import decode_parallel
from cl2cm.media.images import Preprocess, load_frames
from cl2cm.serve.media import shrink, shrink_upload
from cl2cm.types import Example

TO_32 = Preprocess(32)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    planes = [255 * x / width, 255 * y / height, 127 + 127 * np.sin(x / 40 + y / 60)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def packed(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(pixels: np.ndarray) -> bytes:
    return packed(Image.fromarray(pixels))


def test_square_of_the_right_size_passes_through(tmp_path):
    pixels = noise(32, 32)
    (tmp_path / "a.png").write_bytes(png(pixels))
    example = Example("a", "train", image=tmp_path / "a.png")
    for source in (tmp_path / "a.png", png(pixels), pixels, example):
        frames = load_frames(source, TO_32)
        assert frames.dtype == np.uint8
        assert_array_equal(frames, pixels[None])


def test_scales_the_shorter_side_and_cuts_the_centre():
    pixels = np.zeros((64, 192, 3), np.uint8)
    pixels[:, 64:128] = 200  # the central square
    assert_array_equal(load_frames(pixels, TO_32)[0, :, 2:-2], 200)
    assert_array_equal(load_frames(pixels.swapaxes(0, 1), TO_32)[0, 2:-2], 200)


def test_cut_is_smaller_than_the_scaled_picture():
    pixels = noise(40, 40)
    assert_array_equal(load_frames(pixels, Preprocess(32, 40))[0], pixels[4:36, 4:36])


def test_scaling_is_antialiased():
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[:, ::2] = 255
    assert_allclose(load_frames(stripes, TO_32)[0], 128, atol=8)


@pytest.mark.parametrize("resample", ["bicubic", "bilinear", "lanczos"])
def test_scaling_follows_the_named_filter(resample):
    pixels = noise(50, 50)
    filter_ = Image.Resampling[resample.upper()]
    wanted = np.array(Image.fromarray(pixels).resize((32, 32), filter_))
    assert_array_equal(load_frames(pixels, Preprocess(32, resample=resample))[0], wanted)


def test_enlarges_the_smallest_picture():
    assert_array_equal(load_frames(png(np.full((1, 1, 3), 9, np.uint8)), TO_32), 9)


def test_thin_strip_takes_little_memory():
    strip = png(np.full((1, 60_000, 3), 7, np.uint8))
    assert_array_equal(load_frames(strip, Preprocess(512)), 7)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation(orientation, kind):
    stored = Image.fromarray(noise(24, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = load_frames(packed(stored, kind, exif=exif), TO_32)
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    upright = Image.open(io.BytesIO(packed(stored, kind))).convert("RGB")
    upright = upright if turn is None else upright.transpose(turn)
    assert_array_equal(turned, load_frames(np.array(upright), TO_32))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "RGB", "L"])
def test_transparent_is_white(mode):
    if mode in ("RGBA", "LA", "PA"):
        image = Image.new(mode, (32, 32), (0,) * len(mode))
        data = packed(image, "TIFF" if mode == "PA" else "PNG")
    else:
        data = packed(Image.new(mode, (32, 32), 0), transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert_array_equal(load_frames(data, TO_32), 255)


def test_half_transparent_is_half_white():
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 128))
    assert_allclose(load_frames(packed(image), TO_32)[0, 0, 0], [255, 127, 127], atol=1)


def test_depths_and_colour_models():
    grey = np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64
    frames = load_frames(packed(Image.fromarray(grey)), TO_32)[0]
    assert_array_equal(frames, (grey >> 8).astype(np.uint8)[..., None].repeat(3, axis=2))
    assert_array_equal(load_frames(packed(Image.new("1", (32, 32), 1)), TO_32), 255)
    assert_array_equal(load_frames(packed(Image.new("L", (32, 32), 77)), TO_32), 77)
    cyan = packed(Image.new("CMYK", (32, 32), (255, 0, 0, 0)), "JPEG", quality=95)
    assert_allclose(load_frames(cyan, TO_32)[0, 0, 0], [0, 255, 255], atol=3)
    deep = packed(Image.fromarray(np.full((32, 32), 70_000, np.int32)), "TIFF")
    assert_array_equal(load_frames(deep, TO_32), 255)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_other_formats(kind):
    more = {"save_all": True} if kind in ("GIF", "WEBP") else {}
    first = Image.new("RGB", (32, 32), "red")
    frames = load_frames(packed(first, kind, **more), TO_32)
    assert frames.shape == (1, 32, 32, 3)
    assert_allclose(frames[0, 0, 0], [254, 0, 0], atol=2)


def test_large_photo_is_decoded_at_reduced_size(monkeypatch):
    data = packed(Image.fromarray(smooth(1600, 2400)), "JPEG", quality=95)
    sizes = []
    opaque = image_decoding.opaque
    monkeypatch.setattr(image_decoding, "opaque", lambda i: (sizes.append(i.size), opaque(i))[1])
    image_decoding.decode_square(data, "x", Preprocess(64), visual.usual_limits())
    frames = load_frames(data, Preprocess(64))
    assert sizes == [(300, 200)]
    exact = Image.fromarray(smooth(1600, 2400)).resize((96, 64), Image.Resampling.BICUBIC)
    assert_allclose(frames[0].astype(int), np.array(exact)[:, 16:80].astype(int), atol=4)


def bomb() -> bytes:
    """A PNG that claims 30,000 by 30,000 pixels."""
    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + (chunk := b"IHDR" + head)
        + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 0)
        + b"IDAT"
        + struct.pack(">I", zlib.crc32(b"IDAT"))
    )


JPEG = packed(Image.fromarray(noise(64, 64)), "JPEG")
PNG = png(noise(64, 64))
BAD = {
    "empty": (b"", "an empty file"),
    "text": (b"not a picture at all\n", "bytes of another kind"),
    "markup": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
    "first bytes only": (JPEG[:3], "bytes of another kind|damaged"),
    "truncated JPEG": (JPEG[: len(JPEG) // 2], "damaged .*truncated"),
    "truncated PNG": (PNG[: len(PNG) // 2], "damaged"),
    "damaged PNG": (PNG[:60] + b"\0\0\0\0\0\0" + PNG[66:], "damaged"),
    "bomb": (bomb(), "at most 100 million pixels"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_bytes(tmp_path, name):
    data, message = BAD[name]
    path = tmp_path / "bad.jpg"
    path.write_bytes(data)
    for source, subject in ((path, str(path)), (data, "a picture in memory")):
        with pytest.raises(MediaError, match=message) as caught:
            load_frames(source, TO_32)
        assert str(caught.value).startswith(subject)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_random_damage_is_read_or_refused(kind):
    whole = packed(Image.fromarray(noise(20, 25)), kind)
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        data = bytearray(whole[: generator.integers(1, len(whole) + 1)])
        data[generator.integers(min(len(data), 200))] ^= generator.integers(1, 256)
        try:
            assert load_frames(bytes(data), TO_32).shape == (1, 32, 32, 3)
        except MediaError:
            refused += 1
    assert refused > 50


def test_larger_than_the_limit(monkeypatch):
    monkeypatch.setattr(visual, "PIXEL_LIMIT", 1_000_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MediaError, match="at most 1 million pixels, found 1001 × 1000"):
            load_frames(png(np.zeros((1000, 1001, 3), np.uint8)), TO_32)
        reduced = packed(Image.new("RGB", (1001, 1000)), "JPEG")
        assert_array_equal(load_frames(reduced, TO_32), 0)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Path("/nowhere/a.png"), "/nowhere/a.png: expected an image, found no such file"),
        (Path("/"), "/: expected an image, found a folder"),
        (Path("/nowhere/a.MP4"), "/nowhere/a.MP4: expected a complete video, found no such file"),
        (Example("x", "test", video=Path("/a.bin")), "/a.bin: expected a complete video"),
        (Example("x", "test", image=Path("/a.mp4")), '/a.mp4: .* found a video; write "video"'),
        (Example("x", "test", features="f9"), "item x: .* found the id 'f9'"),
        (np.zeros((4, 4), np.uint8), r"expected uint8 \[H, W, 3\], found uint8 \[4, 4\]"),
        (np.zeros((4, 4, 3), np.float32), r"found float32 \[4, 4, 3\]"),
        (np.zeros((0, 4, 3), np.uint8), r"found uint8 \[0, 4, 3\]"),
    ],
)
def test_what_is_no_picture(source, message):
    with pytest.raises(MediaError, match=message):
        load_frames(source, TO_32)


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    denied = PermissionError(13, "Permission denied")
    monkeypatch.setattr(visual.os, "open", lambda *_: (_ for _ in ()).throw(denied))
    with pytest.raises(MediaError, match=r"a\.png: .*permission denied"):
        load_frames(path, TO_32)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("count", [0, 1, 3, 10])
def test_parallel_equals_one_by_one(workers, count):
    sources = [png(noise(20 + i, 50 - i, seed=i)) for i in range(count)]
    batches = list(decode_parallel(sources, TO_32, batch_size=3, workers=workers))
    assert [row for batch in batches for row in batch.rows] == list(range(count))
    assert [len(batch.rows) for batch in batches] == [3] * (count // 3) + [1] * (count % 3 > 0)
    for batch in batches:
        wanted = np.concatenate([load_frames(sources[row], TO_32) for row in batch.rows])
        assert_array_equal(batch.pixels, wanted)


def test_parallel_lists_what_is_broken():
    sources = [b"bad" if i in (1, 3, 4, 5, 7) else noise(32, 32, seed=i) for i in range(8)]
    batches = list(decode_parallel(sources, TO_32, batch_size=3, skip_bad=True))
    assert [batch.rows for batch in batches] == [[0, 2], [], [6]]
    assert [[row for row, _ in batch.failures] for batch in batches] == [[1], [3, 4, 5], [7]]
    assert_array_equal(batches[0].pixels, np.stack([sources[0], sources[2]]))
    assert batches[1].pixels.shape == (0, 32, 32, 3)


def test_parallel_stops_at_the_first_broken():
    sources = [png(noise(32, 32)), b"", b"bad"]
    with pytest.raises(MediaError, match="an empty file"):
        list(decode_parallel(sources, TO_32, batch_size=2))


def test_parallel_reads_ahead_but_not_far(monkeypatch):
    read = []
    load = visual.load_frames
    monkeypatch.setattr(decoding, "load_frames", lambda s, p: (read.append(1), load(s, p))[1])
    batches = decode_parallel([noise(32, 32)] * 100, TO_32, batch_size=4)
    before = threading.active_count()
    next(batches)
    batches.close()
    assert len(read) <= 12
    assert threading.active_count() <= before + 8


HEIF_NAMES = ("IMG_0001.HEIC", "x.heif", "renamed.jpg")


@pytest.fixture
def heic():
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    file = io.BytesIO()
    pillow_heif.register_heif_opener()
    Image.fromarray(smooth(64, 96)).save(file, "HEIF", quality=95)
    return file.getvalue()


@pytest.mark.parametrize("name", HEIF_NAMES)
def test_heic_whatever_its_name(heic, tmp_path, name):
    (tmp_path / name).write_bytes(heic)
    found = load_frames(tmp_path / name, TO_32)
    assert_allclose(found.astype(int), load_frames(smooth(64, 96), TO_32).astype(int), atol=12)
    small = Image.open(io.BytesIO(shrink(heic, 48, name)[0]))
    assert small.size == (48, 32)
    assert shrink_upload(heic, 48)[1] == "image/jpeg"


def test_heic_without_its_extra_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    with pytest.raises(MediaError, match=r"found a HEIC image; run: pip install 'cl2cm\[heic\]'"):
        image_decoding.decode_square(data, "x.heic", TO_32, visual.usual_limits())


def test_a_format_that_is_not_read_names_those_that_are():
    with pytest.raises(MediaError, match=r"supported format \(JPEG, PNG, .*found an SVG drawing"):
        load_frames(b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", TO_32)


def test_one_limit_for_index_thumbnail_and_upload():
    """72 million pixels in the colour model that takes most memory."""
    data = packed(Image.new("LA", (9000, 8000), (90, 255)), compress_level=1)
    assert shrink(data, 320, "x") == shrink_upload(data, 320)
