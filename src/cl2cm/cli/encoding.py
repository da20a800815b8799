"""The implementation of ``cl2cm encode``, callable from Python."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cl2cm.cli.sources import left_out_json, read_source, with_names
from cl2cm.data.manifest import Skipped
from cl2cm.data.queries import every_text
from cl2cm.data.scan import LeftOut
from cl2cm.encode.array_parts import ArrayJob
from cl2cm.encode.encoding import Job, encode_pictures, picture_job, tell_left_out, text_job
from cl2cm.encode.engines.engine import Engine, in_turn
from cl2cm.encode.feature_files import FeatureFiles
from cl2cm.encode.store import FeatureStore
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.vision import load_vision
from cl2cm.errors import ConfigError, ManifestError
from cl2cm.types import Example


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
        """Refuse options that contradict each other.

        Raises:
            ConfigError: some do.
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
    source: Path,
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
        source: folder or manifest.
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
    bad = skipped if skip_bad else None
    found = read_source(source, skipped=bad, exclude=exclude)
    examples = with_names(found.examples, bad)
    begin = time.monotonic()
    result = {"store": str(out), "encoder": encoder}
    if side == "text":
        job = text_job(all_texts(examples), TextBackbone.load(encoder))
    else:
        backbone = load_vision(encoder)
        if isinstance(backbone, FeatureFiles):
            if scale != HERE:
                raise ConfigError(
                    "--workers, --engine, --shard and --merge",
                    expected="an encoder that computes features",
                    found=f"{encoder!r}, whose features are copied",
                    remedy="leave them out",
                )
            store = encode_pictures(
                examples, backbone, out, skip_bad=skip_bad, on_skip=skipped.item
            )
            return _finished(store, result, skipped, found.left_out, begin)
        job = picture_job(examples, backbone, skip_bad=skip_bad, on_skip=skipped.item)
    if scale.job:
        return _part(job, out, scale, result, skipped, found.left_out, begin)
    store = job.write(out, scale.engine_of(), merge=scale.merge)
    if side == "vision":
        left = [example for example in examples if example.id not in skipped.names]
        tell_left_out(store, left, skipped.item if skip_bad else None)
    return _finished(store, result, skipped, found.left_out, begin)


def _finished(
    store: FeatureStore,
    result: dict[str, Any],
    skipped: Skipped,
    left_out: LeftOut,
    begin: float,
) -> dict[str, Any]:
    return {
        **result,
        "items": sum(store.has(name) for name in store.ids),
        "width": store.width,
        **left_out_json(skipped, left_out),
        "rate": len(store) / max(time.monotonic() - begin, 1e-9),
    }


def _part(
    job: Job,
    out: Path,
    scale: Scale,
    result: dict[str, Any],
    skipped: Skipped,
    left_out: LeftOut,
    begin: float,
) -> dict[str, Any]:
    number = ArrayJob.parse(scale.job)
    shards, items = job.write_part(out, number, scale.engine_of())
    return {
        **result,
        "part": str(number.folder(out)),
        "shards": shards,
        "of_shards": job.plan.shard_count,
        "items": items,
        "width": job.plan.settings["width"],
        **left_out_json(skipped, left_out),
        "rate": items / max(time.monotonic() - begin, 1e-9),
    }


def all_texts(examples: Sequence[Example]) -> list[str]:
    """Return every distinct caption and translation, in order of appearance."""
    texts = every_text(examples)
    if not texts:
        raise ManifestError(
            "captions", expected="at least one text", found="none", remedy="check the manifest"
        )
    return texts
