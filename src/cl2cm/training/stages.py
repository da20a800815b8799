"""The stages, epochs and steps of a training."""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from cl2cm.errors import NumberError
from cl2cm.methods.base import Losses, Method, Stage
from cl2cm.model.config import Config
from cl2cm.model.run_folder import save_config
from cl2cm.progress import say, track
from cl2cm.storage import sha256_text
from cl2cm.training.data import TrainingData
from cl2cm.training.global_batch import Divided
from cl2cm.training.initial import Initial, write_start
from cl2cm.training.log import Log, Unwritten
from cl2cm.training.optimization import (
    learning_rate,
    make_optimizer,
)
from cl2cm.training.processes import Group, Processes
from cl2cm.training.resume import Position, State, load_state, save_state
from cl2cm.training.stage_loss import shared_loss
from cl2cm.types import Batch

LOG_STEPS = 10


NOT_MEASURED = -1.0  # less than any SumR


class Loop:
    """The stages, epochs and steps of one run, on one process or on several in step."""

    def __init__(
        self,
        config: Config,
        run: Path,
        data: TrainingData,
        method: Method,
        device: torch.device,
        initial: Initial | None = None,
        processes: Processes = Processes(),  # noqa: B008 - it is frozen
        group: Group = None,
    ) -> None:
        self.config = config.train
        self.processes, self.group = processes, group
        self.divided = Divided(
            processes,
            group,
            chunks=self.config.grad_cache_chunks,
            groups=self.config.length_groups,
            device=device,
        )
        self.run = run
        self.data = data
        self.method = method
        self.device = device
        self.stages = method.all_stages()
        self.states = run / "state"
        settings = {
            f"{name}.{key}": v for name, t in config.tables().items() for key, v in t.items()
        }
        kind = Log if processes.first else Unwritten
        self.log = kind(run, config.train.log_to, {"method": config.method, **settings})
        self.settings = config
        self.initial = initial
        # An estimate may differ in its last digit where features were computed anew.
        known = {name: value for name, value in data.provenance.items() if name != "confidence"}
        key = config.training + json.dumps(known, sort_keys=True)
        self.key = sha256_text(key + (initial.model if initial else ""))
        self.amp = config.train.amp and device.type == "cuda"
        self.position = Position()
        self.best: dict[str, Tensor] = {}

    def run_all(self, *, resume: bool) -> None:
        """Train every stage.

        Raises:
            NumberError: a loss, gradient or validation score is not finite.
        """
        processes = self.processes
        state = processes.together(self._load_state) if resume else None
        if resume and state is None:
            say(f"{self.run}: stopped before a state was saved, so it starts from the beginning")
        if state is not None:
            self.position = state.position
            self.method.load_state_dict(state.part("method"))
            self.best = state.part("best")
        processes.on_first(self._start_files)
        try:
            while self.position.stage < len(self.stages):
                self._stage(state)
                state = None
        finally:
            self.log.close()

    def _load_state(self) -> State | None:
        return load_state(self.states, config_hash=self.key, processes=self.processes.count)

    def _start_files(self) -> None:
        write_start(self.run, self.initial)
        self.log.start(self.position.log_bytes)
        save_config(self.run, self.settings)  # a resume can then say what differs

    def take_best(self) -> bool:
        """Return whether the last stage has a best epoch; its weights are then loaded."""
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
            state.restore_random(self.processes.count)
        self.loss = shared_loss(stage, self.device, self.processes, self.group)
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
            pairing=stage.pairs,
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
        self._check_equal(stage)
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
        with torch.autocast(self.device.type, enabled=self.amp), self.divided.encoding(self.method):
            losses: Losses = self.loss(batch)
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

    def _check_equal(self, stage: Stage) -> None:
        """Check that all processes have the same weights."""
        if self.processes.count > 1:
            digest = hashlib.sha256()
            for value in self.method.state_dict().values():
                digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
            where = (
                f"{self.method.name}, {stage.name}: weights after epoch {self.position.epoch + 1}"
            )
            self.processes.check_equal(where, digest.hexdigest())

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
            by_language = self.processes.on_first(lambda: self.data.sum_of_recalls(stage.validated))
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
        if mean > position.best or not by_language or stage.keep == "last":
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

        def save() -> None:
            self.position.log_bytes = self.log.flush()
            save_state(
                self.states,
                config_hash=self.key,
                position=self.position,
                method=self.method,
                best=self.best,
                optimizer=optimizer,
                scaler=scaler,
                processes=self.processes.count,
            )

        self.processes.on_first(save)


def _load_part(network: nn.Module, best: dict[str, Tensor], prefix: str) -> None:
    network.load_state_dict(
        {key.removeprefix(prefix): v for key, v in best.items() if key.startswith(prefix)}
    )
