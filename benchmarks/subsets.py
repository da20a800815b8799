"""Make the subsets of flickr8k-multi that docs/results.md measures on, as manifests.

    python benchmarks/subsets.py flickr8k-multi/manifest.jsonl.gz subsets

Photos are drawn with fixed seeds. Training photos keep their first two English captions with one
translation in each language; validation and test photos keep their first human caption in each
language. ``tune`` and ``check`` have different training photos: settings are chosen on the first
with the validation split, and reported on the second with the test split. ``weak`` and ``aligned``
are two independent draws, each for the text encoder of that name.
"""

import gzip
import json
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LANGUAGES = ("zh", "ar", "de", "fr", "cs")
ENGINES = {"zh": "google", "ar": "google", "de": "nmt", "fr": "nmt", "cs": "nmt"}
CAPTIONS = 2  # of a training photo
SMALL, LARGE = 700, 1500  # training photos

Item = dict[str, Any]


def main(manifest: Path, out: Path) -> None:
    """Write the manifests into a folder."""
    with gzip.open(manifest, "rt", encoding="utf-8") as file:
        items = [json.loads(line) for line in file]
    folder = manifest.resolve().parent
    for item in items:
        item["image"] = str(folder / item["image"])
    out.mkdir(parents=True, exist_ok=True)
    test = [held_out(item) for item in items if item["split"] == "test"]
    for name, draw in (("aligned", aligned_draw), ("weak", weak_draw)):
        train, val = draw(items)
        train, val = [trained(item) for item in train], [held_out(item) for item in val]
        write(out / f"{name}-tune.jsonl", train[:SMALL] + val)
        write(out / f"{name}-check.jsonl", train[SMALL : 2 * SMALL] + val + test)
        write(out / f"{name}-check-one.jsonl", one(train[SMALL : 2 * SMALL]) + val + test)
        write(out / f"{name}-noise.jsonl", train[:LARGE] + val + test)


def aligned_draw(items: list[Item]) -> tuple[list[Item], list[Item]]:
    """Return training photos in random order, and 400 validation photos."""
    rng = random.Random(0)
    captioned = [item for item in items if has(item, ("en", *LANGUAGES))]
    rng.shuffle(captioned)
    train = training(items, LANGUAGES)
    rng.shuffle(train)
    return train, [item for item in captioned if item["split"] == "val"][:400]


def weak_draw(items: list[Item]) -> tuple[list[Item], list[Item]]:
    """Return training photos in random order, and 500 validation photos; Czech is not asked for."""
    rng = random.Random(0)
    languages = tuple(code for code in LANGUAGES if code != "cs")
    train = training(items, languages)
    val = [item for item in items if item["split"] == "val" and has(item, languages)]
    rng.shuffle(train)
    rng.shuffle(val)
    return train, val[:500]


def training(items: Iterable[Item], languages: tuple[str, ...]) -> list[Item]:
    """Return the training photos that are translated into all languages."""

    def translated(item: Item) -> bool:
        return all(item.get("translations", {}).get(code) for code in languages)

    return [item for item in items if item["split"] == "train" and translated(item)]


def has(item: Item, languages: tuple[str, ...]) -> bool:
    """Return whether people described the photo in all languages."""
    return all(item["captions"].get(code) for code in languages)


def trained(item: Item) -> Item:
    """Return a training photo with two captions and their translations."""
    translations = {
        code: {ENGINES[code]: item["translations"][code][ENGINES[code]][:CAPTIONS]}
        for code in LANGUAGES
        if ENGINES[code] in item["translations"].get(code, {})
    }
    captions = {"en": item["captions"]["en"][:CAPTIONS]}
    return {**item, "captions": captions, "translations": translations}


def held_out(item: Item) -> Item:
    """Return a photo with one human caption in each language and no translations."""
    kept = {key: value for key, value in item.items() if key != "translations"}
    return {**kept, "captions": {code: texts[:1] for code, texts in item["captions"].items()}}


def one(items: Iterable[Item]) -> list[Item]:
    """Return training photos with a single caption."""
    return [
        {
            **item,
            "captions": {"en": item["captions"]["en"][:1]},
            "translations": {
                code: {engine: texts[:1] for engine, texts in engines.items()}
                for code, engines in item["translations"].items()
            },
        }
        for item in items
    ]


def write(path: Path, items: Iterable[Item]) -> None:
    """Write a manifest."""
    lines = (json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    path.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        main(*map(Path, sys.argv[1:]))
    else:
        print(__doc__)
