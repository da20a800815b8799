"""Encode a manifest into feature stores, each item once."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cl2cm.encode.array_parts import ArrayJob
from cl2cm.encode.engines.engine import Engine, in_turn
from cl2cm.encode.feature_files import FeatureFiles
from cl2cm.encode.file_state import file_state
from cl2cm.encode.plan import SHARD_ITEMS, Plan, plan_store, shard_size
from cl2cm.encode.protocol import VisionEncoder
from cl2cm.encode.rows import Encode, StoredFeatures
from cl2cm.encode.steps import TextStep, VisionStep
from cl2cm.encode.store import FeatureStore
from cl2cm.encode.store_writing import OnFailure, ignore, write_part, write_planned
from cl2cm.encode.text import TextBackbone
from cl2cm.errors import CL2CMError, ManifestError, MediaError, OnSkip, StoreError
from cl2cm.media.blob import Blob
from cl2cm.progress import say, track
from cl2cm.storage import cache_folder, sha256_text
from cl2cm.types import Example

LEAST_PICTURES, LEAST_FILMS, LEAST_TEXTS = 64, 16, 512  # of a shard
FILMS_IN_SHARD = 128  # at most: they have many frames


class Job(NamedTuple):
    """What is to be encoded, and how: the plan of a store, and the step that encodes its shards.

    Attributes:
        what: is done, for progress.
        plan: of the store.
        step: picklable, so that it runs anywhere.
        on_failure: told position and error of an item that is left out.
    """

    what: str
    plan: Plan
    step: Encode
    on_failure: OnFailure = ignore

    def write(
        self, folder: Path, engine: Engine = in_turn, *, merge: bool = False, shared: bool = False
    ) -> FeatureStore:
        """Write the store; see `write_planned`. ``merge``: encode nothing."""
        with track(self.what, len(self.plan.ids)) as advance:
            return write_planned(
                folder,
                self.plan,
                None if merge else self.step,
                engine=engine,
                on_failure=self.on_failure,
                progress=advance,
                shared=shared,
            )

    def write_part(self, folder: Path, job: ArrayJob, engine: Engine = in_turn) -> tuple[int, int]:
        """Write the part of a job of an array; see `write_part`."""
        items = sum(len(part) for _, part in job.shards(self.plan))
        with track(f"{self.what}, job {job}", items) as advance:
            return write_part(
                folder,
                self.plan,
                job,
                self.step,
                engine=engine,
                on_failure=self.on_failure,
                progress=advance,
            )


def store_folder(root: Path | None, side: str, fingerprint: str, ids: Sequence[str]) -> Path:
    """Place of a store that is made on demand: by encoder and by content."""
    base = root or cache_folder() / "features"
    return base / f"{side}-{fingerprint[:12]}-{sha256_text(chr(10).join(ids))[:12]}"


def encode_texts(
    texts: Sequence[str],
    backbone: TextBackbone,
    folder: Path | None = None,
    *,
    known: Sequence[FeatureStore] = (),
    root: Path | None = None,
) -> FeatureStore:
    """Return the store of the token states of all texts; a text is its own id.

    Args:
        texts: distinct texts.
        backbone: frozen.
        folder: where; None chooses a place by content under ``root``, or in the cache.
        known: other stores of the same backbone, whose states are copied.
        root: folder of stores.
    """
    where = folder or store_folder(root, "text", backbone.fingerprint, texts)
    return text_job(texts, backbone, known).write(where, shared=folder is None)


def text_job(
    texts: Sequence[str], backbone: TextBackbone, known: Sequence[FeatureStore] = ()
) -> Job:
    """Return the job that encodes distinct texts; see `encode_texts`."""
    plan = plan_store(
        texts,
        encoder=backbone.name,
        fingerprint=backbone.fingerprint,
        width=backbone.width,
        preprocessing=f"prefix {backbone.prefix!r}, at most {backbone.max_tokens} tokens",
        shard_items=shard_size(len(texts), LEAST_TEXTS),
    )
    return Job("encode texts", plan, TextStep(backbone, texts, known))


def picture_key(example: Example) -> str:
    """Return what identifies an item's content: id, its file's size and time, and its part."""
    try:
        status = media_path(example).stat()
    except OSError:
        return f"{example.id}\t-"
    part = "" if example.kind != "video" else f"\t{example.start}\t{example.end}"
    return f"{example.id}\t{status.st_size}\t{status.st_mtime_ns}{part}"


def visual_fingerprint(encoder: VisionEncoder, examples: Sequence[Example]) -> str:
    """Return the name of an encoder's features: for videos it depends on the frame sampling."""
    if all(example.kind != "video" for example in examples):
        return encoder.fingerprint
    return sha256_text(f"{encoder.fingerprint} {encoder.sampling}")


def find_pictures(
    examples: Sequence[Example],
    encoder: VisionEncoder | FeatureFiles,
    root: Path | None = None,
    *,
    partial: bool = False,
) -> StoredFeatures | None:
    """Return the store that ``encode_pictures`` made of exactly these examples, if any.

    Args:
        examples: with images or videos, or parts of videos.
        encoder: the vision backbone.
        root: folder of stores.
        partial: also a store from which some of them were left out.
    """
    if isinstance(encoder, FeatureFiles):
        there = any if partial else all
        if not there(map(encoder.has, examples)):
            return None
        return encoder.choose(examples, skip_bad=partial)
    keys = [picture_key(example) for example in examples]
    fingerprint = visual_fingerprint(encoder, examples)
    folder = store_folder(root, "vision", fingerprint, keys)
    if not (folder / "store.json").exists():
        return None
    try:
        store = FeatureStore.open(folder, fingerprint=fingerprint)
    except StoreError as error:  # a cache: what is damaged in it is made anew
        say(f"{error.subject}: {error.found}; encoding again")
        return None
    return store if partial or all(store.has(example.id) for example in examples) else None


def media_path(example: Example) -> Path:
    """Return the file of an example.

    Raises:
        ManifestError: it has features in place of a file.
    """
    path = example.path
    if path is None:
        raise ManifestError(
            f"item {example.id!r}",
            expected="an image or a video",
            found="features",
            remedy="name their store as the encoder: features:DIR",
        )
    return path


def encode_pictures(
    examples: Sequence[Example],
    encoder: VisionEncoder | FeatureFiles,
    folder: Path | None = None,
    *,
    skip_bad: bool = False,
    on_skip: OnSkip | None = None,
    root: Path | None = None,
) -> StoredFeatures:
    """Return the store of the features of all images and videos, by id; one vector per frame.

    Precomputed features are read from their files.

    Args:
        examples: with images or videos, or parts of videos.
        encoder: the vision backbone.
        folder: where; None chooses a place by content under ``root``, or in the cache.
        skip_bad: leave broken items out and report them to ``on_skip``.
        on_skip: called with id and error of each broken item, in this call or when the store
            was written.
        root: folder of stores.

    Raises:
        MediaError: an image or video cannot be read, and ``skip_bad`` is False; or none can.
        MissingExtraError: there is a video, and the extra ``video`` is not installed.
    """
    if isinstance(encoder, FeatureFiles):
        chosen = encoder.choose(examples, skip_bad=skip_bad, on_skip=on_skip)
        return chosen if folder is None else chosen.write(folder)
    keys = [picture_key(example) for example in examples]
    fingerprint = visual_fingerprint(encoder, examples)
    where = folder or store_folder(root, "vision", fingerprint, keys)
    told: set[str] = set()

    def tell(name: str, error: CL2CMError) -> None:
        told.add(name)
        if on_skip:
            on_skip(name, error)

    job = picture_job(examples, encoder, skip_bad=skip_bad, on_skip=tell)
    store = job.write(where, shared=folder is None)
    left = [example for example in examples if example.id not in told]
    tell_left_out(store, left, tell if skip_bad else None)
    return store


def picture_job(
    examples: Sequence[Example],
    encoder: VisionEncoder,
    *,
    skip_bad: bool = False,
    on_skip: OnSkip | None = None,
    images: Sequence[Blob] | None = None,
    states: Sequence[str] | None = None,
) -> Job:
    """Return the job that encodes images and videos; see `encode_pictures`.

    Args:
        examples: with images or videos, or parts of videos.
        encoder: the vision backbone.
        skip_bad: leave broken items out.
        on_skip: told id and error of each of them.
        images: of the examples, which then need no files.
        states: of each image's file, with ``images``.

    Raises:
        ManifestError: an example has features in place of a file.
    """
    for example in examples if images is None else ():
        media_path(example)  # there must be one
    films = any(example.kind == "video" for example in examples)
    least, most = (LEAST_FILMS, FILMS_IN_SHARD) if films else (LEAST_PICTURES, SHARD_ITEMS)
    plan = plan_store(
        [example.id for example in examples],
        encoder=encoder.name,
        fingerprint=visual_fingerprint(encoder, examples),
        width=encoder.width,
        preprocessing=f"{encoder.preprocessing}{f' {encoder.sampling}' if films else ''}",
        contents=[file_state(example) for example in examples] if states is None else states,
        shard_items=shard_size(len(examples), least, most),
    )
    failed: set[int] = set()

    def tell(position: int, error: CL2CMError) -> None:
        failed.add(position)
        if on_skip:
            on_skip(examples[position].id, error)
        if len(failed) == len(examples):
            raise MediaError(
                f"{len(examples)} images",
                expected="at least one that can be read",
                found="none",
                remedy="check their paths",
            )

    step = VisionStep(encoder, examples if images is None else images, skip_bad=skip_bad)
    return Job("encode images", plan, step, tell)


def tell_left_out(store: FeatureStore, examples: Sequence[Example], on_skip: OnSkip | None) -> None:
    """Tell of the items that an earlier call left out of its store, or refuse the first.

    Raises:
        MediaError: there is one, and nobody to be told.
    """
    for example in examples:
        if store.has(example.id):
            continue
        error = MediaError(
            str(example.path or f"item {example.id!r}"),
            expected="an image or video that can be read",
            found="one that was left out when it was encoded",
            remedy="replace it, or leave broken items out again (--skip-bad)",
        )
        if on_skip is None:
            raise error
        on_skip(example.id, error)
