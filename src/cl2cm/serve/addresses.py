"""URLs of the service.

Items are named by their ids, which are looked up in the index: no part of an address ever becomes
a path on the disk.
"""

from dataclasses import dataclass
from urllib.parse import urlencode

from cl2cm.errors import ConfigError
from cl2cm.types import Hit, Item

_TAKEN = frozenset({"api", "static", "media", "thumb", "item", "align", "picture", "language"})


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses of a service, which a proxy may show below a path of its own.

    Attributes:
        root: that path, such as ``/photos``; empty if there is none.
    """

    root: str = ""

    def __call__(self, path: str, **values: object) -> str:
        """Return an address with its values; empty ones are left out."""
        kept = {name: value for name, value in values.items() if value not in (None, "", False)}
        return self.root + (f"{path}?{urlencode(kept, doseq=True)}" if kept else path)

    def media(self, item: Item | Hit) -> str | None:
        """Return the address of an item's file, at its part of a video; None without a file."""
        return self("/media", id=item.id) + fragment(item) if item.path else None

    def thumb(self, item: Item | Hit, generation: str, size: int | None = None) -> str | None:
        """Return the address of a small copy of an item's image; None without a file."""
        return self("/thumb", id=item.id, size=size, v=generation) if item.path else None


def fragment(item: Item | Hit) -> str:
    """Return the part of a video as a media fragment, ``#t=12,15``; empty for all of it."""
    if item.start is None and item.end is None:
        return ""
    end = "" if item.end is None else f",{item.end:g}"
    return f"#t={item.start or 0:g}{end}"


def read_root(given: str) -> str:
    """Return a root path in its normal form: ``photos/`` becomes ``/photos``.

    Raises:
        ConfigError: one that is not a plain path, or one of the service's own.
    """
    parts = given.strip().strip("/").split("/")
    if parts == [""]:
        return ""
    plain = all(
        part.isascii() and part.replace("-", "").replace("_", "").isalnum() for part in parts
    )
    if not plain or parts[0] in _TAKEN:
        raise ConfigError(
            "--root-path",
            expected="a path of letters, digits, - and _, such as /photos",
            found=repr(given),
            remedy="choose another path at the proxy" if plain else "give the path at the proxy",
        )
    return "/" + "/".join(parts)
