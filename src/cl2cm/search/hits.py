"""The hits of a query as a list that a notebook shows as thumbnails."""

import base64
import html
import io
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import SupportsIndex, overload

from cl2cm.errors import CL2CMError
from cl2cm.storage import open_confined
from cl2cm.types import Example, Hit, Sampling

SHOWN = 24  # thumbnails in a notebook
SIDE = 128  # pixels
_LONGEST_TEXT = 60  # characters of an id or a reason below a thumbnail
_TILE = "display:inline-block;vertical-align:top;width:136px;margin:4px;font:12px sans-serif"
_BOX = f"width:{SIDE}px;height:{SIDE}px;object-fit:contain;background:#ddd;color:#333"


class Hits(list[Hit]):
    """Hits, best first; in a notebook, thumbnails of the first 24 of them."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> "Hits": ...
    def __getitem__(self, index: SupportsIndex | slice) -> "Hit | Hits":
        if isinstance(index, slice):
            return Hits(super().__getitem__(index))
        return super().__getitem__(index)

    def _repr_html_(self) -> str:
        return hits_html(self)


def with_matches(hits: Iterable[Hit], matches: Iterable[float]) -> Hits:
    """Return hits with their matches."""
    return Hits(replace(hit, match=match) for hit, match in zip(hits, matches, strict=True))


def hits_html(hits: Sequence[Hit]) -> str:
    """Return hits as self-contained HTML: thumbnails with match, score and id.

    An image or a video that cannot be read is a grey box with the reason.
    """
    tiles = "".join(_tile(hit) for hit in hits[:SHOWN])
    left = len(hits) - SHOWN
    more = f"<p>… and {left} more</p>" if left > 0 else ""
    return f"<div>{tiles or 'no hits'}{more}</div>"


def _tile(hit: Hit) -> str:
    part = "" if hit.start is None else f" · {hit.start:.1f} s"
    match = "" if math.isnan(hit.match) else f"{hit.match:.0%} · "
    captions = " / ".join(text for texts in hit.captions.values() for text in texts)
    title = _text("\n".join(filter(None, (hit.id, hit.path, captions))), 500)
    label = f"{match}{hit.score:.3f}{part}<br>{_text(hit.id)}"
    return f'<div style="{_TILE}" title="{title}">{_thumbnail(hit)}<div>{label}</div></div>'


def _thumbnail(hit: Hit) -> str:
    if not hit.path:
        return _box("no file")
    try:
        with _opened(hit) as path:
            content, kind = _drawn(hit, path)
    except FileNotFoundError:  # one text for all that may not be opened
        return _box("no file that may be shown")
    except CL2CMError as error:
        return _box(error.found)
    data = base64.b64encode(content).decode()
    return f'<img alt="{_text(hit.id)}" style="{_BOX}" src="data:{kind};base64,{data}">'


@contextmanager
def _opened(hit: Hit) -> Iterator[Path]:
    """A name of a hit's very file, which is a regular one below a root of its index.

    The index may be a stranger's, and its items may name any file of this machine.

    Raises:
        FileNotFoundError: it is not.
    """
    path = Path(hit.path)
    if not hit.roots:
        yield path
        return
    with open_confined(path, hit.roots) as file:
        held = Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        yield held if held.exists() else path


def _drawn(hit: Hit, path: Path) -> tuple[bytes, str]:
    """Return an image as a whole, or the middle frame of a video's part; and its MIME type."""
    from PIL import Image  # noqa: PLC0415 - only a notebook draws

    from cl2cm.media import images  # noqa: PLC0415
    from cl2cm.media.decoder_pool import decoders  # noqa: PLC0415

    if hit.kind == "image":
        limits = images.usual_limits()
        pool, budget = decoders(), images.BUDGET
        return images.redraw_image(path, str(path), SIDE, pool=pool, budget=budget, allowed=limits)
    part = Example(hit.id, "", video=path, start=hit.start, end=hit.end)
    frame = images.load_frames(part, images.Preprocess(SIDE), Sampling(frames=1))[0]
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "jpeg", quality=80)
    return file.getvalue(), "image/jpeg"


def _box(reason: str) -> str:
    return f'<div style="{_BOX}">{_text(reason)}</div>'


def _text(text: str, longest: int = _LONGEST_TEXT) -> str:
    """Return text for HTML, shortened, without what is not Unicode."""
    short = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return html.escape(short.encode("utf-8", "replace").decode())
