"""Decode the frames of a video at given times, upright and in RGB.

A video is read as a stream, so memory does not grow with its length, and where the next frame that
is wanted lies far ahead the decoder jumps to the key frame before it. Seconds count from the
beginning of the video, as players count.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cl2cm.errors import MediaError
from cl2cm.media.animation import is_uniform
from cl2cm.media.video_file import VideoFile

Pixels = npt.NDArray[np.uint8]  # [H, W, 3], RGB, 0 to 255

_FAR = 4.0  # seconds ahead from which jumping is quicker than decoding all that lies between
_BACK = (0.0, 10.0, math.inf)  # seconds to jump short of a time, where a jump lands behind it
_SAME = 1e-6  # seconds
_BRIDGED = 0.1  # seconds of lost frames over which the last good one stays
_ELSEWHERE = (0.6, 0.7, 0.8, 0.9, 0.4, 0.3, 0.2, 0.1, 0.98, 0.02)  # of a part
_BREAK = 1.0  # seconds before its last frame at which a video may not end


class Frame(NamedTuple):
    """A frame and the second at which it appears."""

    seconds: float
    pixels: Pixels


class _Decoded(NamedTuple):
    """A frame as the decoder gave it, and from when until when it is shown.

    gap: frames before it were lost; smeared: and it was made out of them.
    """

    seconds: float
    until: float
    frame: Any
    gap: bool
    smeared: bool


class Film(AbstractContextManager["Film"]):
    """An open video; not safe to share between threads.

    Args:
        path: the file.
        many: most of its frames will be asked for.

    Attributes:
        end: seconds at which its last frame goes.

    Raises:
        MediaError: no video, one without images, or one that is cut short.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, path: Path, *, many: bool = False) -> None:
        self._file = VideoFile(path, many=many)
        self._scaler = self._file.av.video.reformatter.VideoReformatter()  # one is far quicker
        self._now: _Decoded | None = None
        self._next: _Decoded | None = None
        self._gap = self._smeared = False
        self._packets: Iterator[Any] = iter(())
        self._ready: list[Any] = []
        try:
            self._last, self.end = self._file.measure()
        except BaseException:
            self._file.close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.close()

    def part(self, start: float | None, end: float | None) -> tuple[float, float]:
        """Return the bounds of a part in seconds; None: the beginning or end of the video.

        Raises:
            MediaError: the part is empty, or begins after the video's end.
        """
        first, last = max(0.0, start or 0.0), self.end if end is None else min(end, self.end)
        if not first < last:
            raise MediaError(
                self._file.name,
                expected=f"a part of a video of {self.end:.1f} s",
                found=f"{start or 0:.1f} to {self.end if end is None else end:.1f} s",
                remedy="correct start and end",
            )
        return first, last

    def at(self, times: Iterable[float]) -> Iterator[Frame]:
        """Yield the frame that is shown at each of some times.

        Args:
            times: seconds, ascending; past the end the last frame is shown.

        Yields:
            As many frames; pixels [H, W, 3].

        Raises:
            MediaError: the video is damaged there.
        """
        for seconds in times:
            shown = self._go_to(seconds)
            self._refuse_damage(seconds, shown)
            yield Frame(shown.seconds, self._upright(shown.frame))

    def still(self, start: float | None, end: float | None) -> Frame:
        """Return the middle frame of a part, or the next one that is not a single colour.

        Args:
            start: seconds; None: the beginning of the video.
            end: seconds; None: its end.

        Raises:
            MediaError: the video is damaged there, or begins after ``start``.
        """
        first, last = self.part(start, end)
        middle = (first + last) / 2
        found = next(self.at([middle]))
        if not is_uniform(found.pixels):
            return found
        for share in _ELSEWHERE:
            other = next(self.at([first + share * (last - first)]))
            if not is_uniform(other.pixels):
                return other
        return found

    def every(self, step: float, start: float, end: float, *, side: int) -> Iterator[Frame]:
        """Yield small copies of the frames that are shown at regular times, all decoded in passing.

        A time in a damaged stretch has the last good frame, so that a long video is not lost.

        Args:
            step: seconds between two.
            start: the first, seconds.
            end: before which to stop, seconds.
            side: longer side of the copies, pixels; they are not turned upright.

        Yields:
            Frames with pixels [h, w, 3], the same object again for as long as a frame is shown.
        """
        last: _Decoded | None = None
        small = np.empty(0, np.uint8)
        for number in range(max(1, math.ceil((end - start) / step - _SAME))):
            shown = self._go_to(start + number * step)
            if shown is not last:
                last, small = shown, self._small(shown.frame, side)
            yield Frame(shown.seconds, small)

    # --- times ------------------------------------------------------------------------------

    def _go_to(self, seconds: float) -> _Decoded:
        """Return the last frame that appears at or before a time; or the first of all."""
        if self._is_far(seconds):
            self._jump(seconds)
        while self._next is not None and (
            self._now is None or self._next.seconds <= seconds + _SAME
        ):
            self._now, self._next = self._next, self._decode()
        if self._now is None:
            self._file.refuse("one without a frame that can be decoded")
        return self._now

    def _is_far(self, seconds: float) -> bool:
        if self._now is None or self._now.seconds > seconds + _SAME:
            return True
        return self._next is not None and seconds - self._next.seconds > _FAR

    def _jump(self, seconds: float) -> None:
        """Be before a key frame at or before a time, or at the video's beginning."""
        for back in _BACK:
            target = max(0.0, seconds - back)
            self._now = None
            self._gap = self._smeared = False
            if target == 0 or not self._file.seek(target):
                self._file.open()
            self._packets, self._ready = self._file.packets(), []
            self._next = self._decode()
            landed = self._next is not None and self._next.seconds <= seconds + _SAME
            if landed or target == 0:
                return

    def _refuse_damage(self, seconds: float, shown: _Decoded) -> None:
        """Refuse a time whose frame is lost, or made out of lost ones."""
        gap = self._gap if self._next is None else self._next.gap
        breaks_off = self._next is None and shown.seconds < self._last - _BREAK
        if shown.smeared or ((gap or breaks_off) and seconds > shown.until + _BRIDGED):
            self._file.refuse(f"one that is damaged at {shown.seconds:.1f} s")

    def _decode(self) -> _Decoded | None:
        """Return the next good frame in order of time, or None at the end."""
        while True:
            while self._ready:
                frame = self._ready.pop(0)
                if frame.pts is not None and not frame.is_corrupt:
                    return self._good(frame)
                self._gap = self._smeared = True
            try:
                packet = next(self._packets, None)
                if packet is None:
                    return None
                self._ready = packet.decode()
            except self._file.av.EOFError:
                return None
            except self._file.av.FFmpegError:
                self._gap = self._smeared = True

    def _good(self, frame: Any) -> _Decoded:  # noqa: ANN401 - a frame of PyAV
        seconds = self._file.seconds(frame.pts, frame.time_base)
        until = seconds + float((frame.duration or 0) * frame.time_base)
        self._smeared = self._smeared and not frame.key_frame
        gap, self._gap = self._gap, False
        return _Decoded(seconds, until, frame, gap, self._smeared)

    # --- pixels -----------------------------------------------------------------------------

    def _upright(self, frame: Any) -> Pixels:  # noqa: ANN401 - as above
        """Return RGB, square pixels, turned as the video says."""
        width = max(1, round(frame.width * (self._file.stream.sample_aspect_ratio or 1)))
        self._file.refuse_size(max(width, frame.width), frame.height)
        pixels = self._scaler.reformat(frame, width, frame.height, "rgb24").to_ndarray()
        turned: Pixels = np.rot90(pixels, round(frame.rotation / 90) % 4)
        return np.ascontiguousarray(turned)

    def _small(self, frame: Any, side: int) -> Pixels:  # noqa: ANN401 - as above
        scale = side / max(frame.width, frame.height)
        width, height = (max(2, round(scale * length)) for length in (frame.width, frame.height))
        small = self._scaler.reformat(frame, width, height, "rgb24", interpolation="AREA")
        pixels: Pixels = small.to_ndarray()
        return pixels
