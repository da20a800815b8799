"""Access control: anyone, or clients with the token.

A program sends ``Authorization: Bearer TOKEN``. A browser gives the token once, on the sign-in
page, and gets a cookie that is signed with a key derived from it and expires; the token itself is
kept nowhere. Another token ends every session.
"""

import hashlib
import hmac
import ipaddress
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path

from cl2cm.errors import ConfigError

VARIABLE = "CL2CM_TOKEN"
SESSION_SECONDS = 7 * 24 * 3600
LEAST = 16  # characters
_OPEN = frozenset({"/sign-in", "/sign-out", "/language", "/api/v1/health", "/api/health"})
_TRIES = 20  # wrong tokens of a client at once
_TRY_SECONDS = 3.0  # until it has one more
_CLIENTS = 4096  # remembered


class Verdict(Enum):
    """Whether a request is authenticated."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    TOO_MANY = "too many wrong tokens"


def is_open(path: str) -> bool:
    """Return whether a path is public; it shows nothing of the collection."""
    return path in _OPEN or path.startswith("/static/")


def read_token(file: Path | None) -> str | None:
    """Return the token of a file, or else of the variable CL2CM_TOKEN, or None.

    Raises:
        ConfigError: a file that cannot be read, or a token of fewer than 16 characters.
    """
    if file is None:
        where, token = VARIABLE, os.environ.get(VARIABLE)
        if token is None:
            return None
    else:
        where = str(file)
        try:
            token = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            found = (getattr(error, "strerror", None) or "other bytes").lower()
            remedy = "write the token into it"
            raise ConfigError(where, expected="a text file", found=found, remedy=remedy) from error
    token = token.strip()
    if len(token) < LEAST or not token.isascii() or not token.isprintable():
        raise ConfigError(
            where,
            expected=f"a token of at least {LEAST} ASCII characters",
            found=f"one of {len(token)}",
            remedy="make one, for example with: openssl rand -hex 24",
        )
    return token


class Access:
    """Decides whether a request may be answered.

    Args:
        token: what a client has to know; None lets everybody in.
        now: seconds since the epoch.
    """

    def __init__(self, token: str | None, now: Callable[[], float] = time.time) -> None:
        self._token, self._now = token, now
        self._key = hmac.digest((token or "").encode(), b"cl2cm session", "sha256")
        self._ended: OrderedDict[str, None] = OrderedDict()  # sessions that were signed out
        self._attempts = _Attempts(now)

    @property
    def needed(self) -> bool:
        """Whether there is a token."""
        return self._token is not None

    def judge(self, headers: Mapping[str, str], cookie: str | None, client: str) -> Verdict:
        """Judge a request by its headers and its session cookie.

        Args:
            headers: with lower-case names.
            cookie: value of the session cookie.
            client: address of the client, whose wrong tokens are counted.
        """
        if self._token is None:
            return Verdict.KNOWN
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._try(given, client)
        return Verdict.KNOWN if cookie and self._is_session(cookie) else Verdict.UNKNOWN

    def sign_in(self, token: str, client: str) -> str | Verdict:
        """Return the cookie's value for a valid token, or the reason of the refusal."""
        verdict = self._try(token, client)
        if verdict is not Verdict.KNOWN:
            return verdict
        session = f"{int(self._now()) + SESSION_SECONDS}.{secrets.token_urlsafe(12)}"
        return f"{session}.{self._sign(session)}"

    def sign_out(self, cookie: str | None) -> None:
        """End a session for all holders of its cookie."""
        if cookie and self._is_session(cookie):
            self._ended[cookie.rpartition(".")[0]] = None
            while len(self._ended) > _CLIENTS:
                self._ended.popitem(last=False)

    def _try(self, given: str, client: str) -> Verdict:
        if self._token is None or not self._attempts.may_try(client):
            return Verdict.TOO_MANY
        if _same(given.strip(), self._token):
            self._attempts.right(client)
            return Verdict.KNOWN
        return Verdict.TOO_MANY if self._attempts.wrong(client) else Verdict.UNKNOWN

    def _is_session(self, cookie: str) -> bool:
        session, _, signature = cookie.rpartition(".")
        if not _same(signature, self._sign(session)):
            return False
        return int(session.partition(".")[0]) > self._now() and session not in self._ended

    def _sign(self, session: str) -> str:
        return hmac.new(self._key, session.encode(errors="replace"), hashlib.sha256).hexdigest()


class _Attempts:
    """Wrong tokens of each client: some at once, then one every few seconds.

    Beyond that a token is not even compared, unless the right one came from the same address
    before, or the address is loopback: behind a proxy that the operator did not name all clients
    share it, and one of them must not lock out the others.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._until: OrderedDict[str, float] = OrderedDict()  # when all tries are there again
        self._familiar: OrderedDict[str, None] = OrderedDict()

    def may_try(self, client: str) -> bool:
        return client in self._familiar or _is_shared(client) or not self._spent(client)

    def wrong(self, client: str) -> bool:
        """Count a wrong token; return whether there were too many."""
        spent = self._spent(client)
        if not spent:
            start = max(self._until.pop(client, 0.0), self._now())
            self._until[client] = start + _TRY_SECONDS
            while len(self._until) > _CLIENTS:
                self._until.popitem(last=False)
        return spent

    def right(self, client: str) -> None:
        self._familiar[client] = None
        self._familiar.move_to_end(client)
        while len(self._familiar) > _CLIENTS:
            self._familiar.popitem(last=False)

    def _spent(self, client: str) -> bool:
        return self._until.get(client, 0.0) - self._now() > (_TRIES - 1) * _TRY_SECONDS


def _is_shared(client: str) -> bool:
    try:
        return ipaddress.ip_address(client).is_loopback
    except ValueError:
        return False


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), right.encode())
