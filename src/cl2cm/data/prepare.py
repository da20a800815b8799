"""Convert published files to a manifest: read, check counts, find images and leaks.

Files in the folder that cl2cm did not write are not touched. The manifest appears whole or not at
all; ``prepared.json`` beside it says what was read, and what differs from what was published. Equal
files give equal bytes.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cl2cm.data.leaks import find_leaks, leak_lines
from cl2cm.data.manifest import summarise, write_manifest
from cl2cm.data.official_numbers import Protocol, check
from cl2cm.data.readers.reading import DataSet, Options, Reader
from cl2cm.errors import ConfigError, DatasetError, MediaError
from cl2cm.progress import say
from cl2cm.storage import only_writer, read_record, sha256_file, sha256_text, write_record
from cl2cm.types import Example

MANIFEST, RECORD = "manifest.jsonl", "prepared.json"
_DRAWN = "drawn.json"  # of a reader that writes a manifest, too
_SHOWN = 3  # names in a message
_LONGEST = 2000  # characters of a printed line


@dataclass(frozen=True, slots=True)
class Leniency:
    """Checks that the user has switched off.

    Attributes:
        partial: numbers that are not the published ones, and images that are not there.
        leaks: one's own data with an image in two splits. Official splits are as they are: what
            leaks in them is said, and never refused.
        unseen: do not look for leaks.
    """

    partial: bool = False
    leaks: bool = False
    unseen: bool = False


def prepare_official(
    name: str, read: Reader, source: Path | None, out: Path, options: Options, leniency: Leniency
) -> Path:
    """Read a data set with its reader and write its manifest; see `prepare_dataset`."""
    _refuse_foreign(out, name)
    with only_writer(out, remedy="choose another folder", beside=True):
        return _prepare(name, read, source, out, options, leniency)


def _prepare(
    name: str, read: Reader, source: Path | None, out: Path, options: Options, leniency: Leniency
) -> Path:
    _refuse_foreign(out, name)
    data = read(source, dataclasses.replace(options, out=out, partial=leniency.partial))
    lacking = check(data.examples, data.protocol, allow_partial=leniency.partial, notes=data.notes)
    examples, missing = _present(data, allow_partial=leniency.partial)
    lines = [*lacking, *missing]
    for line in (*lines, *data.notes):
        say(f"{name}: {_short(line)}")
    pictures, before = _pictures(examples), _record(out)
    leaks = None
    if not leniency.unseen:
        leaks = before.get("leaks") if before.get("pictures_sha256") == pictures else None
        leaks = leak_lines(find_leaks(examples)) if leaks is None else leaks
        _judge(name, data.protocol, leaks, allow=leniency.leaks)
    out.mkdir(parents=True, exist_ok=True)
    manifest = out / MANIFEST
    if not _record(out):  # first, so that whose manifest it is can be told after a kill
        write_record(out / RECORD, {"dataset": name, "unfinished": True})
    write_manifest(manifest, examples, source=data.source)
    record = {
        "dataset": name,
        "published": data.protocol.source,
        "source_language": data.source,
        "options": {
            "task": options.task,
            "no_images": options.no_images,
            "split": options.split,
            "language": options.language,
            "columns": dict(options.columns),
        },
        "counts": summarise(examples),
        "differs": lines,
        "notes": list(data.notes),
        "leaks": leaks,
        "pictures_sha256": pictures,
        "manifest_sha256": sha256_file(manifest),
    }
    write_record(out / RECORD, record)
    return manifest


def _short(line: str) -> str:
    """Return what is printed of a line; names without end are in the record alone."""
    if len(line) <= _LONGEST:
        return line
    return f"{line[:_LONGEST].rpartition(', ')[0]}, …; all of them are in {RECORD}"


def _record(folder: Path) -> dict[str, Any]:
    try:
        return read_record(folder / RECORD)
    except (OSError, ValueError, RecursionError):
        return {}


def dataset_of(manifest: Path) -> str:
    """Return the name of the data set that ``prepare`` made a manifest of; empty if it did not."""
    record = _record(manifest.parent)
    made = record.get("manifest_sha256")
    known = manifest.is_file() and made == sha256_file(manifest)
    return str(record.get("dataset", "")) if known else ""


def _refuse_foreign(out: Path, name: str) -> None:
    found, remedy = None, "choose another folder"
    if out.exists() and not out.is_dir():
        found = "a file"
    elif out.is_dir() and (other := _record(out).get("dataset", name)) != name:
        found = f"the data set {other}"
    elif (out / MANIFEST).exists() and not _record(out) and not (out / _DRAWN).exists():
        found, remedy = f"a {MANIFEST} of something else", f"remove that file, or {remedy}"
    if found:
        raise ConfigError(
            str(out), expected="a new folder, or one of the same data set", found=found,
            remedy=remedy,
        )  # fmt: skip


def _present(data: DataSet, *, allow_partial: bool) -> tuple[list[Example], list[str]]:
    """Return the examples whose files are there, and what is said of the others."""
    absent = [
        example
        for example in data.examples
        if (path := example.path) is not None and not path.is_file()
    ]
    if not absent:
        return data.examples, []
    names = [str(e.path) for e in absent]
    first = ", ".join(names[:_SHOWN])
    rest = f" and {len(absent) - _SHOWN:,} more" if len(absent) > _SHOWN else ""
    if not allow_partial or len(absent) == len(data.examples):
        raise MediaError(
            data.protocol.name,
            expected=f"{len(data.examples):,} images or videos",
            found=f"no {first}{rest}",
            remedy="name their folder with --images, use stored features with --no-images"
            + ("" if len(absent) == len(data.examples) else ", or continue with --allow-partial"),
        )
    gone = {example.id for example in absent}
    kept = [example for example in data.examples if example.id not in gone]
    return kept, [f"{len(absent):,} images or videos are not there, left out: {', '.join(names)}"]


def _pictures(examples: Sequence[Example]) -> str:
    """Names a collection of files, so that they are not looked at again: by names and sizes."""
    lines = (
        f"{example.id}\t{example.split}\t{path.stat().st_size}"
        for example in examples
        if (path := example.path) is not None
    )
    return sha256_text("\n".join(lines))


def _judge(name: str, protocol: Protocol, lines: Sequence[str], *, allow: bool) -> None:
    """Say what leaks; in one's own data, whose splits can be mended, it is an error."""
    if not lines:
        return
    if not protocol.free or protocol.fixed or allow:
        for line in lines[:_SHOWN]:
            say(f"{name}: leak: {line}")
        if len(lines) > _SHOWN:
            say(f"{name}: {len(lines) - _SHOWN:,} more leaks: see {RECORD}")
        return
    raise DatasetError(
        name,
        expected="no image in two splits",
        found=f"{len(lines):,}: {'; '.join(lines[:_SHOWN])}",
        remedy="put each image into one split; if they are different images, or if this is "
        "intended, continue with --allow-leaks",
    )
