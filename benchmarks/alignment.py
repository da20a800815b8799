"""Alignment error rate of runs, before and after training (docs/alignment.md).

    python benchmarks/alignment.py RUN... [--json]

For each run: the backbone's own states, as they are and without their mean; the cross-lingual
network with the weights that training began with; and after training.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from cl2cm.evaluation.alignment.gold import gold_lines, gold_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    reports = [gold_report(run) for run in args.runs]
    if args.json:
        print(json.dumps(reports))
        return
    if not reports:
        print("name run folders to measure: python benchmarks/alignment.py RUN...")
    for report in reports:
        print("\n".join([report["run"], *gold_lines(report), *fall(report), ""]))


def fall(report: dict[str, Any]) -> list[str]:
    """How much of the error of the first weights training took away."""
    lines = []
    for language in report["pairs"]:
        before, after = (
            report["networks"][name][language]["plan"]["aer"] for name in ("before", "after")
        )
        change = 100 * (after - before) / before if before else 0.0
        lines.append(f"en-{language}: {before:.1f} before, {after:.1f} after: {change:+.0f} %")
    return lines


if __name__ == "__main__":
    main()
