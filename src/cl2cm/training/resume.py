"""Save and load the state of an interrupted training, in safetensors and JSON.

Weights, optimiser moments, the gradient scaler, torch's random state on every device, the sampler's
position, the best weights so far. No pickle. The state is one folder per save, and one small file
that names the current one, so a kill at any moment leaves a complete state behind.
"""

import contextlib
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cl2cm.encode.trust import check_inside, is_bare
from cl2cm.errors import CheckpointError, OtherSettingsError
from cl2cm.progress import say
from cl2cm.storage import (
    atomic_folder,
    is_partial,
    read_record,
    sha256_file,
    sweep_partials,
    write_record,
)


@dataclass(slots=True)
class Position:
    """Where a training stands, between two steps.

    Attributes:
        stage: number of the stage.
        epoch: number of the epoch in the stage.
        step: next step in the epoch.
        total: steps done in the stage.
        best: best validation SumR of the stage; -1: none was measured.
        best_epoch: epoch of it; -1: none yet.
        history: per finished stage, its best validation SumR; None: none was measured.
        log_bytes: length of metrics.jsonl.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    total: int = 0
    best: float = -1.0
    best_epoch: int = -1
    history: list[float | None] = field(default_factory=list[float | None])
    log_bytes: int = 0


def save_state(
    folder: Path,
    *,
    config_hash: str,
    position: Position,
    method: nn.Module,
    best: dict[str, Tensor],
    optimizer: torch.optim.Optimizer | None,
    scaler: torch.amp.GradScaler,
    processes: int = 1,
) -> None:
    """Write the state; it replaces the one before when it is complete.

    The random state is taken from rank 0; all processes share it.

    Between two stages there is no optimiser: each stage starts its own.
    """
    name = f"{position.stage}-{position.epoch}-{position.step}"
    tensors = {f"method/{key}": value for key, value in method.state_dict().items()}
    tensors |= {f"best/{key}": value for key, value in best.items()}
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        for number, state in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"random/cuda{number}"] = state
    moments_of = optimizer.state_dict()["state"] if optimizer else {}
    for number, moments in moments_of.items():
        tensors |= {f"optimizer/{number}/{key}": value for key, value in moments.items()}
    with atomic_folder(folder / name) as partial:
        save_file(
            {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()},
            partial / "state.safetensors",
        )
        write_record(
            partial / "state.json",
            {
                "config": config_hash,
                "position": asdict(position),
                "scaler": scaler.state_dict(),
                "processes": processes,
                "sha256": sha256_file(partial / "state.safetensors"),
            },
        )
    write_record(folder / "current.json", {"state": name})
    for old in folder.iterdir():
        if old.is_dir() and old.name != name:
            shutil.rmtree(old, ignore_errors=True)
    sweep_partials(folder)


@dataclass(frozen=True, slots=True)
class State:
    """A state as read from the disk."""

    position: Position
    scaler: dict[str, Any]
    tensors: dict[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """Return tensors of one part, without its prefix."""
        return {
            key.removeprefix(f"{name}/"): value
            for key, value in self.tensors.items()
            if key.startswith(f"{name}/")
        }

    def restore_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Moments and step counts of every parameter."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in self.part("optimizer").items():
            number, name = key.split("/")
            state.setdefault(int(number), {})[name] = value
        whole = optimizer.state_dict()
        whole["state"] = state
        optimizer.load_state_dict(whole)

    def restore_random(self, processes: int = 1) -> None:
        """Torch's random state on every device; of several processes, on the one of each."""
        for name, value in self.part("random").items():
            if name == "cpu":
                torch.set_rng_state(value)
            elif torch.cuda.is_available() and processes > 1:
                if name == "cuda0":
                    torch.cuda.set_rng_state(value)
            elif torch.cuda.is_available():
                torch.cuda.set_rng_state(value, int(name.removeprefix("cuda")))


def _current(folder: Path) -> str | None:
    """Name of the current state; of the latest, where the file that names it is gone or damaged."""
    try:
        return str(read_record(folder / "current.json")["state"])
    except (OSError, ValueError, KeyError, RecursionError):
        there = [path.parent for path in folder.glob("*/state.json") if path.parent.name[0] != "."]
    latest = max(there, key=lambda path: path.stat().st_mtime_ns, default=None)
    if latest is not None:
        say(f"{folder}: current.json is missing or damaged: using the latest state, {latest.name}")
        return latest.name
    states = [path for path in folder.glob("*") if path.is_dir() and not is_partial(path.name)]
    if states or (folder / "current.json").exists():
        raise CheckpointError(
            str(folder),
            expected="a state of the training",
            found="none that is complete",
            remedy="remove the folder to start again from the beginning",
        )
    return None


def check_state(folder: Path) -> None:
    """Read every byte of the current state of a training, if there is one.

    Raises:
        CheckpointError: it is damaged.
    """
    with contextlib.suppress(OtherSettingsError):  # whose state it is is another question
        load_state(folder, config_hash="")


def load_state(folder: Path, *, config_hash: str, processes: int = 1) -> State | None:
    """Return the current state, or None where nothing was saved yet.

    Raises:
        CheckpointError: it is damaged.
        OtherSettingsError: it is of other settings, data or encoders, or of another number of
            processes, whose sums and random numbers are others.
    """
    name = _current(folder)
    if name is None:
        return None
    try:
        if not is_bare(name):
            raise ValueError(f"the state {name!r}")
        where = folder / name
        for file in ("state.json", "state.safetensors"):
            check_inside(where / file, folder)
        meta = read_record(where / "state.json")
        if "sha256" in meta and sha256_file(where / "state.safetensors") != meta["sha256"]:
            raise ValueError("state.safetensors has another hash")
        tensors = load_file(where / "state.safetensors")
        position, scaler, key = Position(**meta["position"]), meta["scaler"], meta["config"]
        started_with = int(meta.get("processes", 1))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise CheckpointError(
            str(folder),
            expected="a complete state",
            found=f"a damaged one ({error})",
            remedy=f"restore it, or remove {folder} to start again from the beginning",
        ) from None
    if key != config_hash:
        raise OtherSettingsError(
            str(folder.parent),
            expected="the settings, data and encoders that the run was started with",
            found="other ones",
            remedy="resume with the same ones, or choose another --out",
        )
    if started_with != processes:
        again = (
            f"torchrun --nproc-per-node {started_with} -m cl2cm train" if started_with > 1 else ""
        )
        raise OtherSettingsError(
            str(folder.parent),
            expected=f"{_count(started_with)}, as the run was started with",
            found=_count(processes),
            remedy=f"resume with {again or 'cl2cm train'} … --resume, or choose another --out",
        )
    return State(position, scaler, tensors)


def _count(processes: int) -> str:
    return f"{processes} process{'es' if processes > 1 else ''}"
