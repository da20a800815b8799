"""One run of a benchmark: train a method on shared features, and rank the test captions.

What a run leaves for the statistics is ``ranks-SPLIT.npz``: per language the rank of each caption's
image, and the best rank of each image's captions. They are taken again only for the same
weights, captions and translation engines.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from cl2cm.data.manifest import read_manifest
from cl2cm.data.queries import Queries, caption_queries
from cl2cm.encode.encoding import encode_pictures
from cl2cm.encode.rows import StoredFeatures
from cl2cm.encode.store import FeatureStore
from cl2cm.encode.tokens import PooledStates, StoredStates
from cl2cm.encode.vision import load_vision
from cl2cm.errors import StoreError
from cl2cm.evaluation.ranked_lists import Measured
from cl2cm.evaluation.ranks import Ranks, ranks_of
from cl2cm.evaluation.trec import TrecWriter
from cl2cm.methods.registry import method_class
from cl2cm.model.checkpoint import load
from cl2cm.model.config import Config
from cl2cm.model.networks import build_student
from cl2cm.model.run_folder import read_provenance
from cl2cm.model.vectors import frame_vectors, sentence_vectors
from cl2cm.model.weights import load_weights
from cl2cm.storage import atomic_path, sha256_text
from cl2cm.training.data import Stores
from cl2cm.training.loop import train_again
from cl2cm.translate import Translator, find_translators
from cl2cm.types import Example, Floats, Frames

TREC_DEPTH = 100  # a benchmark has many runs


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a benchmark.

    Attributes:
        regime, method, seed: as in the suite.
        trained_on: the target languages of its training; one for a single-language model.
        config: all settings.
        folder: of the run.
        text_store: folder of the texts' features.
        vision_store: of the images'; None if the configuration names features of its own.
        split: whose captions are ranked.
    """

    regime: str
    method: str
    seed: int
    trained_on: tuple[str, ...]
    config: Config
    folder: Path
    text_store: Path
    vision_store: Path | None
    split: str

    @property
    def ranks(self) -> Path:
        """File of the ranks."""
        return self.folder / f"ranks-{self.split}.npz"

    @property
    def trec(self) -> Path:
        """File of the TREC runs."""
        return self.folder / f"{self.split}.trec"


def run_job(job: Job, examples: Sequence[Example], *, trec: bool = False) -> dict[str, Ranks]:
    """Train what is not trained yet, then rank the captions of the examples in every language.

    Args:
        job: the run.
        examples: of the split to report.
        trec: write ``SPLIT.trec`` too, with the files that belong to it.
    """
    stores = Stores(_open(job.text_store), _vision(job))
    train_again(job.config, job.folder, stores=stores)
    examples = [example for example in examples if stores.vision.has(example.id)]
    source, targets = job.config.data.source, job.trained_on
    translates = method_class(job.config.method).translates_queries
    engines = find_translators(targets, source) if translates else {}
    key = _key(job, examples, engines)
    known = read_ranks(job, key)
    if known is not None and (not trec or job.trec.exists()):
        return known
    languages = [source, *(engines if translates else targets)]
    asked = {language: caption_queries(examples, language) for language in languages}
    vectors = encode_queries(job.config, job.folder, asked, stores, engines)
    measured = [Measured(code, asked[code], *both) for code, both in vectors.items()]
    ranks = {one.language: ranks_of(one) for one in measured}
    if trec:
        with TrecWriter(job.trec, depth=TREC_DEPTH) as writer:
            for one in measured:
                writer.write(one)
    _write_ranks(job, ranks, key)
    return ranks


def encode_queries(
    config: Config,
    run: Path,
    asked: Mapping[str, Queries],
    stores: Stores,
    engines: Mapping[str, Translator],
) -> dict[str, tuple[Floats, Floats]]:
    """Return unit vectors of captions [Q, D] and images [N, D] per language, from stored features.

    Captions of a language with an engine are translated first; no store has those texts.
    """
    if config.text.freeze != "all" or engines:
        model = load(run)
        student = model.student
    else:
        model = None
        student = build_student(
            config.network, text_width=stores.text.width, vision_width=stores.vision.width
        )
        load_weights(student, run / "model.safetensors")
        student.eval()
    result = {}
    for language, (texts, _, gallery) in asked.items():
        frames = stores.vision.gather(torch.tensor([stores.vision.row(e.id) for e in gallery]))
        vision = frame_vectors(student.vision, Frames(frames.values, frames.mask)).numpy()
        if model is not None and language in engines:
            text = model.encode_text(engines[language].translate(texts))
        elif model is not None and config.text.freeze != "all":
            text = model.encode_text(texts)
        else:
            rows = torch.tensor([stores.text.row(t) for t in texts])
            source = (
                StoredStates(stores.text, rows)
                if config.network.layers
                else PooledStates(stores.text.means(), rows)
            )
            text = sentence_vectors(student, source, torch.arange(len(rows))).numpy()
        result[language] = (text, vision)
    return result


def read_ranks(job: Job, key: str) -> dict[str, Ranks] | None:
    """Return the ranks of a run, if there are any with this key."""
    try:
        with np.load(job.ranks, allow_pickle=False) as file:
            if str(file["key"]) != key:
                return None
            languages = [str(language) for language in file["languages"]]
            return {
                language: Ranks(*(file[f"{language}/{part}"] for part in Ranks._fields))
                for language in languages
            }
    except (OSError, ValueError, KeyError, BadZipFile):  # none, or damaged: made again
        return None


def _write_ranks(job: Job, ranks: Mapping[str, Ranks], key: str) -> None:
    arrays: dict[str, Any] = {
        f"{language}/{part}": value
        for language, columns in ranks.items()
        for part, value in columns._asdict().items()
    }
    arrays |= {"languages": np.array(list(ranks)), "key": np.array(key)}
    with atomic_path(job.ranks) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def _key(job: Job, examples: Sequence[Example], engines: Mapping[str, Translator]) -> str:
    """Return what ranks belong to: settings, weights, captions and translation engines."""
    made = read_provenance(job.folder)
    captions = [[example.id, sorted(example.captions.items())] for example in examples]
    names = {code: engine.name for code, engine in engines.items()}
    return sha256_text(json.dumps([made["config"], made.get("model"), captions, names]))


def _vision(job: Job) -> StoredFeatures:
    """Return the images' features of a run."""
    if job.vision_store is not None:
        return _open(job.vision_store)
    data = job.config.data
    return _features(job.config.vision.encoder, data.manifest, data.source, skip_bad=data.skip_bad)


@lru_cache(maxsize=2)
def _features(encoder: str, manifest: str, source: str, *, skip_bad: bool) -> StoredFeatures:
    """Return features computed elsewhere, of all items of a manifest; checked once."""
    examples = list(read_manifest(Path(manifest), source=source, skip_bad=skip_bad))
    return encode_pictures(examples, load_vision(encoder), skip_bad=skip_bad)


def _open(folder: Path) -> FeatureStore:
    if not (folder / "store.json").exists():
        raise StoreError(
            str(folder), expected="a store", found="none", remedy="run the benchmark again"
        )
    return FeatureStore.open(folder)
