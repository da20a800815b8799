"""Parse the two cookies of the page.

The parser of the standard library removes quotes and backslashes in quadratic time, so a few
kilobytes keep it busy for seconds. The page's own cookies have neither, and others are ignored.
"""

from collections.abc import Mapping, Sequence

SESSION = "cl2cm-session"
LANGUAGE = "cl2cm-language"
_LONGEST = 256  # bytes of a value

RawHeaders = Sequence[tuple[bytes, bytes]]


def own_cookies(headers: RawHeaders) -> dict[str, str]:
    """Return our cookies by name, in time linear in the size of the headers."""
    found = {}
    for name, value in headers:
        if name == b"cookie":
            for part in value.split(b";"):
                cookie, _, content = part.strip().partition(b"=")
                if cookie in (SESSION.encode(), LANGUAGE.encode()) and len(content) <= _LONGEST:
                    found[cookie.decode()] = content.decode("latin-1")
    return found


def with_cookies(headers: RawHeaders, cookies: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return headers with these cookies alone."""
    kept = [(name, value) for name, value in headers if name != b"cookie"]
    if cookies:
        line = "; ".join(f"{name}={value}" for name, value in cookies.items())
        kept.append((b"cookie", line.encode("latin-1")))
    return kept
