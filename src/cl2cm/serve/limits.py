"""How much of this machine a stranger may use, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the service; each is at least 1.

    Attributes:
        body: bytes of a request, such as a picture to search with.
        concurrent: requests being answered; beyond them a client is told to come back.
        connections: open connections, idle ones included.
        seconds: until an answer begins, and for a client to go on reading it.
        header_seconds: for a client to say what it wants, once it has connected.
        batch: queries encoded at once.
        remembered: query vectors kept.
        uploads: pictures to search with that are kept, each with its vector and a thumbnail.
        threads: searches, thumbnails and the like at a time.
    """

    body: int = 20 * 2**20
    concurrent: int = 128
    connections: int = 512
    seconds: float = 30.0
    header_seconds: float = 10.0
    batch: int = 64
    remembered: int = 4096
    uploads: int = 256
    threads: int = 4
