"""The state of the file of an item: whether it is the one that an index was made of.

A number of 64 bits, stored with each item, so that an update compares a number for each file and
looks no further at what is unchanged. Two states are equal by chance once in 2 ** 64.
"""

import hashlib
import os
from collections.abc import Iterable

from cl2cm.types import Example


def states_of(examples: Iterable[Example]) -> list[int | None]:
    """Return the state of each example; None of one without a file that can be looked at."""
    return [_state_of(example) for example in examples]


def _state_of(example: Example) -> int | None:
    media = example.media
    if media is None:
        return None
    name = str(media.path)
    try:
        file = os.lstat(name)
    except (OSError, ValueError):
        return None
    text = f"{name}\0{file.st_size} {file.st_mtime_ns}"
    if media.is_video or media.start is not None or media.end is not None:
        text += f"\0{media.kind} {media.start} {media.end}"
    if example.captions:
        text += f"\0{sorted(example.captions.items())}"
    data = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(data, "little", signed=True)
