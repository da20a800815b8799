"""The full pipeline on the bundled data: weights, images, features, three models, a search index.

Steps that are already done are skipped, so an interrupted demo resumes when it is run again. The
models are trained on names in 12 languages; Korean and Persian are never seen in training. With two
processors or more, the two methods that cl2cm is compared with are trained in a second process.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cl2cm.data.manifest import read_manifest
from cl2cm.data.readers.openmoji import HELD_OUT
from cl2cm.data.readers.openmoji_things import is_flag
from cl2cm.data.readers.registry import prepare_dataset
from cl2cm.encode.encoding import encode_pictures
from cl2cm.encode.pinned_weights import install_weights
from cl2cm.encode.vision import load_vision
from cl2cm.evaluation.bench.suites import load_suite
from cl2cm.evaluation.evaluate import evaluate
from cl2cm.index.update.build import build_index
from cl2cm.methods.settings import checked
from cl2cm.model.checkpoint import load
from cl2cm.model.config import Config, parse_config
from cl2cm.progress import say, silence
from cl2cm.training.loading import load_training_data
from cl2cm.training.loop import train_again
from cl2cm.training.run_folder import is_started
from cl2cm.types import Example, Floats, SearchModel

RIVALS = ("zero-shot", "translate-train")
METHODS = (*RIVALS, "cl2cm")
STAGES = {
    "weights": "fetch the text and image encoders, which stay frozen (a minute, once)",
    "data": "draw the images; their names in 14 languages are the captions (20 s)",
    "encode": "compute features of images and names once, for all trainings (1 to 2 minutes)",
    "train": "train cl2cm, and the two methods that it is compared with (3 to 4 minutes)",
    "evaluate": "search the test images by their names, for the table below (20 s)",
    "index": "encode all images for the search page (a few seconds)",
}  # what each is for, and how long it takes on two quiet processors
QUERIES = (
    ("en", "red heart"),
    ("de", "fröhlicher Hund"),
    ("es", "pastel de cumpleaños"),
    ("fr", "chat heureux"),
    ("ja", "花"),
    ("zh", "红心"),
    ("ar", "كلب"),
    ("ko", "고양이"),
)  # for the page; Korean was never seen in training
WEIGHTS = ("multilingual-e5-small", "efficientnet-lite2")


def demo_config(method: str, manifest: Path, *, seed: int = 0) -> Config:
    """Return the settings of the suite ``openmoji``, on all languages and all cores."""
    base = load_suite("openmoji").base
    tree = {
        **base,
        "method": method,
        "data": {**base["data"], "manifest": str(manifest.resolve())},
        "train": {**base["train"], "seed": seed},
    }
    return checked(parse_config(tree))


def run_demo(out: Path, *, seed: int = 0) -> dict[str, Any]:
    """Run the demo up to the index and return what ``cl2cm demo --json`` prints.

    Args:
        out: folder of data, runs and index.
        seed: of training.
    """
    seconds: dict[str, float] = {}
    with _timed("weights", seconds):
        install_weights(WEIGHTS, tell=say)
    with _timed("data", seconds):
        manifest = prepare_dataset("openmoji", None, out / "data", leak_check=False)
    configs = {method: demo_config(method, manifest, seed=seed) for method in METHODS}
    with _timed("encode", seconds):
        examples = list(read_manifest(manifest))
        encode_pictures(examples, load_vision(Config().vision.encoder))
        load_training_data(configs["cl2cm"])  # and the texts
    with _timed("train", seconds):
        train_all(configs, out / "runs")
    with _timed("evaluate", seconds):
        results = {name: evaluate_run(out / "runs" / name, examples) for name in METHODS}
    run, index = out / "runs" / "cl2cm", out / "index"
    with _timed("index", seconds):
        model = load(run)
        build_index(model, examples, index, run=run, vectors=model.encode_examples(examples))
    for line in table(results):
        say(line)
    return {
        "methods": {name: results[name] for name in reversed(METHODS)},
        "seconds": {stage: round(value, 1) for stage, value in seconds.items()},
        "run": str(run),
        "index": str(index),
    }


def train_all(configs: Mapping[str, Config], runs: Path) -> None:
    """Train all methods, the rivals in a second process where there is a processor for it.

    If that process ends early, this one trains what is missing.

    Args:
        configs: settings of each of ``METHODS``.
        runs: folder of the runs.
    """
    threads, processors = torch.get_num_threads(), _processors()
    if processors > 1 and not all(is_started(runs / method) for method in METHODS):
        half = max(1, min(threads, processors) // 2)
        other = multiprocessing.get_context("spawn").Process(
            target=_train_rivals, args=(configs, runs, half), daemon=True
        )
        other.start()
        torch.set_num_threads(half)
        try:
            train_again(configs["cl2cm"], runs / "cl2cm")
            say(f"demo: cl2cm is trained; waiting for {' and '.join(RIVALS)}")
            other.join()
        finally:
            torch.set_num_threads(threads)
    for method in METHODS:
        train_again(configs[method], runs / method)


def _train_rivals(configs: Mapping[str, Config], runs: Path, threads: int) -> None:
    silence(True)  # only the first process shows progress bars
    torch.set_num_threads(threads)
    try:
        for method in RIVALS:
            train_again(configs[method], runs / method)
    except (Exception, KeyboardInterrupt):  # said by the first process, which tries again
        sys.exit(1)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Remembering:
    """A model that encodes each text once, since both parts of a report ask the same."""

    def __init__(self, model: SearchModel) -> None:
        self.fingerprint, self.dim = model.fingerprint, model.dim
        self.encode_visual = model.encode_visual
        self._model = model
        self._known: dict[str, Floats] = {}

    def encode_text(self, texts: Sequence[str]) -> Floats:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known |= dict(zip(new, self._model.encode_text(new), strict=True))
        return np.stack([self._known[text] for text in texts])


def evaluate_run(run: Path, examples: list[Example]) -> dict[str, Any]:
    """Return the metrics of a run on the test split, with and without flags."""
    loaded = load(run)
    model = _Remembering(loaded)
    test = [example for example in examples if example.split == "test"]
    vectors = dict(zip((e.id for e in examples), loaded.encode_examples(examples), strict=True))
    plain = [example for example in test if not is_flag(example.id)]
    return {
        "run": str(run),
        "split": "test",
        "languages": evaluate(model, test, vectors=vectors),
        "without_flags": evaluate(model, plain, vectors=vectors),
    }


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return R@10 in both directions and SumR per language and method, as lines of text."""
    lines = ["", "test split: R@10 text to image / image to text, SumR"]
    lines.append("".join([f"{'':4}", *[f"{name:>24}" for name in results]]))
    languages = list(next(iter(results.values()))["languages"])
    for language in languages:
        cells = []
        for result in results.values():
            scores = result["languages"][language]
            pair = [scores[side]["R@10"] for side in ("text_to_vision", "vision_to_text")]
            cells.append(f"{pair[0]:5.1f} / {pair[1]:5.1f}  {scores['SumR']:6.1f}")
        mark = "*" if language in HELD_OUT else " "
        lines.append("".join([f"{language}{mark} ", *[f"{cell:>24}" for cell in cells]]))
    return [*lines, "* never seen in training", ""]


@contextmanager
def _timed(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    number = list(STAGES).index(stage) + 1
    say(f"demo, {number} of {len(STAGES)}: {STAGES[stage]}")
    begin = time.monotonic()
    yield
    seconds[stage] = time.monotonic() - begin
