"""Match: of the hits shown at 80 %, how many are right? Fits the numbers of search/match.py.

    python benchmarks/match.py RUN MANIFEST [RUN MANIFEST ...] [--json]

Each run is asked about the images of its manifest, first the split ``val``, on which the numbers
are fitted, then ``test``, on which the reliability is reported. The queries of a split are
captions, one to three content words of a caption, words that no caption of the split has, and
random letters. A hit is right if the image's captions in the query's language have every content
word of the query, compared by their first letters. Where a language has no list of stop words
here, the captions are asked alone, and only the image that a caption was written for is right; so
such figures, and those of captions, are lower bounds. The ten best hits of each query count.
"""

import argparse
import json
import random
import re
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cl2cm.data.manifest import read_manifest
from cl2cm.model.checkpoint import load
from cl2cm.search.match import FITS, MIXED, PLAIN, Background, word_count
from cl2cm.types import Example, SearchModel

STOP_WORDS = {
    "en": "the a an is are was were be being been and or of in on at to into onto with without for "
    "from by as it its his her their there this that these those he she they them him who which "
    "where while up down out off over under near next other another some something someone one two "
    "three four very just not has have having had does doing about around through across along "
    "against behind front back top all both each side during after before between among like looks "
    "look looking get gets getting",
    "de": "der die das den dem des ein eine einen einem einer eines und oder ist sind war wird "
    "werden auf in im an am aus mit ohne für von vom zu zum zur bei beim als es er sie ihr ihre "
    "ihren ihrem ihrer sein seine seinen seinem seiner sich durch über unter neben vor hinter "
    "zwischen nach während wo welche welcher welches dabei dort hier zwei drei vier andere "
    "anderen anderem anderer etwas jemand nicht kein keine hat haben man dass um herum entlang",
}
CAPTIONS, WORDS, OTHERS = 250, 300, 150  # queries of a kind and language
DEPTH = 10
KNOWN = ("en", "de", "-")  # languages whose right hits are known, and none


class Asked(NamedTuple):
    """A query: its kind, language and text, and the numbers of the images that are right."""

    kind: str
    language: str
    text: str
    right: frozenset[int]


class Judged(NamedTuple):
    """Hits: z and u [N, 2], words of the query [N], right [N]; kind, language and rank of each."""

    scales: np.ndarray
    words: np.ndarray
    right: np.ndarray
    about: list[tuple[str, str, int]]


def content_words(text: str, language: str) -> list[str]:
    """Return the words of a text that say what is to be seen."""
    stop = STOP_WORDS[language].split()
    words = re.findall(r"[^\W\d_]+", text.lower())
    return [word for word in words if len(word) > 2 and word not in stop]


def stem(word: str) -> str:
    """Return the first letters of a word, by which "dog" and "dogs" are the same."""
    return word[: max(4, len(word) - 2)]


def queries(items: Sequence[Example], others: Sequence[Example]) -> Iterator[Asked]:
    """Yield the queries of a split; ``others`` have words that it may not have."""
    rng = random.Random(0)
    languages = sorted({code for item in items for code in item.captions})
    for language in languages:
        have = [i for i, item in enumerate(items) if item.captions.get(language)]
        some = rng.sample(have, min(CAPTIONS, len(have)))
        if language not in STOP_WORDS:
            for i in some:
                text = rng.choice(items[i].captions[language])
                yield Asked("caption", language, text, frozenset([i]))
            continue
        shown = [_stems(item, language) for item in items]
        for i in some:
            text = rng.choice(items[i].captions[language])
            right = _right(shown, content_words(text, language))
            yield Asked("caption", language, text, right | {i})
        for i in rng.sample(have, min(WORDS, len(have))):
            words = content_words(rng.choice(items[i].captions[language]), language)
            for count in range(1, min(3, len(words)) + 1):
                start = rng.randrange(len(words) - count + 1)
                part = words[start : start + count]
                right = _right(shown, part)
                yield Asked(("word", "two words", "three words")[count - 1], language,
                            " ".join(part), right)  # fmt: skip
        present: set[str] = set().union(*shown)
        absent = {
            word
            for item in others
            for text in item.captions.get(language, ())
            for word in content_words(text, language)
            if stem(word) not in present and len(word) > 4
        }
        for word in rng.sample(sorted(absent), min(OTHERS, len(absent))):
            yield Asked("absent word", language, word, frozenset())
    for _ in range(OTHERS):
        sizes = [rng.randint(3, 8) for _ in range(rng.randint(1, 3))]
        text = " ".join("".join(rng.choices(string.ascii_lowercase, k=size)) for size in sizes)
        yield Asked("random letters", "-", text, frozenset())


def _stems(item: Example, language: str) -> set[str]:
    texts = item.captions.get(language, ())
    return {stem(word) for text in texts for word in content_words(text, language)}


def _right(shown: Sequence[set[str]], words: Sequence[str]) -> frozenset[int]:
    wanted = {stem(word) for word in words}
    return frozenset(i for i, stems in enumerate(shown) if wanted <= stems)


def judge(model: SearchModel, items: Sequence[Example], others: Sequence[Example]) -> Judged:
    """Search for the queries of a split and say which hits are right."""
    paths = [item.image for item in items if item.image is not None]
    vectors = model.encode_visual(paths)
    background = Background(vectors, model)
    asked = list(queries(items, others))
    texts = model.encode_text([one.text for one in asked])
    scales, words, right, about = [], [], [], []
    for one, vector in zip(asked, texts, strict=True):
        scores = vectors @ vector
        best = np.argsort(-scores, kind="stable")[:DEPTH]
        scales.append(background.scales(vector, scores[best].tolist()))
        words += [word_count(one.text)] * len(best)
        right += [int(i) in one.right for i in best]
        about += [(one.kind, one.language, rank) for rank in range(len(best))]
    return Judged(np.concatenate(scales), np.array(words), np.array(right, float), about)


def fit(values: np.ndarray, right: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weights and the bias of a logistic regression, by Newton's method."""
    columns = np.c_[values, np.ones(len(values))]
    found = np.zeros(columns.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-columns @ found))
        curve = (columns * (weight * p * (1 - p))[:, None]).T @ columns
        slope = columns.T @ (weight * (right - p)) - 1e-3 * found
        found += np.linalg.solve(curve + 1e-3 * np.eye(len(found)), slope)
    return found


def known(judged: Judged) -> np.ndarray:
    """Return which hits are of queries whose right hits are known."""
    return np.array([language in KNOWN for _, language, _ in judged.about])


def fitted(splits: Sequence[Judged]) -> dict[str, list[float]]:
    """Return the numbers PLAIN and MIXED of search/match.py, each set counting the same."""
    uses = [known(one) for one in splits]
    right = np.concatenate([one.right[use] for one, use in zip(splits, uses, strict=True)])
    weight = np.concatenate([np.full(use.sum(), 1e4 / use.sum()) for use in uses])
    scales = np.concatenate([one.scales[use] for one, use in zip(splits, uses, strict=True)])
    words = np.concatenate([one.words[use] for one, use in zip(splits, uses, strict=True)])
    plain = fit(np.c_[scales[:, 1], np.log1p(words)], right, weight)
    mixed = fit(scales[:, :1], right, weight)
    return {"PLAIN": [round(v, 2) for v in plain], "MIXED": [round(v, 2) for v in mixed]}


def report(judged: Judged, plain: Sequence[float]) -> dict[str, Any]:
    """Return how often hits are right by what is shown, and by kind of query."""
    columns = np.c_[judged.scales[:, 1], np.log1p(judged.words), np.ones(len(judged.words))]
    shown = np.clip(1 / (1 + np.exp(-columns @ plain)), 0.01, 0.99)
    use, bins, error = known(judged), [], 0.0
    for tenth in range(10):
        inside = use & (shown >= tenth / 10) & (shown < (tenth + 1) / 10)
        if inside.any():
            pair = float(shown[inside].mean()), float(judged.right[inside].mean())
            bins.append({"from": tenth / 10, "hits": int(inside.sum()), "shown": round(pair[0], 3),
                         "right": round(pair[1], 3)})  # fmt: skip
            error += float(inside.sum() / use.sum()) * abs(pair[0] - pair[1])
    kinds = {}
    for kind in dict.fromkeys((kind, code) for kind, code, _ in judged.about):
        best = np.array([(k, code) == kind and rank == 0 for k, code, rank in judged.about])
        kinds[" ".join(kind)] = {
            "shown": round(float(shown[best].mean()), 3),
            "right": round(float(judged.right[best].mean()), 3),
            "below FITS": round(float((shown[best] < FITS).mean()), 3),
        }
    return {"bins": bins, "error": round(error, 4), "best": kinds}


def main() -> None:
    """Fit on val, report on test."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("pairs", nargs="+", type=Path, metavar="RUN MANIFEST")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    val, test = [], []
    for run, manifest in zip(asked.pairs[::2], asked.pairs[1::2], strict=True):
        model = load(run)
        examples = list(read_manifest(manifest, source=None))
        split = {s: [e for e in examples if e.split == s] for s in ("train", "val", "test")}
        val.append(judge(model, split["val"], split["train"]))
        test.append(judge(model, split["test"], split["train"]))
    found = {"fitted": fitted(val), "used": {"PLAIN": PLAIN, "MIXED": MIXED}}
    runs = {
        str(manifest): report(one, PLAIN)
        for manifest, one in zip(asked.pairs[1::2], test, strict=True)
    }
    if asked.json:
        print(json.dumps({**found, "test": runs}))
        return
    print(found)
    for name, lines in runs.items():
        print(f"{name}: calibration error {lines['error']}")
        for line in lines["bins"]:
            print(
                "  {from:.1f}  {hits:6d} hits  shown {shown:.3f}  right {right:.3f}".format(**line)
            )
        for kind, line in lines["best"].items():
            print(f"  best hit, {kind}: {line}")


if __name__ == "__main__":
    main()
