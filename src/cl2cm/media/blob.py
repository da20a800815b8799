"""An image that is not a file of this machine; its bytes are read when it is decoded."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Blob:
    """Base of images in a container or at a URL; picklable.

    Attributes:
        name: what an error calls the image.
    """

    name: str

    def read(self) -> bytes:
        """Return the bytes of the image's file.

        Raises:
            MediaError: it is absent or too large.
            DatasetError: what it is in cannot be read.
        """
        raise NotImplementedError
