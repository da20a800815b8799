"""Image or video; a test holds that no other room decides by suffix.

An example of a manifest says what it is (`Example.media`). A bare file is known by its name's
suffix, or, where names cannot be trusted, by its first bytes.
"""

from pathlib import Path, PurePath

from cl2cm.errors import MediaError
from cl2cm.types import Example, Kind, Media

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"}
    | {".ogv", ".webm", ".wmv"}
)
SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES
START = 16  # bytes that `media_type` needs
_SIGNATURES = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypavis", "image/avif"),
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", "image/jp2"),
    *((0, b"P%d" % number, "image/x-portable-anymap") for number in range(1, 7)),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
    (8, b"AVI ", "video/x-msvideo"),
    (4, b"moov", "video/quicktime"),
    (4, b"mdat", "video/quicktime"),
    (4, b"wide", "video/quicktime"),
    (0, b"\x00\x00\x01\xba", "video/mpeg"),
    (0, b"\x00\x00\x01\xb3", "video/mpeg"),
    (0, b"OggS", "video/ogg"),
    (0, b"FLV", "video/x-flv"),
    (0, b"\x30\x26\xb2\x75", "video/x-ms-wmv"),
)


def kind_by_name(name: str | PurePath) -> Kind | None:
    """Return what a file's name says that it is; None if it says neither image nor video."""
    suffix = PurePath(name).suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    return "image" if suffix in IMAGE_SUFFIXES else None


def media_of(path: Path) -> Media:
    """Return the image or video of a bare file; a file of another name is taken for an image."""
    return Media(path, kind_by_name(path) or "image")


def source_of(example: Example) -> Path | Example:
    """Return an example's file if the file alone says the same; otherwise the example."""
    media = example.media
    return example if media is None or media != media_of(media.path) else media.path


def media_type(start: bytes, name: str = "the file") -> str:
    """Return the MIME type of an image or video by its first `START` bytes.

    Raises:
        MediaError: it is neither.
    """
    for offset, signature, found in _SIGNATURES:
        if start.startswith(signature, offset):
            return found
    raise MediaError(
        name,
        expected="an image or video",
        found="a file of another kind",
        remedy="restore the file, or index the folder again",
    )


def is_video_type(media_type: str) -> bool:
    """Whether a MIME type is that of a video."""
    return media_type.startswith("video/")
