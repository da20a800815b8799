"""What a training step of cl2cm is made of: a step of each stage, part by part, in one run.

    python benchmarks/training.py [--batch 256] [--tokens 16] [--layers 0 1] [--repeat 15]
                                  [--threads 1] [--json]
    python benchmarks/training.py --grad-cache 8 [--batch 1024] [--tokens 32]

Frozen states of width 384, noisy copies of each other in another order, heads of width 384 with
as many transformer layers as ``--layers`` says, the default losses. ``cross-lingual`` is a step
of the teacher (Eq. 1 to 7), ``cross-modal`` one of the student with a frozen teacher (Eq. 8 to
11). Milliseconds are medians over rounds in which the steps take turns; ``share`` is a part's
share of its step, the median of the shares within a round. Transport is cost, marginals and plan;
the limit is a third of a teacher step.

``--grad-cache`` compares a step in so many chunks with a step at once, each in a process of its own
with one transformer layer and without dropout: the peak of memory above what the process and the
batch take, the loss, and the largest difference of a gradient. The limit for the peak is a third.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from cl2cm.methods import word_level
from cl2cm.methods.base import Method
from cl2cm.methods.build import build_method
from cl2cm.model.config import Config, parse_config
from cl2cm.training.global_batch import Divided
from cl2cm.training.optimization import make_optimizer, return_freed_memory
from cl2cm.training.processes import Processes
from cl2cm.types import Batch, Frames, Tokens

WIDTH = 384
BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PARTS = ("heads", "transport", "word losses", "other losses", "backward", "optimiser")
TARGET = 1 / 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--repeat", type=int, default=15, help="rounds")
    parser.add_argument("--threads", type=int, default=1, help="of torch and of BLAS")
    parser.add_argument("--grad-cache", type=int, default=0, help="chunks to compare with one")
    parser.add_argument("--one-step", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    limit_threads(args.threads)
    if args.one_step:
        stage, chunks, out = args.one_step
        peak_of_step(stage, int(chunks), make_batch(args.batch, args.tokens), Path(out))
        return
    if args.grad_cache:
        report = grad_cache(args.batch, args.tokens, args.grad_cache)
        print(json.dumps(report) if args.json else cache_table(report))
        return
    batch = make_batch(args.batch, args.tokens)
    steps = {
        f"{stage}, {layers} layers": Step(stage, layers, batch)
        for layers in args.layers
        for stage in ("cross-lingual", "cross-modal")
    }
    rounds = measure(steps, args.repeat)
    report = {
        "batch": args.batch,
        "tokens": args.tokens,
        "threads": args.threads,
        "steps": {name: summary(steps[name], rounds[name]) for name in steps},
    }
    print(json.dumps(report) if args.json else table(report))


def limit_threads(count: int) -> None:
    """Give torch and BLAS this many threads; BLAS reads it only at the start of a process."""
    wanted = dict.fromkeys(BLAS, str(count))
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)
    torch.set_num_threads(count)


def make_batch(count: int, tokens: int) -> Batch:
    """Texts of all the tokens, the first and the last of them special."""
    g = torch.Generator().manual_seed(0)
    source = torch.randn(count, tokens, WIDTH, generator=g)
    order = torch.rand(count, tokens, generator=g).argsort(1)
    target = source.gather(1, order[..., None].expand_as(source))
    target = target + 0.5 * torch.randn(target.shape, generator=g)
    mask = torch.ones(count, tokens, dtype=torch.bool)
    content = mask.clone()
    content[:, [0, -1]] = False
    rows = torch.arange(count)
    return Batch(
        vision=Frames(torch.randn(count, 1, WIDTH, generator=g), mask[:, :1]),
        source=Tokens(source, mask, content),
        target=Tokens(target, mask, content),
        languages=("xx",) * count,
        pictures=rows,
        source_texts=rows,
        target_texts=rows + count,
    )


class Clock:
    """Seconds spent in each part; what is timed inside another part counts there only."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.inside = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        before, self.inside = self.inside, 0.0
        begin = time.perf_counter()
        yield
        took = time.perf_counter() - begin
        self.seconds[name] += took - self.inside
        self.inside = before + took

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:  # noqa: ANN401
            with self.part(name):
                return function(*args, **options)

        return call


class Step:
    """A step of one stage, as the training loop does it, with a clock on its parts."""

    def __init__(self, stage: str, layers: int, batch: Batch, dropout: float = 0.1) -> None:
        network = {"dim": WIDTH, "layers": layers, "dropout": dropout}
        self.config: Config = parse_config({"method": "cl2cm", "network": network})
        torch.manual_seed(0)
        self.method: Method = build_method(self.config, text_width=WIDTH, vision_width=WIDTH)
        self.stage = next(each for each in self.method.stages() if each.name == stage)
        self.stage.begin(lambda _: self.vectors(2 * len(batch.pictures)))
        self.batch = batch
        self.optimizer = make_optimizer(self.stage.trained, self.config.train)
        self.iterations = 0

    @staticmethod
    def vectors(count: int) -> Tensor:
        return normalize(torch.randn(count, WIDTH), dim=-1)

    def __call__(self) -> dict[str, float]:
        clock = Clock()
        with self.watched(clock):
            with clock.part("other losses"):
                loss = self.stage.loss(self.batch)["loss"]
            with clock.part("backward"):
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
            with clock.part("optimiser"):
                parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
                nn.utils.clip_grad_norm_(parameters, self.config.train.clip)
                self.optimizer.step()
        return clock.seconds

    @contextmanager
    def watched(self, clock: Clock) -> Iterator[None]:
        """Put the clock on the networks, and on the losses where the method finds them."""
        heads = [self.method.student.text, self.method.student.vision, self.method.teacher.text]
        losses = {
            name: getattr(word_level, name)
            for name in ("transport", "cost_matrix", "uniform_marginals", "word_alignment")
        }
        for head in heads:
            head.forward = clock.timed("heads", type(head).forward.__get__(head))
        for name, loss in losses.items():
            part = "word losses" if name == "word_alignment" else "transport"
            setattr(word_level, name, clock.timed(part, loss))
        solve = word_level.transport

        def counted(*args: Any, **options: Any) -> Any:  # noqa: ANN401
            solved = solve(*args, **options)
            self.iterations = solved.iterations
            return solved

        word_level.transport = counted
        try:
            yield
        finally:
            for head in heads:
                del head.forward
            for name, loss in losses.items():
                setattr(word_level, name, loss)


def measure(steps: dict[str, Step], repeat: int) -> dict[str, list[dict[str, float]]]:
    for step in steps.values():
        step()
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in steps}
    for _ in range(repeat):
        for name, step in steps.items():
            rounds[name].append(step())
    return rounds


def summary(step: Step, rounds: list[dict[str, float]]) -> dict[str, Any]:
    median = statistics.median
    whole = [sum(seconds.values()) for seconds in rounds]
    return {
        "ms": {part: round(1e3 * median(r[part] for r in rounds), 2) for part in PARTS}
        | {"whole": round(1e3 * median(whole), 2)},
        "share": {
            part: round(median(r[part] / total for r, total in zip(rounds, whole, strict=True)), 3)
            for part in PARTS
        },
        "iterations": step.iterations,
    }


def grad_cache(batch: int, tokens: int, chunks: int) -> dict[str, Any]:
    """Peak, loss and gradients of a step at once and in chunks, for each stage."""
    report: dict[str, Any] = {"batch": batch, "tokens": tokens, "chunks": chunks, "stages": {}}
    options = ["--batch", str(batch), "--tokens", str(tokens)]
    for stage in ("cross-lingual", "cross-modal"):
        with TemporaryDirectory() as folder:
            found = []
            for count in (1, chunks):
                out = f"{folder}/{count}"
                command = [sys.executable, __file__, *options, "--one-step", stage, str(count), out]
                subprocess.run(command, check=True)
                found.append(load_file(out))
        once, cached = found
        report["stages"][stage] = {
            "at_once_mb": round(float(once["peak"]) / 2**20, 1),
            "in_chunks_mb": round(float(cached["peak"]) / 2**20, 1),
            "ratio": round(float(cached["peak"] / once["peak"]), 3),
            "largest_difference": max(
                float((once[name] - cached[name]).abs().max()) for name in once if name != "peak"
            ),
        }
    return report


def peak_of_step(stage: str, chunks: int, batch: Batch, out: Path) -> None:
    """Write the peak of memory in a step, above what is held before it, the loss and gradients."""
    step = Step(stage, 1, batch, dropout=0.0)
    return_freed_memory()  # in both, so that neither peak holds what is no longer in use
    method, device = step.method, torch.device("cpu")
    divided = Divided(Processes(), None, chunks=chunks, device=device)
    held = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    with divided.encoding(method):
        loss = step.stage.loss(batch)["loss"]
    loss.backward()
    peak = torch.tensor(float(memory("VmHWM") - held), dtype=torch.float64)
    gradients = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    save_file({"peak": peak, "loss": loss.detach(), **gradients}, out)


def memory(field: str) -> int:
    """Bytes of this process, of a field of /proc/self/status (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def cache_table(report: dict[str, Any]) -> str:
    lines = [f"batch {report['batch']}, {report['tokens']} tokens, {report['chunks']} chunks"]
    for stage, found in report["stages"].items():
        lines.append(
            f"{stage}: {found['at_once_mb']:.0f} MB at once, {found['in_chunks_mb']:.0f} MB in "
            f"chunks, ratio {found['ratio']:.2f} ({'' if found['ratio'] < TARGET else 'NOT '}under "
            f"a third); largest difference {found['largest_difference']:.1e}"
        )
    return "\n".join(lines)


def table(report: dict[str, Any]) -> str:
    steps = report["steps"]
    lines = [f"{'':30}" + "".join(f"{name:>14}" for name in (*PARTS, "whole"))]
    for name, step in steps.items():
        lines.append(f"{name + ', ms':30}" + "".join(f"{v:14.2f}" for v in step["ms"].values()))
        lines.append(f"{'share':30}" + "".join(f"{v:14.1%}" for v in step["share"].values()))
    for name, step in steps.items():
        if step["iterations"]:
            share = step["share"]["transport"]
            lines.append(
                f"{name}: transport {share:.1%} of a step, {step['iterations']} iterations; "
                f"{'under' if share < TARGET else 'NOT under'} a third"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
