"""The service on loopback: overhead of a request, load at 80 % of its peak, gain of batching.

    python benchmarks/service.py [--index INDEX] [--seconds 60] [--rows 10000] [--clients 64]

The server is a process of its own. Without ``--index`` the index holds random vectors, and the
model is a text encoder of the size of multilingual-e5-small (12 layers of 384) with random weights:
the work is the same, only the hits mean nothing. Latency under load is counted from the moment a
request was due, so that a server that falls behind is not spared. Texts are sent once each where
encoding is measured, and come from a known few where it is not.
"""

import argparse
import asyncio
import http.client
import itertools
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

Where = tuple[str, int]
Figures = dict[str, float]
WORDS = ("red", "heart", "dog", "snow", "happy", "cat", "two", "people", "beach", "old", "car",
         "night", "city", "child", "flower")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--index", type=Path)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index = args.index or random_index(Path(folder) / "index", args.rows)
        real = args.index is not None
        result = {
            "overhead_ms": with_server(index, 64, overhead, trained=real),
            "load": with_server(index, 64, load, args.clients, args.seconds, trained=real),
            "batching": batching(index, args.clients, args.seconds / 4, trained=real),
        }
    print(json.dumps(result, indent=2))


# --- the server ---------------------------------------------------------------------------------


class RandomModel:
    """A text encoder of 12 layers of 384, random."""

    fingerprint, dim = "random", 384

    def __init__(self) -> None:
        import torch  # noqa: PLC0415
        from transformers import BertConfig, BertModel  # noqa: PLC0415

        torch.manual_seed(0)
        size = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 12}
        config = BertConfig(vocab_size=30_000, intermediate_size=1536, **size)
        self._network, self._torch = BertModel(config, add_pooling_layer=False).eval(), torch

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        torch = self._torch
        ids = [[hash(word) % 30_000 for word in text.split()] for text in texts]
        longest = max(len(row) for row in ids)
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
        with torch.inference_mode():
            states = self._network(padded, attention_mask=mask).last_hidden_state
        means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        unit: np.ndarray = torch.nn.functional.normalize(means, dim=-1).numpy()
        return unit

    def encode_visual(self, paths: Sequence[Path]) -> np.ndarray:
        raise NotImplementedError


def random_index(path: Path, rows: int) -> Path:
    from cl2cm.index import Index  # noqa: PLC0415
    from cl2cm.types import Item  # noqa: PLC0415

    vectors = np.random.default_rng(0).standard_normal((rows, 384), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    captions = {"en": ("a caption of some words",)}
    items = [
        Item(f"folder/{i:06}.jpg", f"/nowhere/{i:06}.jpg", captions=captions) for i in range(rows)
    ]
    Index.create(path, vectors, items, model="random", run=path).close()
    return path


def serve(path: Path, batch: int, ready: Queue, *, trained: bool) -> None:
    from cl2cm.index import Index  # noqa: PLC0415
    from cl2cm.model.checkpoint import load  # noqa: PLC0415
    from cl2cm.search.searcher import Searcher  # noqa: PLC0415
    from cl2cm.serve import Limits, run  # noqa: PLC0415

    index = Index.open(path)
    model = load(index.run) if trained else RandomModel()
    run(
        Searcher(model, index),
        port=0,
        limits=Limits(batch=batch, concurrent=512),
        on_ready=ready.put,
    )


def with_server(
    path: Path, batch: int, measure: Callable[..., Awaitable[Any]], *settings: float, trained: bool
) -> Any:  # noqa: ANN401 - what it measures
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    process = context.Process(
        target=serve, args=(path, batch, ready), kwargs={"trained": trained}, daemon=True
    )
    process.start()
    address = ready.get(timeout=120)
    host, port = address.removeprefix("http://").rstrip("/").split(":")
    try:
        return asyncio.run(measure((host, int(port)), *settings))
    finally:
        process.terminate()
        process.join()


# --- clients --------------------------------------------------------------------------------------


class Client:
    """One connection that is kept."""

    headers = ""

    def __init__(self, where: Where) -> None:
        self._where = where
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str) -> int:
        """Ask once; gives the status. A connection that idled until it was closed is made anew."""
        if self._streams is None or self._streams[0].at_eof():
            self._streams = await asyncio.open_connection(*self._where)
        reader, writer = self._streams
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {self._where[0]}\r\n{self.headers}\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:-2])
        lower = {name.lower(): value for name, value in fields.items()}
        await reader.readexactly(int(lower["content-length"]))
        return int(head[9:12])


def known_texts() -> Iterator[str]:
    return itertools.cycle(" ".join(pair) for pair in itertools.product(WORDS[:4], WORDS[:8]))


def new_texts() -> Iterator[str]:
    return (f"{a} {b} {c} {number}" for number, (a, b, c) in
            enumerate(itertools.cycle(itertools.product(WORDS, WORDS, WORDS))))  # fmt: skip


def search(text: str) -> str:
    return f"/api/v1/search?q={quote(text)}"


async def overhead(where: Where) -> Figures:
    """Request to response of one client, the query's vector being known, in milliseconds.

    ``whole`` is all of it, ``search`` what the answer says that the search in the index took, and
    ``service`` the rest.
    """
    connection, texts = http.client.HTTPConnection(*where), known_texts()
    whole, search_ms = [], []
    for number in range(2200):
        begin = time.perf_counter()
        connection.request("GET", search(next(texts)))
        content = connection.getresponse().read()
        spent = (time.perf_counter() - begin) * 1e3
        if number >= 200:
            whole.append(spent)
            search_ms.append(json.loads(content)["ms"]["search"])
    service = [all_ - part for all_, part in zip(whole, search_ms, strict=True)]
    named = {"whole": whole, "search": search_ms, "service": service}
    return {
        f"{name} {label}": round(sorted(times)[int(share * len(times))], 3)
        for name, times in named.items()
        for label, share in (("median", 0.5), ("p99", 0.99))
    }


async def peak(where: Where, clients: int, seconds: float, texts: Iterator[str]) -> float:
    """Answers a second when each of the clients asks again at once."""
    done, end = 0, time.perf_counter() + seconds

    async def ask(client: Client) -> None:
        nonlocal done
        while time.perf_counter() < end:
            assert await client.get(search(next(texts))) == 200
            done += 1

    begin = time.perf_counter()
    await asyncio.gather(*[ask(Client(where)) for _ in range(clients)])
    return done / (time.perf_counter() - begin)


async def load(where: Where, clients: int, seconds: float) -> Figures:
    """Latency at 80 % of the peak, requests coming at even times whatever becomes of the others."""
    texts = new_texts()
    await peak(where, clients, 2, texts)
    top = await peak(where, clients, min(10, seconds), texts)
    rate = 0.8 * top
    free: asyncio.LifoQueue[Client] = asyncio.LifoQueue()
    for _ in range(256):
        free.put_nowait(Client(where))
    latencies: list[float] = []
    wrong = 0
    begin = time.perf_counter()

    async def ask(due: float) -> None:
        nonlocal wrong
        client = await free.get()
        try:
            status = await client.get(search(next(texts)))
            wrong += status != 200
            latencies.append((time.perf_counter() - due) * 1e3)
        except (OSError, asyncio.IncompleteReadError):
            wrong += 1
            client = Client(where)
        free.put_nowait(client)

    tasks: set[asyncio.Task[None]] = set()
    for number in range(int(rate * seconds)):
        due = begin + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(ask(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    latencies.sort()
    median, p99 = statistics.median(latencies), latencies[int(0.99 * len(latencies))]
    return {
        "peak a second": round(top, 1), "rate": round(rate, 1), "requests": len(latencies),
        "errors": wrong, "median ms": round(median, 2), "p99 ms": round(p99, 2),
        "p99 / median": round(p99 / median, 2),
    }  # fmt: skip


def batching(index: Path, clients: int, seconds: float, *, trained: bool) -> Figures:
    """Queries a second of many clients: encoded one by one, and together."""

    async def measure(where: Where) -> float:
        await peak(where, clients, 2, new_texts())
        return await peak(where, clients, seconds, new_texts())

    one = with_server(index, 1, measure, trained=trained)
    many = with_server(index, 64, measure, trained=trained)
    return {
        "one by one": round(one, 1), "together": round(many, 1), "ratio": round(many / one, 2)
    }  # fmt: skip


if __name__ == "__main__":
    main()
