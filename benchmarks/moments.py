"""Moments: is the right second of a film found, and are its shots?

    CL2CM_DATA=FOLDER python benchmarks/moments.py [RUN] [--fade 0.5] [--json]

A film is made of 60 photos of the test split of flickr8k-multi, 3 s each, with cross-fades, and
indexed by a run of that data: one vector a shot; for comparison one for every 10 s, and one for
the whole. Each photo's first caption is asked. A hit is right when it starts at most 1.5 s from
where the photo comes, and it may be first or second; chance is two shots of all, at random.

Then shots themselves: films of 40 photos of the validation split, with cuts, fades, a moving
camera and noise, cut by ``cl2cm.media.shots`` and, where it is installed, by PySceneDetect, whose
detectors see every frame, or two a second (where a fade looks like a cut).
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image

from cl2cm.cli.indexing import index_source, open_searcher
from cl2cm.data.manifest import read_manifest
from cl2cm.evaluation.bench.suites import find_manifest
from cl2cm.index.update.build import build_index
from cl2cm.media.shots import find_shots
from cl2cm.media.video import Film, Pixels
from cl2cm.model.checkpoint import load
from cl2cm.search.searcher import Searcher
from cl2cm.types import Example

SECONDS = 3.0  # of each photo
NEAR = 1.5  # seconds from a photo's beginning
RATE = 25  # frames a second
SIDE = 224
LANGUAGES = ("en", "de", "zh")
TOLERANCE = 0.5  # seconds from a change, for the detectors
FILMS: dict[str, dict[str, float]] = {
    "cuts": {},
    "fades 0.5 s": {"fade": 0.5},
    "fades 1 s": {"fade": 1.0},
    "cuts, moving": {"move": 0.3, "noise": 4},
    "fades 1 s, moving": {"fade": 1.0, "move": 0.3, "noise": 6},
    "black 1 s": {"fade": 1.0, "black": 1},
}
Detect = Callable[[Path], list[float]]


def make_film(
    path: Path,
    photos: Sequence[Path],
    *,
    fade: float = 0.0,
    move: float = 0.0,
    noise: float = 0.0,
    black: float = 0,
) -> None:
    """Photos one after the other, changing every 3 s."""
    pictures = [np.asarray(Image.open(photo).convert("RGB").resize((280, 280))) for photo in photos]
    generator = np.random.default_rng(0)
    ways = (
        generator.uniform(0, move, (len(pictures), 2, 2))
        if move
        else np.zeros((len(pictures), 2, 2))
    )
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for number in range(round(len(pictures) * SECONDS * RATE)):
            time = number / RATE
            pixels = blended(time, pictures, ways, fade, black=bool(black))
            pixels = pixels + generator.normal(0, noise, pixels.shape) if noise else pixels
            frame = av.VideoFrame.from_ndarray(pixels.clip(0, 255).astype(np.uint8), "rgb24")
            film.mux(stream.encode(frame))
        film.mux(stream.encode())


def blended(
    time: float, pictures: Sequence[Pixels], ways: np.ndarray, fade: float, *, black: bool
) -> np.ndarray:
    """The frame at a time: one photo, or two around a change."""
    change = round(time / SECONDS)  # the nearest
    share = 1.0 if not fade else min(max((time - change * SECONDS) / fade + 0.5, 0.0), 1.0)
    if not fade:
        change, share = int(time / SECONDS + 1e-9), 1.0
    if change == 0 or change == len(pictures):
        return seen(time, min(change, len(pictures) - 1), pictures, ways)
    if black:
        side = change if share >= 0.5 else change - 1
        return seen(time, side, pictures, ways) * abs(2 * share - 1)
    parts = [(change - 1, 1 - share), (change, share)]
    return sum(w * seen(time, n, pictures, ways) for n, w in parts if w)  # type: ignore[return-value]


def seen(time: float, number: int, pictures: Sequence[Pixels], ways: np.ndarray) -> np.ndarray:
    """A photo through a camera that may move from one corner of a square to another."""
    begin, end = ways[number]
    place = min(max(time / SECONDS - number, 0.0), 1.0)
    x, y = (280 * (begin + (end - begin) * place)).clip(0, 280 - SIDE)
    box = (x, y, x + SIDE, y + SIDE) if ways.any() else (0, 0, 280, 280)
    picture = Image.fromarray(pictures[number])
    return np.asarray(picture.resize((SIDE, SIDE), box=box), np.float32)


def moments(run: Path, photos: Sequence[Example], fade: float, work: Path) -> dict[str, Any]:
    """Share of captions whose moment is first or second, by language and way."""
    folder = work / "films"
    folder.mkdir()
    make_film(folder / "film.mp4", [e.image for e in photos if e.image], fade=fade)
    for name, shots in (("shots", True), ("whole film", False)):
        index_source(run, folder, work / name, shots=shots)
    model = load(run)
    with Film(folder / "film.mp4") as film:
        length = film.end
    windows = [
        Example(f"{s}", "all", video=folder / "film.mp4", start=s, end=min(s + 10.0, length))
        for s in np.arange(0, length - 0.1, 10.0).tolist()
    ]
    build_index(model, windows, work / "windows of 10 s", run=run)
    found: dict[str, Any] = {"photos": len(photos), "fade": fade}
    for name in ("shots", "windows of 10 s", "whole film"):
        searcher = open_searcher(work / name)
        found[name] = {"vectors": len(searcher.index)} | {
            language: right(searcher, photos, language) for language in LANGUAGES
        }
    found["chance"] = 2 / found["shots"]["vectors"]
    return found


def right(searcher: Searcher, photos: Sequence[Example], language: str) -> float:
    """Share of the photos whose caption finds their moment, first or second."""
    count = 0
    for place, photo in enumerate(photos):
        hits = searcher.search(photo.captions[language][0], 2)
        count += any(abs((hit.start or 0.0) - place * SECONDS) <= NEAR for hit in hits)
    return count / len(photos)


def detectors() -> Iterator[tuple[str, Detect]]:
    """Ours, and those of PySceneDetect."""
    yield "cl2cm", lambda path: [start for start, _ in find_shots(path)[1:]]
    try:
        import scenedetect  # noqa: PLC0415
    except ImportError:
        return
    for name in ("ContentDetector", "AdaptiveDetector", "HistogramDetector", "HashDetector"):
        for rate in (RATE, 2):

            def detect(path: Path, kind: str = name, rate: float = rate) -> list[float]:
                detector = getattr(scenedetect, kind)(min_scene_len=0.6)
                with Film(path, many=True) as film:
                    cuts = []
                    for time, pixels in film.every(1 / rate, 0, film.end, side=128):
                        code = scenedetect.FrameTimecode(time, fps=1000.0)
                        cuts += detector.process_frame(code, pixels[:, :, ::-1].copy())
                return [cut.seconds for cut in cuts]

            yield f"{name}, {rate}/s", detect


def shot_scores(photos: Sequence[Path], work: Path) -> dict[str, dict[str, float]]:
    """F1 of the changes found, for each detector and film."""
    true = [SECONDS * number for number in range(1, len(photos))]
    for name, ways in FILMS.items():
        make_film(work / f"{name}.mp4", photos, **ways)
    return {
        detector: {name: f1(detect(work / f"{name}.mp4"), true) for name in FILMS}
        for detector, detect in detectors()
    }


def f1(found: Sequence[float], true: Sequence[float]) -> float:
    """Harmonic mean of precision and recall; each change is found once."""
    left = list(found)
    hits = 0
    for time in true:
        near = [cut for cut in left if abs(cut - time) <= TOLERANCE]
        if near:
            left.remove(min(near, key=lambda cut: abs(cut - time)))
            hits += 1
    return 2 * hits / (len(found) + len(true))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--fade", type=float, default=0.5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if "CL2CM_DATA" not in os.environ:
        print("name the folder of flickr8k-multi in CL2CM_DATA, and a run to search with")
        return
    torch.set_num_threads(1)
    manifest = find_manifest("flickr8k-multi", Path(os.environ["CL2CM_DATA"]))
    examples = list(read_manifest(manifest))
    told = [e for e in examples if e.split == "test" and set(LANGUAGES) <= e.captions.keys()]
    chosen = np.random.default_rng(0).permutation(len(told))[: arguments.photos]
    val = [e.image for e in examples if e.split == "val" and e.image][:40]
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as work:
        if arguments.run:
            photos = [told[place] for place in chosen]
            result["moments"] = moments(arguments.run, photos, arguments.fade, Path(work))
        result["shots"] = shot_scores(val, Path(work))
    print(json.dumps(result) if arguments.json else "\n".join(lines(result)))


def lines(result: dict[str, Any]) -> list[str]:
    text = []
    if "moments" in result:
        found = result["moments"]
        text.append(f"{'first or second':18}{'vectors':>8}" + "".join(f"{c:>8}" for c in LANGUAGES))
        for name in ("shots", "windows of 10 s", "whole film"):
            cells = "".join(f"{found[name][code]:8.1%}" for code in LANGUAGES)
            text.append(f"{name:18}{found[name]['vectors']:8}{cells}")
        text += [f"{'chance':26}{found['chance']:8.1%}", ""]
    text.append(f"{'F1 of changes':26}" + "".join(f"{name:>19}" for name in FILMS))
    for detector, scores in result["shots"].items():
        text.append(f"{detector:26}" + "".join(f"{scores[name]:19.3f}" for name in FILMS))
    return text


if __name__ == "__main__":
    main()
