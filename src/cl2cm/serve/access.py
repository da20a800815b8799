"""Who may ask: anyone, or whoever knows the token.

A program sends ``Authorization: Bearer TOKEN``. A browser gives the token once, on the sign-in
page, and gets a cookie that is derived from it; the token itself is kept nowhere.
"""

import hashlib
import hmac
import os
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

from cl2cm.errors import ConfigError

VARIABLE = "CL2CM_TOKEN"
COOKIE = "cl2cm-session"
LEAST = 16  # characters
OPEN = ("/static/", "/sign-in", "/language", "/api/v1/health", "/api/health")


def read_token(file: Path | None) -> str | None:
    """Give the token of a file, or else of the variable CL2CM_TOKEN, or None.

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
            remedy="make one, such as with: openssl rand -hex 24",
        )
    return token


class Access:
    """Decides whether a request may be answered.

    Args:
        token: what a client has to know; None lets everybody in.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token
        self._session = token and hmac.new(token.encode(), b"cl2cm", hashlib.sha256).hexdigest()

    @property
    def needed(self) -> bool:
        """Whether there is a token."""
        return self._token is not None

    def allows(self, path: str, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers may be answered."""
        if self._token is None or self._session is None or path.startswith(OPEN):
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return _same(given.strip(), self._token)
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return COOKIE in cookies and _same(cookies[COOKIE].value, self._session)

    def sign_in(self, token: str) -> str | None:
        """Give the cookie's value for whoever knows the token, else None."""
        return self._session if self._token and _same(token.strip(), self._token) else None


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), right.encode())
