"""The state of an item's file, which is another once the file is another."""

from cl2cm.types import Example


def file_state(example: Example) -> str:
    """Size, time of change and part of an item's file; "" where there is none to compare with."""
    try:
        status = None if example.path is None else example.path.stat()
    except OSError:
        status = None
    if status is None:
        return ""
    part = "" if example.kind != "video" else f" {example.start} {example.end}"
    return f"{status.st_size} {status.st_mtime_ns}{part}"
