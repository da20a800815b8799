"""Kill work at random moments, start it again, and compare what it ends with.

    python benchmarks/kills.py --kills 200

Each round makes one thing (a feature store, prepared data, training states, an index, a translation
cache), is killed at a random moment or before a random write, one to three times, and is then left
to end. It has to end, with what an unbroken run ends with, and to leave nothing else behind.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from fixtures.kills import WORK, killed, result, write_sources


def main() -> None:
    """Print, for each kind of work, how many kills hit it and how many rounds were not right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="kills in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", nargs="*", choices=sorted(WORK), default=sorted(WORK))
    arguments = parser.parse_args()
    rng, hit, wrong = random.Random(arguments.seed), Counter[str](), Counter[str]()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        source, whole = write_sources(Path(folder) / "source"), {}
        for name, work in WORK.items():
            out = Path(folder) / "whole" / name
            out.parent.mkdir(exist_ok=True)
            work(source, out)
            whole[name] = result(name, out)
        number = 0
        while sum(hit.values()) < arguments.kills:
            number += 1
            name = rng.choice(arguments.work)
            place = Path(folder) / f"{number}"
            out = place / name
            place.mkdir()
            for _ in range(rng.randint(1, 3)):
                moment = {"point": rng.randint(1, 20)}
                if rng.random() < 0.5:
                    moment = {"seconds": rng.uniform(0.0, 0.3)}
                hit[name] += killed(name, source, out, **moment)
            wrong[name] += not _ends_well(name, source, out, whole[name])
    for name in sorted(WORK):
        print(f"{name:14} {hit[name]:4} kills, {wrong[name]} rounds that did not end well")
    print(f"{sum(hit.values())} kills in {time.monotonic() - begin:.0f} s")
    sys.exit(bool(sum(wrong.values())))


def _ends_well(name: str, source: Path, out: Path, whole: object) -> bool:
    try:
        WORK[name](source, out)
        same = result(name, out) == whole
    except Exception as error:
        print(f"{out}: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    left = [path for path in out.parent.rglob("*") if "partial" in path.name]
    if left or not same:
        print(f"{out}: {'left ' + left[0].name if left else 'another result'}", file=sys.stderr)
    return same and not left


if __name__ == "__main__":
    main()
