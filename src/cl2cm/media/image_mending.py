"""Repair small faults of image files that need not prevent decoding.

Text that an image generator left in a PNG, a wrong checksum in it, a missing end marker: the
pixels are complete. What is damaged in the pixels stays an error.
"""

import io
import struct
import zlib
from collections.abc import Iterator

from PIL import Image, ImageFile

_PNG = b"\x89PNG\r\n\x1a\n"
_END = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_ORIENTED = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")  # texts that may say the rotation
_LONGEST = 2**20  # bytes of one text or profile, unpacked
_AHEAD = b"\xff\x00" * 8  # the decoder reads 8 bytes ahead; all ones are not code of JPEG
_FILL = (1, 254, 2, 253)  # a colour that no photograph has for a whole row


def mend_png(data: bytes) -> bytes:
    """Remove chunks of a PNG that are not needed and would be refused.

    Texts are left out, unless they may say which side is up; a colour profile of more than 1 MB and
    chunks with a wrong checksum, unless the image cannot do without them.
    """
    kept: list[bytes] = [_PNG]
    whole = True
    kind, end = b"", len(_PNG)
    for kind, start, end in _chunks(data):
        needed = not kind[0] & 0x20
        if needed or _is_harmless(kind, data[start + 8 : end - 4], data[end - 4 : end]):
            kept.append(data[start:end])
        else:
            whole = False
        if kind == b"IEND":
            break
    if kind != b"IEND" and end == len(data):
        kept.append(_END)
        whole = False
    return data if whole else b"".join([*kept, data[end:]])


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the chunks that are complete."""
    start = len(_PNG)
    while start + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, start)
        end = start + 12 + size
        if end > len(data):
            return
        yield data[start + 4 : start + 8], start, end
        start = end


def _is_harmless(kind: bytes, content: bytes, checksum: bytes) -> bool:
    if zlib.crc32(kind + content) != int.from_bytes(checksum, "big"):
        return False
    if kind in _TEXTS and not content.startswith(_ORIENTED):
        return False
    packed = b""
    if kind in (b"iCCP", b"zTXt"):
        packed = content.partition(b"\0")[2][1:]
    elif kind == b"iTXt" and content.partition(b"\0")[2][:1] == b"\1":
        packed = content.partition(b"\0")[2][2:].split(b"\0", 2)[-1]
    return max(len(content) if kind in _TEXTS else 0, _unpacked(packed)) < _LONGEST


def _unpacked(packed: bytes) -> int:
    """Return the bytes that a text unpacks to, as far as they matter."""
    try:
        return len(zlib.decompressobj().decompress(packed, _LONGEST))
    except zlib.error:
        return _LONGEST  # damaged


def load_without_end(data: bytes, size: int) -> Image.Image | None:
    """Load a JPEG without end marker; None if pixels are missing as well.

    Args:
        data: the file.
        size: shorter side that is needed, pixels; a large image is decoded at reduced size.
    """
    image = Image.open(io.BytesIO(data + _AHEAD), formats=["JPEG"])
    image.draft("RGB", (size, size))
    vars(image)["_ended"] = True  # Pillow would add an end marker, and the decoder grey pixels
    image.load_prepare()
    row = (0, image.height - 1, image.width, image.height)
    fill = _FILL[: len(image.getbands())]
    image.im.paste(fill if len(fill) > 1 else fill[0], row)
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        image.load()
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    untouched = Image.new(image.mode, (image.width, 1), fill if len(fill) > 1 else fill[0])
    return None if image.crop(row).tobytes() == untouched.tobytes() else image
