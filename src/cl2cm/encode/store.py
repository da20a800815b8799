"""The feature store: cached outputs of a frozen backbone, so that heads train fast.

One format serves both sides: an item is a ragged row of vectors, the F frames of an image or
video, or the T token states of a text. A store is a folder:

    store.json           encoder, its fingerprint, width, dtype, and each shard's size and hashes
    00000.safetensors    values fp16 [sum of lengths, width], lengths int64 [n], content bool
    00000.ids.json       the n ids
    00000.shard.json     the hashes of the two, and the sizes and times of the encoded files

``shards.py`` writes shards atomically, ``store_writing.py`` writes ``store.json`` last. Opening a
store compares every shard with its hash, once for each state of the file (storage/verified.py).
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cl2cm.encode.plan import FORMAT, PLAN
from cl2cm.encode.rows import Gathered, Rows
from cl2cm.errors import StorageError, StoreError
from cl2cm.storage import (
    atomic_path,
    has_hash,
    open_regular,
    read_record,
    read_regular,
    sha256_bytes,
    sha256_text,
)
from cl2cm.types import StrPath

STORE, MEANS = "store.json", "means.safetensors"


class FeatureStore:
    """A store opened for reading; shards are memory-mapped, so opening costs no memory.

    Attributes:
        ids: the items, in the order in which they were written.
        width: the last dimension of the values.

    Example:
        >>> import cl2cm, torch
        >>> store = cl2cm.FeatureStore.open("features")
        >>> len(store), store.width
        (24, 48)
        >>> store.gather(torch.tensor([0, 1])).values.shape  # [B, F, D_v]
        torch.Size([2, 1, 48])
    """

    def __init__(
        self, folder: Path, meta: dict[str, Any], ids: list[str], shards: list[Rows]
    ) -> None:
        self.folder = folder
        self.meta = meta
        self.ids = ids
        self.width = int(meta["width"])
        self._shards = shards
        self._rows: dict[str, int] = {name: row for row, name in enumerate(ids)}
        counts = [len(shard.lengths) for shard in shards]
        self._shard_of = torch.repeat_interleave(torch.arange(len(shards)), torch.tensor(counts))
        self._lengths = torch.cat([shard.lengths for shard in shards])
        self._starts = torch.cat([shard.lengths.cumsum(0) - shard.lengths for shard in shards])

    @classmethod
    def open(cls, folder: StrPath, *, fingerprint: str | None = None) -> "FeatureStore":
        """Open a complete store.

        Args:
            folder: the store.
            fingerprint: of the encoder whose features are expected; None accepts any.

        Raises:
            StoreError: it is not there, unfinished, damaged, or another encoder's.
        """
        folder = Path(folder)
        meta = read_meta(folder)
        if fingerprint is not None and meta["fingerprint"] != fingerprint:
            raise StoreError(
                str(folder),
                expected=f"features of encoder {fingerprint[:12]}",
                found=f"features of {meta['encoder']} ({meta['fingerprint'][:12]})",
                remedy="encode again into another folder",
            )
        ids: list[str] = []
        shards: list[Rows] = []
        for number, shard in enumerate(meta["shards"]):
            check_shard(folder, number, shard)
            names, rows = _read_shard(folder, number, meta["width"])
            if len(names) != shard["items"]:
                raise _damaged(folder, f"{len(names)} items in shard {number}", shard["items"])
            ids += names
            shards.append(rows)
        if sha256_text("\n".join(ids)) != meta["ids"]:
            raise _damaged(folder, "the ids of other items", f"the ids that {STORE} was made of")
        return cls(folder, meta, ids, shards)

    def __len__(self) -> int:
        return len(self.ids)

    def has(self, name: str) -> bool:
        """Return whether an item is there with at least one vector (a skipped image has none)."""
        return name in self._rows and int(self._lengths[self._rows[name]]) > 0

    def row(self, name: str) -> int:
        """Return the row of an id.

        Raises:
            StoreError: the store does not have it.
        """
        try:
            return self._rows[name]
        except KeyError:
            raise StoreError(
                str(self.folder),
                expected=f"features of {name!r}",
                found=f"{len(self)} other items",
                remedy="encode the same manifest again",
            ) from None

    def gather(self, rows: Tensor) -> Gathered:
        """Return a padded batch of the rows int64 [B]; padding is zero and masked."""
        lengths = self._lengths[rows]
        columns = torch.arange(int(lengths.max()))
        mask = columns < lengths[:, None]
        values = torch.zeros(*mask.shape, self.width)
        content = torch.zeros_like(mask)
        owner = self._shard_of[rows]
        for number in sorted(set(owner.tolist())):
            mine = (owner == number)[:, None] & mask
            places = (self._starts[rows][:, None] + columns)[mine]
            values[mine] = self._shards[number].values[places].float()
            content[mine] = self._shards[number].content[places]
        if not bool(values.isfinite().all()):
            bad = int((~values.isfinite()).flatten(1).any(1).nonzero()[0])
            raise not_finite(self.folder, self.ids[int(rows[bad])])
        return Gathered(values, mask, content)

    def lengths(self, rows: Tensor) -> Tensor:
        """Vectors of each of the rows int64 [B], int64 [B]."""
        return self._lengths[rows]

    def means(self) -> Tensor:
        """Mean of each item's normalised vectors, float32 [n, width]; kept beside the shards.

        Every vector is brought to mean 0 and variance 1 first, as a layer norm does.
        """
        path = self.folder / MEANS
        if (known := self._known_means(path)) is not None:
            return known
        means = torch.cat([_means(shard) for shard in self._shards])
        bad = (~means.isfinite()).any(1).nonzero()
        if len(bad):
            raise not_finite(self.folder, self.ids[int(bad[0])])
        with contextlib.suppress(StorageError), atomic_path(path) as partial:
            save_file({"means": means}, partial, metadata={"checksum": self._sum_of(means)})
        return means

    def _known_means(self, path: Path) -> Tensor | None:
        """Return the means of these shards as they were written; None: they have to be computed."""
        with contextlib.suppress(OSError, SafetensorError), safe_open(path, "pt") as file:
            means: Tensor = file.get_tensor("means")
            if (file.metadata() or {}).get("checksum") == self._sum_of(means):
                return means
        return None

    def _sum_of(self, means: Tensor) -> str:
        """Return the checksum of means that belong to these shards."""
        return sha256_text(f"{self.meta['shards']} {sha256_bytes(means.numpy().data)}")

    def verify(self) -> None:
        """Read every byte and compare it with the hashes written at encoding.

        Raises:
            StoreError: a shard was changed.
        """
        for number, shard in enumerate(self.meta["shards"]):
            check_shard(self.folder, number, shard, again=True)


def check_shard(
    folder: Path, number: int, shard: Mapping[str, Any], *, again: bool = False
) -> None:
    """Compare a shard with its hashes; with ``again``, even if that was done before.

    Raises:
        StoreError: it is absent, or was changed.
    """
    for suffix, key in ((".safetensors", "sha256"), (".ids.json", "ids_sha256")):
        path = folder / f"{number:05}{suffix}"
        if key not in shard:  # of an earlier version
            continue
        try:
            same = has_hash(path, str(shard[key]), again=again)
        except OSError as error:
            raise _damaged(path, (error.strerror or str(error)).lower(), "a shard") from None
        if not same:
            raise _damaged(path, "another content", f"the hash {str(shard[key])[:12]}")


def _means(rows: Rows) -> Tensor:
    width = rows.values.shape[1]
    owner = torch.repeat_interleave(torch.arange(len(rows.lengths)), rows.lengths)
    normal = nn.functional.layer_norm(rows.values.float(), (width,))
    total = torch.zeros(len(rows.lengths), width).index_add_(0, owner, normal)
    return total / rows.lengths.clamp(min=1)[:, None]


def not_finite(folder: Path, name: str) -> StoreError:
    """Return the error of an item whose features are not finite in half precision."""
    return StoreError(
        f"{folder}: {name[:80]!r}",
        expected=f"finite features, at most {torch.finfo(torch.float16).max:.0f}",
        found="NaN, infinity or a larger number",
        remedy="check the encoder and what it was given, and encode again into another folder",
    )


def read_meta(folder: Path) -> dict[str, Any]:
    """Read ``store.json``.

    Raises:
        StoreError: it is absent, damaged or of another format.
    """
    path = folder / STORE
    try:
        meta = read_record(path)
    except (FileNotFoundError, NotADirectoryError):
        started = (folder / PLAN).exists() or any(folder.glob("part-*-of-*"))
        raise StoreError(
            str(folder),
            expected="a feature store",
            found="an unfinished one" if started else "no store.json",
            remedy="run the same cl2cm encode again" if started else "make it with cl2cm encode",
        ) from None
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise _damaged(path, f"{found} in place of {STORE}", "a file") from None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"a damaged file ({error})", "the record of a store") from None
    keys = ("format", "encoder", "fingerprint", "width", "ids", "shards")
    if any(key not in meta for key in keys):
        raise _damaged(folder, "a store.json with missing keys", ", ".join(keys))
    if meta["format"] != FORMAT:
        raise _damaged(folder, f"format {meta['format']}", f"format {FORMAT}")
    shards = meta["shards"]
    counted = isinstance(shards, list) and all(
        isinstance(s, dict) and isinstance(s.get("items"), int) for s in shards
    )
    if not counted or not isinstance(meta["width"], int) or not shards:
        raise _damaged(folder, "a store.json of another form", "width and shards")
    return meta


def _read_shard(folder: Path, number: int, width: int) -> tuple[list[str], Rows]:
    path = folder / f"{number:05}.safetensors"
    try:
        ids = json.loads(read_regular(path.with_suffix(".ids.json")))
        if not isinstance(ids, list):
            raise ValueError("ids that are no list")
        open_regular(path).close()  # a pipe would keep the library waiting
        tensors = load_file(path)
        rows = Rows(tensors["values"], tensors["lengths"], tensors["content"])
    except (OSError, ValueError, KeyError, RecursionError, SafetensorError) as error:
        raise _damaged(folder, f"a shard {path.name} that cannot be read ({error})", "it") from None
    if (
        rows.values.shape != (int(rows.lengths.sum()), width)
        or len(rows.lengths) != len(ids)
        or len(rows.content) != len(rows.values)
    ):
        found = f"{len(ids)} ids and values {list(rows.values.shape)} in shard {number}"
        raise _damaged(folder, found, "shapes that fit")
    return ids, rows


def _damaged(path: Path, found: str, expected: object) -> StoreError:
    return StoreError(
        str(path),
        expected=str(expected),
        found=found,
        remedy="run the same cl2cm encode or train again, which encodes what is damaged",
    )
