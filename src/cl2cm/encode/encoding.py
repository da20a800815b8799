"""Encode a manifest into feature stores, each item once."""

from collections.abc import Sequence
from pathlib import Path

import torch

from cl2cm.encode.feature_files import FeatureFiles
from cl2cm.encode.file_state import file_state
from cl2cm.encode.known_texts import known_rows
from cl2cm.encode.protocol import VisionEncoder
from cl2cm.encode.rows import (
    Rows,
    StoredFeatures,
    finite_rows,
    join,
    length_batches,
    ragged,
    reorder,
)
from cl2cm.encode.store import FeatureStore
from cl2cm.encode.store_writing import SHARD_ITEMS, write_store
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.tokens import pad_tokens
from cl2cm.encode.vision import EncodedPictures, encode_paths
from cl2cm.errors import CL2CMError, ManifestError, MediaError, OnSkip, StoreError
from cl2cm.progress import say, track
from cl2cm.storage import cache_folder, sha256_text
from cl2cm.types import Example, Tokens

TOKENS_AT_ONCE = 4096  # padded tokens in one pass of the text backbone
FILMS_IN_SHARD = 128  # they have many frames, and what is stopped continues with the next shard


def store_folder(root: Path | None, side: str, fingerprint: str, ids: Sequence[str]) -> Path:
    """Return the place of a store that is made on demand: by encoder and by content."""
    base = root or cache_folder() / "features"
    return base / f"{side}-{fingerprint[:12]}-{sha256_text(chr(10).join(ids))[:12]}"


def text_states(backbone: TextBackbone, tokens: Tokens) -> Tokens:
    """Return frozen states float32 [B, T, D_b] in place of ids."""
    with torch.no_grad():
        return tokens._replace(values=backbone(tokens.values, tokens.mask))


def encode_texts(
    texts: Sequence[str],
    backbone: TextBackbone,
    folder: Path | None = None,
    *,
    known: Sequence[FeatureStore] = (),
    root: Path | None = None,
) -> FeatureStore:
    """Store of the token states of all texts; a text is its own id.

    Args:
        texts: distinct texts.
        backbone: frozen.
        folder: where; None chooses a place by content under ``root``, or in the cache.
        root: folder of stores.
        known: other stores of the same backbone, whose states are copied.
    """
    in_cache = folder is None
    where = folder or store_folder(root, "text", backbone.fingerprint, texts)

    def encode(positions: Sequence[int]) -> Rows:
        asked = [texts[i] for i in positions]
        order, parts = known_rows(known, asked)
        left = sorted(set(range(len(asked))) - set(order))
        if left:
            parts.append(encode_ids(backbone, backbone.tokenize([asked[i] for i in left])))
        return reorder(join(parts), [*order, *left])

    with track("encode texts", len(texts)) as advance:
        return write_store(
            where,
            texts,
            encode,
            encoder=backbone.name,
            fingerprint=backbone.fingerprint,
            width=backbone.width,
            preprocessing=f"prefix {backbone.prefix!r}, at most {backbone.max_tokens} tokens",
            progress=advance,
            shared=in_cache,
        )


def encode_ids(backbone: TextBackbone, ids: Sequence[Sequence[int]]) -> Rows:
    """Return rows of the states of tokenised texts, in the order given."""
    order: list[int] = []
    parts: list[Rows] = []
    for batch in length_batches([len(text) for text in ids], TOKENS_AT_ONCE):
        tokens = pad_tokens([ids[i] for i in batch], backbone.special)
        states = text_states(backbone, tokens)
        parts.append(ragged(states.values, tokens.mask, tokens.content))
        order += batch
    return reorder(join(parts), order)


def picture_key(example: Example) -> str:
    """Return what identifies an item's content: id, size and time of its file, and part."""
    try:
        status = media_path(example).stat()
    except OSError:
        return f"{example.id}\t-"
    part = "" if example.kind != "video" else f"\t{example.start}\t{example.end}"
    return f"{example.id}\t{status.st_size}\t{status.st_mtime_ns}{part}"


def visual_fingerprint(encoder: VisionEncoder, examples: Sequence[Example]) -> str:
    """Name of what an encoder says of some items: of films it depends on the frames it is given."""
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
    """Store of the features of all images and videos, by id; one row of vectors per frame.

    Precomputed ones are taken where they lie.

    Args:
        examples: with images or videos, or parts of videos.
        encoder: the vision backbone.
        folder: where; None chooses a place by content under ``root``, or in the cache.
        skip_bad: leave broken images out; they are told to ``on_skip``.
        on_skip: told id and error of each broken image, be it in this call or when the store
            was made.
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
    films = any(example.kind == "video" for example in examples)
    shard_items = FILMS_IN_SHARD if films else SHARD_ITEMS
    ids = [example.id for example in examples]
    told: set[str] = set()

    def tell(name: str, error: CL2CMError) -> None:
        told.add(name)
        if on_skip:
            on_skip(name, error)

    def encode(positions: Sequence[int]) -> Rows:
        chosen = [examples[i] for i in positions]
        for example in chosen:
            media_path(example)  # there must be one
        features, kept, failures = _finite(
            encode_paths(encoder, chosen, skip_bad=skip_bad),
            chosen,
            skip_bad=skip_bad,
        )
        for place, error in failures:
            tell(chosen[place].id, error)
        if len(failures) == len(examples):
            raise MediaError(
                f"{len(examples)} images",
                expected="at least one that can be read",
                found="none",
                remedy="check their paths",
            )
        return Rows(
            torch.from_numpy(features).half(),
            torch.bincount(torch.tensor(kept, dtype=torch.int64), minlength=len(chosen)),
            torch.ones(len(features), dtype=torch.bool),
        )

    with track("encode pictures", len(ids)) as advance:
        store = write_store(
            where,
            ids,
            encode,
            encoder=encoder.name,
            fingerprint=fingerprint,
            width=encoder.width,
            preprocessing=f"{encoder.preprocessing}{f' {encoder.sampling}' if films else ''}",
            progress=advance,
            shard_items=shard_items,
            contents=[file_state(example) for example in examples],
            shared=folder is None,
        )
    _tell_left_out(store, [e for e in examples if e.id not in told], tell if skip_bad else None)
    return store


def _finite(
    encoded: EncodedPictures, examples: Sequence[Example], *, skip_bad: bool
) -> EncodedPictures:
    """Return what was encoded, with items whose features are not finite among the failures."""
    features, kept, failures = encoded
    sound = finite_rows(torch.from_numpy(features))
    bad = sorted({row for row, good in zip(kept, sound.tolist(), strict=True) if not good})
    if not bad:
        return encoded
    errors = [
        MediaError(
            str(media_path(examples[row])),
            expected="finite features",
            found="NaN, infinity or numbers too large for half precision",
            remedy="check the encoder and the file",
        )
        for row in bad
    ]
    if not skip_bad:
        raise errors[0]
    good_rows = [row not in bad for row in kept]
    kept = [row for row in kept if row not in bad]
    return EncodedPictures(features[good_rows], kept, [*failures, *zip(bad, errors, strict=True)])


def _tell_left_out(
    store: FeatureStore, examples: Sequence[Example], on_skip: OnSkip | None
) -> None:
    """Tell of the items that an earlier call left out of its store, or refuse the first.

    Raises:
        MediaError: there is one, and nobody to be told.
    """
    for example in examples:
        if store.has(example.id):
            continue
        error = MediaError(
            str(media_path(example)),
            expected="an image or video that can be read",
            found="one that was skipped when it was encoded",
            remedy="replace it, or skip broken items again (--skip-bad)",
        )
        if on_skip is None:
            raise error
        on_skip(example.id, error)
