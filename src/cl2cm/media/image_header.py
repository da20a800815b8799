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

MAX_SCANS = 100  # of a JPEG; encoders write 1 to 12
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_EOI, _SOS = 0xD9, 0xDA
_BARE = frozenset({0x01, 0xD8, _EOI})  # markers without a length

# Name, offset and bytes of what is recognised, in the words of Pillow where Pillow reads it.
_SIGNATURES = (
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
    ("GIF", 0, b"GIF87a"),
    ("GIF", 0, b"GIF89a"),
    ("WEBP", 8, b"WEBP"),
    ("BMP", 0, b"BM"),
    ("TIFF", 0, b"II*\x00"),
    ("TIFF", 0, b"MM\x00*"),
    ("TIFF", 0, b"II+\x00"),
    ("TIFF", 0, b"MM\x00+"),
    ("AVIF", 4, b"ftypavif"),
    ("AVIF", 4, b"ftypavis"),
    ("JPEG2000", 0, b"\x00\x00\x00\x0cjP  \r\n\x87\n"),
    ("JPEG2000", 0, b"\xff\x4f\xff\x51"),
    *(("PPM", 0, b"P%d" % number) for number in range(1, 7)),
)
# What is told apart only to say what it is.
_OTHERS = (
    ("a HEIC image", 4, b"ftyphei"),
    ("a HEIC image", 4, b"ftypmif1"),
    ("PostScript", 0, b"%!PS"),
    ("PostScript", 0, b"\xc5\xd0\xd3\xc6"),
    ("a PDF", 0, b"%PDF"),
    ("an SVG drawing", 0, b"<svg"),
    ("an icon (ICO)", 0, b"\x00\x00\x01\x00"),
    ("a Photoshop file", 0, b"8BPS"),
    ("a video", 4, b"ftyp"),
    ("a video", 0, b"\x1a\x45\xdf\xa3"),
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
    return _match(data, _SIGNATURES)


def describe(data: bytes) -> str:
    """Say what a file is that is not read as an image."""
    return _match(data, _OTHERS) or "bytes of another kind"


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


def _match(data: bytes, signatures: tuple[tuple[str, int, bytes], ...]) -> str:
    found = (name for name, offset, magic in signatures if data.startswith(magic, offset))
    return next(found, "")


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
