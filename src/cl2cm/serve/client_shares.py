"""Count concurrent requests by kind and client."""

from collections import Counter

from cl2cm.serve.limits import share
from cl2cm.serve.monitoring import Metrics


class Room:
    """Concurrent requests of one kind, of which no client may use all places.

    Args:
        places: how many there are.
    """

    def __init__(self, places: int) -> None:
        self._places, self._share = places, share(places)
        self._clients: Counter[str] = Counter()

    def enter(self, client: str) -> bool:
        """Take a place for a client; return whether there was one."""
        if self._clients.total() >= self._places or self._clients[client] >= self._share:
            return False
        self._clients[client] += 1
        return True

    def leave(self, client: str) -> None:
        """Release a client's place."""
        self._clients[client] -= 1
        if self._clients[client] <= 0:
            del self._clients[client]


class Seat:
    """The place of a request in its room; left once.

    Args:
        room: where it is; already entered.
        client: whose it is.
        metrics: where it is counted.
    """

    def __init__(self, room: Room, client: str, metrics: Metrics) -> None:
        self._room, self._client, self._metrics, self._left = room, client, metrics, False
        metrics.under_way.inc()

    def leave(self) -> None:
        """Release the place, unless already released."""
        if not self._left:
            self._left = True
            self._room.leave(self._client)
            self._metrics.under_way.dec()
