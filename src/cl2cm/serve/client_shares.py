"""How many requests of each kind are under way, and whose."""

from collections import Counter

from cl2cm.serve.limits import share
from cl2cm.serve.monitoring import Metrics


class Room:
    """Requests of one kind that are under way; no client fills it alone.

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
        """Give a client's place back."""
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
        """Give the place back, if that was not done before."""
        if not self._left:
            self._left = True
            self._room.leave(self._client)
            self._metrics.under_way.dec()
