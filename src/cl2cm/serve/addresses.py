"""Where things are on the service.

Items are named by their ids, which are looked up in the index: no part of an address ever becomes
a path on the disk.
"""

from urllib.parse import urlencode

from cl2cm.types import Hit, Item


def address(path: str, **values: object) -> str:
    """Give an address with its values; empty ones are left out."""
    kept = {name: value for name, value in values.items() if value not in (None, "", False)}
    return f"{path}?{urlencode(kept, doseq=True)}" if kept else path


def media(item: Item | Hit) -> str | None:
    """Give the address of an item's file, at its part of a film; None without a file."""
    if not item.path:
        return None
    return address("/media", id=item.id) + fragment(item)


def fragment(item: Item | Hit) -> str:
    """Give the part of a film as a media fragment, ``#t=12,15``; empty for the whole of it."""
    if item.start is None and item.end is None:
        return ""
    end = "" if item.end is None else f",{item.end:g}"
    return f"#t={item.start or 0:g}{end}"


def thumb(item: Item | Hit, generation: str, size: int | None = None) -> str | None:
    """Give the address of a small copy of an item's picture; None without a file."""
    return address("/thumb", id=item.id, size=size, v=generation) if item.path else None
