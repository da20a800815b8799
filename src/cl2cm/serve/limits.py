"""Limits on the resources that a client may use."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the service; each is at least 1.

    Of ``concurrent``, ``uploading``, ``open`` and ``connections`` one client may use a share:
    see `share`.

    Attributes:
        body: bytes of an upload, such as an image to search with.
        small_body: bytes of every other request.
        concurrent: requests being answered; beyond them a client is told to come back.
        uploading: uploads being received or encoded; counted apart, so that they cost no search.
        open: requests for what needs no token, such as signing in; counted apart as well.
        connections: open connections; for a further one, the one that has kept the service
            waiting longest is closed.
        seconds: until a response begins, and for a client to continue reading it.
        header_seconds: for a client to send the head of a request, and to stay idle.
        body_seconds: for a small body; a larger one has to come at ``body_rate`` after that.
        body_rate: bytes per second of an upload.
        head: bytes of the first line and the headers of a request.
        batch: queries encoded at once.
        remembered: query vectors kept.
        uploads: images to search with that are kept, each with its vector and a thumbnail.
        threads: searches at a time; thumbnails, files and uploads have threads of their own.
    """

    body: int = 20 * 2**20
    small_body: int = 8 * 2**10
    concurrent: int = 128
    uploading: int = 16
    open: int = 32
    connections: int = 512
    seconds: float = 30.0
    header_seconds: float = 10.0
    body_seconds: float = 5.0
    body_rate: int = 16 * 2**10
    head: int = 32 * 2**10
    batch: int = 64
    remembered: int = 4096
    uploads: int = 256
    threads: int = 4


def share(places: int) -> int:
    """Return how many of some places one client may take: three quarters, rounded up."""
    return places - places // 4
