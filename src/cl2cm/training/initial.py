"""Start a training from the weights of a finished run: on other data, languages or methods.

The networks and the encoders must be the same. The student starts from the run's student, and the
teacher from the run's teacher where both methods have one; whatever else a method trains is fresh.
Which run it was is in ``state/start.json`` while the training is not finished, and under
``init_from`` in ``provenance.json`` afterwards.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cl2cm.encode.clip.pairs import pair_fingerprint, parse_pair
from cl2cm.encode.feature_files import Agreed, FeatureFiles
from cl2cm.encode.protocol import VisionEncoder
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.trust import check_inside
from cl2cm.encode.vision import load_vision
from cl2cm.encode.vision_hf import HuggingFaceVision
from cl2cm.errors import CheckpointError, OtherSettingsError
from cl2cm.model.checkpoint import fingerprint, space_of
from cl2cm.model.config import Config
from cl2cm.model.contract import Space, vision_side
from cl2cm.model.encoders import NOT_OPENED, Encoders
from cl2cm.model.networks import MeanOfFrames, TextNetwork
from cl2cm.model.off_the_shelf import pair_model
from cl2cm.model.run_folder import languages_of, read_provenance, read_run
from cl2cm.model.weights import load_weights
from cl2cm.model.whitening import Whitening
from cl2cm.progress import say
from cl2cm.storage import read_record, sha256_file, write_record
from cl2cm.text import Case
from cl2cm.types import Ints, is_model_spec

GOALS_AT_ONCE = 4096  # texts of which an off-the-shelf model is asked for vectors
START = Path("state") / "start.json"


class Kept(NamedTuple):
    """What a run takes over from the run that it starts from, unchanged.

    Attributes:
        space: of vectors.
        vision: the vision encoder, or the features that stand for one.
        case: how texts are written, see ``text.py``; None: as the new run's texts are.
        languages: that it has learned, its source first.
        goals: gives the vectors [texts, D] that source captions should have, zero for other texts,
            from all texts and the rows of source captions; None: the method has its own.
    """

    space: Space
    vision: VisionEncoder | FeatureFiles
    case: Case | None
    languages: tuple[str, ...]
    goals: Callable[[Sequence[str], Ints], Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Initial:
    """The run that a training starts from.

    Attributes:
        run: its folder, absolute.
        model: its fingerprint.
        weights: whether its weights are still needed; a resumed training has its own in its state.
    """

    run: Path
    model: str

    weights: bool = True

    def kept(self, config: Config) -> Kept:
        """Return what a training takes over unchanged, for a method that keeps the vision side."""
        _, agreed = read_run(self.run, NOT_OPENED)
        space, vision = space_of(self.run, vision_encoder=config.vision.encoder)
        return Kept(space, vision, agreed.get("case", "keep"), languages_of(self.run))

    def record(self) -> dict[str, str]:
        """Return what the new run remembers of it."""
        return {"run": str(self.run), "model": self.model}

    def load_student(self, student: TextNetwork) -> None:
        """Load the student's weights; adapters that the run does not have stay fresh."""
        self._load(student, "model.safetensors")

    def load_teacher(self, teacher: TextNetwork) -> None:
        """Load the teacher's weights, or say that it is fresh where the run has none."""
        if not self.weights or (self.run / "teacher.safetensors").exists():
            self._load(teacher, "teacher.safetensors")
        else:
            say(f"{self.run} has no teacher: the teacher starts from fresh weights")

    def _load(self, network: TextNetwork, file: str) -> None:
        """Load the weights of a network; its whitening then stays as it is.

        A backbone that the run did not train starts as its encoder.
        """
        if not self.weights:
            return
        before, _ = read_run(self.run, NOT_OPENED)
        adapters = network.text.adapters
        network.text.adapters = adapters[: len(before.network.adapters)]
        for name, part in network.named_children():
            if name != "backbone" or before.text.freeze != "all":
                load_weights(part, self.run / file, prefix=f"{name}.")
        for module in network.modules():
            if isinstance(module, Whitening):
                module.fixed = True
        network.text.adapters = adapters


class InitialPair(Initial):
    """An off-the-shelf model that a training starts from; ``run`` is its spec.

    It has no weights for the new networks, and its files are compared by the fingerprint.
    """

    __slots__ = ()

    def kept(self, config: Config) -> Kept:
        """Return what a training takes over unchanged: the image side, and goals for texts."""
        vision = load_vision(config.vision.encoder, sampling=config.vision.films)
        space = Space(self.model, vision_side(MeanOfFrames(), vision))
        assert isinstance(vision, HuggingFaceVision), "of the same spec"  # noqa: S101
        model = pair_model(parse_pair(str(self.run)), vision)

        def goals(texts: Sequence[str], source: Ints) -> Tensor:
            found = torch.zeros(len(texts), model.dim)
            rows = np.unique(source)
            for some in np.array_split(rows, len(rows) // GOALS_AT_ONCE + 1):
                vectors = model.encode_text([texts[row] for row in some])
                found[torch.from_numpy(some)] = torch.from_numpy(vectors)
            return found

        return Kept(space, vision, None, (config.data.source,), goals)


def find_initial(run: Path, init_from: Path | None, *, resume: bool) -> Initial | None:
    """Return the run to start from; a resumed training starts from the one that it started from.

    Args:
        run: the run to train.
        init_from: the run that the user names.
        resume: whether the training was started before.

    Raises:
        CheckpointError: the named run is damaged or unfinished.
        OtherSettingsError: the training was started from another run, or from fresh weights.
    """
    named: Initial | None = None
    if init_from is not None and is_model_spec(init_from):
        named = InitialPair(init_from, pair_fingerprint(parse_pair(str(init_from))), weights=False)
    elif init_from is not None:
        read_run(init_from, NOT_OPENED)  # a finished one
        named = Initial(init_from.absolute(), _model_of(init_from))
    if not resume:
        return named
    before = _recorded(run)
    started = (run / "state" / "current.json").exists()
    needed = not started and not isinstance(before, InitialPair)
    if named is not None and (before is None or named.model != before.model):
        raise OtherSettingsError(
            str(run),
            expected=f"--init-from {before.run}" if before else "no --init-from",
            found=f"--init-from {init_from}",
            remedy="resume as the run was started, or choose another --out",
        )
    return before and replace(before, run=(named or before).run, weights=needed)


def _model_of(run: Path) -> str:
    """Return the fingerprint of a run's model; runs of cl2cm 0.1.0 may have none."""
    return str(read_provenance(run).get("model") or sha256_file(run / "model.safetensors"))


def _recorded(run: Path) -> Initial | None:
    """Return what an earlier start of a training says, if it started from a run."""
    file = run / START
    check_inside(file, run)
    try:
        if (run / "provenance.json").exists():
            record = read_provenance(run).get("init_from")
        elif file.exists():
            record = read_record(file)
        else:
            record = None
        if record is None:
            return None
        kind = InitialPair if is_model_spec(record["run"]) else Initial
        return kind(Path(record["run"]), str(record["model"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(
            str(file),
            expected="the run that the training started from",
            found=f"a damaged file ({error})",
            remedy="delete the run folder and train again",
        ) from None


def write_start(run: Path, initial: Initial | None) -> None:
    """Remember what a training starts from, before anything else of it is written."""
    if initial is not None:
        write_record(run / START, initial.record())


def check_initial(
    initial: Initial,
    config: Config,
    backbone: TextBackbone,
    encoder: VisionEncoder | FeatureFiles,
) -> None:
    """Refuse a run whose networks or encoders differ from a configuration.

    Raises:
        CheckpointError: they differ, or the run is damaged or was trained again since.
        StoreError: stored features differ from those that the run was trained on.
    """
    if not initial.weights:
        return
    before, agreed = read_run(initial.run, Encoders(config.text.encoder, config.vision.encoder))
    differing = _differing(before, config)
    if not differing and agreed["backbone"] != backbone.fingerprint:
        differing.append("text.encoder: other weights or another tokenizer")
    known = agreed["vision"]
    stored = str(known.get("encoder", "")).startswith("features:")
    if stored != isinstance(encoder, FeatureFiles):
        kinds = ("an encoder", "features")
        differing.append(f"vision.encoder: {kinds[stored]} → {kinds[not stored]}")
    elif known.get("width", encoder.width) != encoder.width:
        differing.append(f"vision.encoder: width {known['width']} → {encoder.width}")
    elif isinstance(encoder, FeatureFiles) and not encoder.agreed:
        what = Agreed(
            known["width"], known["fingerprint"], known.get("samples", {}), elsewhere=True
        )
        len(FeatureFiles(encoder.name, encoder.path, what))  # opens and compares them
    elif known["fingerprint"] != encoder.fingerprint:
        differing.append("vision.encoder: another one")
    if differing:
        raise CheckpointError(
            f"--init-from {initial.run}",
            expected="the same networks and encoders",
            found="; ".join(differing),
            remedy="change these settings, or train from fresh weights",
        )
    weights = sha256_file(initial.run / "model.safetensors")
    now = fingerprint(weights, agreed["backbone"], known["fingerprint"])
    if initial.model not in (weights, now):
        raise CheckpointError(
            str(initial.run / "model.safetensors"),
            expected="the weights of its training",
            found="other ones",
            remedy="restore them, or choose another --init-from",
        )


def _differing(before: Config, now: Config) -> list[str]:
    """Return settings that the weights depend on, in which a run differs."""
    keys = {
        "text": ("layer", "prefix", "max_tokens", "lower_case"),
        "network": ("dim", "layers", "heads"),
    }
    found = []
    for section, names in keys.items():
        for key in names:
            values = [getattr(getattr(config, section), key) for config in (before, now)]
            if values[0] != values[1]:
                found.append(f"{section}.{key}: {values[0]!r} → {values[1]!r}")
    if (before.network.whitening > 0) != (now.network.whitening > 0):
        found.append(f"network.whitening: {before.network.whitening} → {now.network.whitening}")
    kept, added = before.network.adapters, now.network.adapters
    if added[: len(kept)] != kept:
        found.append(f"network.adapters: {list(kept)} → {list(added)}, which drops languages")
    if kept and before.network.adapter_width != now.network.adapter_width:
        widths = before.network.adapter_width, now.network.adapter_width
        found.append(f"network.adapter_width: {widths[0]} → {widths[1]}")
    if before.text.freeze != "all" and now.text.freeze == "all":
        found.append(f"text.freeze: {before.text.freeze!r} → 'all', which drops trained weights")
    return found
