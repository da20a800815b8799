"""The protocol of vision backbones, and what all of them share."""

import json
from collections.abc import Callable
from typing import Protocol

import numpy as np

from cl2cm.errors import EncoderError
from cl2cm.media.images import EVENLY, Pixels, Preprocess
from cl2cm.types import Floats, Sampling

_RESAMPLES = ("bicubic", "bilinear", "lanczos")


class VisionEncoder(Protocol):
    """A frozen backbone; the features of a frame do not depend on the rest of its batch."""

    @property
    def name(self) -> str:
        """The spec it was loaded by."""
        ...

    @property
    def width(self) -> int:
        """D_v, the width of its features."""
        ...

    @property
    def preprocess(self) -> Preprocess:
        """How an image becomes its square."""
        ...

    @property
    def sampling(self) -> Sampling:
        """Which frames of a video it is given."""
        ...

    @property
    def size(self) -> int:
        """Side of its frames, pixels."""
        ...

    @property
    def preprocessing(self) -> str:
        """The preprocessing as JSON, for the record."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hexadecimal hash of weights and preprocessing, computed on first use."""
        ...

    def encode(self, pixels: Pixels) -> Floats:
        """Return the features float32 [N, D_v] of frames uint8 [N, size, size, 3]."""
        ...


class Described:
    """The description that every backbone has."""

    def __init__(
        self,
        name: str,
        preprocess: Preprocess,
        fingerprint: str | Callable[[], str],
        width: int,
        sampling: Sampling = EVENLY,
    ) -> None:
        self.name = name
        self.preprocess = preprocess
        self.sampling = sampling
        self._fingerprint = fingerprint
        self.width = width

    @property
    def fingerprint(self) -> str:
        """Hexadecimal hash of weights and preprocessing, computed on first use."""
        if not isinstance(self._fingerprint, str):
            self._fingerprint = self._fingerprint()
        return self._fingerprint

    @property
    def size(self) -> int:
        """Side of its frames, pixels."""
        return self.preprocess.size

    @property
    def preprocessing(self) -> str:
        """The preprocessing as JSON, for the record."""
        return json.dumps(self.preprocess.to_json(), sort_keys=True)

    def check(self, pixels: Pixels) -> None:
        """Refuse frames of another shape.

        Raises:
            EncoderError: they were not made by ``preprocess``.
        """
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (self.size, self.size, 3):
            raise EncoderError(
                self.name,
                expected=f"frames uint8 [N, {self.size}, {self.size}, 3]",
                found=f"{pixels.dtype} {list(pixels.shape)}",
                remedy="load them with the encoder's own preprocess",
            )


def checked(preprocess: Preprocess) -> Preprocess:
    """Return the preprocessing if it can be applied to an image.

    Raises:
        ValueError: it has impossible sides or an unknown filter.
    """
    sides = (preprocess.size, preprocess.shorter_side)
    if any(type(side) is not int for side in sides) or not 1 <= sides[0] <= sides[1] <= 4096:
        raise ValueError(f"sides {sides}")
    if preprocess.resample not in _RESAMPLES:
        raise ValueError(f"resample {preprocess.resample!r}")
    if type(preprocess.stretch) is not bool:
        raise ValueError(f"stretch {preprocess.stretch!r}")
    return preprocess
