"""The output folder of a training: new, to be resumed, or finished."""

from pathlib import Path
from typing import Any

from cl2cm.encode.trust import check_inside
from cl2cm.errors import CheckpointError, ConfigError, NumberError, OtherSettingsError
from cl2cm.methods.settings import checked
from cl2cm.model.config import Config, differences, parse_config, read_tree, with_absolute_paths
from cl2cm.model.run_folder import read_contract, read_provenance
from cl2cm.storage import LOCK, is_partial, sha256_file
from cl2cm.training.initial import START

_STARTED = ("metrics.jsonl", "config.toml", "state", START)  # any may be lost, or not there yet


def is_started(run: Path) -> bool:
    """Return whether a training has begun in a folder, or ended."""
    return any((run / name).exists() for name in (*_STARTED, "provenance.json"))


def _is_other(path: Path) -> bool:
    return path.name != LOCK and not is_partial(path.name)


def open_run(config: Config, run: Path, *, resume: bool) -> dict[str, Any] | None:
    """Return the provenance of a finished run when resuming; refuses to write over anything."""
    for file in (run / "metrics.jsonl", run / "state" / "current.json"):
        check_inside(file, run)  # it is written to
    started = is_started(run)
    other = run.exists() and (not run.is_dir() or any(map(_is_other, run.iterdir())))
    if not resume and other:
        raise CheckpointError(
            str(run),
            expected="a new or empty folder for the run",
            found="something in it",
            remedy=f"{'add --resume to resume it, or ' if started else ''}choose another --out",
        )
    if not resume:
        return None
    finished = (run / "provenance.json").exists()
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
        raise diverged_error(run, provenance["diverged"])
    return provenance


def _check_settings(config: Config, run: Path, provenance: dict[str, Any] | None) -> None:
    """Refuse to continue with a run of other settings, or with a finished one of other data.

    Raises:
        CheckpointError: its settings cannot be read, or are damaged.
        OtherSettingsError: it is of others.
    """
    if provenance is not None:
        read_contract(run)  # damaged settings are no other settings
    if not (run / "config.toml").exists():  # stopped in cl2cm 0.1.0, whose state still tells
        return
    try:
        changed = [
            line
            for line in differences(_settings_of(run), config)
            if not line.startswith("train.log_to: ")
        ]
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


def diverged_error(run: Path, reason: str) -> NumberError:
    """Return the error of a run whose training diverged after a best epoch."""
    return NumberError(
        str(run),
        expected="a training with finite losses",
        found=f"one that diverged ({reason})",
        remedy="use the run as it is, which holds its best epoch before, or train into another "
        "--out with a lower train.lr",
    )
