"""Locate an off-the-shelf model and detect which of four layouts it has.

| layout | files | what it holds |
|---|---|---|
| transformers | ``config.json``, ``model.safetensors`` | both sides, or an image side |
| sentence-transformers | ``modules.json`` and a folder for each module | a text side |
| m-clip | ``config.json`` with ``modelBase``, ``model.safetensors`` | a text side |
| open_clip | ``open_clip_config.json``, ``open_clip_model.safetensors`` | both sides |

A sentence-transformers folder whose only module is a CLIP model is that module's folder, in the
layout of Transformers. A model that is on the hub in two layouts is taken in the one of
Transformers. The JSON files are untrusted: they cannot name files outside their folder.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cl2cm.encode.pretrained import MAX_JSON, check_folder, from_hub
from cl2cm.encode.text_loading import TOKENIZER_FILES
from cl2cm.encode.trust import hub_allowed, is_bare, is_hub_id

Kind = Literal["transformers", "sentence-transformers", "m-clip", "open_clip"]
Failed = Callable[[str, str], Exception]  # from what was found and what to do

TWO_SIDED = {"clip", "siglip", "siglip2", "chinese_clip"}  # of Transformers, by ``model_type``
OPEN_CLIP_CONFIG = "open_clip_config.json"
MAX_MODULES = 8
_WEIGHTS: dict[Kind, tuple[str, ...]] = {
    "transformers": ("model*.safetensors",),
    "sentence-transformers": ("model*.safetensors",),
    "m-clip": ("model*.safetensors",),
    "open_clip": ("open_clip*.safetensors",),
}


class Module(NamedTuple):
    """A module of sentence-transformers: its class's name and its folder."""

    kind: str
    folder: Path


class Layout(NamedTuple):
    """The contents of a model folder.

    kind: how; folder: where the files are; model_type: as ``config.json`` says, or "";
    modules: of sentence-transformers, in their order.
    """

    kind: Kind
    folder: Path
    model_type: str = ""
    modules: tuple[Module, ...] = ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """Every folder with files of the model."""
        return tuple(dict.fromkeys([self.folder, *(module.folder for module in self.modules)]))

    @property
    def two_sided(self) -> bool:
        """Whether it has an image side and a text side."""
        return self.kind == "open_clip" or self.model_type in TWO_SIDED

    def check(self) -> None:
        """Refuse files that need code, or weights or files from elsewhere.

        Raises:
            ValueError: a file does; see `cl2cm.encode.pretrained.check_folder`.
        """
        for folder in self.folders:
            check_folder(folder)


def find_model(name: str, failed: Failed) -> Path:
    """Return the folder of a model: a path, or OWNER/NAME in the hub cache or on the hub.

    Args:
        name: a folder with a slash in its path, or OWNER/NAME.
        failed: makes the error of what was found and what to do.
    """
    if is_folder(name):
        return Path(name).expanduser()
    if is_hub_id(name):
        return _hub_folder(name, failed)
    raise failed("no such folder", "correct the id, or give a folder such as ./NAME")


def is_folder(name: str) -> bool:
    """Return whether a model is named by the path of an existing folder; a bare name never is."""
    try:
        return not is_bare(name) and Path(name).expanduser().is_dir()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, an unknown user
        return False


def _hub_folder(name: str, failed: Failed) -> Path:
    """Fetch the small files first: they say which of the weights are needed."""
    folder = from_hub(name, ["*.json", *TOKENIZER_FILES], failed)
    if not hub_allowed():
        return folder
    layout = layout_of(folder)
    wanted = [*_WEIGHTS[layout.kind]]
    for module in _modules_of(folder):
        if module.folder != folder:
            below = ("*.json", *TOKENIZER_FILES, "model*.safetensors")
            wanted += [f"{module.folder.name}/{pattern}" for pattern in below]
            wanted.append(f"{module.folder.name}/config.json")
    return from_hub(name, wanted, failed, nested=True)


def layout_of(folder: Path) -> Layout:
    """Return the layout of a folder.

    Raises:
        ValueError: a file is not JSON, too large, or names a folder elsewhere.
    """
    config = read_json(folder / "config.json")
    model_type = str(config.get("model_type", ""))
    if model_type in TWO_SIDED:
        return Layout("transformers", folder, model_type)
    modules = _modules_of(folder)
    if modules and modules[0].kind == "CLIPModel":
        if any(module.kind != "Normalize" for module in modules[1:]):
            raise ValueError("modules.json puts further modules behind a CLIP model")
        inside = str(read_json(modules[0].folder / "config.json").get("model_type", ""))
        return Layout("transformers", modules[0].folder, inside)
    if modules:
        return Layout("sentence-transformers", folder, model_type, modules)
    if "modelBase" in config and "numDims" in config:
        return Layout("m-clip", folder, model_type)
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return Layout("open_clip", folder, model_type)
    return Layout("transformers", folder, model_type)


def _modules_of(folder: Path) -> tuple[Module, ...]:
    path = folder / "modules.json"
    if not path.is_file():
        return ()
    found = _parse(path)
    if not isinstance(found, list) or not 1 <= len(found) <= MAX_MODULES:
        raise ValueError(f"modules.json is no list of 1 to {MAX_MODULES} modules")
    modules = []
    for entry in found:
        kind, below = (entry.get("type"), entry.get("path")) if isinstance(entry, dict) else (0, 0)
        if not isinstance(kind, str) or not isinstance(below, str):
            raise ValueError("modules.json has an entry without type and path")
        if below and not is_bare(below):
            raise ValueError(f"modules.json names {below[:60]!r}, outside of the folder")
        modules.append(Module(kind.rpartition(".")[2], folder / below if below else folder))
    return tuple(modules)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; empty if the file does not exist.

    Raises:
        ValueError: no JSON, no object, no regular file or a very large one.
    """
    if not path.exists():
        return {}
    value = _parse(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} is no object")
    return value


def _parse(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    if not path.is_file():
        raise ValueError(f"{path.name} is no regular file")
    if path.stat().st_size > MAX_JSON:
        raise ValueError(f"{path.name} has more than {MAX_JSON:,} bytes")
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deep") from None
