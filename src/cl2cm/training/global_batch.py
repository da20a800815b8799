"""The whole batch for every loss, its rows encoded in chunks and by several processes.

A loss may compare each row of a batch with every other one: Eq. 1, 8 and 10 do, and so may a method
of another package. Every process therefore computes the loss of the whole batch. Only the encoders,
which look at each row by itself, are divided: a process encodes its share of the rows, and all
vectors are gathered.

Gradients: each process has the whole loss, and so the complete gradient of its own rows' vectors;
the gathered ones pass it back to their own process alone. DistributedDataParallel averages the
gradients of weights over the processes. The gather therefore multiplies by their number, so that
the average is the sum over all rows; weights that the loss uses outside of an encoder have the same
gradient on every process, which the average leaves as it is.

Chunks are GradCache (Gao, Zhang, Han, Callan: "Scaling Deep Contrastive Learning Batch Size under
Memory Limited Setup", RepL4NLP 2021): vectors are computed without a graph, chunk by chunk; in the
backward pass each chunk is encoded again, from the same random state. This is what checkpointing
at the boundary of the encoder does.

Groups of similar length are a matter of speed alone: within a group, texts are padded to its
longest one, not to the longest of the batch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from cl2cm.errors import ConfigError
from cl2cm.methods.teacher import evaluating
from cl2cm.model.networks import In, Out, TextNetwork, at_once
from cl2cm.training.processes import Group, Processes
from cl2cm.types import Encoded, Tokens

PROBED = 4  # rows that are encoded together, and half of them alone
TOLERANCE = 1e-2  # between these, in a component of a unit vector; float16 stays far below


def shares(rows: int, count: int) -> list[int]:
    """Return how many of the rows each process encodes: they differ by one at most."""
    return [rows // count + (rank < rows % count) for rank in range(count)]


class Divided:
    """Encode rows in chunks, and on every process its share of them.

    Args:
        processes: that share the rows.
        group: of these processes, for tensors.
        chunks: into which the rows of a process are divided.
        groups: of similar length, into which the texts of a chunk are divided.
        device: of the training.
    """

    def __init__(
        self,
        processes: Processes,
        group: Group,
        *,
        chunks: int,
        device: torch.device,
        groups: int = 1,
    ) -> None:
        self.rank, self.count = processes.rank, processes.count
        self.group = group
        self.chunks, self.groups = chunks, groups
        self.gpus = [device] if device.type == "cuda" else []
        self.probed: set[int] = set()

    @property
    def needed(self) -> bool:
        """Whether anything is divided."""
        return self.count > 1 or self.chunks > 1 or self.groups > 1

    @contextmanager
    def encoding(self, method: nn.Module) -> Iterator[None]:
        """Let the networks of a method encode their rows so, inside."""
        networks = [n for n in method.modules() if isinstance(n, TextNetwork)]
        for network in networks if self.needed else ():
            network.over_rows = self
        try:
            yield
        finally:
            for network in networks:
                network.over_rows = at_once

    def __call__(self, network: nn.Module, encode: Callable[[In], Out], rows: In) -> Out:
        """Return the encoding of all rows.

        Args:
            network: that encodes.
            encode: gives an output row for each row of tensors [B, ...], whatever the others are.
            rows: a named tuple of such tensors; what is not a tensor is passed on.

        Raises:
            ConfigError: the encoding of a row depends on other rows.
        """
        self._probe(network, encode, rows)
        if isinstance(rows, Tokens) and self.groups > 1 and not rows.pooled:
            encode = partial(in_length_groups, encode, self.groups)  # type: ignore[assignment,arg-type]
        if self.count == 1:
            return self._in_chunks(encode, rows)
        sizes = shares(_length(rows), self.count)
        size = sizes[self.rank]
        first = sum(sizes[: self.rank]) if size else 0
        with self._own_random():  # one without rows encodes the first row, and passes on nothing
            encoded = self._in_chunks(encode, _part(rows, slice(first, first + max(1, size))))
        found: Out = _each(encoded, lambda own: gather(own[:size], sizes, self.rank, self.group))
        return found

    def _in_chunks(self, encode: Callable[[In], Out], rows: In) -> Out:
        count = min(self.chunks, _length(rows))
        if count <= 1 or not torch.is_grad_enabled():
            return encode(rows)
        parts, first = [], 0
        for size in shares(_length(rows), count):
            part = _part(rows, slice(first, first + size))
            parts.append(checkpoint(encode, part, use_reentrant=False))
            first += size
        found: Out = _joined(parts)
        return found

    @contextmanager
    def _own_random(self) -> Iterator[None]:
        """Random numbers of this process's own inside; afterwards, all go on with the same ones."""
        seed = int(torch.randint(2**62, ()))
        with torch.random.fork_rng(devices=self.gpus):
            torch.manual_seed(seed + self.rank)
            yield

    @torch.no_grad()
    def _probe(self, network: nn.Module, encode: Callable[[In], Out], rows: In) -> None:
        """Check once per encoder that it looks at each row by itself."""
        key = hash((id(network), encode.__name__))
        if key in self.probed or _length(rows) < PROBED:
            return
        self.probed.add(key)
        for name, module in network.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                raise _looks_at_others(network, f"{type(module).__name__} in {name!r}")
        with evaluating(network):
            whole = _tensors(encode(_part(rows, slice(PROBED))))
            alone = _tensors(encode(_part(rows, slice(PROBED // 2))))
        for one, other in zip(whole, alone, strict=True):
            if not torch.allclose(one[: PROBED // 2].float(), other.float(), atol=TOLERANCE):
                raise _looks_at_others(network, "a row whose encoding depends on other rows")


def _looks_at_others(network: nn.Module, found: str) -> ConfigError:
    return ConfigError(
        f"network {type(network).__name__}",
        expected="encoders that look at each row by itself, to divide a batch among processes or "
        "chunks",
        found=found,
        remedy="replace it (LayerNorm for BatchNorm), or train in one process with "
        "train.grad_cache_chunks=1",
    )


def in_length_groups(encode: Callable[[Tokens], Encoded], groups: int, rows: Tokens) -> Encoded:
    """Encode texts in groups of similar length; all are then padded to the same width again."""
    width = rows.mask.shape[1]
    order = rows.mask.sum(1).argsort(stable=True)
    parts = []
    for group in order.tensor_split(min(groups, len(order))):
        mask = rows.mask[group]
        longest = int(mask.any(0).nonzero().amax()) + 1 if bool(mask.any()) else 1
        tokens = Tokens(
            rows.values[group, :longest], mask[:, :longest], rows.content[group, :longest]
        )
        sentence, vectors, content, salience = encode(tokens)
        more = width - longest
        parts.append(
            Encoded(
                sentence,
                pad(vectors, (0, 0, 0, more)),
                *(pad(tensor, (0, more)) for tensor in (content, salience)),
            )
        )
    place = order.argsort()
    return Encoded(*(torch.cat(field)[place] for field in zip(*parts, strict=True)))


class _Gather(torch.autograd.Function):
    """Rows of all processes; see the module for the gradient."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, sizes: list[int], rank: int, group: Group) -> Tensor:  # noqa: ANN401
        first = sum(sizes[:rank])
        ctx.own, ctx.count = slice(first, first + sizes[rank]), len(sizes)
        return _all_rows(own, sizes, group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        return gradient[ctx.own] * ctx.count, None, None, None


def gather(own: Tensor, sizes: list[int], rank: int, group: Group) -> Tensor:
    """Return the rows of all processes, with gradient where these are numbers.

    Args:
        own: rows of this process [n, ...].
        sizes: number of rows of each process.
        rank: of this process.
        group: of the processes; None: the default one.
    """
    if own.dtype == torch.bool:
        return _all_rows(own.to(torch.uint8), sizes, group).to(torch.bool)
    found: Tensor = _Gather.apply(own, sizes, rank, group)  # type: ignore[no-untyped-call]
    return found


def _all_rows(own: Tensor, sizes: list[int], group: Group) -> Tensor:
    padded = own.new_zeros(max(sizes), *own.shape[1:])
    padded[: len(own)] = own
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded, group)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def _tensors(value: Any) -> list[Tensor]:  # noqa: ANN401 - a tensor, or a named tuple with tensors
    return [value] if isinstance(value, Tensor) else [t for t in value if isinstance(t, Tensor)]


def _length(value: Any) -> int:  # noqa: ANN401
    return len(_tensors(value)[0])


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:  # noqa: ANN401
    if isinstance(value, Tensor):
        return change(value)
    return type(value)(*(change(t) if isinstance(t, Tensor) else t for t in value))


def _part(rows: In, part: slice) -> In:
    found: In = _each(rows, lambda tensor: tensor[part])
    return found


def _joined(parts: list[Any]) -> Any:  # noqa: ANN401
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    fields = zip(*parts, strict=True)
    return type(parts[0])(*(torch.cat(f) if isinstance(f[0], Tensor) else f[0] for f in fields))
