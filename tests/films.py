"""Tiny films, made with PyAV in the tests that want them."""

from fractions import Fraction
from pathlib import Path

import numpy as np


def grey(number, height=48, width=64):
    """A frame that says its number: brightness 20 + 2 · number."""
    return np.full((height, width, 3), 20 + 2 * number, np.uint8)


def number_of(pixels):
    return round((float(np.median(pixels)) - 20) / 2)


def write_film(
    path: Path,
    frames,
    *,
    rate=10,
    codec="libx264",
    pix_fmt="yuv420p",
    times=None,
    rotation=None,
    ratio=None,
    sound=0.0,
    gop=12,
    options=None,
) -> Path:
    """Frames uint8 [H, W, 3] as a film; ``times`` in seconds for a variable rate."""
    import av

    with av.open(str(path), "w", options=options or {}) as film:
        stream = film.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.gop_size = gop
        stream.bit_rate = 2_000_000
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "crf": "10"}
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if ratio is not None:
            stream.codec_context.sample_aspect_ratio = Fraction(ratio)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        voice = film.add_stream("aac", rate=8000, layout="mono") if sound else None
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(1000 * times[number]), Fraction(1, 1000)
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
        if voice is not None:
            write_sound(film, voice, sound)
    return path


def write_sound(film, voice, seconds):
    import av

    for number in range(int(seconds * 8000 / 1024)):
        silence = np.zeros((1, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, 1024 * number
        film.mux(voice.encode(frame))
    film.mux(voice.encode())


def only_sound(path: Path) -> Path:
    import av

    with av.open(str(path), "w") as film:
        write_sound(film, film.add_stream("aac", rate=8000, layout="mono"), 1.0)
    return path


def slides(pictures, *, seconds=2.0, fade=0.6, rate=10):
    """Frames of pictures uint8 [H, W, 3] one after the other, with cross-fades around changes."""
    frames = []
    for number in range(round(len(pictures) * seconds * rate)):
        time = number / rate
        change = min(max(round(time / seconds), 1), len(pictures) - 1)
        if fade:
            share = min(max((time - change * seconds) / fade + 0.5, 0), 1)
        else:
            share = float(time >= change * seconds - 1e-9)
        before, after = (pictures[n].astype(float) for n in (change - 1, change))
        frames.append((before * (1 - share) + after * share).astype(np.uint8))
    return frames
