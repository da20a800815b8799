"""A configuration: the sections of settings.py and methods' tables, read and written as TOML.

An unknown key is an error that names the nearest known one; a value of the wrong type or out of
its range is an error that says what was expected. Tables of methods are kept as they are, so that
a run opens for search without its method; ``methods.settings.checked`` checks them.
"""

import dataclasses
import json
import tomllib
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cl2cm.encode.pinned_weights import OFFLINE_MODELS
from cl2cm.encode.trust import is_bare
from cl2cm.errors import ConfigError
from cl2cm.model.settings import (
    DataConfig,
    MatchConfig,
    NetworkConfig,
    TextConfig,
    TrainConfig,
    VisionConfig,
)
from cl2cm.model.values import T, build_settings, typed_value, unknown_setting
from cl2cm.storage import sha256_text
from cl2cm.types import StrPath

Table = Mapping[str, Any]
_PATHS = (("data", "manifest"), ("data", "features"), ("text", "encoder"), ("vision", "encoder"))


_LATER = (
    ("train", "grad_cache_chunks"),
    ("train", "length_groups"),
    ("match", "smallest_dim"),
    ("data", "confidence"),
)  # settings that interrupted runs of earlier versions do not have


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of a run; read one with `load_config`.

    Example:
        >>> import cl2cm
        >>> config = cl2cm.load_config("recipe.toml")
        >>> config.method, config.train.epochs, config.network.dim
        ('translate-train', 2, 32)
    """

    method: str = "cl2cm"  # see ``cl2cm train --help`` for the names
    data: DataConfig = field(default_factory=DataConfig)
    text: TextConfig = field(default_factory=TextConfig)
    vision: VisionConfig = field(default_factory=VisionConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    match: MatchConfig = field(default_factory=MatchConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    sections: Mapping[str, Table] = field(default_factory=dict[str, Table])  # of methods, by name

    @property
    def hash(self) -> str:
        """Hexadecimal SHA-256 of all settings; of equal runs only where both are checked."""
        return sha256_text(to_toml(self))

    @property
    def training(self) -> str:
        """The same of what changes the weights: not of ``train.log_to``, where curves go.

        A setting that came later is left out at its default, for runs that were started before.
        """
        usual = Config()
        later = [
            f"{section}.{key}"
            for section, key in _LATER
            if getattr(getattr(self, section), key) == getattr(getattr(usual, section), key)
        ]
        return sha256_text(to_toml(self, without=("train.log_to", *later)))

    def section(self, name: str, kind: type[T]) -> T:
        """Return the settings of one of the methods' tables, defaults where it is silent.

        Args:
            name: of the table.
            kind: the dataclass of its settings.

        Raises:
            ConfigError: an unknown key, a wrong type or an impossible value.
        """
        return build_settings(kind, self.sections.get(name, {}), f"{name}.")

    def tables(self) -> dict[str, Table]:
        """Return every section as a table of plain values, in the order of the file."""
        common = {name: getattr(self, name) for name in COMMON}
        return {name: as_table(settings) for name, settings in common.items()} | {**self.sections}


COMMON = tuple(
    name for name, hint in typing.get_type_hints(Config).items() if dataclasses.is_dataclass(hint)
)  # names of the sections that every run has


def as_table(settings: Any) -> Table:  # noqa: ANN401 - a dataclass of settings
    """Return the plain values of a dataclass of settings, as TOML would give them."""
    values = {key.name: getattr(settings, key.name) for key in dataclasses.fields(settings)}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}


def load_config(path: StrPath, overrides: Iterable[str] = ()) -> Config:
    """Read a recipe of the user's, then apply overrides.

    Args:
        path: the TOML file.
        overrides: ``key=value``, such as ``train.epochs=3``; words between commas for a list.

    Returns:
        All settings; those that the file does not have are at their default.

    A relative ``data.manifest``, ``data.features`` or folder of an encoder is taken from the file's
    folder, in an override from the working directory.

    Raises:
        ConfigError: no such file, no TOML, an unknown key, a wrong type or an impossible value.
    """
    path = Path(path)
    tree = read_tree(path)
    anchor(tree, path.parent.absolute(), beside_recipe=True)
    for setting in overrides:
        override(tree, setting)
    anchor(tree, Path.cwd())
    return parse_config(tree)


def read_tree(path: Path) -> dict[str, Any]:
    """Return the values of a TOML file, as they are in it.

    Raises:
        ConfigError: no such file, or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except IsADirectoryError:
        raise ConfigError(
            str(path), expected="a TOML file", found="a folder", remedy="name the file in it"
        ) from None
    except OSError as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise ConfigError(
            str(path), expected="a TOML file", found=str(found).lower(), remedy="check the path"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(
            str(path), expected="UTF-8 text", found="other bytes", remedy="save it as UTF-8"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            str(path), expected="TOML", found=str(error), remedy="correct that line"
        ) from None


def anchor(tree: dict[str, Any], base: Path, *, beside_recipe: bool = False) -> None:
    """Make relative paths of a tree absolute."""
    for section, key in _PATHS:
        values = tree.get(section)
        if not isinstance(values, dict) or not isinstance(values.get(key), str):
            continue
        value = values[key]
        if section != "data":
            values[key] = _anchor_spec(value, base, bare=beside_recipe)
        elif value:
            values[key] = str(base / value)


def _anchor_spec(spec: str, base: Path, *, bare: bool) -> str:
    """Return the spec of an encoder, with an absolute path where it names a folder or features.

    Args:
        spec: such as ``hf:NAME``.
        base: where relative paths start.
        bare: whether a name without a slash may be a folder; a pinned model's name never is.
    """
    kind, colon, where = spec.partition(":")
    named = kind == "features" and where and not where.startswith("~")
    may_be_folder = where not in OFFLINE_MODELS if bare else not is_bare(where)
    if named or (kind in ("hf", "onnx") and where and may_be_folder and (base / where).is_dir()):
        return f"{kind}{colon}{base / where}"
    return spec


def with_absolute_paths(config: Config) -> Config:
    """Return a configuration whose relative paths are taken from the working directory.

    A run that is trained with it loads in any other.
    """
    tree = {
        section: {
            key: getattr(getattr(config, section), key) for name, key in _PATHS if name == section
        }
        for section, _ in _PATHS
    }
    anchor(tree, Path.cwd())
    return dataclasses.replace(
        config,
        **{name: dataclasses.replace(getattr(config, name), **keys) for name, keys in tree.items()},
    )


def differences(old: Config, new: Config) -> list[str]:
    """Return the settings in which two configurations differ, as ``train.epochs: 2 → 50``.

    Both are checked; see ``methods.settings.checked``.
    """
    found = [] if old.method == new.method else [f"method: {old.method} → {new.method}"]
    before, after = old.tables(), new.tables()
    for section in {**before, **after}:
        one, other = before.get(section, {}), after.get(section, {})
        for key in {**one, **other}:
            values = one.get(key), other.get(key)
            if values[0] != values[1]:
                found.append(f"{section}.{key}: {_toml(values[0])} → {_toml(values[1])}")
    return found


def parse_config(tree: Mapping[str, Any]) -> Config:
    """Check a tree of plain values, as TOML gives it, against the dataclasses.

    Tables with other names are taken for settings of methods, and kept as they are.
    """
    known = ("method", *COMMON)
    sections = {name: v for name, v in tree.items() if name not in known and isinstance(v, dict)}
    common = {name: value for name, value in tree.items() if name not in sections}
    for name in common:
        if name not in known:
            raise unknown_setting(name, known)
    return dataclasses.replace(build_settings(Config, common, ""), sections=sections)


def to_toml(config: Config, *, without: Collection[str] = ()) -> str:
    """Return the configuration as TOML; ``parse_config`` of it gives an equal one.

    Args:
        config: all settings.
        without: settings to leave out, as ``section.key``.
    """
    lines = [f"method = {_toml(config.method)}"]
    for section, table in config.tables().items():
        lines += ["", f"[{section}]"]
        kept = {key: v for key, v in table.items() if f"{section}.{key}" not in without}
        lines += [f"{key} = {_toml(value)}" for key, value in kept.items()]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """Return JSON, with the one character that TOML alone wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def override(tree: dict[str, Any], setting: str) -> None:
    """Change a tree of plain values by ``key=value``, such as ``train.epochs=3``.

    Raises:
        ConfigError: no key or no value, or a key below one that is not a section.
    """
    key, separator, text = setting.partition("=")
    if not separator or not key.strip():
        found = "no key" if separator else "no '='"
        raise ConfigError(
            f"--set {setting}", expected="key=value", found=found, remedy="write train.epochs=3"
        )
    *sections, name = key.strip().split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(
                f"--set {setting}", expected="a section", found=section, remedy="check the key"
            )
    tree[name] = typed_value(text)
