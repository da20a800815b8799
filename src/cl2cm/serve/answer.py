"""An answer on its way to the client: all its headers, and no body where there is to be none."""

from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Scope, Send

from cl2cm.serve.headers import complete, is_unchanged, without_content

_WHOLE = frozenset({200, 206})
_UNREAD = frozenset({408, 413})  # what still comes is not read


class Answer:
    """Sends an answer with all its headers; without a body where there is to be none."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._request, self._send = Headers(scope=scope), send
        self._conditional = scope["method"] == "GET"
        self._empty, self._ended = scope["state"]["head"], False
        self.started, self.status = False, 500
        self.on_start: list[Callable[[], None]] = []

    async def __call__(self, message: Message) -> None:
        """Send a message of ASGI."""
        if message["type"] == "http.response.start":
            self.started = True
            self._complete(message)
            for call in self.on_start:
                call()
            await self._send(message)
        elif not self._empty:
            await self._send(message)
        elif not self._ended:
            self._ended = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _complete(self, message: Message) -> None:
        headers = MutableHeaders(scope=message)
        complete(headers, message["status"])
        if message["status"] in _WHOLE and self._conditional:
            if is_unchanged(self._request, headers):
                message["status"], self._empty = 304, True
                without_content(headers)
        elif message["status"] in _UNREAD:
            headers["Connection"] = "close"
        self.status = message["status"]
