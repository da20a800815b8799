"""The processes of a training: one, or as many as ``torchrun`` has started.

Every process runs the same code on the same data. Rank 0 alone writes files and prints; what only
it can know (results of validation, errors of writing) it tells the others. An expected error is
raised on all processes, and printed once.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

import cl2cm.errors
from cl2cm.errors import CL2CMError, ConfigError, ProcessError
from cl2cm.progress import silence
from cl2cm.storage import storage_error
from cl2cm.training.optimization import choose_device

T = TypeVar("T")
Group = Any  # torch has no type for None or a process group

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # set by torchrun
_PATIENCE = timedelta(days=1)  # others wait while rank 0 encodes or validates
_SECONDS_TO_TELL = 1.0  # that a process gives the one that failed to print its own error
_TURNS = 3


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of a training, as one of them sees them.

    Attributes:
        rank: number of this process.
        count: number of processes.
        messages: the group for short messages between CPUs; None: the default group.
    """

    rank: int = 0
    count: int = 1
    messages: Group = None

    @property
    def first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def device(self, name: str) -> tuple[torch.device, Group]:
        """Return the device of a setting, and the group that gathers tensors on it.

        Raises:
            ConfigError: the device is not there, or is one GPU for several processes.
        """
        device = choose_device(name)
        if self.count == 1 or device.type == "cpu":
            return device, self.messages
        local = int(os.environ.get("LOCAL_RANK", self.rank))
        if name not in ("auto", "cuda") or local >= torch.cuda.device_count():
            raise ConfigError(
                "train.device",
                expected="one GPU for each process: 'auto' and no more processes than GPUs",
                found=f"{name!r}, and {torch.cuda.device_count()} GPUs",
                remedy="set it to 'auto' or 'cpu', or start fewer processes",
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
        return device, dist.new_group(backend="nccl", timeout=_PATIENCE)

    def on_first(self, do: Callable[[], T]) -> T:
        """Do something on rank 0 and return what it gave, which must be JSON, on all.

        Raises:
            CL2CMError: rank 0 failed; raised on all processes.
        """
        if self.count == 1:
            return do()
        found, error = _tried(do) if self.first else (None, None)
        told = json.dumps({"found": found, "error": error and _as_table(error)})
        answer = json.loads(self._exchange(told if self.first else "")[0])
        if answer["error"]:
            raise error or _from_table(answer["error"])
        return cast("T", found if self.first else answer["found"])

    def together(self, do: Callable[[], T], *, in_turn: bool = False) -> T:
        """Do something on every process.

        Args:
            do: what to do.
            in_turn: rank 0 goes first, then the first process of each machine, then the others:
                for features that the first one stores and the others read.

        Raises:
            CL2CMError: one of them failed; raised on all processes.
        """
        if self.count == 1:
            return do()
        turn = 0 if self.first else 1 if os.environ.get("LOCAL_RANK") == "0" else _TURNS - 1
        found: T | None = None
        for now in range(_TURNS):
            error = None
            if now == (turn if in_turn else 0):
                found, error = _tried(do)
            told = self._exchange(json.dumps(error and _as_table(error)))
            self._raise_first([json.loads(text) for text in told])
        return cast("T", found)

    def check_equal(self, what: str, digest: str) -> None:
        """Check that something is the same on all processes.

        Raises:
            ProcessError: it is not.
        """
        if self.count > 1 and len(set(self._exchange(digest))) > 1:
            raise ProcessError(
                what,
                expected=f"the same on all {self.count} processes",
                found="other ones",
                remedy="see that the method draws random numbers from torch alone, and that all "
                "machines have the same packages",
            )

    def _raise_first(self, errors: list[dict[str, str] | None]) -> None:
        for rank, table in enumerate(errors):
            if table is not None:
                where = f"process {rank}: " if rank else ""
                raise _from_table(table | {"subject": where + table["subject"]})

    def _exchange(self, text: str) -> list[str]:
        """Return the texts that all processes have passed, by rank."""
        own = torch.frombuffer(bytearray(text.encode() + b"\n"), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        dist.all_gather(sizes, torch.tensor([len(own)]), self.messages)
        longest = max(int(size) for size in sizes)
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded, self.messages)
        return [
            bytes(part[: int(size) - 1].tolist()).decode()
            for part, size in zip(parts, sizes, strict=True)
        ]


def _tried(do: Callable[[], T]) -> tuple[T | None, CL2CMError | None]:
    try:
        return do(), None
    except CL2CMError as error:
        return None, error
    except OSError as error:
        known = storage_error(Path(error.filename or "output"), error)
        if known is None:
            raise
        return None, known


def _as_table(error: CL2CMError) -> dict[str, str]:
    names = ("subject", "expected", "found", "remedy")
    return {"kind": type(error).__name__} | {name: getattr(error, name) for name in names}


def _from_table(table: dict[str, str]) -> CL2CMError:
    kind = getattr(cl2cm.errors, table.pop("kind"), CL2CMError)
    if kind is cl2cm.errors.MissingExtraError:  # which writes its own message
        kind = CL2CMError
    error: CL2CMError = kind(table.pop("subject"), **table)
    return error


_joined: list[tuple[Processes, Any]] = []  # of this process, with the store that they meet at


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the other processes of a training that ``torchrun`` has started; else, be the only one.

    A group of ``torch.distributed`` that the program has made itself is used as it is.

    Raises:
        ProcessError: another process ended before its time.
    """
    if _joined:
        yield _joined[-1][0]
        return
    if dist.is_available() and dist.is_initialized():
        own = dist.new_group(backend="gloo", timeout=_PATIENCE)
        processes, store = Processes(dist.get_rank(), dist.get_world_size(), own), None
    elif all(name in os.environ for name in _VARIABLES) and int(os.environ["WORLD_SIZE"]) > 1:
        store, rank, count = next(rendezvous("env://"))
        dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=_PATIENCE)
        processes = Processes(rank, count)
    else:
        yield Processes()
        return
    _joined.append((processes, store))
    silence(not processes.first)
    try:
        yield processes
    except Exception as error:
        known = _lost(error, processes)
        if known and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun sends it before all is said
        silence(not _tells(known or error, processes, store))
        if known is None:
            raise
        raise known from error
    finally:
        _joined.pop()
        if store is not None:
            dist.destroy_process_group()


def _lost(error: Exception, processes: Processes) -> ProcessError | None:
    """Return the error of a connection that ended, in the words of this project."""
    of_torch = isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )
    if not of_torch:
        return None
    return ProcessError(
        "training across processes",
        expected=f"{processes.count} processes until the end",
        found="one that ended",
        remedy="read its own message, if any, and run the same command again with --resume",
    )


def _tells(error: Exception, processes: Processes, store: Any) -> bool:  # noqa: ANN401
    """Whether this process prints an error: rank 0 its own, another only what nobody has told."""
    own = processes.first and not isinstance(error, ProcessError)
    if store is None:
        return processes.first or isinstance(error, ProcessError)
    if not own:
        time.sleep(_SECONDS_TO_TELL)
    try:
        return bool(store.add("cl2cm/told", 1) == 1) or own
    except (RuntimeError, ValueError):  # the store was on the process that ended
        return True
