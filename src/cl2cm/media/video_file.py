"""Open a video file safely, find its video stream, and measure its length.

What a file says of itself is not believed: a copy that was cut short says how long the whole was,
and other files say nothing, or too little. The extra ``video`` brings PyAV, which reads them.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from cl2cm.errors import MediaError, MissingExtraError

FRAME_LIMIT = 100_000_000  # pixels of one frame
# Containers that may be opened. Play lists are not among them: they would name other files.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg"
# No network, and no other file: a track that lies elsewhere is not followed (``enable_drefs``).
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file", "max_streams": "100"}
_ESTIMATED = frozenset({"mpeg", "mpegts", "mpegvideo"})  # these do not say how long they are
_SPARSEST = 300.0  # seconds for each packet, which no video exceeds; damaged time stamps do
_LONGEST = 100 * 3600  # seconds, which no video lasts; damaged or hostile time stamps do
_SHORTER = 1.0  # seconds that a video may be shorter than it says; or a hundredth of it


class Length(NamedTuple):
    """Seconds at which the last frame of a video comes, and goes."""

    last: float
    end: float


class VideoFile:
    """An open file and the stream of its images.

    Args:
        path: the file.
        many: most frames will be decoded, so let several be decoded at once.

    Attributes:
        av: PyAV.
        name: of the file, for messages.
        stream: the images.

    Raises:
        MediaError: no file of a video, or one without images.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, path: Path, *, many: bool = False) -> None:
        self.name = str(path)
        self.av = _library()
        self._path = path
        self._many = many
        self._container: Any = None
        self.open()

    def open(self) -> None:
        """Be at the beginning: open the file anew, for not every file can be wound back."""
        self.close()
        self._check_file()
        location = str(self._path.absolute())  # no relative name, which could pass for a URL
        try:
            self._container = self.av.open(location, options=dict(_OPTIONS))
        except (self.av.FFmpegError, OSError, ValueError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            self.refuse(f"another kind of file, or a damaged one ({reason})", error)
        self.stream = self._pictures()
        if self._many:
            self.stream.thread_type = "AUTO"
        self._start = float(self._container.start_time or 0) / float(self.av.time_base)

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()

    def seconds(self, stamp: int, base: Any) -> float:  # noqa: ANN401 - a fraction
        """Return a time stamp in seconds from the beginning of the video."""
        return float(stamp) * float(base) - self._start

    def seek(self, seconds: float) -> bool:
        """Go to a key frame at or before a time; whether that was possible."""
        try:
            offset = round((seconds + self._start) / self.stream.time_base)
            self._container.seek(offset, stream=self.stream, backward=True)
        except (self.av.FFmpegError, OverflowError):
            return False
        return True

    def packets(self) -> Any:  # noqa: ANN401 - an iterator of PyAV
        """Return the packets of the images from here on."""
        return self._container.demux(self.stream)

    def measure(self) -> Length:
        """Read the end of the file; it is somewhere else afterwards.

        Raises:
            MediaError: the file is cut short, has no frame, or time stamps that cannot be right.
        """
        said = (self._container.duration or 0) / self.av.time_base
        length, reached = self._read_to_the_end() if self.seek(said) else (Length(0, 0), 0.0)
        if not length.end:
            self.open()
            length, reached = self._read_to_the_end()
        # Some containers give the time of the end, others the length: they differ by the start.
        short = reached + max(0.0, self._start) < said - max(_SHORTER, 0.01 * said)
        if short and self._container.format.name not in _ESTIMATED:
            self.refuse(f"one that is cut short, at {reached:.1f} of {said:.1f} s")
        if not length.end:
            self.refuse("one without a single frame")
        if length.end > _LONGEST or not self._has_packets(length.end / _SPARSEST):
            self.refuse(f"one that cannot last {length.end:.0f} s, by what is in it")
        return length

    def _has_packets(self, count: float) -> bool:
        """Whether the file has at least this many packets of images and sound, up to its end.

        A still image may need but a few bytes per second, so the size of a file says little.
        """
        self.open()
        found = 0
        try:
            for packet in self._container.demux():
                found += packet.pts is not None
                if found >= count:
                    return True
        except self.av.FFmpegError:
            pass  # what follows is lost
        return False

    def _read_to_the_end(self) -> tuple[Length, float]:
        """Return when the last frame comes and goes, and when the last sound or frame goes."""
        last = end = reached = 0.0
        try:
            for packet in self._container.demux():
                if packet.pts is None or packet.time_base is None:
                    continue
                time = self.seconds(packet.pts, packet.time_base)
                until = time + float((packet.duration or 0) * packet.time_base)
                reached = max(reached, time, until)
                if packet.stream_index == self.stream.index:
                    last, end = max(last, time), max(end, until, time + 1e-3)
        except self.av.FFmpegError:
            pass  # what follows is lost, and so the file too short
        return Length(last, end), reached

    def refuse(self, found: str, cause: Exception | None = None) -> NoReturn:
        """Raise the error of a video that is not whole."""
        raise MediaError(
            self.name,
            expected="a complete video",
            found=found,
            remedy="replace the file, or skip it (--skip-bad)",
        ) from cause

    def refuse_size(self, width: int, height: int) -> None:
        """Raise the error of too large a frame, if it is one."""
        if width * height > FRAME_LIMIT:
            raise MediaError(
                self.name,
                expected=f"a video of at most {FRAME_LIMIT // 10**6} million pixels per frame",
                found=f"{width} × {height}",
                remedy="make it smaller",
            )

    def _check_file(self) -> None:
        if self._path.is_dir():
            self.refuse("a folder")
        if not self._path.is_file():
            self.refuse("no such file")
        if self._path.stat().st_size == 0:
            self.refuse("an empty file")

    def _pictures(self) -> Any:  # noqa: ANN401 - a stream of PyAV
        cover = self.av.stream.Disposition.attached_pic
        streams = [s for s in self._container.streams.video if not s.disposition & cover]
        if not streams:
            sound = bool(self._container.streams.audio)
            self.refuse("one of sound alone" if sound else "one without pictures")
        if streams[0].codec_context is None:
            self.refuse("one in an unknown coding")
        self.refuse_size(streams[0].codec_context.width, streams[0].codec_context.height)
        return streams[0]


def _library() -> ModuleType:
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise MissingExtraError("av", "video") from error
