"""Damaged files of data sets, many times: never a traceback, never a silent loss.

    python benchmarks/fuzz_datasets.py [--cases 10000] [--seed 0] [--only NAME]

Each case damages one file of a small folder in a publisher's format and reads it: see
``tests/dataset_fixtures.py``. What is printed is how often the reader refused, the numbers of the
protocol differed, a note said so, nothing was lost, or lines were gone that nobody could know of
(in one's own data, and in MSR-VTT-CN, whose counts are not published). Failures are printed with
their seed, and end in exit code 1.
"""

import argparse
import contextlib
import io
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from fixtures.datasets import FIXTURES, damage, judge

OUTCOMES = ("refused", "counted", "said", "unharmed", "own")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=FIXTURES)
    given = parser.parse_args()
    names = [given.only] if given.only else list(FIXTURES)
    each = -(-given.cases // len(names))
    started, totals, failures = time.monotonic(), Counter(), 0
    print(f"{'':18}" + "".join(f"{outcome:>10}" for outcome in OUTCOMES))
    for name in names:
        outcomes, bad = fuzz(name, range(given.seed, given.seed + each))
        print(f"{name:18}" + "".join(f"{outcomes[outcome]:10,}" for outcome in OUTCOMES))
        for seed, error in bad:
            print(f"  seed {seed}: {type(error).__name__}: {error}")
        totals, failures = totals + outcomes, failures + len(bad)
    print(f"{'all':18}" + "".join(f"{totals[outcome]:10,}" for outcome in OUTCOMES))
    seconds = time.monotonic() - started
    print(f"{totals.total() + failures:,} cases in {seconds:.0f} s, {failures:,} failures")
    sys.exit(1 if failures else 0)


def fuzz(name: str, seeds: range) -> tuple[Counter[str], list[tuple[int, Exception]]]:
    """Outcomes for one reader, and what should not have been."""
    fixture, outcomes, bad = FIXTURES[name], Counter(), []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        source = fixture.write(Path(folder) / "source")
        whole = fixture.read(source)
        for seed in seeds:
            done = damage(random.Random(seed), source)
            try:
                outcomes[judge(fixture, whole, source, done)] += 1
            except Exception as error:
                bad.append((seed, error))
            finally:
                done.undo()
    return outcomes, bad


if __name__ == "__main__":
    main()
