"""How much of this machine a search may use."""

import contextlib
import os
from pathlib import Path


def memory() -> int:
    """Return the memory in bytes that this process may use; 2 GiB if unknown."""
    found = []
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not on every system
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # of a container
        with contextlib.suppress(ValueError, OSError):
            found.append(int(Path("/sys/fs/cgroup", limit).read_text()))
    return min(found, default=2 * 2**30)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
