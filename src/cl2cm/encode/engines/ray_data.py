"""Encode with Ray Data: on this machine, or on a cluster that the user names by its address.

Ray restarts workers that end, encodes their shards again, and asks for no more shards than there
is room for. Results come back as numbers and bytes in Arrow blocks. A Ray that is started here is
reached over loopback alone and with a random token, sends no usage statistics, has no dashboard,
and leaves no files behind.
"""

import functools
import importlib
import io
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any

import numpy as np
import torch

from cl2cm import errors
from cl2cm.encode.engines.engine import ATTEMPTS, Packed, Results, Shard, gave_up, pack, unpack
from cl2cm.encode.environment import environment
from cl2cm.encode.rows import Encode
from cl2cm.encode.trust import ALLOW_HUB, MODEL_ROOTS
from cl2cm.errors import CL2CMError, EncoderError, MissingExtraError
from cl2cm.progress import say

_MEMORY = 2**30  # bytes of Ray's object store on this machine: a few shards at a time are in it
_PASSED = (ALLOW_HUB, MODEL_ROOTS, "HF_HUB_OFFLINE")  # to the workers of a cluster


class RayData:
    """An `Engine` of Ray Data.

    Args:
        workers: processes; 0: one for each processor.
        address: of a cluster; empty: Ray is started on this machine, for this call.

    Raises:
        MissingExtraError: the extra ``ray`` is not installed.
    """

    def __init__(self, workers: int = 0, address: str = "") -> None:
        self._workers, self._address = workers, address
        if importlib.util.find_spec("ray") is None:
            raise MissingExtraError("ray", "ray")

    def __call__(self, encode: Encode, shards: Iterable[Shard]) -> Results:
        """Yield the features of each shard, in the order in which they become ready."""
        with _running(self._workers, self._address) as ray:
            processors = int(ray.cluster_resources().get("CPU", 1))
            workers = self._workers or processors
            threads = max(1, processors // workers)
            _quieten(ray)
            rows = [{"number": n, "start": p[0], "stop": p[-1] + 1} for n, p in shards]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Ray, about its next versions
                dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                    _Worker,
                    fn_constructor_args=(ray.put(encode), threads),
                    compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
                    num_cpus=threads,
                    ray_remote_args_fn=lambda: {"max_task_retries": ATTEMPTS - 1},
                )
            try:
                for row in dataset.iter_rows():
                    yield int(row["number"]), unpack(_packed(row))
            except ray.exceptions.RayError as error:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                raise _failed(lines[-1][:200]) from error


class _Worker:
    """A worker of Ray: encodes the shards of one row after the other."""

    def __init__(self, step: Any, threads: int) -> None:  # noqa: ANN401 - a reference of Ray
        import ray  # noqa: PLC0415 - of an extra

        torch.set_num_threads(threads)
        self._encode: Encode = ray.get(step)
        use_threads = getattr(self._encode, "use_threads", None)
        if use_threads is not None:
            use_threads(threads)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Encode the items of a row; an expected error is a part of the answer."""
        number, part = int(row["number"]), range(int(row["start"]), int(row["stop"]))
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return {"number": number, **_flat(pack(self._encode(part)))}
            except CL2CMError as error:
                return {"number": number, **_flat(None, error)}
            except Exception as error:  # as a passing fault of a network
                if attempt == ATTEMPTS:
                    why = f"{type(error).__name__}: {error}"
                    return {"number": number, **_flat(None, gave_up(number, why))}
        raise AssertionError


def _flat(packed: Packed | None, error: CL2CMError | None = None) -> dict[str, Any]:
    """Return a result as columns of bytes and text."""
    if packed is None:
        return {"values": b"", "lengths": b"", "content": b"", "width": 0, "failures": "[]",
                    "error": _text(error)}  # fmt: skip
    return {
        "values": packed.values.tobytes(),
        "lengths": packed.lengths.tobytes(),
        "content": packed.content.tobytes(),
        "width": packed.values.shape[1],
        "failures": json.dumps([[place, _text(error)] for place, error in packed.failures]),
        "error": "",
    }


def _packed(row: Mapping[str, Any]) -> Packed:
    """Return a result of its columns.

    Raises:
        CL2CMError: the worker met it.
    """
    if row["error"]:
        raise _error(row["error"])
    return Packed(
        np.frombuffer(row["values"], np.float16).reshape(-1, int(row["width"])),
        np.frombuffer(row["lengths"], np.int64),
        np.frombuffer(row["content"], np.bool_),
        [(place, _error(text)) for place, text in json.loads(row["failures"])],
    )


def _text(error: CL2CMError | None) -> str:
    return json.dumps([type(error).__name__, str(error), vars(error)])


def _error(text: str) -> CL2CMError:
    name, said, state = json.loads(text)
    kind = getattr(errors, name, CL2CMError)
    return errors.restored(kind, said, state)


@contextmanager
def _running(workers: int, address: str) -> Iterator[Any]:
    """Connect to Ray, or start it here, for a time."""
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(_Aside()))
        options = _cluster(address)
        if not address:
            stack.enter_context(environment(_private()))
            folder = tempfile.mkdtemp(prefix="cl2cm-ray-", dir=_short())
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            options = _here(workers, f"{folder}/ray")  # Ray opens its own folder to all
        ray: Any = importlib.import_module("ray")
        importlib.import_module("ray.data")
        restore = _sigterm_restorer()
        stack.callback(restore, default=True)
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", **options)
        except (OSError, ValueError, RuntimeError) as error:
            raise _failed(str(error).splitlines()[0][:200], address) from error
        stack.callback(ray.shutdown)
        restore()
        yield ray


def _sigterm_restorer() -> Callable[..., None]:
    """Return a function that restores the present handler of SIGTERM, which Ray replaces.

    The default handler is restored at the end alone (``default``): until then, Ray's handler stops
    its processes and lets us remove its folder, where the default would end this process at once.
    """
    number = getattr(signal, "SIGBREAK", signal.SIGTERM)  # as Ray does on Windows
    before = signal.getsignal(number)

    def restore(*, default: bool = False) -> None:
        known = before is not None and (default or before is not signal.SIG_DFL)
        if known and threading.current_thread() is threading.main_thread():
            signal.signal(number, before)

    return restore


class _Aside(io.TextIOBase):
    """Takes what Ray prints about its workers: standard output is for results."""

    def write(self, text: str) -> int:
        if line := " ".join(text.split()):
            say(line[:200])
        return len(text)


def _private() -> dict[str, str]:
    """Return the environment of a Ray that nobody else reaches."""
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listen on loopback, as Ray does on these two
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": _token(),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_BACKEND_LOG_LEVEL": "fatal",  # what fails is told as one error
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),  # of the workers
    }


@functools.cache
def _token() -> str:
    """Return one token of this process: Ray remembers the first."""
    return secrets.token_hex(32)


def _here(workers: int, folder: str) -> dict[str, Any]:
    return {
        "address": "local",  # whatever $RAY_ADDRESS names
        "num_cpus": max(workers, os.cpu_count() or 1),
        "include_dashboard": False,
        "dashboard_host": "127.0.0.1",
        "object_store_memory": _MEMORY,
        "_temp_dir": folder,
        "_system_config": {
            "automatic_object_spilling_enabled": False,  # no objects on the disk
            "enable_metrics_collection": False,
            "prestart_worker_first_driver": False,  # they would idle beside ours
        },
    }


def _cluster(address: str) -> dict[str, Any]:
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    return {"address": address, "runtime_env": {"env_vars": passed} if passed else None}


def _short() -> str | None:
    """Return a folder whose name is short enough for the sockets in it."""
    return None if sys.platform == "win32" else "/tmp"  # noqa: S108 - a folder of our own in it


def _quieten(ray: Any) -> None:  # noqa: ANN401 - a module of an extra
    """Keep Ray's own progress, and its accounts of failures, away from ours."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _failed(why: str, address: str = "") -> EncoderError:
    return EncoderError(
        f"Ray at {address}" if address else "Ray",
        expected="workers that encode",
        found=why,
        remedy="check --address" if address else "use fewer --workers, or --engine local",
    )
