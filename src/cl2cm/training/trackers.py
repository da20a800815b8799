"""Where training curves go besides ``metrics.jsonl``: TensorBoard, Weights & Biases, MLflow.

Everything is written into the run folder. A host is contacted only where the user has named one in
the tracker's own variables: ``WANDB_MODE=online``, or ``MLFLOW_TRACKING_URI``. A resumed training
goes on in the same run of the tracker.
"""

import os
import re
import time
import uuid
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from cl2cm.errors import ConfigError, MissingExtraError
from cl2cm.progress import say

PROJECT = "cl2cm"  # of both trackers, where the user names none
NOT_ALLOWED = re.compile(r"[^\w\-. /]")  # in a name of MLflow's


class Tracker(Protocol):
    """One place for curves."""

    def write(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curves of a stage."""
        ...

    def close(self) -> None:
        """End the run of the tracker."""
        ...


class TensorBoard:
    """Event files in ``tensorboard/``."""

    def __init__(self, run: Path, name: str, settings: Mapping[str, Any]) -> None:
        del name, settings  # a folder has no settings
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - only where it is used

        self._board = SummaryWriter(str(run / "tensorboard"))

    def write(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curves of a stage."""
        for key, value in values.items():
            self._board.add_scalar(f"{stage}/{key}", value, step)

    def close(self) -> None:
        """Write what is left."""
        self._board.close()


class WandB:
    """Weights & Biases, offline in ``wandb/`` unless ``WANDB_MODE`` says otherwise."""

    def __init__(self, run: Path, name: str, settings: Mapping[str, Any]) -> None:
        wandb = _package("wandb")
        mode = os.environ.get("WANDB_MODE") or "offline"
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=run.absolute().name,
            id=name,
            dir=str(run),
            mode=mode,
            resume="allow" if mode == "online" else None,
            config=dict(settings),
            settings=wandb.Settings(console="off", silent=mode != "online"),
        )
        self._stages: set[str] = set()

    def write(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curves of a stage; each stage counts its own steps."""
        if stage not in self._stages:
            self._stages.add(stage)
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        points = {f"{stage}/{key}": value for key, value in values.items()}
        self._run.log({**points, f"{stage}/step": step})

    def close(self) -> None:
        """End the run."""
        self._run.finish()


class MLflow:
    """MLflow, in ``mlflow/mlflow.db`` unless ``MLFLOW_TRACKING_URI`` says otherwise."""

    def __init__(self, run: Path, name: str, settings: Mapping[str, Any]) -> None:
        mlflow = _package("mlflow")
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        folder = (run / "mlflow").absolute()
        local = not uri
        if local:
            folder.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{folder / 'mlflow.db'}"
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        experiment = self._experiment(folder if local else None)
        found = self._client.search_runs([experiment], f"tags.cl2cm = '{name}'", max_results=1)
        if found:
            self._id = found[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
        else:
            made = self._client.create_run(
                experiment, run_name=run.absolute().name, tags={PROJECT: name}
            )
            self._id = made.info.run_id
            for key, value in settings.items():
                self._client.log_param(self._id, key, str(value)[:500])

    def _experiment(self, folder: Path | None) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        place = {} if folder is None else {"artifact_location": (folder / "artifacts").as_uri()}
        return str(self._client.create_experiment(name, **place))

    def write(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curves of a stage."""
        now = int(time.time() * 1000)
        for key, value in values.items():
            name = NOT_ALLOWED.sub("_", f"{stage}/{key}")
            self._client.log_metric(self._id, name, value, timestamp=now, step=step)

    def close(self) -> None:
        """End the run."""
        self._client.set_terminated(self._id)


TRACKERS: dict[str, Callable[[Path, str, Mapping[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
}


def check_trackers(names: tuple[str, ...]) -> None:
    """Refuse a tracker that is not installed, before anything is computed.

    Raises:
        MissingExtraError: it is not.
    """
    for name in names:
        if name != "tensorboard":
            _package(name)


def _package(name: str) -> Any:  # noqa: ANN401 - neither has types
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MissingExtraError(name, name) from None


class Trackers:
    """All trackers of a run; one that fails while training is said once, and left out.

    Args:
        run: the run folder.
        names: of the trackers.
        settings: of the training, ``section.key`` → value, for the trackers' own tables.

    Raises:
        MissingExtraError: a tracker is not installed.
        ConfigError: a tracker does not open.
    """

    def __init__(self, run: Path, names: tuple[str, ...], settings: Mapping[str, Any]) -> None:
        self._open: dict[str, Tracker] = {}
        own = _name_of(run) if set(names) - {"tensorboard"} else ""
        for name in dict.fromkeys(names):
            try:
                self._open[name] = TRACKERS[name](run, own, settings)
            except (MissingExtraError, OSError):
                raise
            except Exception as error:  # each package has exceptions of its own
                raise ConfigError(
                    f"train.log_to: {name}",
                    expected="a tracker that opens",
                    found=_first_line(error),
                    remedy="check its own variables and login, or leave it out",
                ) from error

    def write(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curves of a stage."""
        self._each(lambda tracker: tracker.write(stage, step, values))

    def close(self) -> None:
        """End the runs of all trackers."""
        self._each(lambda tracker: tracker.close())

    def _each(self, do: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            try:
                do(tracker)
            except OSError:
                raise
            except Exception as error:
                say(f"warning: {name} stopped logging: {_first_line(error)}")
                del self._open[name]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _name_of(run: Path) -> str:
    """Return the name of a run among all others, the same after a resume."""
    file = run / "tracking.txt"
    if file.is_file() and re.fullmatch(r"[0-9a-f]{16}", text := file.read_text("ascii").strip()):
        return text
    name = uuid.uuid4().hex[:16]
    file.write_text(f"{name}\n", encoding="ascii")
    return name
