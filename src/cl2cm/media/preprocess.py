"""How an image of any size becomes a square frame, as a backbone wants it."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How an image becomes a square: scale the shorter side, then cut out the centre.

    Attributes:
        size: side of the square, pixels.
        resize: shorter side before the cut, pixels, at least ``size``; None means ``size``.
        resample: filter, ``bicubic``, ``bilinear`` or ``lanczos``; all of them antialiased.
        stretch: scale both sides to ``size`` instead; nothing is cut off.
    """

    size: int
    resize: int | None = None
    resample: str = "bicubic"
    stretch: bool = False

    @property
    def shorter_side(self) -> int:
        """Shorter side before the cut, pixels."""
        return self.resize or self.size

    def to_json(self) -> dict[str, object]:
        """Return the fields for records and hashes: as they were before ``stretch`` existed."""
        fields = asdict(self)
        if not self.stretch:
            del fields["stretch"]
        return fields
