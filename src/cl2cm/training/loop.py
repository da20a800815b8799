"""One loop for every method, with exact resume.

AdamW, linear warm-up and a cosine, gradient clipping, mixed precision on CUDA, the best epoch by
validation SumR (never by test), or the last one where nothing can be measured. A loss, gradient or
validation score that is not finite stops the training; the best epoch before it is kept as the
run. A run that is killed at any moment and resumed ends, on a CPU, in
the same bits as an unbroken one: weights, optimiser, random state and the sampler's position are
saved together, and the learning rate is a function of the step alone.
"""

import json
import math
import platform
import shutil
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cl2cm.encode.trust import check_inside, remember
from cl2cm.errors import CheckpointError, ConfigError, NumberError, OtherSettingsError
from cl2cm.methods.base import Method, Stage
from cl2cm.methods.build import build_method
from cl2cm.methods.settings import checked, load_config
from cl2cm.model.checkpoint import save_run
from cl2cm.model.config import Config, differences, parse_config, read_tree, with_absolute_paths
from cl2cm.model.retrieval import to_device
from cl2cm.model.run_folder import read_contract, read_provenance, save_config
from cl2cm.progress import say, track
from cl2cm.storage import (
    LOCK,
    is_partial,
    only_writer,
    sha256_file,
    sha256_text,
)
from cl2cm.training.data import Stores, TrainingData, load_training_data
from cl2cm.training.log import Log
from cl2cm.training.optimization import (
    choose_device,
    learning_rate,
    make_optimizer,
    matmul_precision,
)
from cl2cm.training.resume import Position, State, load_state, save_state
from cl2cm.types import Batch, Frames, StrPath

LOG_STEPS = 10
NOT_MEASURED = -1.0  # less than any SumR


def train(
    config: Config | StrPath,
    run: StrPath,
    *,
    resume: bool = False,
    stores: Stores | None = None,
) -> dict[str, Any]:
    """Train a model into a run folder.

    Args:
        config: all settings, or the TOML file that has them.
        run: a new folder, or with ``resume`` one that was started with the same settings.
        resume: go on where the run was stopped; a finished run of the same settings and data is
            left as it is.
        stores: features that are there already, see ``load_training_data``.

    Returns:
        The run's provenance: versions, data, seconds and validation results.

    Raises:
        OtherSettingsError: the run to resume is of other settings or data.
        NumberError: the training diverged; the run holds its best epoch before, if there is one.
        CL2CMError: whatever is wrong with settings, data or folder.

    Example:
        >>> import cl2cm
        >>> provenance = cl2cm.train("recipe.toml", "new-run")
        >>> provenance["method"], sorted(provenance["validation_SumR"])
        ('translate-train', ['cross-modal'])
        >>> cl2cm.load("new-run").dim
        32
    """
    run = Path(run)
    config = config if isinstance(config, Config) else load_config(config)
    config = checked(with_absolute_paths(config))
    finished = _open_run(config, run, resume=resume)
    if finished is not None:
        return finished
    with only_writer(run, remedy="choose another --out"):
        finished = _open_run(config, run, resume=resume)  # by the writer that has just ended
        return finished or _train(config, run, resume=resume, stores=stores)


def _train(config: Config, run: Path, *, resume: bool, stores: Stores | None) -> dict[str, Any]:
    """As `train`, of settings that are complete, as the only writer of the run."""
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    device = choose_device(config.train.device)
    data = load_training_data(config, stores)
    remember([config.text.encoder, config.vision.encoder])
    torch.manual_seed(config.train.seed)
    method = build_method(
        config,
        text_width=data.backbone.width,
        vision_width=data.encoder.width,
        backbone=None if config.text.freeze == "all" else data.backbone,
    )
    if method.teacher is not None and data.teacher_note:
        say(data.teacher_note)
    data.fit_whitening(method, ridge=config.network.whitening)
    method.to(device)
    loop = Loop(config, run, data, method, device)
    started = time.monotonic()
    with matmul_precision(config.train.matmul):
        try:
            loop.run_all(resume=resume)
        except NumberError as error:
            if not loop.take_best():
                raise
            _finish(loop, config, time.monotonic() - started, diverged=str(error))
            raise _diverged(run, str(error)) from error
    return _finish(loop, config, time.monotonic() - started)


def train_again(config: Config, run: Path, *, stores: Stores | None = None) -> None:
    """Train, go on with a stopped training, or leave a finished one; of other settings, anew."""
    started = any((run / name).exists() for name in (*_STARTED, "provenance.json"))
    try:
        train(config, run, resume=started, stores=stores)
    except OtherSettingsError as error:
        say(f"{error.subject}: {error.found}: training anew")
        shutil.rmtree(run)
        train(config, run, stores=stores)


class Loop:
    """The stages, epochs and steps of one run."""

    def __init__(
        self, config: Config, run: Path, data: TrainingData, method: Method, device: torch.device
    ) -> None:
        self.config = config.train
        self.run = run
        self.data = data
        self.method = method
        self.device = device
        self.stages = method.stages()
        self.states = run / "state"
        self.log = Log(run)
        self.settings = config
        self.key = sha256_text(config.hash + json.dumps(data.provenance, sort_keys=True))
        self.amp = config.train.amp and device.type == "cuda"
        self.position = Position()
        self.best: dict[str, Tensor] = {}

    def run_all(self, *, resume: bool) -> None:
        """Train every stage.

        Raises:
            NumberError: a loss, gradient or validation score is not finite.
        """
        state = load_state(self.states, config_hash=self.key) if resume else None
        if resume and state is None:
            say(f"{self.run}: stopped before a state was saved, so it starts from the beginning")
        if state is not None:
            self.position = state.position
            self.method.load_state_dict(state.part("method"))
            self.best = state.part("best")
        self.log.start(self.position.log_bytes)
        save_config(self.run, self.settings)  # a resume can then say what differs
        try:
            while self.position.stage < len(self.stages):
                self._stage(state)
                state = None
        finally:
            self.log.close()

    def take_best(self) -> bool:
        """Whether the last stage has a best epoch to end with; its weights are then loaded."""
        if self.position.stage != len(self.stages) - 1 or not self.best:
            return False
        self._end_stage()
        return True

    def _end_stage(self) -> None:
        for network in self.stages[self.position.stage].trained:
            _load_part(network, self.best, self._prefix(network))
        best = self.position.best if self.position.best >= 0 else None
        self.position = Position(
            stage=self.position.stage + 1, history=[*self.position.history, best]
        )
        self.best = {}

    def _stage(self, state: State | None) -> None:
        stage = self.stages[self.position.stage]
        optimizer = make_optimizer(stage.trained, self.config)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp)
        stage.begin(self.data.all_sentences)
        if state is not None:
            state.restore_optimizer(optimizer)
            scaler.load_state_dict(state.scaler)
            state.restore_random()
        with track(
            f"{self.method.name}, {stage.name}", stage.epochs * self.data.batches.steps
        ) as advance:
            advance(self.position.total)
            while self.position.epoch < stage.epochs and not self._patience_is_over():
                self._epoch(stage, optimizer, scaler, advance)
        self._end_stage()
        stage.end()
        self._save(None, scaler)

    def _epoch(
        self,
        stage: Stage,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        advance: Callable[[int], None],
    ) -> None:
        position, every = self.position, self.config.checkpoint_steps
        steps = self.data.batches.steps
        self.method.train()
        for network in self.method.children():
            if network not in stage.trained:
                network.eval()
        batches = self.data.batches.epoch(
            position.epoch,
            start=position.step,
            words=stage.words,
            others=stage.others,
        )
        for batch in batches:
            self.method.progress = position.total / (stage.epochs * steps)
            rate = learning_rate(position.total, stage.epochs * steps, self.config.warmup)
            losses = self._step(stage, batch, optimizer, scaler, rate)
            position.step += 1
            position.total += 1
            if position.total % LOG_STEPS == 1:
                self.log.write(stage.name, position, {"rate": rate, **losses})
            if every and position.total % every == 0 and position.step < steps:
                self._save(optimizer, scaler)
            advance(1)
        self._validate(stage)
        position.epoch, position.step = position.epoch + 1, 0
        self._save(optimizer, scaler)

    def _step(
        self,
        stage: Stage,
        batch: Batch,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        rate: float,
    ) -> dict[str, float]:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        with torch.autocast(self.device.type, enabled=self.amp):
            losses = stage.loss(_to(batch, self.device))
        self._require_finite(stage, "loss", float(losses["loss"].detach()))
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(losses["loss"]).backward()
        scaler.unscale_(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.config.clip)
        if not scaler.is_enabled() or scaler.get_scale() < 1:  # it leaves out steps that overflow
            self._require_finite(stage, "gradient", float(norm))
        scaler.step(optimizer)
        scaler.update()
        self.method.after_step()
        return {key: float(value.detach()) for key, value in losses.items()} | {
            "gradient": float(norm)
        }

    def _require_finite(self, stage: Stage, what: str, value: float) -> None:
        if not math.isfinite(value):
            at, where = self.position, f"{self.method.name}, {stage.name}"
            raise NumberError(
                f"{where}: {what} of epoch {at.epoch + 1}, step {at.total + 1}",
                expected="a finite number",
                found=str(value),
                remedy="lower train.lr, or check the features and texts",
            )

    def _validate(self, stage: Stage) -> None:
        position, name = self.position, stage.name
        where = f"{self.method.name}, {name}: epoch {position.epoch + 1}"
        try:
            by_language = self.data.sum_of_recalls(stage.validated)
        except NumberError as error:
            raise NumberError(
                f"{where}, validation, {error.subject}",
                expected=error.expected,
                found=error.found,
                remedy="lower train.lr, or check the features and texts",
            ) from error
        if by_language:
            mean = sum(by_language.values()) / len(by_language)
            self.log.write(name, position, {f"SumR/{k}": v for k, v in by_language.items()})
            self.log.write(name, position, {"SumR": mean})
            say(f"{where}, validation SumR {mean:.1f}")
        else:
            mean = NOT_MEASURED
            say(f"{where}, not measured")
        if mean > position.best or not by_language:
            position.best, position.best_epoch = mean, position.epoch
            self.best = {
                f"{self._prefix(network)}{key}": value.detach().clone()
                for network in stage.trained
                for key, value in network.state_dict().items()
            }

    def _patience_is_over(self) -> bool:
        waited = self.position.epoch - 1 - self.position.best_epoch
        return (
            bool(self.config.patience)
            and self.position.epoch > 0
            and (waited >= self.config.patience)
        )

    def _prefix(self, network: nn.Module) -> str:
        return next(f"{name}." for name, n in self.method.named_children() if n is network)

    def _save(self, optimizer: torch.optim.Optimizer | None, scaler: torch.amp.GradScaler) -> None:
        """Save the state; between two stages there is no optimiser."""
        self.position.log_bytes = self.log.flush()
        save_state(
            self.states,
            config_hash=self.key,
            position=self.position,
            method=self.method,
            best=self.best,
            optimizer=optimizer,
            scaler=scaler,
        )


def _to(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    return batch._replace(
        vision=Frames(*(t.to(device) for t in batch.vision)),
        source=to_device(batch.source, device),
        target=to_device(batch.target, device),
        other=None if batch.other is None else to_device(batch.other, device),
        words=None
        if batch.words is None
        else (to_device(batch.words[0], device), to_device(batch.words[1], device)),
        back=None if batch.back is None else to_device(batch.back, device),
        has_back=None if batch.has_back is None else batch.has_back.to(device),
        pictures=batch.pictures.to(device),
        source_texts=batch.source_texts.to(device),
        target_texts=batch.target_texts.to(device),
    )


def _load_part(network: nn.Module, best: dict[str, Tensor], prefix: str) -> None:
    network.load_state_dict(
        {key.removeprefix(prefix): v for key, v in best.items() if key.startswith(prefix)}
    )


_STARTED = ("metrics.jsonl", "config.toml", "state")  # any of them may be lost, or not be there yet


def _is_other(path: Path) -> bool:
    return path.name != LOCK and not is_partial(path.name)


def _open_run(config: Config, run: Path, *, resume: bool) -> dict[str, Any] | None:
    """Provenance of a finished run when resuming; refuses to write over anything."""
    for file in (run / "metrics.jsonl", run / "state" / "current.json"):
        check_inside(file, run)  # it is written to
    finished = (run / "provenance.json").exists()
    started = finished or any((run / name).exists() for name in _STARTED)
    other = run.exists() and (not run.is_dir() or any(map(_is_other, run.iterdir())))
    if not resume and other:
        raise CheckpointError(
            str(run),
            expected="a new or empty folder for the run",
            found="something in it",
            remedy=f"{'add --resume to go on with it, or ' if started else ''}choose another --out",
        )
    if not resume:
        return None
    if not started:
        raise CheckpointError(
            str(run),
            expected="a started run",
            found="other files" if other else "none",
            remedy="choose another --out" if other else "run the same command without --resume",
        )
    provenance = read_provenance(run) if finished else None
    _check_settings(config, run, provenance)
    if provenance is not None and provenance.get("diverged"):
        raise _diverged(run, provenance["diverged"])
    if provenance is not None:
        say(f"{run} is finished already")
    return provenance


def _check_settings(config: Config, run: Path, provenance: dict[str, Any] | None) -> None:
    """Refuse to go on with a run of other settings, or with a finished one of other data.

    Raises:
        CheckpointError: its settings cannot be read, or are damaged.
        OtherSettingsError: it is of others.
    """
    if provenance is not None:
        read_contract(run)  # damaged settings are no other settings
    if not (run / "config.toml").exists():  # stopped in cl2cm 0.1.0, whose state still tells
        return
    try:
        changed = differences(_settings_of(run), config)
    except ConfigError as error:
        raise CheckpointError(
            str(run / "config.toml"),
            expected="the settings of the run",
            found=f"unreadable ones ({error})",
            remedy="restore it, or choose another --out",
        ) from None
    if provenance is not None:  # where the data are means nothing; what they are, everything
        changed = [line for line in changed if not line.startswith(_PLACES)]
        manifest = Path(config.data.manifest)
        known = provenance.get("data", {}).get("manifest_sha256")
        if known and manifest.is_file() and sha256_file(manifest) != known:
            changed.append(f"data.manifest: another content of {manifest}")
    if changed:
        longer = any(".epochs: " in line for line in changed)
        why = "; the learning rate is planned for all epochs, so a run cannot be prolonged"
        raise OtherSettingsError(
            str(run),
            expected="the settings and data that the run was started with",
            found="; ".join(changed),
            remedy=f"resume with the same ones, or choose another --out{why if longer else ''}",
        )


def _settings_of(run: Path) -> Config:
    return checked(with_absolute_paths(parse_config(read_tree(run / "config.toml"))))


_PLACES = ("data.manifest: ", "data.features: ")


def _diverged(run: Path, reason: str) -> NumberError:
    return NumberError(
        str(run),
        expected="a training with finite losses",
        found=f"one that diverged ({reason})",
        remedy="use the run as it is, which holds its best epoch before, or train into another "
        "--out with a lower train.lr",
    )


def _finish(loop: Loop, config: Config, seconds: float, *, diverged: str = "") -> dict[str, Any]:
    method, data, run = loop.method, loop.data, loop.run
    method.cpu().eval()
    names = [stage.name for stage in method.stages()]
    provenance = {
        "method": config.method,
        "translates_queries": method.translates_queries,
        "config": config.hash,
        "data": data.provenance,
        "validation_SumR": dict(zip(names, loop.position.history, strict=True)),
        "seconds": round(seconds, 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {
            name: version(name)
            for name in ("cl2cm", "torch", "transformers", "tokenizers", "onnxruntime", "numpy")
        }
        | {"python": platform.python_version()},
    }
    if data.left_out:
        provenance["left_out"] = data.left_out
    if diverged:
        provenance["diverged"] = diverged
    whole = save_run(
        run, config, (method.student, method.teacher), (data.backbone, data.encoder), provenance
    )
    shutil.rmtree(run / "state", ignore_errors=True)
    return whole
