"""Serve the files of items; each is opened once and read through its descriptor.

A name may refer to another file when it is read than when it was checked. So the kind, the size,
the time and the bytes all come from one open file. Every failure has the same text: a response does
not tell a file that is missing from one that may not be read.
"""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import IO

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cl2cm.errors import CL2CMError, MediaError
from cl2cm.index import Index
from cl2cm.media.kinds import START, is_video_type, media_type
from cl2cm.serve.headers import ASK_AGAIN
from cl2cm.serve.media import shrink, shrink_frame
from cl2cm.types import Item

_PIECE = 256 * 2**10
_MOST_BYTES = 256 * 2**20  # of an image

InThread = Callable[..., Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class MediaFile:
    """An open image or video; kind, size and time belong to the opened file."""

    file: IO[bytes]
    media_type: str
    size: int
    modified_ns: int
    tag: str

    @property
    def stable_path(self) -> Path:
        """A name of this very file for what opens files itself, where the system has one."""
        name = Path(f"/proc/{os.getpid()}/fd/{self.file.fileno()}")
        return name if name.exists() else Path(self.file.name)

    def read(self, at: int, most: int) -> bytes:
        """Return bytes from a place on; fewer at the end."""
        self.file.seek(at)
        return self.file.read(most)


def open_media(index: Index, item: Item) -> MediaFile:
    """Open the file of an item; this never waits for a pipe and never follows a link.

    Raises:
        MediaError: there is none that may be shown.
    """
    try:
        file = index.open_media(item)
    except (CL2CMError, OSError):
        raise not_shown() from None
    try:
        kind = media_type(file.read(START))
        found = os.fstat(file.fileno())
    except (MediaError, OSError):
        file.close()
        raise not_shown() from None
    state = f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns}"
    tag = f'"{hashlib.sha256(state.encode()).hexdigest()[:24]}"'
    return MediaFile(file, kind, found.st_size, found.st_mtime_ns, tag)


def small_copy(
    media: MediaFile, size: int, part: tuple[float | None, float | None], name: str
) -> tuple[bytes, str]:
    """Return a small copy of an open file, or of a frame of a part of a video; and its MIME type.

    Raises:
        MediaError: it cannot be decoded.
        MissingExtraError: a video, and what reads videos is not installed.
    """
    if is_video_type(media.media_type):
        return shrink_frame(media.stable_path, size, part, name)
    return shrink(media.read(0, _MOST_BYTES), size, name)


def not_shown() -> MediaError:
    """Return the error for a file that is not shown, for whatever reason."""
    return MediaError(
        "the file of this item",
        expected="an image or a video below a folder that was indexed",
        found="none that can be shown",
        remedy="restore the file, or index the folder again",
    )


class MediaResponse(Response):
    """Sends a file, or one range of it.

    Args:
        media: the open file; closed at the end.
        in_thread: runs a function in a thread.
    """

    def __init__(self, media: MediaFile, in_thread: InThread) -> None:
        self._media, self._in_thread = media, in_thread
        self.status_code, self.background = 200, None
        self.init_headers(
            {
                "Content-Type": media.media_type,
                "Content-Length": str(media.size),
                "Accept-Ranges": "bytes",
                "Cache-Control": ASK_AGAIN,
                "ETag": media.tag,
                "Last-Modified": formatdate(media.modified_ns // 10**9, usegmt=True),
            }
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for the file."""
        gone = asyncio.create_task(_until_gone(receive))
        try:
            at, end = self._choose(Headers(scope=scope))
            start = {"type": "http.response.start", "status": self.status_code}
            await send({**start, "headers": self.raw_headers})
            while not gone.done():
                piece = await self._in_thread(self._media.read, at, min(_PIECE, end - at))
                at += len(piece)
                if (
                    at < end and not piece
                ):  # it became shorter: without the rest the server hangs up
                    return
                await send({"type": "http.response.body", "body": piece, "more_body": at < end})
                if at >= end:
                    return
        finally:
            gone.cancel()
            self._media.file.close()

    def _choose(self, request: Headers) -> tuple[int, int]:
        """Return the first byte to send and the one after the last; set status and headers."""
        size = self._media.size
        wanted = request.get("range")
        if wanted is None or not self._is_current(request.get("if-range")):
            return 0, size
        found = parse_range(wanted, size)
        if found is None:
            return 0, size
        if found[0] >= found[1]:
            self.status_code = 416
            self.headers["Content-Range"] = f"bytes */{size}"
            self.headers["Content-Length"] = "0"
            del self.headers["Content-Type"]
            return 0, 0
        self.status_code = 206
        self.headers["Content-Range"] = f"bytes {found[0]}-{found[1] - 1}/{size}"
        self.headers["Content-Length"] = str(found[1] - found[0])
        return found

    def _is_current(self, condition: str | None) -> bool:
        """Return whether If-Range lets a range be sent: the client has a part of this very file."""
        return condition is None or condition in (self._media.tag, self.headers["Last-Modified"])


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the bytes ``[from, to)`` of a Range header; None if the whole file is the answer.

    Several ranges are answered with the whole file, as RFC 9110 allows. An empty range is one that
    the file does not have.
    """
    unit, _, ranges = header.partition("=")
    first, dash, last = ranges.strip().partition("-")
    first, last = first.strip(), last.strip()
    numbers = all(part == "" or (part.isascii() and part.isdigit()) for part in (first, last))
    few = len(first) <= 18 and len(last) <= 18
    if unit.strip().lower() != "bytes" or not dash or not numbers or not few or first == last == "":
        return None
    if not first:
        return max(size - int(last), 0) if int(last) else size, size
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size
