"""What holds for every request and every answer: who may ask, for how long, and with how much.

In this order: the size of the head, the Host, the site that sent it, the token, the body, how many
others are under way. So whoever has no token learns nothing beyond it, and costs nothing that
others need.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cl2cm.serve.access import Access, Verdict, is_open
from cl2cm.serve.answer import Answer
from cl2cm.serve.client_shares import Room, Seat
from cl2cm.serve.cookies import SESSION, own_cookies, with_cookies
from cl2cm.serve.limits import Limits
from cl2cm.serve.monitoring import Metrics
from cl2cm.serve.origin import Network, client_of, is_cross_site, is_own_host

_STREAMED = frozenset({"/media", "/api/v1/media"})  # cost no more than a connection: not counted
_UPLOADS = frozenset({"/picture", "/api/v1/search"})
_EXTRA = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "3"}, 503: {"Retry-After": "1"}}


Refuse = Callable[[Scope, int, str], Response]


@dataclass(frozen=True, slots=True)
class Door:
    """Who may come in.

    Attributes:
        hosts: names under which the service may be addressed; any, if None.
        proxies: where a proxy's word on the client's address is taken.
        root: path below which a proxy shows the service, such as ``/photos``; else empty.
    """

    hosts: Sequence[str] | None = None
    proxies: Sequence[Network] = ()
    root: str = ""


class Guard:
    """Completes the headers of every answer, and refuses what is not to be answered.

    Args:
        app: what answers.
        door: names, proxies, and root path.
        access: who may ask.
        limits: of body, concurrency and time.
        metrics: where everything is counted.
        refuse: makes the answer to a request that is refused, of its status and message.
    """

    def __init__(
        self,
        app: ASGIApp,
        door: Door,
        access: Access,
        limits: Limits,
        metrics: Metrics,
        refuse: Refuse,
    ) -> None:
        self._answer_refused = refuse
        self._app, self._door = app, door
        self._access, self._limits, self._metrics = access, limits, metrics
        self._rooms = {
            "search": Room(limits.concurrent),
            "upload": Room(limits.uploading),
            "open": Room(limits.open),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(self._seen(scope), receive, send)

    def _seen(self, scope: Scope) -> Scope:
        """Return a request as the routes see it: below the root path, and GET in place of HEAD."""
        path, root = scope["path"], self._door.root
        if root and (path == root or path.startswith(root + "/")):
            path = path[len(root) :] or "/"
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        headers = Headers(scope=scope)
        state = {
            **scope.get("state", {}),
            "client": client_of(scope, headers, self._door.proxies),
            "head": scope["method"] == "HEAD",
            "known": False,  # until it is found out
        }
        return {**scope, "path": path, "root_path": "", "method": method, "state": state}

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin, answer = time.perf_counter(), Answer(scope, send)
        refusal = self._refusal(scope)
        if refusal is None:
            try:
                await self._admitted(scope, receive, answer)
            finally:
                route = getattr(scope.get("route"), "path", "none")
                self._metrics.requests.labels(route, answer.status).inc()
                self._metrics.seconds.labels(route).observe(time.perf_counter() - begin)
        else:
            await refusal(scope, receive, answer)

    # --- what is not looked at --------------------------------------------------------------------

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that is not to be looked at."""
        headers, path, hosts = Headers(scope=scope), scope["path"], self._door.hosts
        target = len(scope.get("raw_path") or path) + len(scope["query_string"])
        if target > self._limits.head // 2:
            return self._refuse(scope, "size", 414, "the address is too long")
        if sum(len(name) + len(value) for name, value in scope["headers"]) > self._limits.head:
            return self._refuse(scope, "size", 431, "the headers are too long")
        host = headers.get("host", "")
        if not is_own_host(scope, host, hosts):
            remedy = "add it with: cl2cm serve --name"
            return self._refuse(
                scope, "host", 421, f"this service is not known as {host[:100]!r}; {remedy}"
            )
        if not path.startswith("/"):
            return self._refuse(scope, "address", 400, "expected a path")
        if is_cross_site(scope, path, headers, hosts) and not _has_token(headers):
            return self._refuse(scope, "site", 403, "a page of another site may not ask for this")
        return self._stranger(scope, headers) or self._oversized(scope, headers)

    def _stranger(self, scope: Scope, headers: Headers) -> Response | None:
        cookies = own_cookies(scope["headers"])
        scope["headers"] = with_cookies(scope["headers"], cookies)
        verdict = self._access.judge(headers, cookies.get(SESSION), scope["state"]["client"])
        scope["state"]["known"] = verdict is Verdict.KNOWN
        connection = scope["state"].get("connection")
        if connection is not None and self._access.needed and verdict is Verdict.KNOWN:
            connection.known = True
        if verdict is Verdict.KNOWN or is_open(scope["path"]):
            return None
        if verdict is Verdict.TOO_MANY:
            return self._refuse(scope, "tries", 429, "too many wrong tokens; wait a while")
        if "text/html" in headers.get("accept", "") and not scope["path"].startswith("/api/"):
            return RedirectResponse(self._door.root + "/sign-in", 303)
        return self._refuse(scope, "token", 401, "a token is needed: Authorization: Bearer TOKEN")

    def _oversized(self, scope: Scope, headers: Headers) -> Response | None:
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length[:20]) > self._most(scope):
            return self._refuse(scope, "size", 413, self._most_text(scope))
        return None

    def _most(self, scope: Scope) -> int:
        small = min(self._limits.small_body, self._limits.body)
        return self._limits.body if scope["path"] in _UPLOADS else small

    def _most_text(self, scope: Scope) -> str:
        return f"a body is at most {self._most(scope):,} bytes"

    def _refuse(self, scope: Scope, reason: str, status: int, message: str) -> Response:
        self._metrics.refused.labels(reason).inc()
        response = self._answer_refused(scope, status, message)
        response.headers.update(_EXTRA.get(status, {}))
        if status != 503:  # what still comes is not read
            response.headers["Connection"] = "close"
        return response

    # --- what is ----------------------------------------------------------------------------------

    async def _admitted(self, scope: Scope, receive: Receive, send: "Answer") -> None:
        """Answer a request; of what one client sends slowly no other has to wait for the end."""
        if scope["path"] in _STREAMED:
            await self._timed(scope, receive, send)
            return
        kind = _kind(scope)
        if kind != "upload" and _has_body(scope):
            try:
                receive = await self._read(scope, receive)  # before it counts
            except HTTPException as error:
                await self._refuse(scope, "body", error.status_code, error.detail)(
                    scope, receive, send
                )
                return
        room, client = self._rooms[kind], scope["state"]["client"]
        if not room.enter(client):
            message = "too many requests at a time; ask again"
            await self._refuse(scope, "busy", 503, message)(scope, receive, send)
            return
        seat = Seat(room, client, self._metrics)
        send.on_start.append(seat.leave)  # the rest is for the client to read
        try:
            await self._timed(scope, receive, send)
        finally:
            seat.leave()

    async def _read(self, scope: Scope, receive: Receive) -> Receive:
        """Read a small body; return what gives it again."""
        body, metered, rest = b"", self._metered(scope, receive), receive
        more = True
        while more:
            message = await metered()
            if message["type"] == "http.disconnect":
                raise HTTPException(400, "the body is not whole")
            body += message.get("body", b"")
            more = message.get("more_body", False)
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await rest()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return again

    def _metered(self, scope: Scope, receive: Receive) -> Receive:
        """Return a body's source that ends it where it is too large or comes too slowly."""
        begin, read, limits = time.monotonic(), 0, self._limits
        most, done = self._most(scope), False

        async def metered() -> Message:
            nonlocal read, done
            if done:
                return await receive()
            due = begin + limits.body_seconds + read / limits.body_rate
            try:
                async with asyncio.timeout(max(due - time.monotonic(), 0)):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the body came too slowly") from None
            read += len(message.get("body", b""))
            done = not message.get("more_body", False)
            if read > most:  # it said less, or nothing
                self._metrics.refused.labels("size").inc()
                raise HTTPException(413, self._most_text(scope))
            return message

        return metered

    async def _timed(self, scope: Scope, receive: Receive, send: "Answer") -> None:
        """Begin to answer within bounds of time.

        An answer that has begun is the server's to end: it knows whether the client reads it.
        """
        clock = asyncio.timeout(self._limits.seconds)

        def begun() -> None:
            if not clock.expired():
                clock.reschedule(None)

        send.on_start.append(begun)
        try:
            async with clock:
                await self._app(scope, self._metered(scope, receive), send)
        except TimeoutError:
            if send.started:  # one of its own
                raise
            await self._refuse(scope, "time", 503, "it took too long")(scope, receive, send)


def _kind(scope: Scope) -> str:
    if is_open(scope["path"]):
        return "open"
    return "upload" if scope["path"] in _UPLOADS and scope["method"] == "POST" else "search"


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _has_token(headers: Headers) -> bool:
    """Whether a request says who it is in a header that no page of another site can send."""
    return headers.get("authorization", "").lower().startswith("bearer ")
