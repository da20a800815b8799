"""What an image file says of itself, read before any decoder sees it.

A few kilobytes can ask a decoder for minutes or gigabytes: a progressive JPEG with hundreds of
empty scans, a PNG that claims 30,000 × 30,000 pixels. The header is read here, in plain Python, in
time linear in the file's size, and what it asks for is compared with a budget. A header that lies
is caught later, by the limits of the process that decodes (``decoder_worker.py``).
"""

import re
import struct
from collections.abc import Callable
from typing import NamedTuple

from cl2cm.media.kinds import START, format_of

MAX_SCANS = 100  # of a JPEG; encoders write 1 to 12
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_EOI, _SOS = 0xD9, 0xDA
_BARE = frozenset({0x01, 0xD8, _EOI})  # markers without a length

# What is told apart only to say what it is.
_OTHERS = (
    ("a JPEG XL image", 0, b"\xff\x0a"),
    ("a JPEG XL image", 0, b"\x00\x00\x00\x0cJXL "),
    ("a raw image of a camera (CR3)", 4, b"ftypcrx "),
    ("PostScript", 0, b"%!PS"),
    ("PostScript", 0, b"\xc5\xd0\xd3\xc6"),
    ("a PDF", 0, b"%PDF"),
    ("an icon (ICO)", 0, b"\x00\x00\x01\x00"),
    ("a Photoshop file", 0, b"8BPS"),
    ("a web page or XML", 0, b"<"),
)


class Header(NamedTuple):
    """What an image claims; zero where its kind does not say so in its first bytes.

    kind: as Pillow calls it; scans: of a JPEG; kept: bytes of coefficients that a
    progressive JPEG holds in memory until its last scan.
    """

    kind: str
    width: int = 0
    height: int = 0
    scans: int = 1
    kept: int = 0

    @property
    def work(self) -> int:
        """Pixels that the decoder goes over, one time for each scan."""
        return self.width * self.height * self.scans


def kind_of(data: bytes) -> str:
    """Name the format of an image by its first bytes; empty where it is none that is read."""
    found = format_of(data[:START])
    return "" if found is None or found.is_video else found.name


def describe(data: bytes) -> str:
    """Say what a file is that is not read as an image."""
    found = format_of(data[:START])
    if found is not None:
        return f"a video ({found.name})"
    start = data[:START].lstrip()
    if start.startswith(b"<") and b"<svg" in start:
        return "an SVG drawing"
    matches = (name for name, offset, magic in _OTHERS if data.startswith(magic, offset))
    return next(matches, "bytes of another kind")


def read_header(data: bytes) -> Header:
    """Read what an image says of its size.

    Raises:
        ValueError: the header is cut short or contradicts itself.
    """
    kind = kind_of(data)
    reader = _READERS.get(kind)
    try:
        return Header(kind) if reader is None else reader(data)
    except (struct.error, IndexError):
        raise ValueError("the header is cut short") from None


def _jpeg(data: bytes) -> Header:
    """Walk the markers to the first scan; count the scans."""
    width = height = components = 0
    progressive = False
    position = 2
    while (match := _MARKER.search(data, position)) is not None and match[1][0] != _SOS:
        marker, position = match[1][0], match.end()
        if marker in _FRAMES:
            high, wide, parts = struct.unpack_from(">HHB", data, position + 3)
            if wide * high >= width * height:
                width, height, components = wide, high, parts
            progressive = progressive or marker in _PROGRESSIVE
        if marker not in _BARE:
            position += max(2, *struct.unpack_from(">H", data, position))
    kept = 2 * width * height * components if progressive else 0
    return Header("JPEG", width, height, _scans(data, position), kept)


def _scans(data: bytes, position: int) -> int:
    """Count the scans of the first image of a file, to be certain only where they are many."""
    most = data.count(b"\xff\xda", position)
    if most <= MAX_SCANS // 8:  # an upper bound: what follows the image may hold some by chance
        return max(1, most)
    scans = 0
    while (match := _MARKER.search(data, position)) is not None and match[1][0] != _EOI:
        scans += match[1][0] == _SOS
        position = match.end()
        if match[1][0] not in _BARE:
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
    return max(1, scans)


def _png(data: bytes) -> Header:
    return Header("PNG", *struct.unpack_from(">II", data, 16))


def _gif(data: bytes) -> Header:
    return Header("GIF", *struct.unpack_from("<HH", data, 6))


def _bmp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        return Header("BMP", *struct.unpack_from("<HH", data, 18))
    width, height = struct.unpack_from("<ii", data, 18)
    return Header("BMP", abs(width), abs(height))


def _webp(data: bytes) -> Header:
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        return Header("WEBP", width, int.from_bytes(data[27:30], "little") + 1)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    width, height = struct.unpack_from("<HH", data, 26)
    return Header("WEBP", width & 0x3FFF, height & 0x3FFF)


_READERS: dict[str, Callable[[bytes], Header]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "GIF": _gif,
    "BMP": _bmp,
    "WEBP": _webp,
}
