"""What holds for every request and every answer: who may ask, for how long, and with how much."""

import asyncio
import time
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cl2cm.serve.access import Access
from cl2cm.serve.limits import Limits
from cl2cm.serve.metrics import Metrics

POLICY = "; ".join(
    [
        "default-src 'none'",
        "img-src 'self'",
        "media-src 'self'",
        "style-src 'self'",
        "script-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_STREAMED = frozenset({"/media", "/api/v1/media"})  # hold no other work back: not counted


class Guard:
    """Adds the security headers to every answer, and refuses what is not to be answered.

    Args:
        app: what answers.
        hosts: names under which the service may be addressed; any, if None.
        access: who may ask.
        limits: of body, concurrency and time.
        metrics: where everything is counted.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Sequence[str] | None,
        access: Access,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._hosts, self._access, self._limits, self._metrics = hosts, access, limits, metrics
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin = time.perf_counter()
        status = 500

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if status == 413:
                    headers["Connection"] = "close"  # what still comes is not read
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, guarded)
            return
        counted = scope["path"] not in _STREAMED
        self._count(counted)
        try:
            await self._timed(scope, receive, guarded)
        finally:
            self._count(-counted)
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(route, status).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - begin)

    def _count(self, number: int) -> None:
        self._under_way += number
        self._metrics.under_way.set(self._under_way)

    def _refusal(self, scope: Scope) -> Response | None:
        """Give the answer to a request that is not to be looked at."""
        headers = Headers(scope=scope)
        host = host_name(headers.get("host", ""))
        if self._hosts is not None and host not in self._hosts:
            return self._refuse("host", 421, f"this service is not known as {host!r}")
        if self._under_way >= self._limits.concurrent and scope["path"] not in _STREAMED:
            return self._refuse("busy", 503, "too many requests at a time; ask again")
        if not self._access.allows(scope["path"], headers):
            if "text/html" in headers.get("accept", "") and not scope["path"].startswith("/api/"):
                return RedirectResponse("/sign-in", 303)
            return self._refuse("token", 401, "a token is needed: Authorization: Bearer TOKEN")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length[:20]) > self._limits.body:
            return self._refuse("size", 413, self._most)
        return None

    @property
    def _most(self) -> str:
        return f"a body is at most {self._limits.body:,} bytes"

    def _refuse(self, reason: str, status: int, message: str) -> Response:
        self._metrics.refused.labels(reason).inc()
        headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}.get(status)
        return JSONResponse({"error": message}, status, headers)

    async def _timed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer within bounds of size, and begin to within bounds of time.

        An answer that has begun is the server's to end: it knows whether the client reads it.
        """
        limits, begun, read = self._limits, False, 0
        clock = asyncio.timeout(limits.seconds)

        async def metered() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limits.body:  # it said less, or nothing
                self._metrics.refused.labels("size").inc()
                raise HTTPException(413, self._most)
            return message

        async def beginning(message: Message) -> None:
            nonlocal begun
            if not begun:
                begun = True
                clock.reschedule(None)
            await send(message)

        try:
            async with clock:
                await self._app(scope, metered, beginning)
        except TimeoutError:
            if begun:  # one of its own
                raise
            await self._refuse("time", 503, "it took too long")(scope, receive, send)


def host_name(header: str) -> str:
    """Give the name in a Host header, without port and brackets: ``[::1]:8000`` is ``::1``."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()
