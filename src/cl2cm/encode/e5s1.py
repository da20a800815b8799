"""The E5S1 format: the weights of multilingual-e5-small in 4 bits, decoded to float32.

A file is, all little-endian:

    "E5S1", uint32 version 1
    int32 hidden, layers, heads, ffn, vocab, max positions, type vocab; float32 eps; int32 block
    int32 pieces, bos, eos, pad, unk; uint64 bytes of the pieces
    uint32 [pieces + 1] where each piece starts; float32 [pieces] scores; the pieces in UTF-8
    int32 entries and uint32 bytes of the normaliser; the normaliser
    int32 tensors; for each: uint16 length of its name, name, uint8 type (0 float32, 1 Q4_0),
        uint32 elements, uint64 offset from the start of the file, uint64 bytes

Q4_0 holds 32 weights in 18 bytes: a float16 scale, then 16 bytes. Byte j has weight j in its low
nibble and weight j + 16 in its high one; a weight is (nibble - 8) · scale. It is the text backbone
of "Two networks" of the method page.
"""

import math
import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cl2cm.errors import WeightsError
from cl2cm.types import Floats

BLOCK = 32  # weights in a block
_MAGIC, _VERSION = b"E5S1", 1
_PACKED = np.dtype([("scale", "<f2"), ("nibbles", "u1", BLOCK // 2)])
_MAX_SIZE = 1 << 24  # no width, count or vocabulary is larger
FETCH_AGAIN = "fetch it again"


class Sizes(NamedTuple):
    """The model's dimensions."""

    hidden: int
    layers: int
    heads: int
    ffn: int
    vocab: int
    positions: int
    types: int


class Special(NamedTuple):
    """Ids of the special pieces."""

    bos: int
    eos: int
    pad: int
    unk: int


class E5Model(NamedTuple):
    """A decoded file.

    Attributes:
        sizes: the model's dimensions.
        eps: of the layer norms.
        special: ids of the special pieces.
        pieces: the tokenizer's pieces, by id.
        tensors: float32 weights by their name in a Transformers ``BertModel``.
    """

    sizes: Sizes
    eps: float
    special: Special
    pieces: list[str]
    tensors: dict[str, Floats]


class _Entry(NamedTuple):
    kind: int
    elements: int
    offset: int
    size: int


class _Reader:
    """A place in a file of which every read is checked."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.place = 0

    def damaged(self, found: str) -> WeightsError:
        return WeightsError(
            self.name, expected="a complete E5S1 file", found=found, remedy=FETCH_AGAIN
        )

    def take(self, size: int) -> bytes:
        end = self.place + size
        if size < 0 or end > len(self.data):
            raise self.damaged(f"{len(self.data)} bytes where {end} are needed")
        part = self.data[self.place : end]
        self.place = end
        return part

    def values(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))

    def array(self, dtype: str, count: int) -> npt.NDArray[Any]:
        return np.frombuffer(self.take(np.dtype(dtype).itemsize * count), dtype)


def read_e5s1(data: bytes, name: str) -> E5Model:
    """Decode a file.

    Args:
        data: the whole file.
        name: what it is called in messages.

    Raises:
        WeightsError: it is damaged, or of another version.
    """
    reader = _Reader(data, name)
    sizes, eps = _read_sizes(reader)
    pieces, special = _read_pieces(reader, sizes.vocab)
    _, normaliser_bytes = reader.values("iI")
    reader.take(normaliser_bytes)
    directory = _read_directory(reader)
    tensors = {}
    for ours, theirs, shape in _layout(sizes):
        if ours not in directory:
            raise reader.damaged(f"no tensor {ours!r}")
        tensors[theirs] = _read_tensor(reader, ours, directory[ours], shape)
    return E5Model(sizes, eps, special, pieces, tensors)


def decode_q4(blocks: bytes, count: int) -> Floats:
    """Decode Q4_0 blocks.

    Args:
        blocks: 18 bytes for each block of 32.
        count: number of weights, a multiple of 32.

    Returns:
        float32 [count].
    """
    packed = np.frombuffer(blocks, _PACKED, count // BLOCK)
    values = np.empty((len(packed), BLOCK), np.float32)
    values[:, : BLOCK // 2] = packed["nibbles"] & 15
    values[:, BLOCK // 2 :] = packed["nibbles"] >> 4
    values -= 8
    with np.errstate(invalid="ignore"):  # a damaged scale; the caller looks for it
        values *= packed["scale"].astype(np.float32)[:, None]
    return values.reshape(count)


def _read_sizes(reader: _Reader) -> tuple[Sizes, float]:
    magic, version = reader.values("4sI")
    if (magic, version) != (_MAGIC, _VERSION):
        raise reader.damaged(f"the beginning {magic!r}, version {version}")
    sizes = Sizes(*reader.values("7i"))
    eps, block = reader.values("fi")
    for key, value in sizes._asdict().items():
        if not 0 < value <= _MAX_SIZE:
            raise reader.damaged(f"{key} = {value}")
    if block != BLOCK or sizes.hidden % BLOCK or sizes.ffn % BLOCK or sizes.hidden % sizes.heads:
        raise reader.damaged(f"{sizes} in blocks of {block}")
    if not 0 < eps < 1:
        raise reader.damaged(f"eps = {eps}")
    return sizes, float(f"{eps:.6g}")  # the nearest short decimal, as configurations have it


def _read_pieces(reader: _Reader, vocab: int) -> tuple[list[str], Special]:
    count, *ids, size = reader.values("5iQ")
    special = Special(*ids)
    if not 0 < count <= vocab or not all(0 <= i < count for i in special):
        raise reader.damaged(f"{count} pieces for {vocab} embeddings, {special}")
    starts = reader.array("<u4", count + 1).astype(np.int64)
    reader.array("<f4", count)
    text = reader.take(size)
    if starts[0] != 0 or starts[-1] != size or (np.diff(starts) < 0).any():
        raise reader.damaged("pieces out of order")
    try:
        bounds = starts.tolist()
        pieces = [text[a:b].decode() for a, b in pairwise(bounds)]
    except UnicodeDecodeError:
        raise reader.damaged("a piece that is not UTF-8") from None
    return pieces, special


def _read_directory(reader: _Reader) -> dict[str, _Entry]:
    (count,) = reader.values("i")
    directory = {}
    for _ in range(count):
        (length,) = reader.values("H")
        name = reader.take(length).decode("ascii", errors="replace")
        directory[name] = _Entry(*reader.values("BIQQ"))
    return directory


def _read_tensor(reader: _Reader, name: str, entry: _Entry, shape: tuple[int, ...]) -> Floats:
    count = math.prod(shape)
    sizes = {0: 4 * count, 1: count // BLOCK * _PACKED.itemsize}
    if entry.elements != count or entry.size != sizes.get(entry.kind):
        raise reader.damaged(f"tensor {name!r} of {entry}, not of shape {list(shape)}")
    reader.place = entry.offset
    raw = reader.take(entry.size)
    values = decode_q4(raw, count) if entry.kind else np.frombuffer(raw, "<f4")
    if not np.isfinite(values).all():
        raise reader.damaged(f"numbers in tensor {name!r} that are not finite")
    return values.reshape(shape)


def _layout(sizes: Sizes) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Name in the file, name in ``BertModel``, and shape of every tensor."""
    hidden, ffn = sizes.hidden, sizes.ffn
    yield "emb.word", "embeddings.word_embeddings.weight", (sizes.vocab, hidden)
    yield "emb.pos", "embeddings.position_embeddings.weight", (sizes.positions, hidden)
    yield "emb.type", "embeddings.token_type_embeddings.weight", (sizes.types, hidden)
    yield "emb.ln.w", "embeddings.LayerNorm.weight", (hidden,)
    yield "emb.ln.b", "embeddings.LayerNorm.bias", (hidden,)
    parts: tuple[tuple[str, str, tuple[int, ...]], ...] = (
        ("q", "attention.self.query", (hidden, hidden)),
        ("k", "attention.self.key", (hidden, hidden)),
        ("v", "attention.self.value", (hidden, hidden)),
        ("ao", "attention.output.dense", (hidden, hidden)),
        ("aln", "attention.output.LayerNorm", (hidden,)),
        ("fi", "intermediate.dense", (ffn, hidden)),
        ("fo", "output.dense", (hidden, ffn)),
        ("oln", "output.LayerNorm", (hidden,)),
    )
    for layer in range(sizes.layers):
        for ours, theirs, shape in parts:
            yield f"l{layer}.{ours}.w", f"encoder.layer.{layer}.{theirs}.weight", shape
            yield f"l{layer}.{ours}.b", f"encoder.layer.{layer}.{theirs}.bias", shape[:1]
