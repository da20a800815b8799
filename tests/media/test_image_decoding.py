import io
import struct
import zlib

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageCms, PngImagePlugin

from cl2cm.errors import MediaError
from cl2cm.media.image_mending import mend_png
from cl2cm.media.images import Preprocess, load_frames
from cl2cm.serve import media
from fixtures.hostile_images import png_chunk

TO_32 = Preprocess(32)


def packed(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def smooth(height=32, width=32):
    y, x = np.mgrid[0:height, 0:width]
    planes = [255 * x / width, 255 * y / height, 127 + 127 * np.sin(x / 9 + y / 7)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def everywhere(data, tmp_path):
    """Pixels in the index, in a thumbnail and in an upload."""
    path = tmp_path / "image"
    path.write_bytes(data)
    for copy in (media.shrink(path, 320, "x"), media.shrink_upload(data, 1280, lossless=True)):
        with Image.open(io.BytesIO(copy[0])) as image:
            yield np.asarray(image.convert("RGB"))
    yield load_frames(path, TO_32)[0]


GREY = np.add.outer(np.arange(32), np.arange(32)).astype(np.float64) / 62  # 0 to 1
DEPTHS = {
    "16 bits, PNG": (np.uint16(GREY * 65535), "PNG"),
    "16 bits, TIFF": (np.uint16(GREY * 65535), "TIFF"),
    "32 bits": (np.int32(GREY * (2**31 - 1)), "TIFF"),
    "32 bits, with few used": (np.int32(GREY * 65535), "TIFF"),
    "32 bits, negative": (np.int32(GREY * 2e9 - 1e9), "TIFF"),
    "floating point to 1": (np.float32(GREY), "TIFF"),
    "floating point to 255": (np.float32(GREY * 255), "TIFF"),
    "floating point to 65535": (np.float32(GREY * 65535), "TIFF"),
    "floating point, any": (np.float32(GREY * 1e6 - 3e5), "TIFF"),
}


@pytest.mark.parametrize("name", DEPTHS)
def test_depths_are_the_same_everywhere(name, tmp_path):
    stored, kind = DEPTHS[name]
    for pixels in everywhere(packed(Image.fromarray(stored), kind), tmp_path):
        assert_allclose(pixels[..., 0], GREY * 255, atol=4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_numbers_that_are_none(value, tmp_path):
    stored = np.float32(GREY)
    stored[3, 4] = value
    for pixels in everywhere(packed(Image.fromarray(stored), "TIFF"), tmp_path):
        assert pixels.shape == (32, 32, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "I;16"])
def test_uncompressed_tiff_is_upright(orientation, mode, tmp_path):
    image = Image.fromarray(smooth(24, 32)).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain, turned = packed(image, "TIFF"), packed(image, "TIFF", exif=exif)
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.get(orientation)
    _, wanted, _ = everywhere(plain, tmp_path)
    if turn is not None:
        wanted = np.asarray(Image.fromarray(wanted).transpose(Image.Transpose(turn)))
    _, found, _ = everywhere(turned, tmp_path)
    assert_array_equal(found, wanted)


# --- small faults ----------------------------------------------------------------------------


def png_with(info=None, **options):
    return packed(Image.fromarray(smooth()), "PNG", pnginfo=info, **options)


def texts():
    for kind in ("text", "packed", "international"):
        info = PngImagePlugin.PngInfo()
        if kind == "international":
            info.add_itxt("workflow", "x" * 1_500_000, zip=True)
        else:
            info.add_text("workflow", "x" * 1_500_000, zip=kind == "packed")
        yield png_with(info)
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "b")
    whole = png_with(info)
    place = whole.index(b"tEXt")
    yield whole[: place + 5] + b"?" + whole[place + 6 :]  # a wrong checksum
    yield png_with()[:-12]  # no end marker
    yield png_with(icc_profile=b"\0" * 1_200_000)
    bomb = b"a\0\0" + zlib.compress(b"x" * 2**26)
    head = whole.index(b"IDAT") - 4
    yield whole[:head] + png_chunk(b"zTXt", bomb) * 20 + whole[head:]
    yield whole[:head] + png_chunk(b"tEXt", b"a\0b") * 20_000 + whole[head:]


@pytest.mark.parametrize("data", list(texts()))
def test_metadata_is_no_reason_to_refuse(data, tmp_path):
    *copies, frame = everywhere(data, tmp_path)
    assert_array_equal(frame, smooth())
    assert_array_equal(copies[1], smooth())


def test_damaged_pixels_are_refused():
    whole = png_with()
    place = whole.index(b"IDAT")
    for data in (
        whole[: place + 40],
        whole[: place + 40] + whole[-12:],
        whole[: place + 30] + b"?" + whole[place + 31 :],
        whole[:40],
    ):
        with pytest.raises(MediaError):
            load_frames(data, TO_32)


def test_a_sound_png_is_left_alone():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = png_with(exif=exif, transparency=(1, 2, 3), dpi=(72, 72))
    assert mend_png(data) is data
    for text in ("XML:com.adobe.xmp", "Raw profile type exif"):
        info = PngImagePlugin.PngInfo()
        info.add_itxt(text, "x")
        assert mend_png(png_with(info)) == png_with(info)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("size", [(32, 32), (400, 300)])
def test_a_jpeg_without_its_end_marker(mode, size):
    image = Image.fromarray(smooth(*size)).convert(mode)
    whole = packed(image, "JPEG", quality=90)
    for data in (whole[:-2], whole[:-1]):
        assert_array_equal(load_frames(data, TO_32), load_frames(whole, TO_32))
    start = whole.index(b"\xff\xda")
    for part in (0.3, 0.6, 0.9):
        with pytest.raises(MediaError, match="truncated"):
            load_frames(whole[: start + int(part * (len(whole) - start))], TO_32)


# --- colours ---------------------------------------------------------------------------------


def display_p3():
    """A profile of the primaries of Display P3 with a gamma of 2.2, as version 2 has it."""

    def xyz(*values):
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    name = b"Display P3\0"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name
    described = described.ljust(len(described) + 78, b"\0")
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 0x0233)
    tags = {
        b"desc": described,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.5151, 0.2412, -0.0011),
        b"gXYZ": xyz(0.2920, 0.6922, 0.0419),
        b"bXYZ": xyz(0.1571, 0.0666, 0.7841),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for key, value in tags.items():
        table += key + struct.pack(">II", offset + len(body), len(value))
        body += value.ljust(-(-len(value) // 4) * 4, b"\0")
    head = struct.pack(">I4sI4s4s4s", offset + len(body), b"\0" * 4, 0x02400000, b"mntr", b"RGB ",
                       b"XYZ ") + b"\0" * 12 + b"acsp"  # fmt: skip
    head = head.ljust(68, b"\0") + b"".join(struct.pack(">i", v) for v in (63190, 65536, 54061))
    return head.ljust(128, b"\0") + table + body


def test_colours_follow_the_profile(tmp_path):
    image = Image.new("RGB", (64, 64), (200, 120, 60))
    for pixels in everywhere(packed(image, icc_profile=display_p3()), tmp_path):
        assert_allclose(pixels[5, 5], [214, 116, 37], atol=3)
    clear = Image.new("RGBA", (64, 64), (200, 120, 60, 255))
    clear.putpixel((0, 0), (0, 0, 0, 0))
    for pixels in everywhere(packed(clear, icc_profile=display_p3()), tmp_path):
        assert_allclose(pixels[20, 20], [214, 116, 37], atol=3)


def test_profiles_that_change_nothing(tmp_path):
    pixels = smooth()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    other = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (srgb, other, b"garbage" * 10, display_p3()[:200], display_p3()[:140]):
        *_, frame = everywhere(packed(Image.fromarray(pixels), icc_profile=profile), tmp_path)
        assert_array_equal(frame, pixels)
