import io
from datetime import datetime
from importlib.util import find_spec

import pytest
from PIL import Image

from cl2cm.media.dates import date_taken, parse_date

TAKEN = datetime(2019, 7, 14, 23, 30, 5)
KINDS = ["jpeg", "png", "webp", "avif"]
KINDS += ["heif"] if find_spec("pillow_heif") else []


def exif(text):
    found = Image.Exif()
    found[0x0132] = "2024:01:01 00:00:00"  # when it was edited
    if text is not None:
        found.get_ifd(0x8769)[0x9003] = text
    return found


def image(path, kind, **options):
    if kind == "heif":
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.new("RGB", (32, 32), "red").save(path, kind, **options)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_that_says_when(tmp_path, kind):
    path = image(tmp_path / "x.jpg", kind, exif=exif("2019:07:14 23:30:05"))
    assert date_taken(path) == TAKEN


@pytest.mark.parametrize(
    "text", [None, "0000:00:00 00:00:00", "", "    :  :     :  :  ", "2019:13:40 1"]
)
def test_what_says_no_day(tmp_path, text):
    assert date_taken(image(tmp_path / "x.jpg", "jpeg", exif=exif(text))) is None


def test_what_is_broken_or_says_nothing(tmp_path):
    assert date_taken(tmp_path / "none.jpg") is None
    assert date_taken(image(tmp_path / "a.png", "png")) is None
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff\xe1\x00\x20Exif\0\0MM\0*\xff\xff\xff\xff")
    assert date_taken(tmp_path / "b.jpg") is None
    file = io.BytesIO()
    Image.new("RGB", (9, 9)).save(file, "tiff")
    (tmp_path / "c.tif").write_bytes(file.getvalue()[:40])
    assert date_taken(tmp_path / "c.tif") is None


def test_dates_as_cameras_write_them():
    assert parse_date("2019:07:14 23:30:05\0") == TAKEN
    assert parse_date("2019-07-14") is None
