"""HTTP with time limits for slow and idle clients.

A connection that waits for its client (idle, in the middle of a head or body, or with an answer
that is not read) costs a descriptor. There are so many of them; for a further one, the one that has
kept the service waiting longest is closed: first of those without the token, of the client that has
most. A complete request is therefore answered, however many idle connections there are.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from cl2cm.serve.headers import HEADERS, NEVER_KEPT
from cl2cm.serve.limits import Limits, share
from cl2cm.serve.origin import Network, is_proxy

_SWEEP_SECONDS = 0.2
_FEW_CHUNKS = 64
_CHUNK = 64  # bytes, on average, of a body in more than a few chunks
_UNREAD = 256 * 2**10  # bytes of a body that come after the answer
_LOOSE = re.compile(rb"(?<!\r)\n|\n[ \t]")  # a line that ends in LF alone, or continues in the next


def protocol_of(limits: Limits, proxies: Sequence[Network]) -> type["PatientProtocol"]:
    """Return the protocol of a server with these limits."""
    shared = Connections(limits, proxies)

    class Patient(PatientProtocol):
        registry = shared

    return Patient


class Connections:
    """Connections of one server.

    Args:
        limits: of number and time.
        proxies: whose connections carry requests of many clients.
    """

    def __init__(self, limits: Limits, proxies: Sequence[Network]) -> None:
        self._limits, self._proxies = limits, proxies
        self._open: set[PatientProtocol] = set()
        self._sweeping: asyncio.TimerHandle | None = None

    def admit(self, connection: "PatientProtocol") -> None:
        """Take a connection; close another where there are too many."""
        others = list(self._open)
        most, fair = self._limits.connections, share(self._limits.connections)
        peer = connection.peer
        if len(others) >= most:
            self._close_some(others, len(others) - most + 1)
        elif not is_proxy(peer, self._proxies):
            own = [other for other in others if other.peer == peer and not other.known]
            self._close_some(own, len(own) - fair + 1)
        self._open.add(connection)
        if len(self._open) > 2 * most:  # all of them are being answered
            self._close(connection)
        if self._sweeping is None:
            self._sweeping = connection.loop.call_later(
                _SWEEP_SECONDS, self._sweep, connection.loop
            )

    def leave(self, connection: "PatientProtocol") -> None:
        """Forget a connection that was closed."""
        self._open.discard(connection)

    def _close_some(self, connections: Collection["PatientProtocol"], number: int) -> None:
        """Close those that keep the service waiting longest; none that is being answered."""
        waiting = [one for one in connections if one.waiting_since is not None]
        of_client = Counter(one.peer for one in waiting)
        waiting.sort(
            key=lambda one: (one.known, -of_client[one.peer], one.served, one.waiting_since)
        )
        for one in waiting[: max(number, 0)]:
            self._close(one)

    def _close(self, connection: "PatientProtocol") -> None:
        self._open.discard(connection)
        connection.transport.abort()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        for connection in list(self._open):
            if connection.is_overdue(now, self._limits):
                self._close(connection)
        again = loop.call_later(_SWEEP_SECONDS, self._sweep, loop) if self._open else None
        self._sweeping = again


class CarefulConnection(h11.Connection):
    """Refuses heads that a proxy may read differently, and bodies in many small chunks.

    What one parser takes for a part of a value is to another a header of its own, such as the
    address of the client; what has two lengths may end in two places.
    """

    pipelined = False  # whether a request came before the answer to the one before it
    _chunks = _bytes = _late = 0

    def next_event(self) -> Any:  # noqa: ANN401 - as in h11
        """Return the next event; as `h11.Connection`."""
        head = self.trailing_data[0] if self.their_state is h11.IDLE else b""
        event = super().next_event()
        self.pipelined = self.pipelined or event is h11.PAUSED
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = self._late = 0
            left = len(self.trailing_data[0])
            if _LOOSE.search(head, 0, len(head) - left) or _has_two_lengths(event):
                raise h11.RemoteProtocolError("a head that may be read in two ways")
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._bytes += len(event.data)
            self._late += len(event.data) if self.our_state is h11.DONE else 0
            if self._chunks > _FEW_CHUNKS and self._bytes < self._chunks * _CHUNK:
                raise h11.RemoteProtocolError("too many small chunks")
            if self._late > _UNREAD:
                raise h11.RemoteProtocolError("a body goes on after the answer")
        return event


def _has_two_lengths(request: h11.Request) -> bool:
    names = [name for name, _ in request.headers]
    return b"transfer-encoding" in names and b"content-length" in names


class PatientProtocol(H11Protocol):
    """HTTP/1.1 of one connection.

    Attributes:
        known: whether somebody who knows the token has asked over it.
        served: whether an answer was given over it.
        peer: address from which it comes.
    """

    registry: Connections

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, "connection": self}, _loop)
        self.conn = CarefulConnection(h11.SERVER, config.h11_max_incomplete_event_size or 2**14)
        self.known = self.served = False
        self.peer = ""
        self._idle_since = time.monotonic()
        self._paused = False
        self._stalled_since: float | None = None

    # --- what uvicorn calls -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self.peer = self.client[0] if self.client else ""
        self.registry.admit(self)

    def data_received(self, data: bytes) -> None:
        """Take a piece of a request; one that comes before its turn is left to another connection.

        Browsers and proxies wait for the answer. Whoever does not could have hundreds of requests
        answered while others wait for one.
        """
        super().data_received(data)
        if isinstance(self.conn, CarefulConnection) and self.conn.pipelined and not self._idle:
            self.cycle.keep_alive = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self.registry.leave(self)

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read."""
        super().pause_writing()
        self._paused = True

    def resume_writing(self) -> None:
        """Go on: it reads."""
        super().resume_writing()
        self._paused = False

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self.served, self._idle_since = True, time.monotonic()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - as in uvicorn
        """Refuse what is not HTTP, also in the middle of a body."""
        cycle = self.cycle
        begun = cycle is not None and not cycle.response_complete
        answered = cycle is not None and cycle.response_started
        if begun:
            cycle.disconnected = True  # what it answers is not sent any more
            cycle.message_event.set()
        if not (begun and answered) and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            for event in _refusal():
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    # --- how long it has waited -------------------------------------------------------------------

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    @property
    def waiting_since(self) -> float | None:
        """Since when it waits for the client; None while the service works."""
        if self._stalled_since is not None:
            return self._stalled_since
        return self._idle_since if self._idle or self.cycle.more_body else None

    def is_overdue(self, now: float, limits: Limits) -> bool:
        """Return whether the client has had time enough."""
        unread = self.transport.get_write_buffer_size() > 0
        if unread and (self._paused or self._idle or self.transport.is_closing()):
            self._stalled_since = self._stalled_since or now
            return now - self._stalled_since > limits.seconds
        self._stalled_since = None
        return self._idle and now - self._idle_since > limits.header_seconds


def _refusal() -> tuple[h11.Event, ...]:
    fields = {**HEADERS, "Cache-Control": NEVER_KEPT, "Content-Type": "application/json"}
    fields["Connection"] = "close"
    head = h11.Response(status_code=400, headers=list(fields.items()), reason=b"Bad Request")
    return head, h11.Data(data=b'{"error": "this is not HTTP"}'), h11.EndOfMessage()
