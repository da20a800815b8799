"""Throughput of encoding texts: cl2cm, sentence-transformers and a plain torch loop, in one run.

    python benchmarks/texts.py [--texts 512] [--batch 32] [--rounds 5] [--threads 2] [--json]

The backbone is multilingual-e5-small; every way uses the same weights, tokenizer, threads and
precision (float32). ``cl2cm`` is ``encode_text`` of a retrieval model, so its time includes a head
that the others have not; ``torch, in order`` tokenises and encodes batches in the order of the
texts, as a script does; sentence-transformers sorts by length. Ways take turns; ``times`` is the
median over rounds of the ratio within a round, above 1 where cl2cm is faster.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

from cl2cm.encode.text import TextBackbone
from cl2cm.model.networks import build_student
from cl2cm.model.retrieval import RetrievalModel
from cl2cm.model.settings import NetworkConfig
from cl2cm.storage import cache_folder

WORDS = (
    *("a", "dog", "runs", "over", "the", "snow", "two", "children", "play", "with", "red", "ball"),
    *("ein", "Hund", "im", "Schnee", "un", "chat", "noir", "sur", "le", "toit", "beach", "old"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    report = measure(args)
    if args.json:
        print(json.dumps(report))
        return
    print(f"{report['texts']} texts, {report['threads']} threads")
    for row in report["rows"]:
        print(f"{row['way']:28}{row['per second']:10.1f}/s{row['times']:8.2f} times the time")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    folder = cache_folder() / "models" / "multilingual-e5-small"
    texts = captions(args.texts)
    ways = ways_of(folder, args.batch)
    vectors = [way(texts[:64]) for name, way in ways.items() if name != "cl2cm"]
    for other in vectors[1:]:  # the peers do the same work
        np.testing.assert_allclose(other, vectors[0], atol=2e-4)
    ways["cl2cm"](texts[:64])
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            way(texts)
            times[name].append(time.perf_counter() - begin)
    own = times["cl2cm"]
    rows = [
        {
            "way": name,
            "per second": args.texts / statistics.median(spent),
            "times": statistics.median(t / o for t, o in zip(spent, own, strict=True)),
        }
        for name, spent in times.items()
    ]
    return {"texts": args.texts, "batch": args.batch, "threads": args.threads, "rows": rows}


def captions(count: int) -> list[str]:
    """Texts of 3 to 24 words, as captions have them."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.normal(11, 4, count).astype(int), 3, 24)
    return [" ".join(rng.choice(WORDS, length)) + f" {n}" for n, length in enumerate(lengths)]


def ways_of(folder: Path, batch: int) -> dict[str, Callable[[Sequence[str]], np.ndarray]]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def in_order(texts: Sequence[str]) -> np.ndarray:
        parts = []
        for start in range(0, len(texts), batch):
            chosen = list(texts[start : start + batch])
            tokens = tokenizer(
                chosen, padding=True, truncation=True, max_length=64, return_tensors="pt"
            )
            states = network(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None]
            parts.append(normalize((states * mask).sum(1) / mask.sum(1), dim=-1))
        return torch.cat(parts).numpy()

    ways = {"cl2cm": own_way(), f"torch, in order, batches of {batch}": in_order}
    if find_spec("sentence_transformers") is not None:
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415
        from sentence_transformers.sentence_transformer.modules import (  # noqa: PLC0415
            Pooling,
            Transformer,
        )

        modules = [Transformer(str(folder), max_seq_length=64), Pooling(network.config.hidden_size)]
        model = SentenceTransformer(modules=modules, device="cpu")
        ways["sentence-transformers, encode"] = lambda texts: model.encode(
            list(texts), batch_size=batch, normalize_embeddings=True, show_progress_bar=False
        )
    return ways


def own_way() -> Callable[[Sequence[str]], np.ndarray]:
    """``encode_text`` of a model with a head without transformer layers."""
    backbone = TextBackbone.load("hf:multilingual-e5-small", max_tokens=64)
    config = NetworkConfig(dim=backbone.width, layers=0)
    student = build_student(config, text_width=backbone.width, vision_width=8)
    model = RetrievalModel(student, backbone, None, fingerprint="", dim=backbone.width)  # type: ignore[arg-type]
    return model.encode_text


if __name__ == "__main__":
    main()
