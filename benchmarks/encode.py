"""Throughput of encoding pictures, against bare ONNX Runtime on ready batches.

    python benchmarks/encode.py [--model onnx:efficientnet-lite2] [--json]

One process, one graph, the same batches and threads. Each way runs in turn with the bare
sessions (before them and after them, alternately), so that a busy machine slows all alike; the
median of the ratios counts. Bare is the faster of two sessions in each turn: one with ONNX
Runtime's own settings, whose threads spin while they wait, and one as the encoder's, whose
threads sleep. What limits a way is told by the time of its parts, each run alone.
"""

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from cl2cm.encode.onnx_session import OnnxSession
from cl2cm.encode.vision import encode_paths, load_vision
from cl2cm.media.images import Pixels, Source, load_frames

TARGET = 0.85  # of the bare throughput, pictures in memory


def photographs(count: int, side: int) -> list[Pixels]:
    """Smooth noise, which packs about as well as photographs do."""
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (count, side // 6, side // 6, 3), dtype=np.uint8)
    filter_ = Image.Resampling.BICUBIC
    return [np.array(Image.fromarray(p).resize((side, side), filter_)) for p in small]


def packed(pictures: Sequence[Pixels], kind: str, side: int | None = None) -> list[Source]:
    """The same as files' bytes, at another size if one is given."""
    sources: list[Source] = []
    for pixels in pictures:
        image = Image.fromarray(pixels)
        file = io.BytesIO()
        (image.resize((side, side * 3 // 4)) if side else image).save(file, kind)
        sources.append(file.getvalue())
    return sources


def bare_sessions(model: Path, threads: int) -> list[onnxruntime.InferenceSession]:
    """ONNX Runtime as it comes but for the number of threads, and as the encoder opens it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    own = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return [own, OnnxSession(model, threads=threads, bounded=False).session]


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """Run all ways in turns, and their parts alone."""
    encoder = load_vision(arguments.model, threads=arguments.threads)
    folder = Path(arguments.model.partition(":")[2])
    if not folder.is_dir():
        from cl2cm.storage import cache_folder  # noqa: PLC0415 — only for a name

        folder = cache_folder() / "models" / folder
    sessions = bare_sessions(folder / "model.onnx", arguments.threads)
    count, size, at_once = arguments.pictures, encoder.preprocess.size, arguments.batch
    pictures = photographs(count, size)
    ready = [np.stack(pictures[i : i + at_once]) for i in range(0, count, at_once)]
    sources: dict[str, Sequence[Source]] = {
        "pixels in memory": pictures,
        "PNG in memory": packed(pictures, "PNG"),
        "JPEG in memory": packed(pictures, "JPEG"),
        "JPEG 2048 × 1536 in memory": packed(pictures, "JPEG", 2048),
    }

    def run(session: onnxruntime.InferenceSession) -> None:
        for batch in ready:
            session.run(None, {"pixels": batch})

    def bare() -> float:
        return min(timed(lambda s=session: run(s)) for session in sessions)  # type: ignore[misc]

    def encode(chosen: Sequence[Source]) -> None:
        encode_paths(encoder, chosen, batch_size=at_once)

    bare()
    encode(pictures)
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in sources}
    for round_ in range(arguments.rounds):
        for name, chosen in sources.items():
            before = bare() if round_ % 2 == 0 else None
            way = timed(lambda c=chosen: encode(c))  # type: ignore[misc]
            pairs[name].append((before or bare(), way))
    copy = timed(lambda: [np.stack(pictures[i : i + at_once]) for i in range(0, count, at_once)])
    decode = {
        name: timed(lambda c=chosen: [load_frames(s, encoder.preprocess) for s in c])  # type: ignore[misc]
        for name, chosen in sources.items()
    }
    return report(arguments, pairs, decode, copy)


def report(
    arguments: argparse.Namespace,
    pairs: dict[str, list[tuple[float, float]]],
    decode: dict[str, float],
    copy: float,
) -> dict[str, object]:
    """One object: rates, their share of the bare one, and where the processors' time goes."""
    bare = statistics.median(bare for times in pairs.values() for bare, _ in times)
    rows = []
    for name, times in pairs.items():
        # Decoding takes one thread, inference all of them.
        parts = {"decode": decode[name], "copy": copy, "inference": bare * arguments.threads}
        rows.append(
            {
                "way": name,
                "pictures_per_second": arguments.pictures / statistics.median(w for _, w in times),
                "of_bare": statistics.median(b / w for b, w in times),
                "processor_shares": {k: t / sum(parts.values()) for k, t in parts.items()},
            }
        )
    return {
        **vars(arguments),
        "bare_pictures_per_second": arguments.pictures / bare,
        "rows": rows,
        "target": TARGET,
        "reached": rows[0]["of_bare"] >= TARGET,
    }


def main() -> None:
    """Print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="onnx:efficientnet-lite2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments)
    if arguments.json:
        print(json.dumps(result, ensure_ascii=False))
        return
    bare = result["bare_pictures_per_second"]
    print(f"{arguments.model}, {arguments.threads} threads, batches of {arguments.batch}")
    print(f"{'':28}{'pictures/s':>11}{'of bare':>9}   of the processors' work")
    print(f"{'bare ONNX Runtime':28}{bare:11.1f}{1:9.0%}")
    for row in result["rows"]:  # type: ignore[attr-defined]
        shares = ", ".join(f"{k} {v:.0%}" for k, v in row["processor_shares"].items())
        print(f"{row['way']:28}{row['pictures_per_second']:11.1f}{row['of_bare']:9.0%}   {shares}")
    print(
        f"target {TARGET:.0%} for pixels in memory: {'reached' if result['reached'] else 'missed'}"
    )


if __name__ == "__main__":
    main()
