"""Throughput of encoding pictures, against bare ONNX Runtime on ready batches.

    python benchmarks/encode.py [--model onnx:efficientnet-lite2] [--json]
    python benchmarks/encode.py --engines PHOTOS [--limit 300] [--rounds 1] [--json]

One process, one graph, the same batches and threads. Each way runs in turn with the bare
sessions (before them and after them, alternately), so that a busy machine slows all alike; the
median of the ratios counts. Bare is the faster of two sessions in each turn: one with ONNX
Runtime's own settings, whose threads spin while they wait, and one as the encoder's, whose
threads sleep. What limits a way is told by the time of its parts, each run alone.

``--engines`` encodes the images of a folder in every way that ``cl2cm encode`` has, in turn, and
compares the files of the stores. On a busy machine processor time tells more than the clock.
"""

import argparse
import contextlib
import ctypes
import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from cl2cm.encode.onnx_session import OnnxSession
from cl2cm.encode.vision import encode_paths, load_vision
from cl2cm.media.images import Pixels, Source, load_frames
from cl2cm.storage import sha256_file

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


# --- engines ---------------------------------------------------------------------------------

JOBS = 7
WAYS = ("processes", "ray", "array", "here", "killed")


def compare_engines(arguments: argparse.Namespace) -> dict[str, object]:
    """Encode a folder in every way, by turns."""
    ctypes.CDLL(None).prctl(36, 1)  # adopt Ray's orphans, so that their time is counted
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in arguments.ways.split(",")}
    hashes = set()
    with tempfile.TemporaryDirectory(prefix="engines-") as name:
        photos = Path(name, "photos")
        photos.mkdir()
        for path in sorted(arguments.engines.iterdir())[: arguments.limit or None]:
            shutil.copy2(path, photos)
        count = len(list(photos.iterdir()))
        for round_ in range(arguments.rounds):
            for way in runs if round_ % 2 == 0 else reversed(runs):
                out = Path(name, f"{way}-{round_}")
                runs[way].append(run_way(way, photos, out, arguments))
                hashes.add(store_hash(out))
                shutil.rmtree(out)
                print(way, runs[way][-1], len(hashes), file=sys.stderr, flush=True)
    best = {way: min(run["cpu"] for run in some) for way, some in runs.items()}
    walls = {way: min(run["wall"] for run in some) for way, some in runs.items()}
    return {
        "photos": count,
        "runs": runs,
        "byte_equal": len(hashes) == 1,
        "sha256": sorted(hashes),
        "photos_per_second": {way: count / wall for way, wall in walls.items()},
        "ray_overhead_wall": walls["ray"] / walls["processes"] - 1 if "ray" in walls else None,
        "ray_overhead_cpu": best["ray"] / best["processes"] - 1 if "ray" in best else None,
    }


def run_way(way: str, photos: Path, out: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Run the commands of one way; seconds on the clock and of the processors."""
    command = [sys.executable, "-m", "cl2cm", "encode", str(photos), "--out", str(out)]
    command += ["--encoder", arguments.model, "--skip-bad"]
    jobs = [f"{job}/{JOBS}" for job in range(1, JOBS + 1)]
    random.Random(0).shuffle(jobs)
    options: dict[str, list[list[str]]] = {
        "here": [[]],
        "processes": [["--workers", "2"]],
        "killed": [["--workers", "2"]],
        "ray": [["--workers", "2", "--engine", "ray"]],
        "array": [*(["--shard", job] for job in jobs), ["--merge"]],
    }
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    for option in options[way]:
        process = subprocess.Popen([*command, *option], stdout=subprocess.DEVNULL)
        if way == "killed":
            kill_a_worker(process, out)
        if process.wait():
            raise SystemExit(f"{way}: exit code {process.returncode}")
    wall = time.perf_counter() - start
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0):
            pass
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return {"wall": wall, "cpu": cpu, "user": after.ru_utime - before.ru_utime}


def kill_a_worker(process: subprocess.Popen[bytes], out: Path) -> None:
    """Kill one worker of the process once half of the shards are written."""
    while process.poll() is None and len(list(out.glob("*.shard.json"))) < 32:
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [c for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]
    os.kill(int(workers[-1]), signal.SIGKILL)


def store_hash(folder: Path) -> str:
    """Return one hash of the names and the bytes of all files of a store."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder)} {sha256_file(path)}\n".encode())
    return digest.hexdigest()


def main() -> None:
    """Print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="onnx:efficientnet-lite2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=0, help="7, or 1 with --engines")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--engines", type=Path, help="folder of images")
    parser.add_argument("--limit", type=int, default=0, help="images; 0: all")
    parser.add_argument("--ways", default=",".join(WAYS))
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (1 if arguments.engines else 7)
    if arguments.engines:
        found = compare_engines(arguments)
        print(json.dumps(found, indent=None if arguments.json else 2))
        return
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
