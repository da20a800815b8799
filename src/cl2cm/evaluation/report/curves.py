"""Losses and validation results from the log of a run."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from cl2cm.errors import CheckpointError
from cl2cm.model.run_folder import check_hash
from cl2cm.storage import open_confined

_MOST = 2**26  # bytes of a log
_STAGES, _NAMES, _POINTS = 4, 12, 400  # that are drawn; a log may come from anyone
_PLACE = {"stage", "epoch", "step"}
_OTHER = {"rate", "gradient"}  # logged with the losses
Points = list[tuple[float, float]]

_LARGEST = 1e15  # beyond, neighbouring numbers of a chart's axis are equal


@dataclass(slots=True)
class Curves:
    """The log of a run, by stage.

    Attributes:
        losses: stage → name → (step, value).
        validation: stage → (epoch, SumR over all languages).
        missing: why there is nothing; empty where there is.
    """

    losses: dict[str, dict[str, Points]] = field(default_factory=dict)
    validation: dict[str, Points] = field(default_factory=dict)
    missing: str = ""


def read_curves(run: Path) -> Curves:
    """Read ``metrics.jsonl`` of a run; lines that cannot be read are left out."""
    try:
        check_hash(run, "metrics.jsonl")
        with open_confined(run / "metrics.jsonl", [run]) as file:
            content = file.read(_MOST)
    except CheckpointError:
        return Curves(missing="its log was changed after training")
    except OSError:
        return Curves(missing="it has no log (metrics.jsonl)")
    curves = Curves()
    for line in content.splitlines():
        _add(curves, _parse(line))
    if not curves.losses and not curves.validation:
        return Curves(missing="its log is empty")
    losses = {
        stage: {name: _thinned(named[name]) for name in sorted(named, key=_loss_first)[:_NAMES]}
        for stage, named in list(curves.losses.items())[:_STAGES]
    }
    validation = list(curves.validation.items())[:_STAGES]
    return Curves(losses, {stage: _thinned(points) for stage, points in validation})


def _loss_first(name: str) -> tuple[bool, str]:
    return name != "loss", name


def _thinned(points: Points) -> Points:
    """Return at most so many points as a line needs, with the last one."""
    step = -(-len(points) // _POINTS)
    return points[::step] if (len(points) - 1) % step == 0 else [*points[::step], points[-1]]


def _add(curves: Curves, values: dict[str, object]) -> None:
    stage = str(values.get("stage"))[:60]
    step, epoch = finite(values.get("step")), finite(values.get("epoch"))
    if step is None or epoch is None:
        return
    if (total := finite(values.get("SumR"))) is not None:
        curves.validation.setdefault(stage, []).append((epoch + 1, total))
    if "loss" not in values:
        return
    for name in values.keys() - _PLACE - _OTHER:
        if (value := finite(values[name])) is not None:
            named = curves.losses.setdefault(stage, {})
            named.setdefault(str(name)[:60], []).append((step, value))


def _parse(line: bytes) -> dict[str, object]:
    """Return the values of a line; none where it cannot be read."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def finite(value: object) -> float | None:
    """Return a value as a number; None where it is none, or too large for a chart."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if abs(number) < _LARGEST else None  # NaN is not
