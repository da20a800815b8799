"""Encode in a few processes of this machine.

Each worker has a pipe of its own and works on one shard at a time. A worker that ends is replaced
and its shard encoded again; workers end when this process does, however that ends. What travels on
the pipes comes from processes that this one started.
"""

import contextlib
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from cl2cm.encode.engines.engine import ATTEMPTS, Packed, Results, Shard, gave_up, pack, unpack
from cl2cm.encode.rows import Encode
from cl2cm.errors import CL2CMError
from cl2cm.progress import say


class Processes:
    """An `Engine` of worker processes.

    Args:
        workers: how many; each gets its share of the processors.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def __call__(self, encode: Encode, shards: Iterable[Shard]) -> Results:
        """Yield the features of each shard, in the order in which they become ready."""
        coming, failed = iter(shards), deque[Shard]()
        attempts: Counter[int] = Counter()
        workers: list[_Worker] = []
        threads = max(1, (os.cpu_count() or 1) // self.workers)
        try:
            while True:
                while len(workers) < self.workers and (shard := _next(failed, coming)):
                    workers.append(_Worker(encode, threads))
                    workers[-1].begin(shard)
                if not workers:
                    return
                for worker in _ready(workers):
                    shard, answer = worker.finish()
                    if isinstance(answer, CL2CMError):
                        raise answer
                    if isinstance(answer, str):
                        _note(attempts, shard[0], answer)
                        failed.append(shard)
                    following = None if worker.ended else _next(failed, coming)
                    if following is not None:  # before the caller writes the last result
                        worker.begin(following)
                    else:
                        workers.remove(worker)
                        worker.close()
                    if isinstance(answer, Packed):
                        yield shard[0], unpack(answer)
        finally:
            for worker in workers:
                worker.close()


def _note(attempts: Counter[int], number: int, why: str) -> None:
    """Note that an attempt at a shard failed.

    Raises:
        EncoderError: it was the last one.
    """
    attempts[number] += 1
    if attempts[number] >= ATTEMPTS:
        raise gave_up(number, why)
    say(f"shard {number}: {why}; encoding it again")


def _next(failed: deque[Shard], coming: Iterator[Shard]) -> Shard | None:
    return failed.popleft() if failed else next(coming, None)


class _Worker:
    """One worker process, and the shard that it works on."""

    def __init__(self, encode: Encode, threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share threads and locks
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, encode, threads), daemon=True)
        self._process.start()
        theirs.close()
        self._shard: Shard = (-1, ())
        self.ended = False

    def begin(self, shard: Shard) -> None:
        """Send it a shard; if it has ended, `finish` reports it."""
        self._shard = shard
        with contextlib.suppress(OSError):
            self.pipe.send(shard[1])

    def finish(self) -> tuple[Shard, Packed | CL2CMError | str]:
        """Return its shard, and the result, the error of an item, or why there is none."""
        try:
            return self._shard, self.pipe.recv()
        except (EOFError, OSError):
            self.ended = True
            self._process.join(timeout=5)
            return self._shard, f"a worker that ended ({_ending(self._process.exitcode)})"

    def close(self) -> None:
        """End the process."""
        self.pipe.close()
        self._process.kill()
        self._process.join()


def _ready(workers: list[_Worker]) -> list[_Worker]:
    """Wait for the workers that have finished or ended."""
    pipes: list[Any] = wait([worker.pipe for worker in workers])
    return [worker for worker in workers if worker.pipe in pipes]


def _ending(code: int | None) -> str:
    if code is None:
        return "and cannot be waited for"
    return f"signal {-code}" if code < 0 else f"code {code}"


def _work(pipe: "Connection[Any, Any]", encode: Encode, threads: int) -> None:
    """Encode the shards that come through the pipe, until it ends."""
    import torch  # noqa: PLC0415 - of a worker, whose threads are limited first

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    torch.set_num_threads(threads)
    use_threads = getattr(encode, "use_threads", None)
    if use_threads is not None:
        use_threads(threads)
    with contextlib.suppress(EOFError, OSError):  # the parent has ended
        while True:
            pipe.send(_answer(encode, pipe.recv()))


def _answer(encode: Encode, positions: Any) -> Packed | CL2CMError | str:  # noqa: ANN401
    try:
        return pack(encode(positions))
    except CL2CMError as error:
        return error
    except Exception as error:
        return f"{type(error).__name__}: {error}"
