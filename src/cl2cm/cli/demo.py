"""The whole way on the embedded data: weights, pictures, features, three models, a search index.

Every step that is done is skipped when the demo is run again, so a demo that was stopped goes on.
The models are trained on names in 12 languages; Korean and Persian are never seen in training.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

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
from cl2cm.progress import say
from cl2cm.training.loop import train_again
from cl2cm.types import Example, Floats, SearchModel

METHODS = ("zero-shot", "translate-train", "cl2cm")
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
    """Do everything but serve; returns what ``cl2cm demo --json`` prints.

    Args:
        out: folder of data, runs and index.
        seed: of training.
    """
    seconds: dict[str, float] = {}
    with _timed("weights", seconds):
        install_weights(WEIGHTS, tell=say)
    with _timed("data", seconds):
        manifest = prepare_dataset("openmoji", None, out / "data", leak_check=False)
    with _timed("encode", seconds):
        examples = list(read_manifest(manifest))
        encode_pictures(examples, load_vision(Config().vision.encoder))
    for method in METHODS:
        with _timed(f"train {method}", seconds):
            train_again(demo_config(method, manifest, seed=seed), out / "runs" / method)
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
    """The evaluate object of a run on the test split, with a part that leaves the flags out."""
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
    """R@10 in both directions and SumR per language and method, as lines of text."""
    lines = ["", "test split: R@10 text to picture / picture to text, SumR"]
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
    say(f"demo: {stage}")
    begin = time.monotonic()
    yield
    seconds[stage] = time.monotonic() - begin
