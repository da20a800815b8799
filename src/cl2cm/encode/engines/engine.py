"""What an engine is: it calls the encode step for each shard of a plan, somewhere, in any order."""

from collections.abc import Generator, Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from cl2cm.encode.rows import Encode, EncodedShard, Rows
from cl2cm.errors import CL2CMError, EncoderError
from cl2cm.types import Ints

ATTEMPTS = 3  # of a shard whose worker ended, or failed for another reason than the items

Results = Generator[tuple[int, EncodedShard], None, None]
Shard = tuple[int, Sequence[int]]  # its number, and positions of its items


class Engine(Protocol):
    """Encodes shards. Only the caller writes them, so that each is committed once."""

    def __call__(self, encode: Encode, shards: Iterable[Shard]) -> Results:
        """Yield the number and the features of each shard, in any order.

        Args:
            encode: the step; engines that use other processes pickle it.
            shards: taken as workers become free, so that few results wait in memory.
        """
        ...


def in_turn(encode: Encode, shards: Iterable[Shard]) -> Results:
    """Encode in this process, one shard after the other; an `Engine`."""
    for number, part in shards:
        yield number, encoded(encode(part))


def encoded(result: Rows | EncodedShard) -> EncodedShard:
    """Return the result of a step in its long form."""
    return result if isinstance(result, EncodedShard) else EncodedShard(result)


class Packed(NamedTuple):
    """The result of a step as plain arrays, as it travels between processes."""

    values: npt.NDArray[np.float16]
    lengths: Ints
    content: npt.NDArray[np.bool_]
    failures: list[tuple[int, CL2CMError]]


def pack(result: Rows | EncodedShard) -> Packed:
    """Return the result of a step as plain arrays."""
    rows, failures = encoded(result)
    values, lengths, content = (column.numpy() for column in rows)
    return Packed(values, lengths, content, list(failures))


def unpack(packed: Packed) -> EncodedShard:
    """Return what was packed."""
    columns = (torch.from_numpy(np.array(column)) for column in packed[:3])
    return EncodedShard(Rows(*columns), packed.failures)


def gave_up(number: int, why: str) -> EncoderError:
    """Return the error of a shard whose every attempt failed."""
    return EncoderError(
        f"shard {number}",
        expected=f"a worker that encodes it, in {ATTEMPTS} attempts",
        found=why,
        remedy="use fewer workers if memory ran out; the same command resumes",
    )
