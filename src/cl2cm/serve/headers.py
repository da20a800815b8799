"""Response headers: content security policy and caching."""

from email.utils import parsedate_to_datetime

from starlette.datastructures import Headers, MutableHeaders

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
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
PUBLIC = "public, max-age=31536000, immutable"  # of the page itself, the same for everybody
FOREVER = "private, max-age=31536000, immutable"
ASK_AGAIN = "private, no-cache"
NEVER_KEPT = "private, no-store"
_OF_CONTENT = ("content-length", "content-type", "content-range", "accept-ranges")


def complete(headers: MutableHeaders, status: int) -> None:
    """Add missing default headers."""
    for name, value in HEADERS.items():
        headers[name] = value
    html = headers.get("content-type", "").startswith("text/html")
    kept = ASK_AGAIN if html and status == 200 else NEVER_KEPT
    headers.setdefault("Cache-Control", kept)
    if not headers["Cache-Control"].startswith("public"):
        headers.add_vary_header("Authorization, Cookie, Accept, Accept-Language")


def is_unchanged(request: Headers, answer: Headers) -> bool:
    """Return whether the client's copy is current; RFC 9110, section 13.2.2."""
    wanted = request.get("if-none-match")
    if wanted is not None:
        tag = answer.get("etag")
        names = {name.strip().removeprefix("W/") for name in wanted.split(",")}
        return tag is not None and ("*" in names or tag.removeprefix("W/") in names)
    since, changed = request.get("if-modified-since"), answer.get("last-modified")
    if since is None or changed is None:
        return False
    try:
        return parsedate_to_datetime(changed) <= parsedate_to_datetime(since)
    except (ValueError, TypeError, OverflowError):  # a zone or a year that no date has
        return False


def without_content(headers: MutableHeaders) -> None:
    """Remove headers that describe a body."""
    for name in _OF_CONTENT:
        del headers[name]
