"""Images that ask for far more than their bytes suggest, made in the tests that want them."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def many_scans(scans, width=64, height=64):
    """A progressive JPEG with its last scan again and again, of the size that is claimed."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(file, "JPEG", progressive=True)
    whole = file.getvalue()
    frame = whole.index(b"\xff\xc2")
    whole = whole[: frame + 5] + struct.pack(">HH", height, width) + whole[frame + 9 :]
    last, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    return whole[:last] + whole[last:end] * scans + whole[end:]


def empty_scans(scans, side):
    """A progressive grey JPEG whose scans say nothing, which costs a decoder all its pixels."""

    def segment(marker, content):
        return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content

    one_code = bytes([1] + [0] * 15)
    parts = [
        b"\xff\xd8",
        segment(0xDB, b"\0" + b"\1" * 64),
        segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0"),
        segment(0xC4, b"\x00" + one_code + b"\0"),
        segment(0xC4, b"\x10" + one_code + b"\xe0"),  # end of 2^14 blocks and more
        segment(0xDA, b"\1\1\0\0\0\0") + b"\0" * (((side + 7) // 8) ** 2 // 8 + 1),
    ]
    blocks = ((side + 7) // 8) ** 2
    bits = ("0" + "1" * 14) * (blocks // (2**15 - 1) + 1)
    bits += "1" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    parts += [segment(0xDA, b"\1\1\0\1\x3f\0") + body] * scans
    return b"".join(parts) + b"\xff\xd9"


def png_chunk(kind, content):
    crc = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def png_of(width, height, depth=8, colour=2, *chunks, data=b""):
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [png_chunk(b"IHDR", head), *chunks, png_chunk(b"IDAT", data), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def blank_png(width, height):
    """A PNG that is what it says, a thousandth of its pixels in bytes."""
    packer = zlib.compressobj(1)
    row = b"\0" * (3 * width + 1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return png_of(width, height, data=data)


def webp_of(width, height):
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"VP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + canvas
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def tiff_of(width, height, tags=(), following=0):
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1)]
    entries += [(262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height)]
    entries += [(279, 4, 1, 4), *tags]
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    return b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", following)


def bmp_of(width, height):
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + head


def jp2_of(width, height):
    size = struct.pack(">HHIIIIIIIIH", 41, 0, width, height, 0, 0, width, height, 0, 0, 1)
    return b"\xff\x4f\xff\x51" + size + b"\7\1\1"


def exif_bomb(tags=4000):
    """A JPEG whose EXIF has thousands of tags, all of the same 60 kB."""
    entries = b"".join(struct.pack("<HHII", 1000 + n, 7, 50_000, 200) for n in range(tags))
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, tags) + entries + b"\0" * 4
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    exif = exif.ljust(65_000, b"\0")[:65_000]
    whole = file.getvalue()
    return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + whole[2:]


POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n"
    b"newpath 0 0 moveto 100 100 lineto stroke\nshowpage\n%%EOF\n"
)
