"""An index that is made again: what it costs, and what kills do to it.

    python benchmarks/incremental.py RUN PICTURES [--count 5000] [--kills 30]

RUN is a finished run, PICTURES a folder of at least COUNT + 50 pictures. COUNT of them are indexed;
50 are added, 50 changed (re-encoded), 50 removed, and the index is made again. Then an index of 300
pictures is begun and killed KILLS times, and compared with one that was made in one go.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from cl2cm.checkpoint import load
from cl2cm.index import Index
from cl2cm.index_building import scan_folder
from cl2cm.indexing import Update, update_index
from cl2cm.model import RetrievalModel


def timed(model: RetrievalModel, run: Path, pictures: Path, out: Path) -> tuple[Update, float]:
    start = time.monotonic()
    return update_index(model, scan_folder(pictures), out, run=run), time.monotonic() - start


def index(run: Path, pictures: Path, out: Path) -> tuple[dict, float]:
    start = time.monotonic()
    done = subprocess.run(command(run, pictures, out), stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout), time.monotonic() - start


def command(run: Path, pictures: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "cl2cm", "index", str(run), str(pictures), str(out), "--json"]


def contents(path: Path) -> dict[str, bytes]:
    opened = Index.open(path)
    items = opened.items(range(len(opened)))
    return {item.id: opened.vector(row).tobytes() for row, item in enumerate(items)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("pictures", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=30)
    options = parser.parse_args()
    if options.pictures is None:
        print("left out: it needs a finished run and a folder of pictures")
        return
    files = sorted(options.pictures.iterdir())[: options.count + 50]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "pictures")
        folder.mkdir()
        for file in files[:-50]:
            shutil.copy2(file, folder)
        start = time.monotonic()
        model = load(options.run)
        print(f"the model was loaded in {time.monotonic() - start:.1f} s; that is not counted")
        first, whole = timed(model, options.run, folder, Path(name, "index"))
        print(f"first: {first.encoded} encoded in {whole:.1f} s")
        for file in files[-50:]:
            shutil.copy2(file, folder)
        for file in files[:50]:
            with Image.open(file) as image:
                image.convert("RGB").save((folder / file.name).with_suffix(".jpg"), quality=50)
        for file in files[50:100]:
            (folder / file.name).unlink()
        again, part = timed(model, options.run, folder, Path(name, "index"))
        print(
            f"again: {again.encoded} encoded, {again.kept} kept, {again.dropped} dropped "
            f"in {part:.1f} s: {part / whole:.1%} of the first"
        )
        few, out = Path(name, "few"), Path(name, "killed")
        few.mkdir()
        for file in files[:300]:
            shutil.copy2(file, few)
        _, once = index(options.run, few, Path(name, "one-go"))
        rng = random.Random(0)
        for _ in range(options.kills):
            child = subprocess.Popen(command(options.run, few, out), stdout=subprocess.DEVNULL)
            time.sleep(rng.uniform(0, once))
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        last, _ = index(options.run, few, out)
        same = contents(out) == contents(Path(name, "one-go"))
        print(f"{options.kills} kills: equal to one made in one go: {same}; {last['items']} items")


if __name__ == "__main__":
    main()
