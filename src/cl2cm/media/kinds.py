"""Detect images, videos and their formats; a test checks that other packages use this module.

An example of a manifest says what it is (`Example.media`). A bare file is known by its name's
suffix, or, where names cannot be trusted, by its first bytes. Some formats need an extra.
"""

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import NamedTuple

from cl2cm.errors import MediaError
from cl2cm.types import Example, Kind, Media

START = 2048  # bytes that `media_type` needs


class Format(NamedTuple):
    """A format that is read.

    Attributes:
        name: as Pillow calls it, for images.
        media_type: MIME type.
        suffixes: of file names, lower case.
        signatures: offsets and bytes, of which one is at the beginning of a file.
        extra: of cl2cm that brings the decoder; empty if none is needed.
    """

    name: str
    media_type: str
    suffixes: tuple[str, ...]
    signatures: tuple[tuple[int, bytes], ...] = ()
    extra: str = ""

    @property
    def is_video(self) -> bool:
        """Whether it is a format of videos."""
        return self.media_type.startswith("video/")


def _video(name: str, media_type: str, suffixes: str, *signatures: tuple[int, bytes]) -> Format:
    return Format(name, f"video/{media_type}", tuple(suffixes.split()), signatures, "video")


_HEIC = Format("HEIF", "image/heic", (".heic", ".heif", ".hif"), extra="heic")
_AVIF = Format("AVIF", "image/avif", (".avif",))
_MP4 = _video("MP4", "mp4", ".mp4 .m4v .mov .3gp .3g2 .f4v")
_TRANSPORT = _video("MPEG-TS", "mp2t", ".ts .mts .m2ts .m2t")
FORMATS = (
    Format("JPEG", "image/jpeg", (".jpg", ".jpeg", ".jpe", ".jfif"), ((0, b"\xff\xd8\xff"),)),
    Format("PNG", "image/png", (".png", ".apng"), ((0, b"\x89PNG\r\n\x1a\n"),)),
    Format("GIF", "image/gif", (".gif",), ((0, b"GIF87a"), (0, b"GIF89a"))),
    Format("WEBP", "image/webp", (".webp",), ((8, b"WEBP"),)),
    _AVIF,
    _HEIC,
    Format("BMP", "image/bmp", (".bmp", ".dib"), ((0, b"BM"),)),
    Format(
        "TIFF", "image/tiff", (".tif", ".tiff"),
        ((0, b"II*\x00"), (0, b"MM\x00*"), (0, b"II+\x00"), (0, b"MM\x00+")),
    ),
    Format(
        "JPEG2000", "image/jp2", (".jp2", ".j2k", ".jpx", ".jpf"),
        ((0, b"\x00\x00\x00\x0cjP  \r\n\x87\n"), (0, b"\xff\x4f\xff\x51")),
    ),
    Format(
        "PPM", "image/x-portable-anymap", (".ppm", ".pgm", ".pbm", ".pnm"),
        tuple((0, b"P%d" % number) for number in range(1, 7)),
    ),
    _MP4,
    _video("Matroska, WebM", "webm", ".mkv .webm", (0, b"\x1a\x45\xdf\xa3")),
    _video("AVI", "x-msvideo", ".avi", (8, b"AVI ")),
    _video("QuickTime", "quicktime", "", (4, b"moov"), (4, b"mdat"), (4, b"wide")),
    _TRANSPORT,
    _video(
        "MPEG", "mpeg", ".mpg .mpeg .mpe .m2v .vob", (0, b"\x00\x00\x01\xba"),
        (0, b"\x00\x00\x01\xb3"),
    ),
    _video("Ogg", "ogg", ".ogv", (0, b"OggS")),
    _video("Flash", "x-flv", ".flv", (0, b"FLV")),
    _video("Windows Media", "x-ms-wmv", ".wmv .asf", (0, b"\x30\x26\xb2\x75")),
)  # fmt: skip
_BY_SUFFIX = {suffix: one for one in FORMATS for suffix in one.suffixes}
IMAGE_SUFFIXES = frozenset(suffix for suffix, one in _BY_SUFFIX.items() if not one.is_video)
VIDEO_SUFFIXES = frozenset(suffix for suffix, one in _BY_SUFFIX.items() if one.is_video)
SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES
# Names of images and videos that are not read, so that a file which is left out is named.
_UNREAD = frozenset(
    {".svg", ".svgz", ".psd", ".psb", ".xcf", ".kra", ".ico", ".cur", ".icns", ".tga", ".pcx"}
    | {".eps", ".ai", ".exr", ".hdr", ".jxl", ".jxr", ".wdp", ".fits", ".dcm", ".djvu", ".emf"}
    | {".wmf", ".qoi", ".dds", ".sgi", ".xbm", ".xpm", ".bpg", ".pcd", ".insp"}
    | {".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".orf", ".rw2"}
    | {".raf", ".raw", ".pef", ".srw", ".x3f", ".3fr", ".erf", ".kdc", ".dcr", ".mrw", ".iiq"}
    | {".mos", ".mef", ".insv", ".rm", ".rmvb", ".mxf", ".dv", ".divx", ".ogm", ".y4m", ".swf"}
    | {".mjpeg", ".mjpg", ".lrv", ".braw", ".r3d"}
)
_PLAYED = frozenset({"MP4", "Matroska, WebM", "Ogg"})  # by browsers
PACKAGES = {"heic": "pillow_heif", "video": "av"}  # imported by the decoders of an extra

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset(b"heic heix hevc hevx heim heis hevm hevs mif1 msf1".split())
_RAW_BRANDS = frozenset({b"crx "})
_PACKETS = (188, 192, 204)  # bytes of a packet of a transport stream; as broadcast, on Blu-ray, …
_SYNC, _SYNCS = 0x47, 4  # the first byte of a packet, and of how many in a row


def kind_by_name(name: str | PurePath) -> Kind | None:
    """Return the kind of a file by its name; None if it is neither image nor video."""
    found = format_by_name(name)
    return None if found is None else "video" if found.is_video else "image"


def format_by_name(name: str | PurePath) -> Format | None:
    """Return the format of a file by its name; None if it is not supported."""
    return _BY_SUFFIX.get(_suffix(name))


def is_unread(name: str | PurePath) -> bool:
    """Return whether a name belongs to an image or video format that is not supported."""
    return _suffix(name) in _UNREAD


def is_ambiguous(name: str | PurePath) -> bool:
    """Return whether files of this name are often not media: ``.ts`` is also TypeScript."""
    return _suffix(name) == ".ts"


def _suffix(name: str | PurePath) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - five times as fast as a path


def has_extra(extra: str) -> bool:
    """Return whether the extra that a format needs, if any, is installed."""
    return not extra or importlib.util.find_spec(PACKAGES[extra]) is not None


def plays_in_browsers(name: str | PurePath) -> bool:
    """Return whether browsers can play videos of this name."""
    found = format_by_name(name)
    return found is not None and found.name in _PLAYED


def media_of(path: Path) -> Media:
    """Return the image or video of a bare file; a file of another name is taken for an image."""
    return Media(path, kind_by_name(path) or "image")


def source_of(example: Example) -> Path | Example:
    """Return an example's file if it is sufficient; otherwise the example."""
    media = example.media
    return example if media is None or media != media_of(media.path) else media.path


def format_of(start: bytes) -> Format | None:
    """Return the format of a file by its first `START` bytes; None if it is none that is read."""
    if start[4:8] == b"ftyp":
        return _by_brand(start)
    for one in FORMATS:
        if any(start.startswith(signature, offset) for offset, signature in one.signatures):
            return one
    return _TRANSPORT if _is_transport_stream(start) else None


def _by_brand(start: bytes) -> Format | None:
    """Return the format of a file that begins with a list of brands (ISO base media)."""
    end = min(int.from_bytes(start[:4], "big"), len(start))
    brands = {start[8:12], *(start[at : at + 4] for at in range(16, end - 3, 4))}
    if brands & _AVIF_BRANDS:
        return _AVIF
    if brands & _RAW_BRANDS:
        return None
    return _HEIC if start[8:12] in _HEIC_BRANDS else _MP4


def _is_transport_stream(start: bytes) -> bool:
    """Return whether packets follow each other; a recording may begin within one."""
    return any(
        start[first : first + _SYNCS * size : size] == bytes([_SYNC]) * _SYNCS
        and len(set(start[first : first + size])) > 1
        for size in _PACKETS
        for first in range(size)
    )


def media_type(start: bytes, name: str = "the file") -> str:
    """Return the MIME type of an image or video by its first `START` bytes.

    Raises:
        MediaError: it is neither.
    """
    found = format_of(start)
    if found is None:
        raise MediaError(
            name,
            expected="an image or video",
            found="a file of another kind",
            remedy="restore the file, or index the folder again",
        )
    return found.media_type


def is_video_type(media_type: str) -> bool:
    """Return whether a MIME type denotes a video."""
    return media_type.startswith("video/")


def supported(formats: Iterable[Format] = FORMATS) -> str:
    """Return the formats that are read with their suffixes and extras, for people."""
    named: dict[str, list[str]] = {}
    for one in formats:
        if one.suffixes:
            named.setdefault(one.extra, []).append(f"{one.name} ({' '.join(one.suffixes)})")
    return "; ".join(
        (f"with cl2cm[{extra}]: " if extra else "") + ", ".join(names)
        for extra, names in named.items()
    )
