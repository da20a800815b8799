"""An index that is made again: what it costs, and what kills do to it.

    python benchmarks/incremental.py RUN PICTURES [--count 5000] [--kills 30]

RUN is a finished run, PICTURES a folder of at least COUNT + 50 pictures. COUNT of them are indexed;
50 are added, 50 changed (re-encoded), 50 removed, and the index is made again; whole commands are
timed. Then an index of 300 pictures is begun and killed KILLS times, each time going on where it
was, and begun anew wherever it was finished; each is compared with one that was made in one go.
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

from cl2cm.index import Index


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
        first, whole = index(options.run, folder, Path(name, "index"))
        print(f"first: {first['encoded']} encoded in {whole:.1f} s")
        for file in files[-50:]:
            shutil.copy2(file, folder)
        for file in files[:50]:
            with Image.open(file) as image:
                image.convert("RGB").save((folder / file.name).with_suffix(".jpg"), quality=50)
        for file in files[50:100]:
            (folder / file.name).unlink()
        again, part = index(options.run, folder, Path(name, "index"))
        print(
            f"again: {again['encoded']} encoded, {again['kept']} kept, {again['dropped']} dropped "
            f"in {part:.1f} s: {part / whole:.1%} of the first"
        )
        few = Path(name, "few")
        few.mkdir()
        for file in files[:300]:
            shutil.copy2(file, few)
        print(kill(options.run, few, Path(name), options.kills))


def kill(run: Path, few: Path, home: Path, kills: int) -> str:
    _, once = index(run, few, home / "one-go")
    rng, whole, equal, out = random.Random(0), contents(home / "one-go"), [], home / "killed"
    for _ in range(kills):
        child = subprocess.Popen(command(run, few, out), stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, once))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        if (out / "index.json").exists():  # it was finished: begin another
            index(run, few, out)
            equal.append(contents(out) == whole)
            shutil.rmtree(out)
    index(run, few, out)
    equal.append(contents(out) == whole)
    return f"{kills} kills, {len(equal)} indexes: equal to one made in one go: {all(equal)}"


if __name__ == "__main__":
    main()
