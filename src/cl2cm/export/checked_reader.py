"""The reader of exports for folders from anyone: graphs and tokenizers within bounds."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cl2cm.encode.onnx_session import OnnxSession
from cl2cm.encode.tokenizer_limits import open_tokenizer
from cl2cm.errors import ExportError, WeightsError
from cl2cm.export.runtime import OUTPUT, Reader
from cl2cm.types import Floats

_AGAIN = "restore the folder, or export the run again"


class CheckedReader(Reader):
    """A reader that opens a tokenizer from anyone, and says what is wrong in one line."""

    @property
    def tokenizer(self) -> Any:  # noqa: ANN401 - tokenizers has no types
        """The tokenizer, which cuts texts that are too long."""
        with self._opening:
            if "tokenizer" not in self._opened:
                path = self.folder / "tokenizer.json"
                try:
                    tokenizer = open_tokenizer(path)
                except (ValueError, OSError) as error:
                    raise _damaged(path, "a tokenizer", error) from None
                tokenizer.no_padding()
                tokenizer.enable_truncation(self.contract["text"]["max_tokens"])
                self._opened["tokenizer"] = tokenizer
            return self._opened["tokenizer"]

    def session(self, name: str) -> OnnxSession:
        """Return the graph of a side, which is bounded in time and memory."""
        with self._opening:
            if name not in self._opened:
                path = self.folder / name
                try:
                    self._opened[name] = OnnxSession(path, threads=self.threads)
                except WeightsError as error:
                    raise _in_export(error) from error
            opened: OnnxSession = self._opened[name]
            return opened

    def run(self, name: str, inputs: dict[str, npt.NDArray[Any]]) -> Floats:
        """Return the vectors of a side.

        Raises:
            ExportError: they take too long or too much memory, or have another form.
        """
        rows, each = next(iter(inputs.values())).shape[:2]
        items = rows * each if "frames" in inputs else rows
        try:
            vectors = self.session(name).compute(OUTPUT, inputs, items=items)
        except WeightsError as error:
            raise _in_export(error) from error
        wanted = rows, self.contract["dim"]
        if vectors.dtype != np.float32 or vectors.shape != wanted:
            raise ExportError(
                str(self.folder / name),
                expected=f"vectors float32 {list(wanted)}",
                found=f"{vectors.dtype} {list(vectors.shape)}",
                remedy=_AGAIN,
            )
        return vectors  # type: ignore[no-any-return]


def _in_export(error: WeightsError) -> ExportError:
    return ExportError(error.subject, expected=error.expected, found=error.found, remedy=_AGAIN)


def _damaged(path: Path, expected: str, error: Exception) -> ExportError:
    first = (str(error).splitlines() or [type(error).__name__])[0][:120]
    return ExportError(
        str(path), expected=expected, found=f"a damaged one ({first})", remedy=_AGAIN
    )
