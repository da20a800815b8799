"""Run an ONNX graph; untrusted graphs have limits on time and memory.

A few lines of a graph can ask for terabytes, or for years of multiplication, already when constants
are computed as it is opened. Untrusted graphs are therefore opened without folding constants, with
a memory limit, and with a time limit that is checked between operators.
"""

import functools
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl2cm.errors import WeightsError
from cl2cm.types import Floats

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

MEMORY = 4 * 2**30  # bytes of the tensors of all strangers' graphs in this process
SECONDS, FRAME_SECONDS = 60.0, 30.0  # of a run, and more for each of its frames or texts
_AGAIN = "convert or fetch the model again"


class OnnxSession:
    """A graph on the processor.

    Args:
        model: the file.
        threads: processor threads; None: as many as there are processors.
        bounded: whether it is a stranger's; ours is known by its hash.

    Raises:
        WeightsError: the file is damaged.
    """

    def __init__(self, model: Path, *, threads: int | None = None, bounded: bool = True) -> None:
        import onnxruntime  # noqa: PLC0415 — heavy

        self._model, self._bounded, self._library = model, bounded, onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 4 if bounded else 3  # errors are raised; the log repeats them
        # Threads that spin while they wait would take the processors from those that decode.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        more: dict[str, Any] = {}
        if bounded:
            _bound_memory()
            options.add_session_config_entry("session.use_env_allocators", "1")
            more["disabled_optimizers"] = ["ConstantFolding"]
        try:
            self.session = onnxruntime.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"], **more
            )
        except Exception as error:  # onnxruntime's own exceptions share no base
            raise self._damaged("an ONNX graph", f"a damaged one ({_first(error)})") from error

    def run(self, pixels: "npt.NDArray[np.uint8]") -> Floats:
        """Return the features of some frames; see `compute`."""
        features: Floats = self.compute("features", {"pixels": pixels}, items=len(pixels))
        return features

    def compute(self, output: str, inputs: "Mapping[str, npt.NDArray[Any]]", *, items: int) -> Any:  # noqa: ANN401
        """Return an output of the graph.

        Args:
            output: its name.
            inputs: name → values.
            items: frames or texts among them, each of which may take a while.

        Raises:
            WeightsError: they take too long or too much memory, or the graph does not fit together.
        """
        options = self._library.RunOptions()
        seconds = SECONDS + FRAME_SECONDS * items
        timer = threading.Timer(seconds, setattr, (options, "terminate", True))
        timer.daemon = True
        if self._bounded:
            timer.start()
        try:
            return self.session.run([output], dict(inputs), options)[0]
        except Exception as error:
            if not self._bounded:
                raise
            found = f"more than {seconds:.0f} s" if options.terminate else _first(error)
            raise self._damaged("a graph that runs within bounds", found) from error
        finally:
            timer.cancel()

    def _damaged(self, expected: str, found: str) -> WeightsError:
        return WeightsError(str(self._model), expected=expected, found=found, remedy=_AGAIN)


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


@functools.cache
def _bound_memory() -> None:
    """Make the arena of this process; once, as onnxruntime has one for all that share it."""
    import onnxruntime  # noqa: PLC0415 — heavy

    where = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    arena = onnxruntime.OrtArenaCfg(MEMORY, 1, -1, -1)  # grows as needed
    onnxruntime.create_and_register_allocator(where, arena)
