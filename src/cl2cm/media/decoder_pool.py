"""A pool of decoder processes for images and videos, with limits of time and memory.

Decoders are C code that reads untrusted bytes; some inputs make them run for minutes, use all
memory, or crash. So they never run in this process. A few warm processes of ``decoder_worker.py``
are given the bytes of an image or the path of a video, a task and a budget; the operating system
ends a process that goes beyond its budget, which is an error of that one file, and the next task
starts a new one. Requests and answers are JSON and raw bytes on pipes; nothing is unpickled.
"""

import atexit
import functools
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from cl2cm.errors import MediaError, MissingExtraError

HEAD = struct.Struct("<IQ")  # bytes of JSON, bytes of data
_MOST = 8  # processes
_PIPE = 2**20  # bytes that a pipe may hold, so that an image is handed over at once
# What a decoder needs of the environment. Credentials are not among it.
_PASSED = ("PATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "LANG")
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
_START += "from cl2cm.media.decoder_worker import main; main()"


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits for a task, or for each frame of a video.

    Attributes:
        cpu: seconds of processor time, which do not depend on what else this machine does.
        wall: seconds on the clock.
        memory: bytes.
    """

    cpu: int
    wall: int
    memory: int


class Answer(NamedTuple):
    """One answer of a decoder process: an object and bytes."""

    head: dict[str, Any]
    body: bytearray


class _Gone(Exception):  # noqa: N818 - not an error of ours
    """The process ended before it answered."""


class DecoderPool:
    """Decoder processes, started when they are needed and used again; safe between threads.

    Args:
        size: images decoded at once; by default one for each processor, eight at most. A video
            has a process of its own.
        nice: how far they step back behind other processes, 0 to 19.
    """

    def __init__(self, size: int | None = None, *, nice: int = 0) -> None:
        self._nice = nice
        self._free = threading.BoundedSemaphore(size or min(_MOST, (os.cpu_count() or 1) + 1))
        self._idle: list[_Process] = []
        self._busy: list[_Process] = []
        self._lock = threading.Lock()
        atexit.register(self.close)

    def ask(
        self,
        task: str,
        name: str,
        budget: Budget,
        arguments: Mapping[str, Any],
        data: bytes = b"",
    ) -> Answer:
        """Do a task that has one answer.

        Args:
            task: one of ``decoder_worker.TASKS``.
            name: what an error calls the file.
            budget: what it may use.
            arguments: of the task, as JSON knows them.
            data: bytes of the file.

        Raises:
            MediaError: the file cannot be decoded, or not within the budget.
        """
        with self._free:
            (answer,) = self.stream(task, name, budget, arguments, data)
        return answer

    def stream(
        self,
        task: str,
        name: str,
        budget: Budget,
        arguments: Mapping[str, Any],
        data: bytes = b"",
    ) -> Generator[Answer, None, None]:
        """Do a task that has several answers, each within the budget; as `ask`.

        A task whose answers are not all taken is stopped with its process.
        """
        process, reusable = self._take(), False
        try:
            request = {"task": task, "name": name, "arguments": dict(arguments)}
            process.send({**request, "budget": asdict(budget)}, data)
            while (answer := process.receive()).head["state"] == "part":
                yield answer
            reusable = not answer.head.get("worn", True)
            if answer.head["state"] == "memory":
                raise _beyond(name, f"more than {budget.memory // 2**20:,} MB of memory")
            if answer.head["state"] == "missing":
                raise MissingExtraError(*answer.head["extra"])
            if answer.head["state"] == "refused":
                raise MediaError(**answer.head["error"])
        except (_Gone, OSError) as error:
            raise _ended(name, process.close(grace=1.0), budget) from error
        finally:
            if not reusable:  # or the next task would read the rest of this answer
                process.close()
            self._give_back(process)

    def close(self) -> None:
        """End all processes, including busy ones; later tasks start new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
            for process in self._busy:
                process.kill()
        for process in idle:
            process.close()

    def _take(self) -> "_Process":
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.alive:
                    break
                process.close()
            else:
                process = _Process(self._nice)
            self._busy.append(process)
            return process

    def _give_back(self, process: "_Process") -> None:
        with self._lock:
            self._busy.remove(process)
            if process.alive:
                self._idle.append(process)
                return
        process.close()


class _Process:
    """One decoder process and the pipes to it."""

    def __init__(self, nice: int) -> None:
        package = str(Path(__file__).resolve().parents[1])
        paths = [path for path in sys.path if path]  # not the working directory
        paths += [] if package in paths else [package]
        environment = {key: os.environ[key] for key in _PASSED if key in os.environ}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, json.dumps(paths), str(nice)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment,
            start_new_session=True,  # Ctrl-C is for us; it ends when its pipe does
            pipesize=_PIPE,
        )

    @property
    def alive(self) -> bool:
        """Whether the process accepts tasks."""
        return self._process.poll() is None

    def send(self, head: Mapping[str, Any], data: bytes) -> None:
        """Give it a task.

        Raises:
            OSError: the process has ended.
        """
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        write(self._process.stdin, head, data)

    def receive(self) -> Answer:
        """Wait for its next answer.

        Raises:
            _Gone: the process has ended.
        """
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        answer = read(self._process.stdout)
        if answer is None:
            raise _Gone
        return answer

    def kill(self) -> None:
        """Kill the process; a caller that waits for it gets an error."""
        self._process.kill()

    def close(self, grace: float = 0.0) -> int:
        """End it, after ``grace`` seconds; returns how it ended, or was ended."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            return self._process.wait(timeout=grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def write(pipe: IO[bytes], head: Mapping[str, Any], data: bytes) -> None:
    """Write an object and bytes, whole."""
    text = json.dumps(head).encode()
    for piece in (HEAD.pack(len(text), len(data)) + text, data):
        view = memoryview(piece)
        while view:
            view = view[pipe.write(view) :]


def read(pipe: IO[bytes]) -> Answer | None:
    """Read what `write` wrote; None at the end of the pipe."""
    start = _exactly(pipe, HEAD.size)
    if start is None:
        return None
    text, data = (_exactly(pipe, size) for size in HEAD.unpack(start))
    return None if text is None or data is None else Answer(json.loads(text), data)


def _exactly(pipe: IO[bytes], size: int) -> bytearray | None:
    content = bytearray(size)
    view = memoryview(content)
    while view:
        count = pipe.readinto(view)  # type: ignore[attr-defined]  # of raw files
        if not count:
            return None
        view = view[count:]
    return content


def _ended(name: str, code: int, budget: Budget) -> MediaError:
    """Return the error of a file at which a decoder process ended."""
    if code == -getattr(signal, "SIGXCPU", 0):
        return _beyond(name, f"more than {budget.cpu} s of processor time")
    if code == -getattr(signal, "SIGALRM", 0):
        return _beyond(name, f"more than {budget.wall} s")
    found = "one that ends the decoder" + (f" (signal {-code})" if code < 0 else f" (code {code})")
    remedy = "replace the file, or skip it (--skip-bad)"
    return MediaError(name, expected="a file that can be decoded", found=found, remedy=remedy)


def _beyond(name: str, found: str) -> MediaError:
    remedy = "save the file anew, or skip it (--skip-bad)"
    return MediaError(
        name, expected="a file that is decoded within bounds", found=found, remedy=remedy
    )


def decoders() -> DecoderPool:
    """Return the pool of this process; the service has one of its own."""
    return _pool_of(os.getpid())


@functools.lru_cache(maxsize=1)
def _pool_of(process: int) -> DecoderPool:
    """Return one of each process: pipes cannot be shared with a fork."""
    del process
    return DecoderPool()
