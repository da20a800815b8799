"""The files of a run: settings, contract and provenance, read before the weights.

A run may come from anyone: its files are regular files inside it, of bounded size, and its
encoders are confined by ``trust.py``. A run folder:

    config.toml        the settings
    model.safetensors  the student's weights
    teacher.safetensors  the cross-lingual network's weights, where the method has one
    contract.json      how texts and images are fed, and the hash of config.toml
    metrics.jsonl      the log of training
    provenance.json    versions, data, time, validation results, hashes of the weights; written last

``contract.json`` and ``provenance.json`` have a checksum of their own (storage/records.py).
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from cl2cm.encode.trust import check_inside, confine
from cl2cm.errors import CheckpointError, ConfigError
from cl2cm.model.config import Config, parse_config, read_tree, to_toml
from cl2cm.model.contract import check_form
from cl2cm.model.encoders import AS_TRAINED, NOT_OPENED, Encoders
from cl2cm.storage import atomic_file, has_hash, hash_and_remember, read_record, sha256_file

FILES = (
    *("config.toml", "contract.json", "provenance.json"),
    *("model.safetensors", "teacher.safetensors"),
)
HASHED = ("model.safetensors", "teacher.safetensors", "metrics.jsonl")
MAX_TEXT = 2**24  # bytes of a file other than weights


def save_config(run: Path, config: Config) -> None:
    """Write the settings of a run."""
    with atomic_file(run / "config.toml") as file:
        file.write(to_toml(config).encode())


def read_run(
    run: Path, encoders: Encoders = AS_TRAINED, *, text: bool = True
) -> tuple[Config, dict[str, Any]]:
    """Return the configuration and contract of a finished run; the paths in it are confined.

    Args:
        run: the run folder.
        encoders: take the place of those that the run names; they are the user's own words.
        text: whether the text encoder will be opened.

    Raises:
        CheckpointError: it is not a run, unfinished, damaged, or names a model elsewhere.
    """
    _check_files(run)
    if not run.exists() or (run / "index.json").exists():
        raise _no_run(run)
    if not (run / "provenance.json").exists():
        if not run.is_dir():
            raise _no_run(run)
        unfinished = (run / "state").exists()
        raise CheckpointError(
            str(run),
            expected="a finished run",
            found="one that is still to be finished" if unfinished else "no provenance.json",
            remedy="run cl2cm train with --resume" if unfinished else "make it with cl2cm train",
        )
    agreed = read_contract(run)
    try:
        config = parse_config(read_tree(run / "config.toml"))
    except ConfigError as error:
        raise damaged(run, f"unreadable settings ({error})") from None
    _check_size(run, config)
    named = encoders.text or config.text.encoder
    if text and not encoders.text:
        named = confine(named, run)
    spec = encoders.vision or config.vision.encoder
    if not encoders.vision and not spec.startswith("features:"):  # these are opened on demand
        spec = confine(spec, run)
    sides = replace(config.text, encoder=named), replace(config.vision, encoder=spec)
    return replace(config, text=sides[0], vision=sides[1]), agreed


def read_contract(run: Path) -> dict[str, Any]:
    """Return the contract of a finished run, after comparing the hash of its settings.

    Raises:
        CheckpointError: contract or settings are damaged, or the settings were edited.
    """
    try:
        agreed = read_record(run / "contract.json")
        check_form(agreed)
        found = sha256_file(run / "config.toml")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(run, f"unreadable settings ({error})") from None
    written = agreed.get("settings", found)  # runs of earlier versions have none
    if found != written:
        raise CheckpointError(
            str(run / "config.toml"),
            expected=f"the settings of training (sha256 {written[:12]})",
            found=f"a damaged or edited file ({found[:12]})",
            remedy="restore it, or train again; name encoders that have moved with "
            "--text-encoder and --vision-encoder",
        )
    return agreed


def _no_run(run: Path) -> CheckpointError:
    if run.is_file():
        found, remedy = "a file", "name the folder that cl2cm train made"
    elif run.exists():
        found, remedy = "an index", "name the run that it was made with"
    else:
        found = "no such folder"
        remedy = "check the path, or make a run with cl2cm train; ready models: cl2cm models"
    return CheckpointError(
        str(run), expected="the folder of a finished run", found=found, remedy=remedy
    )


def _check_files(run: Path) -> None:
    """Before any is opened: a link may lead anywhere, a pipe never ends."""
    for name in FILES:
        file = run / name
        check_inside(file, run)
        if file.suffix != ".safetensors" and file.exists() and file.stat().st_size > MAX_TEXT:
            raise damaged(file, f"{file.stat().st_size:,} bytes", expected="a small file")


def _check_size(run: Path, config: Config) -> None:
    """Refuse settings of a network far larger than the weights, before memory is taken for it."""
    weights, network = run / "model.safetensors", config.network
    # bytes, in half precision, of the attention and of the adapters' last maps
    least = 2 * network.layers * 4 * network.dim**2
    least += 2 * len(network.adapters) * network.adapter_width * network.dim
    if weights.exists() and weights.stat().st_size < least:
        raise damaged(weights, f"weights that do not fit ({weights.stat().st_size:,} bytes)")


def read_provenance(run: Path) -> dict[str, Any]:
    """Return what a finished run says of its making.

    Raises:
        CheckpointError: it is damaged.
    """
    _check_files(run)
    try:
        provenance = read_record(run / "provenance.json")
        if not {"config", "validation_SumR"} <= provenance.keys():
            raise ValueError("missing keys")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise damaged(run, f"an unreadable provenance.json ({error})") from None
    return provenance


def hashes_of(run: Path) -> dict[str, str]:
    """Return SHA-256 of the weights and the log of a run, by name, for its ``provenance.json``."""
    return {name: hash_and_remember(run / name) for name in HASHED if (run / name).is_file()}


def check_hash(run: Path, name: str, *, again: bool = False) -> None:
    """Compare a file of a run with its hash in ``provenance.json``, if it is there.

    Raises:
        CheckpointError: it was changed, or is gone.
    """
    files = read_provenance(run).get("files", {})  # runs of earlier versions have none
    written = files.get(name) if isinstance(files, dict) else None
    try:
        same = written is None or has_hash(run / name, str(written), again=again)
    except OSError as error:
        raise damaged(run / name, (error.strerror or str(error)).lower()) from None
    if not same:
        raise damaged(run / name, "another content", expected=f"the hash {str(written)[:12]}")


def languages_of(run: Path) -> tuple[str, ...]:
    """Return the languages that a finished run has learned, its source first.

    Raises:
        CheckpointError: the run is damaged or unfinished.
    """
    config, _ = read_run(run, NOT_OPENED)
    provenance = read_provenance(run)
    learned = provenance.get("learned") or provenance.get("data", {}).get("languages", ())
    return tuple(dict.fromkeys([config.data.source, *map(str, learned)]))


def damaged(path: Path, found: str, *, expected: str = "a whole run") -> CheckpointError:
    """Return the error of a file that is not what was written to a run."""
    return CheckpointError(
        str(path), expected=expected, found=found, remedy="restore it, or train again"
    )
