"""Make the subsets of flickr8k-multi that docs/results.md measures on, as manifests.

    python benchmarks/subsets.py flickr8k-multi/manifest.jsonl.gz subsets

Training photos are drawn with a fixed seed and keep their first two English captions (one in the
files whose names end in ``-one``) with one translation into each language. All validation and test
photos keep all their human captions. ``tune`` and ``small`` have different training photos:
settings are chosen on the first with the validation split, and reported on the second with the
test split.
"""

import gzip
import json
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ENGINES = {"zh": "google", "ar": "google", "de": "nmt", "fr": "nmt", "cs": "nmt"}
SEED = 17
SUBSETS = {  # training photos of the random order
    "noise": slice(1500),
    "small": slice(1500, 2200),
    "tune": slice(2200, 2900),
    "small-200": slice(1500, 1700),
    "small-2000": slice(2000),
}

Item = dict[str, Any]


def main(manifest: Path, out: Path) -> None:
    """Write the manifests into a folder."""
    with gzip.open(manifest, "rt", encoding="utf-8") as file:
        items = [json.loads(line) for line in file]
    folder = manifest.resolve().parent
    for item in items:
        item["image"] = str(folder / item["image"])
    train = [item for item in items if item["split"] == "train" and translated(item)]
    random.Random(SEED).shuffle(train)
    held_out = [
        {key: item[key] for key in ("id", "split", "image", "captions")}
        for split in ("val", "test")
        for item in items
        if item["split"] == split
    ]
    out.mkdir(parents=True, exist_ok=True)
    for name, part in SUBSETS.items():
        for suffix, captions in (("", 2), ("-one", 1)):
            shortened = [trained(item, captions) for item in train[part]]
            write(out / f"{name}{suffix}.jsonl", [*shortened, *held_out])


def translated(item: Item) -> bool:
    """Return whether a photo's captions are translated into all languages."""
    found = item.get("translations", {})
    return all(found.get(code, {}).get(engine) for code, engine in ENGINES.items())


def trained(item: Item, captions: int) -> Item:
    """Return a training photo with its first captions, and one translation into each language."""
    return {
        **{key: item[key] for key in ("id", "split", "image")},
        "captions": {"en": item["captions"]["en"][:captions]},
        "translations": {
            code: {engine: item["translations"][code][engine][:captions]}
            for code, engine in ENGINES.items()
        },
    }


def write(path: Path, items: Iterable[Item]) -> None:
    """Write a manifest."""
    with path.open("w", encoding="utf-8") as file:
        for item in items:
            file.write(json.dumps(item, ensure_ascii=False) + "\n")
    print(path)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        print(__doc__)
