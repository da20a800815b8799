"""Batched masked transport against POT, in one run: same problems, epsilon, iterations, threads.

    python benchmarks/transport.py [--pairs 128] [--iterations 100] [--repeat 5] [--threads 1]
                                   [--epsilon 0.1 0.01] [--json]

A batch of pairs of texts of 6 to 32 tokens, costs from noisy copies of random unit vectors,
uniform marginals, in float32. Every solver does the same fixed number of iterations:

    cl2cm                 ``sinkhorn(..., tolerance=0)``: one call, padded
    POT sinkhorn_log      a loop over ``ot.sinkhorn(method="sinkhorn_log")``, pair by pair, each
                          without its padding, in numpy and float64, as POT is meant to be used
    POT sinkhorn          the same with its plain solver, which underflows at a small epsilon
    POT solve_batch       ``ot.batch.solve_batch`` on the padded torch batch, log domain (default)
    POT solve_batch, exp  the same with ``method="sinkhorn"``, which underflows, too

``times`` is a solver's time over cl2cm's, the median over interleaved rounds of the ratio within a
round. ``error`` is the mean L1 error of the marginals after these iterations; nan is an underflow.
Below the table: cl2cm until a marginal error of 1e-6, on this batch, and on 256 pairs of 16 by 16
tokens, as in a training step. POT's default checks of convergence are left as they are.
"""

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import ot
import torch
from ot.batch import solve_batch
from torch import Tensor
from torch.nn.functional import normalize

from cl2cm.losses.transport import cost_matrix, sinkhorn, uniform_marginals

BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=128)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=5, help="interleaved rounds")
    parser.add_argument("--threads", type=int, default=1, help="of torch and of BLAS")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[0.1, 0.01])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    limit_threads(args.threads)
    warnings.filterwarnings("ignore")  # POT's, of not having converged and of underflow
    report = {
        "pairs": args.pairs,
        "iterations": args.iterations,
        "threads": args.threads,
        "fixed": [row for epsilon in args.epsilon for row in fixed(args, epsilon)],
        "converged": [row for epsilon in args.epsilon for row in until_converged(args, epsilon)],
    }
    print(json.dumps(report) if args.json else table(report))


def limit_threads(count: int) -> None:
    """Give torch and BLAS this many threads; BLAS reads it only at the start of a process."""
    wanted = dict.fromkeys(BLAS, str(count))
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)
    torch.set_num_threads(count)


def batch(pairs: int, fewest: int, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cost [B, n, m] and uniform marginals of pairs of a random number of tokens."""
    g = torch.Generator().manual_seed(0)
    x = normalize(torch.randn(pairs, most, 64, generator=g), dim=-1)
    y = normalize(x + 0.1 * torch.randn(pairs, most, 64, generator=g), dim=-1)
    masks = [
        torch.arange(most) < torch.randint(fewest, most + 1, (pairs, 1), generator=g)
        for _ in range(2)
    ]
    return cost_matrix(x, y), *(uniform_marginals(mask) for mask in masks)


def fixed(args: argparse.Namespace, epsilon: float) -> list[dict[str, Any]]:
    """A row per solver: milliseconds, ratio to cl2cm and marginal error."""
    cost, a, b = batch(args.pairs, 6, 32)
    solvers = solvers_of(cost, a, b, epsilon, args.iterations)
    errors = {name: solve() for name, solve in solvers.items()}
    times: dict[str, list[float]] = {name: [] for name in solvers}
    for _ in range(args.repeat):
        for name, solve in solvers.items():
            times[name].append(best_of(solve, 1 if "loop" in name else 5))
    own = times["cl2cm"]
    return [
        {
            "epsilon": epsilon,
            "solver": name,
            "ms": statistics.median(spent),
            "times": statistics.median(t / o for t, o in zip(spent, own, strict=True)),
            "error": errors[name],
        }
        for name, spent in times.items()
    ]


def best_of(solve: Callable[[], Any], count: int) -> float:
    """Median milliseconds of a few calls in a row: the short ones are noisy."""
    spent = []
    for _ in range(count):
        start = time.perf_counter()
        solve()
        spent.append(1e3 * (time.perf_counter() - start))
    return statistics.median(spent)


def solvers_of(
    cost: Tensor, a: Tensor, b: Tensor, epsilon: float, iterations: int
) -> dict[str, Callable[[], float]]:
    """Functions that solve the batch and return the mean marginal error."""
    pairs = []
    for c, p, q in zip(cost.double().numpy(), a.double().numpy(), b.double().numpy(), strict=True):
        rows, columns = p > 0, q > 0
        pairs.append(
            (c[np.ix_(rows, columns)], p[rows] / p[rows].sum(), q[columns] / q[columns].sum())
        )

    def own() -> float:
        solved = sinkhorn(cost, a, b, epsilon=epsilon, max_iterations=iterations, tolerance=0)
        return float(solved.error.mean())

    def loop(method: str) -> float:
        errors = []
        for c, p, q in pairs:
            plan = ot.sinkhorn(
                p, q, c, epsilon, method=method, numItermax=iterations, stopThr=0, warn=False
            )
            errors.append(np.abs(plan.sum(1) - p).sum() + np.abs(plan.sum(0) - q).sum())
        return float(np.mean(errors))

    def batched(method: str) -> float:
        plan = solve_batch(
            cost, epsilon, a, b, max_iter=iterations, tol=0, method=method, grad="detach"
        ).plan
        gaps = (plan.sum(2) - a).abs().sum(1) + (plan.sum(1) - b).abs().sum(1)
        return float(gaps.mean())

    return {
        "cl2cm": own,
        "POT sinkhorn_log, loop": lambda: loop("sinkhorn_log"),
        "POT sinkhorn, loop": lambda: loop("sinkhorn"),
        "POT solve_batch": lambda: batched("log_sinkhorn"),
        "POT solve_batch, exp": lambda: batched("sinkhorn"),
    }


def until_converged(args: argparse.Namespace, epsilon: float) -> list[dict[str, Any]]:
    """cl2cm to a marginal error of 1e-6."""
    rows = []
    for pairs, fewest, most in ((args.pairs, 6, 32), (256, 16, 16)):
        problem = batch(pairs, fewest, most)
        solved = sinkhorn(*problem, epsilon=epsilon)
        spent = best_of(lambda p=problem: sinkhorn(*p, epsilon=epsilon), 10)
        rows.append(
            {
                "epsilon": epsilon,
                "pairs": pairs,
                "tokens": f"{fewest}-{most}",
                "ms": spent,
                "iterations": solved.iterations,
                "converged": float(solved.converged.float().mean()),
                "error": float(solved.error.max()),
            }
        )
    return rows


def table(report: dict[str, Any]) -> str:
    lines = [
        f"{report['pairs']} pairs of 6-32 by 6-32 tokens, {report['iterations']} iterations, "
        f"{report['threads']} thread(s)",
        f"{'epsilon':>8} {'solver':24} {'ms':>9} {'times':>8} {'error':>9}",
    ]
    lines += [
        f"{row['epsilon']:8g} {row['solver']:24} {row['ms']:9.1f} {row['times']:8.1f} "
        f"{row['error']:9.1e}"
        for row in report["fixed"]
    ]
    lines += [
        "\ncl2cm until the marginal error is 1e-6",
        f"{'epsilon':>8} {'pairs':>6} {'tokens':>7} {'ms':>9} {'iterations':>11} {'converged':>10}",
    ]
    lines += [
        f"{row['epsilon']:8g} {row['pairs']:6} {row['tokens']:>7} {row['ms']:9.1f} "
        f"{row['iterations']:11} {row['converged']:10.3f}"
        for row in report["converged"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
