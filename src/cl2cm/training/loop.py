"""One loop for every method, with exact resume.

AdamW, linear warm-up and a cosine, gradient clipping, mixed precision on CUDA, the best epoch by
validation SumR (never by test), or the last one where nothing can be measured. A loss, gradient or
validation score that is not finite stops the training; the best epoch before it is kept as the
run. A run that is killed at any moment and resumed ends, on a CPU, in
the same bits as an unbroken one: weights, optimiser, random state and the sampler's position are
saved together, and the learning rate is a function of the step alone.
"""

import platform
import shutil
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cl2cm.encode.trust import remember
from cl2cm.errors import ConfigError, NumberError, OtherSettingsError
from cl2cm.methods.build import build_method
from cl2cm.methods.registry import method_class
from cl2cm.methods.settings import checked, load_config
from cl2cm.model.checkpoint import save_run
from cl2cm.model.config import Config, with_absolute_paths
from cl2cm.progress import say
from cl2cm.storage import only_writer
from cl2cm.training.data import Stores
from cl2cm.training.initial import Initial, InitialPair, Kept, check_initial, find_initial
from cl2cm.training.licences import recorded
from cl2cm.training.loading import load_training_data
from cl2cm.training.optimization import matmul_precision, return_freed_memory
from cl2cm.training.processes import Group, Processes, joined
from cl2cm.training.run_folder import diverged_error, is_started, open_run
from cl2cm.training.stages import Loop
from cl2cm.training.trackers import check_trackers
from cl2cm.types import StrPath

ADAPTER_RIDGE = 0.1  # of the whitening in adapters, where the head has none


def train(
    config: Config | StrPath,
    run: StrPath,
    *,
    resume: bool = False,
    init_from: StrPath | None = None,
    stores: Stores | None = None,
) -> dict[str, Any]:
    """Train a model into a run folder.

    Args:
        config: all settings, or the TOML file that has them.
        run: a new folder, or with ``resume`` one that was started with the same settings.
        resume: continue where the run was stopped; a finished run of the same settings and data is
            left as it is.
        init_from: a finished run of the same networks and encoders, whose weights to start from.
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
    with joined() as processes:
        start = None if init_from is None else Path(init_from)
        return _train_once(processes, config, Path(run), resume, start, stores)


def _train_once(
    processes: Processes,
    given: Config | StrPath,
    run: Path,
    resume: bool,
    init_from: Path | None,
    stores: Stores | None,
) -> dict[str, Any]:
    """As `train`, on one of the processes; a finished run is left as it is."""
    config = processes.together(lambda: _complete(given))
    finished = processes.on_first(lambda: open_run(config, run, resume=resume))
    if finished is not None:
        processes.together(lambda: find_initial(run, init_from, resume=resume))  # another: refused
        say(f"{run} is finished already")
        return finished
    with ExitStack() as stack:
        lock = only_writer(run, remedy="choose another --out")
        processes.on_first(lambda: stack.enter_context(lock))
        # by the writer that has just ended
        finished = processes.on_first(lambda: open_run(config, run, resume=resume))
        return finished or _train(
            processes, config, run, resume=resume, init_from=init_from, stores=stores
        )


def _complete(given: Config | StrPath) -> Config:
    config = given if isinstance(given, Config) else load_config(given)
    return checked(with_absolute_paths(config))


def _train(
    processes: Processes,
    config: Config,
    run: Path,
    *,
    resume: bool,
    init_from: Path | None,
    stores: Stores | None,
) -> dict[str, Any]:
    """As `train`, of settings that are complete, as the only writer of the run."""

    def prepare() -> tuple[Loop, Kept | None]:
        return _prepare(processes, config, run, resume, init_from, stores, device, group)

    device, group = processes.together(lambda: processes.device(config.train.device))
    loop, kept = processes.together(prepare, in_turn=True)
    started = time.monotonic()

    def seconds() -> float:
        return time.monotonic() - started

    with matmul_precision(config.train.matmul):
        try:
            loop.run_all(resume=resume)
        except NumberError as error:
            if not loop.take_best():
                raise
            reason = str(error)
            processes.on_first(lambda: _finish(loop, config, seconds(), kept, diverged=reason))
            raise diverged_error(run, reason) from error
    return processes.on_first(lambda: _finish(loop, config, seconds(), kept))


def _prepare(
    processes: Processes,
    config: Config,
    run: Path,
    resume: bool,
    init_from: Path | None,
    stores: Stores | None,
    device: torch.device,
    group: Group,
) -> tuple[Loop, Kept | None]:
    """Load the data and build the method, and what runs its loop."""
    initial = find_initial(run, init_from, resume=resume)
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    if config.train.grad_cache_chunks > 1:
        return_freed_memory()
    check_trackers(config.train.log_to)
    kept = _kept(config, initial)
    data = load_training_data(config, stores, kept)
    if initial is not None:
        check_initial(initial, config, data.backbone, data.encoder)
    if processes.first:
        remember([config.text.encoder, config.vision.encoder])
    torch.manual_seed(config.train.seed)
    method = build_method(
        config,
        text_width=data.backbone.width,
        vision_width=data.encoder.width,
        backbone=None if config.text.freeze == "all" else data.backbone,
        initial=initial,
    )
    if method.teacher is not None and data.teacher_note:
        say(data.teacher_note)
    method.goals = data.goals
    data.fit_whitening(method, ridge=config.network.whitening or ADAPTER_RIDGE)
    method.to(device)
    return Loop(config, run, data, method, device, initial, processes, group), kept


def _kept(config: Config, initial: Initial | None) -> Kept | None:
    """Return what the training takes over unchanged from the run that it starts from.

    Raises:
        ConfigError: the method needs such a run, and there is none, or it is of another kind.
    """
    cls = method_class(config.method)
    if initial is not None and isinstance(initial, InitialPair) != cls.learns_goals:
        expected = "an off-the-shelf model" if cls.learns_goals else "a finished run"
        raise ConfigError(
            f"--init-from {initial.run}",
            expected=f"{expected} for the method {config.method!r}",
            found="a finished run" if cls.learns_goals else "an off-the-shelf model",
            remedy="use cl2cm add-language, or choose another method",
        )
    if not cls.keeps_vision:
        return None
    if initial is None:
        raise ConfigError(
            f"method {config.method!r}",
            expected="a finished run to start from",
            found="none",
            remedy="use cl2cm add-language, or name the run with --init-from",
        )
    return initial.kept(config)


def train_again(config: Config, run: Path, *, stores: Stores | None = None) -> None:
    """Train, continue with a stopped training, or leave a finished one; of other settings, anew."""
    started = is_started(run)
    try:
        train(config, run, resume=started, stores=stores)
    except OtherSettingsError as error:
        say(f"{error.subject}: {error.found}: training again")
        shutil.rmtree(run)
        train(config, run, stores=stores)


def _finish(
    loop: Loop, config: Config, seconds: float, kept: Kept | None, *, diverged: str = ""
) -> dict[str, Any]:
    method, data, run = loop.method, loop.data, loop.run
    method.cpu().eval()
    names = [stage.name for stage in method.all_stages()]
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
    if loop.initial is not None:
        provenance["init_from"] = loop.initial.record()
    if kept is not None:
        learned = [*kept.languages, *data.provenance["languages"]]
        provenance["learned"] = list(dict.fromkeys(learned))
    if data.left_out:
        provenance["left_out"] = data.left_out
    if diverged:
        provenance["diverged"] = diverged
    provenance["licences"] = recorded(config, provenance)
    whole = save_run(
        run,
        config,
        (method.student, method.teacher),
        (data.backbone, data.encoder),
        provenance,
        kept.space if kept else None,
    )
    shutil.rmtree(run / "state", ignore_errors=True)
    return whole
