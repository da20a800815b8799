"""Where the encoders of a run are by now, if not where the run says."""

from typing import NamedTuple


class Encoders(NamedTuple):
    """Where the encoders of a run are by now; "" where the run says.

    text: ``hf:DIR``; vision: ``onnx:DIR``, ``hf:DIR`` or ``features:PATH``.
    """

    text: str = ""
    vision: str = ""


AS_TRAINED = Encoders()
NOT_OPENED = Encoders("hf:unused", "onnx:unused")  # encoders of a run that stay closed
