import ast
import io
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

import cl2cm
from cl2cm.errors import MediaError
from cl2cm.media import decoder_pool
from cl2cm.media import images as visual
from cl2cm.media.decoder_pool import Budget, DecoderPool
from cl2cm.media.images import load_frames, redraw_image, usual_limits
from cl2cm.media.preprocess import Preprocess
from fixtures.hostile_images import (
    POSTSCRIPT,
    blank_png,
    bmp_of,
    empty_scans,
    exif_bomb,
    jp2_of,
    many_scans,
    png_of,
    tiff_of,
    webp_of,
)

TO_32 = Preprocess(32)
ONE = Budget(cpu=60, wall=60, memory=2**30)
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of the system are Linux's")

# name: (bytes, what the message says); each is refused by its header, before a decoder is opened
REFUSED = {
    "JPEG of 450 scans": (many_scans(450), "at most 100 scans, found a JPEG of 455 scans"),
    "JPEG of large scans": (many_scans(90, 30_000, 30_000), "30000 × 30000 pixels in 9"),
    "JPEG of many coefficients": (many_scans(2, 60_000, 60_000), "quickly decoded"),
    "PNG": (png_of(30_000, 30_000), "at most 100 million pixels, found 30000 × 30000"),
    "PNG of 16 bits": (png_of(2**31 - 1, 1, 16, 6), "found 2147483647 × 1"),
    "GIF": (b"GIF89a" + b"\xff" * 4 + b"\0" * 9, "found 65535 × 65535"),
    "WebP": (webp_of(2**24, 2**24), "found 16777216 × 16777216"),
    "BMP": (bmp_of(30_000, -30_000), "found 30000 × 30000"),
    "TIFF": (tiff_of(60_000, 60_000), "found 60000 × 60000"),
    "JPEG 2000": (jp2_of(60_000, 60_000), "found 60000 × 60000"),
    "PPM": (b"P6 90000 90000 255\n", "found 90000 × 90000"),
    "PostScript": (POSTSCRIPT, "found PostScript"),
    "icon": (b"\0\0\1\0\1\0" + b"\0" * 40, "found an icon"),
    "Photoshop": (b"8BPS\0\1" + b"\0" * 40, "found a Photoshop file"),
    "PDF": (b"%PDF-1.4\n", "found a PDF"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_header_is_judged_before_decoding(name):
    data, message = REFUSED[name]
    begin = time.process_time()
    for decode in (
        lambda: load_frames(data, TO_32),
        lambda: redraw_image(
            data, "x", 320, pool=visual.decoders(), budget=ONE, allowed=usual_limits()
        ),
    ):
        with pytest.raises(MediaError, match=message) as error:
            decode()
        assert "\n" not in str(error.value)
    assert time.process_time() - begin < 5


@pytest.fixture
def pool():
    pool = DecoderPool(2)
    yield pool
    pool.close()


def square_of(pool, data, budget):
    arguments = {
        "preprocess": {"size": 32, "resize": None, "resample": "bicubic"},
        "allowed": {"pixels": 10**9, "work": 10**12, "kept": 10**10},
    }
    answer = pool.ask("square", "x", budget, arguments, data)
    return np.frombuffer(answer.body, np.uint8).reshape(answer.head["shape"])


def png_of_colour(colour):
    file = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(file, "PNG")
    return file.getvalue()


@linux
@pytest.mark.parametrize(
    ("data", "budget", "message"),
    [
        (empty_scans(99, 20_000), Budget(0, 60, 2**31), "more than 0 s of processor time"),
        (empty_scans(99, 20_000), Budget(60, 1, 2**31), "more than 1 s"),
        (blank_png(9000, 9000), Budget(60, 60, 2**26), "more than 64 MB of memory"),
    ],
    ids=["processor time", "time", "memory"],
)
def test_budget_is_kept_by_the_system(pool, data, budget, message):
    honest = blank_png(64, 64)
    assert_array_equal(square_of(pool, honest, ONE), 0)
    with pytest.raises(MediaError, match=message):
        square_of(pool, data, budget)
    assert_array_equal(square_of(pool, honest, ONE), 0)


@linux
def test_a_crash_is_an_error_of_one_file(pool):
    waiting = threading.Timer(0.3, lambda: os.kill(pool._busy[0]._process.pid, signal.SIGSEGV))
    waiting.start()
    with pytest.raises(MediaError, match=r"one that ends the decoder \(signal 11\)"):
        square_of(pool, empty_scans(99, 20_000), ONE)
    assert_array_equal(square_of(pool, blank_png(64, 64), ONE), 0)


@linux
def test_the_bounds_of_a_file_do_not_fall_on_the_next_one(pool):
    """A process has no limit while it waits and reads, whatever the budget of its last task was."""
    honest = blank_png(64, 64)
    assert_array_equal(square_of(pool, honest, Budget(60, 60, 2**25)), 0)
    assert_array_equal(square_of(pool, honest + b"\0" * 2**26, ONE), 0)


def test_an_interrupted_caller_leaves_no_answer_to_the_next_one(pool, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(decoder_pool._Process, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            square_of(pool, png_of_colour((255, 0, 0)), ONE)
    assert square_of(pool, png_of_colour((0, 0, 255)), ONE)[0, 0].tolist() == [0, 0, 255]


def test_a_process_that_keeps_too_many_addresses_is_replaced(pool, monkeypatch):
    def idle():
        return {process._process.pid for process in pool._idle}

    blue = png_of_colour((0, 0, 255))
    square_of(pool, blue, ONE)
    first = idle()
    square_of(pool, blue, ONE)
    assert idle() == first
    receive = decoder_pool._Process.receive

    def worn(process):
        answer = receive(process)
        return answer._replace(head={**answer.head, "worn": True})

    with monkeypatch.context() as patched:
        patched.setattr(decoder_pool._Process, "receive", worn)
        square_of(pool, blue, ONE)
    assert not idle()
    assert square_of(pool, blue, ONE).shape[-1] == 3
    assert idle() != first


def test_close_ends_what_is_at_work(pool):
    threading.Timer(0.3, pool.close).start()
    with pytest.raises(MediaError, match="ends the decoder"):
        square_of(pool, empty_scans(99, 20_000), ONE)


def test_hostile_images_do_not_keep_others_waiting(pool):
    refused = []

    def attack():
        with pytest.raises(MediaError) as error:
            square_of(pool, empty_scans(99, 20_000), ONE)
        refused.append(error.value)

    hostile = threading.Thread(target=attack)
    hostile.start()
    begin = time.perf_counter()
    square_of(pool, blank_png(64, 64), ONE)
    assert hostile.is_alive()
    assert time.perf_counter() - begin < 5
    pool.close()
    hostile.join()
    assert refused


@linux
def test_decoder_knows_no_credentials_and_no_working_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "secret")
    monkeypatch.setenv("HF_TOKEN", "secret")
    (tmp_path / "numpy.py").write_text("open('run', 'w')")
    (tmp_path / "PIL.py").write_text("open('run', 'w')")
    monkeypatch.chdir(tmp_path)
    pool = DecoderPool(1)
    square_of(pool, blank_png(8, 8), ONE)
    (process,) = pool._idle
    environment = Path(f"/proc/{process._process.pid}/environ").read_bytes()
    pool.close()
    assert b"secret" not in environment
    assert not (tmp_path / "run").exists()


def test_postscript_starts_no_program(tmp_path, monkeypatch):
    (tmp_path / "gs").write_text(f"#!/bin/sh\necho started >> {tmp_path}/log\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    pool = DecoderPool(1)
    with pytest.raises(MediaError, match="PostScript"):
        square_of(pool, POSTSCRIPT, ONE)
    pool.close()
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("data", [exif_bomb(), exif_bomb() + b"\0" * 10_000])
def test_crowded_metadata_is_read_within_the_budget(data):
    assert load_frames(data, TO_32).shape == (1, 32, 32, 3)


def test_images_and_videos_are_opened_in_one_place():
    """Every `Image.open` names its formats; `av.open` is called in one module."""
    source = Path(cl2cm.__file__).parent
    opened: dict[str, list[str]] = {}
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            call = ast.unparse(node.func)
            if call == "Image.open":
                assert "formats" in {keyword.arg for keyword in node.keywords}, path
            if call in ("Image.open", "self.av.open", "av.open"):
                opened.setdefault(call, []).append(path.name)
    # the date of a header, two of our own drawings, the reader of exports, and everything else
    assert sorted(opened["Image.open"]) == [
        "dates.py",
        "heat_map.py",
        "image_decoding.py",
        "image_mending.py",
        "openmoji.py",
        "runtime.py",
    ]
    assert opened["self.av.open"] == ["video_file.py"]
    assert "av.open" not in opened
