"""Vision backbones, frozen: frames uint8 to features [N, D_v] ("Two networks" of method.md).

Backbones plug in behind one protocol and are named by a spec: ``onnx:DIR`` (or a model's name in
the cache), ``hf:ID`` for a CLIP-like model or any other that pools, ``features:PATH`` for features
that were computed elsewhere. The fingerprint names the
weights and the preprocessing together: features of two fingerprints never meet.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cl2cm.encode.onnx_files import check_graph
from cl2cm.encode.onnx_session import OnnxSession
from cl2cm.encode.pinned_weights import OFFLINE_MODELS, model_folder, pinned_folder
from cl2cm.encode.trust import is_bare
from cl2cm.errors import EncoderError, MediaError, WeightsError
from cl2cm.media.decoding import decode_parallel
from cl2cm.media.images import EVENLY, Pixels, Preprocess, Source
from cl2cm.storage import sha256_file
from cl2cm.types import Floats, Sampling

if TYPE_CHECKING:
    import onnxruntime

    from cl2cm.encode.feature_files import FeatureFiles
from cl2cm.encode.protocol import Described, VisionEncoder, checked
from cl2cm.progress import Advance

_PREPROCESS_KEYS = {"size", "resize", "resample", "stretch"}


class EncodedPictures(NamedTuple):
    """features: float32 [n, D_v]; kept: source of each row, ascending; failures: source and error.

    An image has one row, a video one for each of its frames.
    """

    features: Floats
    kept: list[int]
    failures: list[tuple[int, MediaError]]


def load_vision(
    spec: str,
    *,
    sampling: Sampling = EVENLY,
    cache: Path | None = None,
    threads: int | None = None,
) -> "VisionEncoder | FeatureFiles":
    """Load a backbone by its spec, or open the features that stand for one.

    Args:
        spec: ``onnx:NAME`` of a model in the cache, ``onnx:DIR`` with a slash in it, ``hf:ID`` or
            ``features:PATH``.
        sampling: which frames of a video it is given.
        cache: folder with ``models/``; by default the user's.
        threads: processor threads; by default as many as there are processors.

    Raises:
        EncoderError: no such kind, or the model does not fit.
        WeightsError: the model's files are absent or damaged.
    """
    kind, _, name = spec.partition(":")
    if kind == "onnx" and name:
        folder = _model_folder(name, cache)
        return OnnxVision(spec, folder, threads=threads, sampling=sampling)
    if kind == "hf" and name:
        from cl2cm.encode.vision_hf import HuggingFaceVision  # noqa: PLC0415 — loads torch

        return HuggingFaceVision(spec, name, sampling)
    if kind == "features" and name:
        from cl2cm.encode.feature_files import FeatureFiles  # noqa: PLC0415 — loads torch

        return FeatureFiles(spec, Path(name).expanduser())
    raise EncoderError(
        "vision encoder",
        expected="onnx:DIR, hf:ID or features:PATH",
        found=f"{spec!r}",
        remedy="choose one of them",
    )


def encode_paths(
    encoder: VisionEncoder,
    paths: Sequence[Source],
    *,
    skip_bad: bool = False,
    workers: int | None = None,
    batch_size: int = 8,
    progress: Advance | None = None,
) -> EncodedPictures:
    """Encode images and videos; the next ones are decoded while the last ones are encoded.

    Args:
        encoder: the backbone.
        paths: images and videos, as ``load_frames`` takes them.
        skip_bad: list the sources that cannot be read in place of stopping at the first.
        workers: decoding threads; by default one for each processor.
        batch_size: frames at once; the features do not depend on it.
        progress: called with the number of sources just begun, or found to be bad.

    Returns:
        Features, the position among ``paths`` of each, and what failed.

    Raises:
        MediaError: a source cannot be read, and ``skip_bad`` is not set.
        MissingExtraError: there is a video, and the extra ``video`` is not installed.
    """
    features, kept, failures = [np.empty((0, encoder.width), np.float32)], [], []
    batches = decode_parallel(
        paths,
        encoder.preprocess,
        sampling=encoder.sampling,
        batch_size=batch_size,
        workers=workers,
        skip_bad=skip_bad,
    )
    last = -1
    for batch in batches:
        if batch.rows:
            features.append(encoder.encode(batch.pixels))
        kept += batch.rows
        failures += batch.failures
        new = {row for row in (*batch.rows, *(row for row, _ in batch.failures)) if row > last}
        last = max(last, *new) if new else last
        if progress is not None:
            progress(len(new))
    return _without_failed(np.concatenate(features), kept, failures)


def _without_failed(
    features: Floats, kept: list[int], failures: list[tuple[int, MediaError]]
) -> EncodedPictures:
    """Without the frames of videos that broke off after them."""
    bad = {row for row, _ in failures}.intersection(kept)
    if bad:
        features = features[[row not in bad for row in kept]]
        kept = [row for row in kept if row not in bad]
    return EncodedPictures(features, kept, failures)


class OnnxVision(Described):
    """A folder with ``model.onnx`` (pixels → features) and ``preprocess.json``.

    Args:
        name: what it is called in messages and records.
        folder: with the two files.
        threads: processor threads; by default as many as there are processors.
        sampling: which frames of a video it is given.

    Raises:
        WeightsError: a file is absent or damaged.
        EncoderError: the graph has other inputs or outputs.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        threads: int | None = None,
        sampling: Sampling = EVENLY,
    ) -> None:
        for file in ("model.onnx", "preprocess.json"):
            if not (folder / file).is_file():
                raise _absent(folder / file)
        preprocess = _read_preprocess(folder / "preprocess.json")
        external = check_graph(folder / "model.onnx")
        self.folder = folder
        bounded = name.partition(":")[2] not in OFFLINE_MODELS
        self.session = OnnxSession(folder / "model.onnx", threads=threads, bounded=bounded)
        files = [folder / "model.onnx", *external]
        hashes = *map(sha256_file, files), repr(sorted(preprocess.to_json().items()))
        fingerprint = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
        width = _graph_width(self.session.session, name)
        super().__init__(name, preprocess, fingerprint, width, sampling)

    def encode(self, pixels: Pixels) -> Floats:
        """Return features float32 [N, D_v] of frames uint8 [N, size, size, 3]."""
        self.check(pixels)
        return self.session.run(pixels)


_AGAIN = "convert or fetch the model again"


def _model_folder(name: str, cache: Path | None) -> Path:
    """Return the folder of a model; a bare name is a model in the cache."""
    if name in OFFLINE_MODELS:
        return pinned_folder(name, cache)
    return model_folder(name, cache) if is_bare(name) else Path(name).expanduser()


def _absent(path: Path) -> WeightsError:
    remedy = "run: cl2cm doctor --install-weights, or name another folder"
    return WeightsError(str(path), expected="a model's file", found="none", remedy=remedy)


def _read_preprocess(path: Path) -> Preprocess:
    try:
        value = json.loads(path.read_bytes())
        if not isinstance(value, dict) or not set(value) <= _PREPROCESS_KEYS:
            raise ValueError(f"keys other than {', '.join(sorted(_PREPROCESS_KEYS))}")
        return checked(Preprocess(**value))
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(
            str(path),
            expected="preprocessing settings",
            found=f"damaged ones ({error})",
            remedy=_AGAIN,
        ) from error


def _graph_width(session: "onnxruntime.InferenceSession", name: str) -> int:
    inputs = [(i.name, i.type, len(i.shape)) for i in session.get_inputs()]
    outputs = [(o.name, o.type, len(o.shape)) for o in session.get_outputs()]
    wanted = [("pixels", "tensor(uint8)", 4)], [("features", "tensor(float)", 2)]
    width = session.get_outputs()[0].shape[-1]
    if (inputs, outputs) != wanted or not isinstance(width, int):
        raise EncoderError(
            name,
            expected="pixels uint8 [N, H, W, 3] in, features float32 [N, D_v] out",
            found=f"{inputs} in, {outputs} out",
            remedy="export the model with these inputs and outputs",
        )
    return width
