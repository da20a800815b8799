"""Opening a large feature.bin, and random access to its clips: seconds, and growth of memory.

    python benchmarks/feature_files.py [--clips 10000] [--frames 32] [--width 1024] [--access 1000]

The file is made first (1.3 GB, 0.1 GB of it for each 800 clips) in ``--folder``, by default a new
one among the temporary files, and measured in a process of its own, first after the operating
system was asked to forget the file, then again. ``open`` reads ids and shapes, groups frames and
takes the fingerprint; ``access`` gathers clips drawn at random, 64 at a time. Memory is resident
memory above that of the process with everything imported; most of it is pages of the file, which
the system takes back when it needs them (``anonymous`` is what it cannot).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from cl2cm.encode.feature_files import FeatureFiles
from cl2cm.types import Example


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--access", type=int, default=1_000)
    parser.add_argument("--folder", type=Path, help="where to make the file; it is left there")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.folder, args.access)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        make(folder, args.clips, args.frames, args.width)
        rows = {}
        for name in ("cold", "warm"):
            if name == "cold":
                forget(folder / "feature.bin")
            command = [sys.executable, __file__, "--measure", "--folder", str(folder)]
            command += ["--access", str(args.access)]
            rows[name] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    print(json.dumps({"clips": args.clips, "frames": args.frames, **rows}, indent=2))


def make(folder: Path, clips: int, frames: int, width: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ids = [f"video{clip}_{frame}" for clip in range(clips) for frame in range(frames)]
    (folder / "id.txt").write_text(" ".join(ids))
    (folder / "shape.txt").write_text(f"{len(ids)} {width}")
    rng = np.random.default_rng(0)
    with (folder / "feature.bin").open("wb") as file:
        for _ in range(clips):
            file.write(rng.random((frames, width), dtype=np.float32).tobytes())


def forget(path: Path) -> None:
    """Ask the operating system to drop a file from its cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(folder: Path, access: int) -> dict[str, float]:
    torch.set_num_threads(1)
    before = memory()
    begin = time.perf_counter()
    files = FeatureFiles(f"features:{folder}", folder)
    opened = time.perf_counter() - begin
    after = memory()
    drawn = np.random.default_rng(1).choice(len(files), min(access, len(files)), replace=False)
    chosen = files.choose([Example(f"video{clip}", "test") for clip in drawn])
    begin = time.perf_counter()
    total = sum(
        float(chosen.gather(rows).values.sum()) for rows in torch.arange(len(drawn)).split(64)
    )
    accessed = time.perf_counter() - begin
    end = memory()
    assert total > 0
    return {
        "open seconds": round(opened, 3),
        "access seconds": round(accessed, 3),
        "MB after opening": after["VmRSS"] - before["VmRSS"],
        "MB after access": end["VmRSS"] - before["VmRSS"],
        "MB at most": end["VmHWM"] - before["VmRSS"],
        "MB anonymous": end["RssAnon"] - before["RssAnon"],
    }


def memory() -> dict[str, float]:
    """Resident memory of this process, MB, by the names of /proc."""
    lines = Path("/proc/self/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return {
        key: round(int(values[key].split()[0]) / 1024, 1) for key in ("VmRSS", "VmHWM", "RssAnon")
    }


if __name__ == "__main__":
    main()
