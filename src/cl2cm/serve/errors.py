"""Error responses: a page in the visitor's language for browsers, JSON for programs.

A page says what the visitor can do. What only the owner of the service can mend (an index, a file,
a missing package) is in the JSON and in the log, in English.
"""

from starlette.datastructures import Headers
from starlette.types import Scope

from cl2cm.errors import CL2CMError, MediaError, QueryError

_PAGES = frozenset({"/", "/item", "/align", "/api", "/sign-in", "/sign-out", "/language"})
_SUBJECTS = (
    ("query", "error_query"),
    ("picture", "error_picture"),
    ("item", "error_item"),
    ("filter", "error_filter"),
    ("min_match", "error_filter"),
    ("sort", "error_filter"),
)
_STATUSES = {
    403: "error_forbidden",
    404: "error_page",
    405: "error_method",
    408: "error_slow",
    413: "error_large",
    429: "error_tries",
    500: "error_server",
    503: "error_busy",
}


def wants_page(scope: Scope) -> bool:
    """Return whether a request comes from somebody who reads pages, rather than from a program."""
    path = scope["path"]
    if path.startswith("/api/"):
        return False
    sends = path == "/picture" and scope["method"] == "POST"
    return path in _PAGES or sends or "text/html" in Headers(scope=scope).get("accept", "")


def key_of(error: Exception, status: int, path: str) -> str:
    """Return the key of the page text for an error."""
    if isinstance(error, MediaError):
        return "error_upload" if path == "/picture" else "error_file"
    if isinstance(error, QueryError):
        subject = error.subject
        return next((key for name, key in _SUBJECTS if subject.startswith(name)), "error_value")
    return "error_server" if isinstance(error, CL2CMError) else key_of_status(status)


def key_of_status(status: int) -> str:
    """Return the key of the page text for an HTTP status."""
    return _STATUSES.get(status, "error_value")
