"""An authorised search while others send hostile uploads and keep slow connections open.

    python benchmarks/hostile.py [--index INDEX] [--seconds 20] [--uploads 8] [--slow 200]

In one run: the median of searches in the quiet, then the same while ``--uploads`` clients with the
token upload costly images one after the other, and ``--slow`` clients without it send a byte a
second of a head or of a body, or do not read. Their connections are opened again when they are
closed. Each search is a text that was not asked before. Aimed at: a ratio below 10.
"""

import argparse
import asyncio
import contextlib
import io
import json
import multiprocessing
import statistics
import struct
import tempfile
import time
from collections import Counter
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from service import Client, RandomModel, Where, new_texts, random_index, search

TOKEN = "a-token-for-one-benchmark-only"
HEADS = (
    b"",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ",
    b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4000\r\n\r\ntoken=",
    b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET /static/page.css HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 200,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--index", type=Path)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--uploads", type=int, default=8)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--idle", type=int, default=0, help="connections that say nothing")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index = args.index or random_index(Path(folder) / "index", args.rows)
        context = multiprocessing.get_context("spawn")
        ready = context.Queue()
        process = context.Process(
            target=serve, args=(index, ready, args.index is not None), daemon=False
        )
        process.start()
        try:
            address = ready.get(timeout=120)
            host, port = address.removeprefix("http://").rstrip("/").split(":")
            result = asyncio.run(measure((host, int(port)), args))
        finally:
            process.terminate()
            process.join()
    print(json.dumps(result, indent=2))


class BusyModel(RandomModel):
    """Takes as long for an image as a small vision model does."""

    def encode_visual(self, paths: Any) -> np.ndarray:  # noqa: ANN401 - as in the protocol
        return np.stack([self.encode_text([f"{path.name} " * 60])[0] for path in paths])


def serve(path: Path, ready: Queue, trained: bool) -> None:
    from cl2cm.index import Index  # noqa: PLC0415
    from cl2cm.model.checkpoint import load  # noqa: PLC0415
    from cl2cm.search.searcher import Searcher  # noqa: PLC0415
    from cl2cm.serve import run  # noqa: PLC0415

    index = Index.open(path)
    model = load(index.run) if trained else BusyModel()
    run(Searcher(model, index), port=0, token=TOKEN, on_ready=ready.put)


async def measure(where: Where, args: argparse.Namespace) -> dict[str, Any]:
    texts = new_texts()
    await searches(where, texts, 3)
    quiet, _ = await searches(where, texts, args.seconds / 2)
    counts: Counter[str] = Counter()
    images = [many_scans(), large_png(), many_scans(95, 3000)]  # refused, and two within bounds
    hostile = [upload(where, images[n % 3], counts) for n in range(args.uploads)]
    hostile += [slow(where, HEADS[n % len(HEADS)], counts) for n in range(args.slow)]
    hostile += [slow(where, b"", counts, quiet=True) for _ in range(args.idle)]
    tasks = [asyncio.create_task(one) for one in hostile]
    await asyncio.sleep(2)
    loud, failed = await searches(where, texts, args.seconds)
    seen = dict(counts)  # before the connections are closed
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    before, during = statistics.median(quiet), statistics.median(loud)
    return {
        "quiet median ms": round(before, 2),
        "hostile median ms": round(during, 2),
        "hostile p95 ms": round(sorted(loud)[int(0.95 * len(loud))], 2),
        "ratio": round(during / before, 2),
        "searches": len(loud),
        "failed searches": failed,
        **seen,
    }


async def searches(where: Where, texts: Any, seconds: float) -> tuple[list[float], int]:  # noqa: ANN401
    """Search again and again; return milliseconds of each, and how many failed."""
    client, spent, failed, end = Authorised(where), [], 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        try:
            failed += await client.get(search(next(texts))) != 200
        except (OSError, asyncio.IncompleteReadError):
            failed, client = failed + 1, Authorised(where)
        spent.append((time.perf_counter() - begin) * 1e3)
        await asyncio.sleep(0.02)
    return spent, failed


class Authorised(Client):
    """A connection of somebody who knows the token."""

    headers = f"Authorization: Bearer {TOKEN}\r\n"


async def upload(where: Where, image: bytes, counts: Counter[str]) -> None:
    """Send an image again and again."""
    body = (b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n'
            + image + b"\r\n--x--\r\n")  # fmt: skip
    head = (f"POST /api/v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
            f"Authorization: Bearer {TOKEN}\r\nConnection: close\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n\r\n").encode()  # fmt: skip
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection(*where)
            writer.write(head + body)
            answer = await reader.readuntil(b"\r\n")
            await reader.read()
            counts[f"uploads answered {answer[9:12].decode()}"] += 1
            writer.close()


async def slow(where: Where, head: bytes, counts: Counter[str], *, quiet: bool = False) -> None:
    """Open a connection again and again, and send a byte a second, or nothing."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(*where, limit=1024)
            counts["slow connections"] += 1
            counts["slow connections open"] += 1
            try:
                writer.write(head)
                while not writer.is_closing():
                    await asyncio.sleep(1)
                    if not quiet:
                        writer.write(b"a")
            finally:
                counts["slow connections open"] -= 1
        await asyncio.sleep(0.1)


def many_scans(scans: int = 450, side: int = 13_000) -> bytes:
    """A progressive JPEG that repeats its last scan and claims to be large."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(file, "JPEG", progressive=True)
    whole = file.getvalue()
    frame = whole.index(b"\xff\xc2")
    whole = whole[: frame + 5] + struct.pack(">HH", side, side) + whole[frame + 9 :]
    last, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    return whole[:last] + whole[last:end] * scans + whole[end:]


def large_png(side: int = 5600) -> bytes:
    """A PNG with as many pixels as an upload may have."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 4, (side, side), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG", compress_level=1)
    return file.getvalue()


if __name__ == "__main__":
    main()
