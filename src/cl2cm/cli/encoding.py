"""The implementation of ``cl2cm encode``, callable from Python."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cl2cm.cli.sources import left_out_json, read_source, with_names
from cl2cm.data.containers.source import is_stored, read_stored
from cl2cm.data.manifest import Skipped
from cl2cm.data.queries import every_text
from cl2cm.data.scan import LeftOut
from cl2cm.encode.array_parts import ArrayJob
from cl2cm.encode.encoding import Job, encode_pictures, picture_job, tell_left_out, text_job
from cl2cm.encode.engines.engine import Engine, in_turn
from cl2cm.encode.feature_files import FeatureFiles
from cl2cm.encode.rows import StoredFeatures
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.vision import load_vision
from cl2cm.errors import ConfigError, ManifestError
from cl2cm.media.blob import Blob
from cl2cm.progress import say
from cl2cm.types import Example, StrPath


@dataclass(frozen=True, slots=True)
class Scale:
    """Who encodes.

    Attributes:
        workers: processes; 0: one for each processor under Ray, else this one alone.
        engine: ``local`` or ``ray``.
        address: of a Ray cluster; empty: one is started on this machine.
        job: ``3/7``: the third of seven jobs of an array; empty: everything.
        merge: encode nothing, put the parts of an array together.
    """

    workers: int = 0
    engine: str = "local"
    address: str = ""
    job: str = ""
    merge: bool = False

    def check(self) -> None:
        """Refuse options that contradict each other, before anything is read.

        Raises:
            ConfigError: some do.
            MissingExtraError: Ray is not installed.
        """
        if self.engine not in ("local", "ray"):
            raise ConfigError(
                "--engine", expected="local or ray", found=repr(self.engine), remedy="choose one"
            )
        if self.address and self.engine != "ray":
            raise ConfigError(
                "--address", expected="--engine ray", found="none", remedy="add --engine ray"
            )
        if self.merge and self.job:
            raise ConfigError(
                "--shard and --merge",
                expected="one of them",
                found="both",
                remedy="merge once all jobs have ended",
            )
        if self.job:
            ArrayJob.parse(self.job)
        self.engine_of()

    def refuse(self, encoder: str) -> None:
        """Refuse all options where features are copied.

        Raises:
            ConfigError: one is given.
        """
        if self != HERE:
            raise ConfigError(
                "--workers, --engine, --shard and --merge",
                expected="an encoder that computes features",
                found=f"{encoder!r}, whose features are copied",
                remedy="leave them out",
            )

    def engine_of(self) -> Engine:
        """Return the engine.

        Raises:
            MissingExtraError: Ray is not installed.
        """
        if self.engine == "ray":
            from cl2cm.encode.engines.ray_data import RayData

            return RayData(self.workers, self.address)
        if self.workers > 1:
            from cl2cm.encode.engines.processes import Processes

            return Processes(self.workers)
        return in_turn


HERE = Scale()


def encode_store(
    source: StrPath,
    out: Path,
    encoder: str,
    *,
    side: str,
    skip_bad: bool = False,
    exclude: Sequence[str] = (),
    scale: Scale = HERE,
) -> dict[str, Any]:
    """Write a feature store of images or captions, or a part of one.

    Args:
        source: folder, manifest, WebDataset tars or Parquet files; a path or a URL.
        out: the store.
        encoder: ``onnx:NAME``, ``hf:NAME``, or ``features:PATH``, whose features are copied.
        side: ``vision`` or ``text``.
        skip_bad: leave broken items out.
        exclude: patterns of files and folders to leave out of a folder.
        scale: who encodes.
    """
    if side not in ("vision", "text"):
        raise ConfigError(
            "--side", expected="'vision' or 'text'", found=repr(side), remedy="choose one"
        )
    scale.check()
    skipped = Skipped()
    found = _read(os.fspath(source), side, skipped if skip_bad else None, exclude)
    begin = time.monotonic()
    counts, rows = _write(found, out, encoder, side, skipped, skip_bad=skip_bad, scale=scale)
    return {
        "store": str(out),
        "encoder": encoder,
        **counts,
        **left_out_json(skipped, found.left_out),
        "rate": rows / max(time.monotonic() - begin, 1e-9),
    }


class _Items(NamedTuple):
    """The items of a source; images and states where they are no files of the examples."""

    examples: list[Example]
    left_out: LeftOut
    images: list[Blob] | None = None
    states: list[str] | None = None


def _read(source: str, side: str, bad: Skipped | None, exclude: Sequence[str]) -> _Items:
    """Return the items of a source; broken ones are told to ``bad``, or are an error."""
    if not is_stored(source):
        found = read_source(Path(source), skipped=bad, exclude=exclude)
        return _Items(with_names(found.examples, bad), found.left_out)
    if exclude:
        raise ConfigError(
            "--exclude",
            expected="a folder of this machine",
            found=source,
            remedy="name the files with a pattern, such as folder/*.jpg",
        )
    captions = side == "text"
    stored = read_stored(source, captions=captions, on_skip=bad.item if bad else None)
    if line := stored.left_out.line():
        say(line)
    if captions:
        return _Items(stored.examples, stored.left_out)
    rows = zip(stored.examples, stored.images, stored.states, strict=True)
    kept = [(e, image, state) for e, image, state in rows if image is not None]
    if not kept:
        raise ManifestError(source, expected="images", found="none", remedy="check the source")
    examples, images, states = (list(column) for column in zip(*kept, strict=True))
    return _Items(examples, stored.left_out, images, states)


def _write(
    found: _Items,
    out: Path,
    encoder: str,
    side: str,
    skipped: Skipped,
    *,
    skip_bad: bool,
    scale: Scale,
) -> tuple[dict[str, Any], int]:
    """Write a store or the part of one; return counts for the user, and the number of its rows."""
    if side == "text":
        job = text_job(all_texts(found.examples), TextBackbone.load(encoder))
    else:
        backbone = load_vision(encoder)
        if isinstance(backbone, FeatureFiles):
            scale.refuse(encoder)
            return _counts(
                encode_pictures(
                    found.examples, backbone, out, skip_bad=skip_bad, on_skip=skipped.item
                )
            )
        job = picture_job(
            found.examples,
            backbone,
            skip_bad=skip_bad,
            on_skip=skipped.item,
            images=found.images,
            states=found.states,
        )
    if scale.job:
        return _write_part(job, out, scale)
    store = job.write(out, scale.engine_of(), merge=scale.merge)
    if side == "vision":
        left = [example for example in found.examples if example.id not in skipped.names]
        tell_left_out(store, left, skipped.item if skip_bad else None)
    return _counts(store)


def _counts(store: StoredFeatures) -> tuple[dict[str, Any], int]:
    items = sum(store.has(name) for name in store.ids)
    return {"items": items, "width": store.width}, len(store)


def _write_part(job: Job, out: Path, scale: Scale) -> tuple[dict[str, Any], int]:
    number = ArrayJob.parse(scale.job)
    shards, items = job.write_part(out, number, scale.engine_of())
    counts = {
        "part": str(number.folder(out)),
        "shards": shards,
        "of_shards": job.plan.shard_count,
        "items": items,
        "width": job.plan.settings["width"],
    }
    return counts, items


def all_texts(examples: Sequence[Example]) -> list[str]:
    """Return every distinct caption and translation, in order of appearance."""
    texts = every_text(examples)
    if not texts:
        raise ManifestError(
            "captions", expected="at least one text", found="none", remedy="check the manifest"
        )
    return texts
