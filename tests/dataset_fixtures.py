"""A small folder for each reader, damage at random, and what is asked of a reader then.

What a reader makes of damaged files is compared with what it made of the whole ones, held to the
numbers of the whole ones wherever its protocol has a number of its own: then either it refuses, or
the numbers differ, or a note says so, or nothing is lost.
"""

import gzip
import io
import json
import random
import re
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path

from PIL import Image

import test_datasets_coco as coco
import test_datasets_flickr as flickr
import test_datasets_video as video
from cl2cm.data.manifest import write_manifest
from cl2cm.data.published import Protocol, Split, differences, id_checksum
from cl2cm.data.readers.reading import DataSet, Options
from cl2cm.errors import CL2CMError
from cl2cm.types import Example

ENCODINGS = ("utf-16", "utf-8-sig", "latin-1", "gb18030", "shift-jis", "cp1256")
_ONE_LINE = re.compile(r".+: expected .+, found .+; .+")
STORED = Options(no_images=True)
TASK_1, TASK_2 = Options(task=1, no_images=True), Options(task=2, no_images=True)


@dataclass(frozen=True)
class Fixture:
    """A folder for one reader.

    module: of the reader; make: writes the folder; options: what a user would say; locked: every
    number of it is published, so that a line that is gone must be seen.
    """

    module: str
    make: Callable[[Path], object]
    options: Options = STORED
    locked: bool = True

    def write(self, folder: Path) -> Path:
        """Make the folder, its JSON spread over lines, so that lines of it can be damaged."""
        self.make(folder)
        for path in folder.rglob("*.json"):
            value = json.loads(path.read_text(encoding="utf-8"))
            path.write_text(json.dumps(value, ensure_ascii=False, indent=0), encoding="utf-8")
        return folder

    def read(self, folder: Path) -> DataSet:
        """What the reader makes of the folder."""
        options = self.options
        if not options.no_images:
            options = replace(options, out=folder.parent / "out")
        return import_module(f"cl2cm.data.readers.{self.module}").read(folder, options)


def _with_karpathy(make: Callable[[Path], object], folder: Path) -> None:
    make(folder)
    coco.karpathy(folder)


def _vatex_divided(folder: Path) -> None:
    video.vatex_folder(
        folder, val_ids__txt="va0_000000_000010\n", test_ids__txt="va1_000000_000010\n"
    )


def _msrvtt_1ka(folder: Path) -> None:
    table = 'key,vid_key,video_id,sentence\nret0,msr6,video6,a car\nret1,msr1,video1,"red, fast"\n'
    video.msrvtt_folder(folder, MSRVTT_JSFUSION_test__csv=table)


def _msvd_cn(folder: Path) -> None:
    english = "-4w_d_5_15 a cat\nab_1_2 two men\nab_1_2 a boat\nc_0_9 x\n"
    video.msvd_folder(folder, AllVideoDescriptions__txt=english)


def _picture(colour: str) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(data, "PNG")
    return data.getvalue()


_OWN = {"a.png": "red", "b.png": "green", "sub/c.png": "blue"}


def _pictures(folder: Path) -> None:
    for name, colour in _OWN.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(_picture(colour))


def _folder(folder: Path, kind: str) -> None:
    _pictures(folder)
    rows = [
        {
            "file": name,
            "caption": f"{said} of {name}",
            "language": code,
            "split": "test" if name == "b.png" else "train",
        }
        for name in _OWN
        for code, said in (("en", "a picture"), ("de", "schönes Bild"), ("zh", "图片"))
    ]
    if kind == "json":
        (folder / "captions.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1))
    elif kind == "jsonl":
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (folder / "captions.jsonl").write_text("".join(lines))
    else:
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        (folder / "captions.csv").write_text("".join(f"{line}\n" for line in lines))


def _beside(folder: Path) -> None:
    _pictures(folder)
    for name in _OWN:
        path = folder / name
        path.with_suffix(".txt").write_text(f"a picture of {name}\nand another\n")
        path.with_suffix(".de.txt").write_text("ein schönes Bild\n")


def _webdataset(folder: Path, kind: str) -> None:
    folder.mkdir(parents=True)
    path = folder / ("train-0.tar.gz" if kind == "gz" else "train-0.tar")
    with tarfile.open(path, f"w:{kind}") as tar:
        for name, colour in _OWN.items():
            stem = name.removesuffix(".png")
            members = {
                name: _picture(colour),
                f"{stem}.txt": f"a picture of {name}".encode(),
                f"{stem}.json": json.dumps({"caption": f"two of {name}"}).encode(),
            }
            for member, data in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


OWN = Options()
FIXTURES = {
    "multi30k 1": Fixture("multi30k", flickr.make_multi30k, TASK_1),
    "multi30k 2": Fixture("multi30k", flickr.make_multi30k, TASK_2),
    "flickr8k": Fixture("flickr8k", flickr.make_flickr8k),
    "flickr8k-cn": Fixture("flickr8k_cn", flickr.make_flickr8k_cn),
    "flickr8k-cn 2": Fixture("flickr8k_cn", flickr.make_flickr8k_cn, TASK_2),
    "flickr8k-ar": Fixture("flickr8k_ar", flickr.make_flickr8k_ar),
    "flickr8k-multi": Fixture("flickr8k_multi", flickr.make_flickr8k_multi),
    "flickr30k": Fixture("flickr30k", flickr.make_flickr30k),
    "mscoco": Fixture("mscoco", coco.karpathy),
    "coco-cn": Fixture("coco_cn", coco.coco_cn),
    "coco-cn 2": Fixture("coco_cn", coco.coco_cn, TASK_2),
    "coco-cn, en": Fixture("coco_cn", partial(_with_karpathy, coco.coco_cn)),
    "coco-cn-ext": Fixture("coco_cn_ext", coco.coco_cn_ext),
    "stair": Fixture("stair", coco.stair),
    "stair, en": Fixture("stair", partial(_with_karpathy, coco.stair)),
    "xtd10": Fixture("xtd10", coco.xtd10),
    "xflickrco": Fixture("xflickrco", coco.xflickrco),
    "crossmodal-3600": Fixture("crossmodal3600", coco.crossmodal3600),
    "vatex": Fixture("vatex", video.vatex_folder),
    "vatex, lists": Fixture("vatex", _vatex_divided),
    "msrvtt": Fixture("msrvtt", video.msrvtt_folder),
    "msrvtt-1ka": Fixture("msrvtt_1ka", _msrvtt_1ka),
    "msrvtt-cn": Fixture("msrvtt_cn", video.cn_folder, locked=False),
    "msvd": Fixture("msvd", _msvd_cn),
    "msvd-cn": Fixture("msvd_cn", _msvd_cn),
    "folder csv": Fixture("folder", partial(_folder, kind="csv"), OWN, locked=False),
    "folder json": Fixture("folder", partial(_folder, kind="json"), OWN, locked=False),
    "folder jsonl": Fixture("folder", partial(_folder, kind="jsonl"), OWN, locked=False),
    "folder txt": Fixture("folder", _beside, OWN, locked=False),
    "webdataset": Fixture("webdataset", partial(_webdataset, kind=""), OWN, locked=False),
    "webdataset gz": Fixture("webdataset", partial(_webdataset, kind="gz"), OWN, locked=False),
}


# --- damage ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Damage:
    """What was done to a file; ``lines``: whole lines, or their ends, may be gone."""

    path: Path
    what: str
    before: bytes
    lines: bool = False

    def undo(self) -> None:
        """Make the file what it was."""
        self.path.write_bytes(self.before)


def damage(rng: random.Random, folder: Path) -> Damage:
    """Damage one file of a folder; pictures are left alone."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    path = rng.choice([path for path in files if path.suffix not in {".png", ".npy"}])
    before = path.read_bytes()
    packed = path.suffix == ".gz"
    tar = ".tar" in path.suffixes
    kinds = [flip, insert, delete, truncate, gone, empty]
    if packed and not tar and rng.random() < 0.6:
        kind = rng.choice([*LINES, encode])
        after = gzip.compress(kind(rng, gzip.decompress(before)), mtime=0)
    else:
        kind = rng.choice(kinds if packed or tar else [*kinds, *LINES, encode])
        after = kind(rng, before)
    if kind is gone:
        path.unlink()
    else:
        path.write_bytes(after)
    kept = [[at for at, byte in enumerate(data) if byte == 10] for data in (before, after)]
    moved = kept[0] != kept[1] if kind is flip else len(kept[0]) != len(kept[1])
    return Damage(path, kind.__name__, before, lines=moved or kind in {cut, swap, encode})


def flip(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        changed[rng.randrange(len(changed))] = rng.choice([rng.randrange(256), 10, 32, 44, 34, 35])
    return bytes(changed)


def insert(rng: random.Random, data: bytes) -> bytes:
    """A few bytes more."""
    place = rng.randrange(len(data) + 1)
    more = rng.choice(
        [b"\n", b"\r", b" ", b"\0", b'"', b",", b"\t", b"#", b"\xff", b"\xe2\x80\xa8"]
    )
    return data[:place] + more * rng.randint(1, 2) + data[place:]


def delete(rng: random.Random, data: bytes) -> bytes:
    """Some bytes gone."""
    place = rng.randrange(len(data))
    return data[:place] + data[place + rng.randint(1, 40) :]


def truncate(rng: random.Random, data: bytes) -> bytes:
    """The end gone."""
    return data[: rng.randrange(len(data))]


def gone(rng: random.Random, data: bytes) -> bytes:
    """No file."""
    return b""


def empty(rng: random.Random, data: bytes) -> bytes:
    """An empty file."""
    return b""


def cut(rng: random.Random, data: bytes) -> bytes:
    """A line without its end."""
    lines = data.splitlines(keepends=True)
    row = rng.randrange(len(lines))
    kept = lines[row].rstrip(b"\n")
    lines[row] = kept[: rng.randrange(len(kept) + 1)] + b"\n"
    return b"".join(lines)


def double(rng: random.Random, data: bytes) -> bytes:
    """Some lines there twice, at once or later."""
    lines = data.splitlines(keepends=True)
    row = rng.randrange(len(lines))
    again = lines[row : row + rng.randint(1, 3)]
    place = rng.choice([row, rng.randint(row, len(lines))])
    return b"".join([*lines[:place], *again, *lines[place:]])


def remove(rng: random.Random, data: bytes) -> bytes:
    """Some lines gone."""
    lines = data.splitlines(keepends=True)
    row = rng.randrange(len(lines))
    return b"".join(lines[:row] + lines[row + rng.randint(1, 5) :])


def swap(rng: random.Random, data: bytes) -> bytes:
    """Two lines in each other's place."""
    lines = data.splitlines(keepends=True)
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def encode(rng: random.Random, data: bytes) -> bytes:
    """The text in another encoding."""
    return data.decode().encode(rng.choice(ENCODINGS), errors="replace")


LINES = (cut, double, remove, swap)


# --- what is asked ---------------------------------------------------------------------------


def judge(fixture: Fixture, whole: DataSet, folder: Path, done: Damage) -> str:
    """What became of the damage: ``refused``, ``counted``, ``said``, ``unharmed`` or ``own``.

    ``own``: nobody has published numbers of these files, and whole lines are gone, or captions
    are in another split or language, which nobody can know.

    Raises:
        AssertionError: something is lost, and nothing says so; or an error is not one line.
        Exception: whatever the reader lets through.
    """
    try:
        found = fixture.read(folder)
        write_manifest(folder.parent / "damaged.jsonl", found.examples, source=found.source)
    except CL2CMError as error:
        assert _ONE_LINE.fullmatch(str(error)), error  # noqa: PT017 - what is asked of it
        return "refused"
    if not found.examples or any(_missing(example) for example in found.examples):
        return "refused"  # by prepare
    if differences(found.examples, as_published(found, whole)):
        return "counted"
    if counts(found) == counts(whole):
        return "unharmed"
    if set(found.notes) - set(whole.notes):
        return "said"
    if not fixture.locked and (done.lines or total(found) >= total(whole)):
        return "own"
    raise AssertionError(f"a silent loss: {done.what} of {done.path.name}")


def as_published(found: DataSet, whole: DataSet) -> Protocol:
    """The protocol that was found, its published numbers those of the whole files.

    A number is published where the protocol has the same for whole and damaged files; others were
    counted in the files themselves.
    """
    if found.protocol.free:
        return as_found(found)
    splits = {}
    for name, split in found.protocol.splits.items():
        if name not in whole.protocol.splits:
            splits[name] = split
            continue
        official, real = whole.protocol.splits[name], as_found(whole).splits.get(name, Split(0))
        splits[name] = Split(
            real.items if split.items == official.items else split.items,
            _published(split.captions, official.captions, real.captions),
            _published(split.translations, official.translations, real.translations),
            real.checksum if split.checksum and split.checksum == official.checksum else "",
        )
    return Protocol("as published", splits)


def _published(found: dict, official: dict, real: dict) -> dict:
    return {
        language: real.get(language, 0) if number == official.get(language) else number
        for language, number in found.items()
    }


def as_found(data: DataSet) -> Protocol:
    """The protocol that fits what was read."""
    by_split: dict[str, list[Example]] = {}
    for example in data.examples:
        by_split.setdefault(example.split, []).append(example)
    splits = {}
    for name, items in by_split.items():
        captions: Counter[str] = Counter()
        known: Counter[str] = Counter()
        for item in items:
            captions.update({code: len(texts) for code, texts in item.captions.items()})
            for code, engines in item.translations.items():
                for column in engines.values():
                    known[code] += sum(text is not None for text in column)
        ids = id_checksum(item.id for item in items)
        splits[name] = Split(len(items), dict(captions), dict(known), ids)
    return Protocol("as found", splits)


def counts(data: DataSet) -> dict:
    """Items, captions and translations by split and language."""
    return {
        name: (split.items, split.captions, {k: n for k, n in split.translations.items() if n})
        for name, split in as_found(data).splits.items()
    }


def total(data: DataSet) -> int:
    """Captions, of any split and language."""
    return sum(len(texts) for e in data.examples for texts in e.captions.values())


def _missing(example: Example) -> bool:
    path = example.image or example.video
    return path is not None and not path.is_file()
