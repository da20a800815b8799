"""A configuration: the sections of settings.py, read from strict TOML and written as it.

An unknown key is an error that names the nearest known one; a value of the wrong type or out of
its range is an error that says what was expected.
"""

import dataclasses
import json
import math
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from cl2cm.encode.trust import is_bare
from cl2cm.errors import ConfigError, nearest
from cl2cm.model.settings import (
    DataConfig,
    DcotConfig,
    MatchConfig,
    NetworkConfig,
    NrccrConfig,
    TeacherConfig,
    TextConfig,
    TrainConfig,
    TransferConfig,
    TransportConfig,
    VisionConfig,
)
from cl2cm.storage import sha256_text

T = TypeVar("T")
_PATHS = (("data", "manifest"), ("data", "features"), ("text", "encoder"), ("vision", "encoder"))


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a run is made from."""

    method: str = "cl2cm"  # see ``cl2cm train --help`` for the names
    data: DataConfig = field(default_factory=DataConfig)
    text: TextConfig = field(default_factory=TextConfig)
    vision: VisionConfig = field(default_factory=VisionConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    match: MatchConfig = field(default_factory=MatchConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    transport: TransportConfig = field(default_factory=TransportConfig)
    transfer: TransferConfig = field(default_factory=TransferConfig)
    nrccr: NrccrConfig = field(default_factory=NrccrConfig)
    dcot: DcotConfig = field(default_factory=DcotConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def hash(self) -> str:
        """Hexadecimal SHA-256 of all settings."""
        return sha256_text(to_toml(self))


def load_config(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read a recipe of the user's, then apply ``key=value`` overrides such as ``train.epochs=3``.

    A relative ``data.manifest``, ``data.features`` or folder of an encoder is taken from the file's
    folder, in an override from the working directory.

    Raises:
        ConfigError: no such file, no TOML, an unknown key, a wrong type or an impossible value.
    """
    tree = read_tree(path)
    _anchor(tree, path.parent.absolute())
    for override in overrides:
        _apply(tree, override)
    _anchor(tree, Path.cwd())
    return parse_config(tree)


def read_tree(path: Path) -> dict[str, Any]:
    """The values of a TOML file, as they stand in it.

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


def _anchor(tree: dict[str, Any], base: Path) -> None:
    """Make relative paths of a tree absolute."""
    for section, key in _PATHS:
        values = tree.get(section)
        if not isinstance(values, dict) or not isinstance(values.get(key), str):
            continue
        value = values[key]
        if section != "data":
            values[key] = _anchor_spec(value, base)
        elif value:
            values[key] = str(base / value)


def _anchor_spec(spec: str, base: Path) -> str:
    """The spec of an encoder, with an absolute path where it names a folder or features."""
    kind, colon, where = spec.partition(":")
    named = kind == "features" and where and not where.startswith("~")
    if named or (
        kind in ("hf", "onnx") and where and not is_bare(where) and (base / where).is_dir()
    ):
        return f"{kind}{colon}{base / where}"
    return spec


def with_absolute_encoders(config: Config) -> Config:
    """A configuration of the user's, with relative folders taken from the working directory."""
    text = _anchor_spec(config.text.encoder, Path.cwd())
    vision = _anchor_spec(config.vision.encoder, Path.cwd())
    return dataclasses.replace(
        config,
        text=dataclasses.replace(config.text, encoder=text),
        vision=dataclasses.replace(config.vision, encoder=vision),
    )


def parse_config(tree: Mapping[str, Any]) -> Config:
    """Check a tree of plain values, as TOML gives it, against the dataclasses."""
    return _build(Config, tree, "")


def to_toml(config: Config) -> str:
    """The configuration as TOML; ``parse_config`` of it gives an equal one."""
    lines = [f"method = {_toml(config.method)}"]
    for section in dataclasses.fields(config):
        value = getattr(config, section.name)
        if not dataclasses.is_dataclass(value):
            continue
        lines += ["", f"[{section.name}]"]
        for key in dataclasses.fields(value):
            item = getattr(value, key.name)
            lines.append(f"{key.name} = {_toml(list(item) if isinstance(item, tuple) else item)}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """JSON, with the one character that TOML alone wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _apply(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        found = "no key" if separator else "no '='"
        raise ConfigError(
            f"--set {override}", expected="key=value", found=found, remedy="write train.epochs=3"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text  # a bare word is a string
    *sections, name = key.strip().split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(
                f"--set {override}", expected="a section", found=section, remedy="check the key"
            )
    tree[name] = value


def _build(cls: Callable[..., T], tree: Mapping[str, Any], prefix: str) -> T:
    hints = typing.get_type_hints(cls)
    for key in tree:
        if key not in hints or key == "hash":
            raise ConfigError(
                f"{prefix}{key}",
                expected="a known setting",
                found="an unknown key",
                remedy=nearest(key, hints),
            )
    return cls(**{key: _value(hints[key], value, f"{prefix}{key}") for key, value in tree.items()})


def _value(hint: Any, value: Any, key: str) -> Any:  # noqa: ANN401 - plain TOML values
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            _wrong(key, "a table", value)
        return _build(typing.cast("Callable[..., Any]", hint), value, f"{key}.")
    origin = typing.get_origin(hint)
    if origin is Literal:
        if value not in typing.get_args(hint):
            _wrong(key, " or ".join(repr(word) for word in typing.get_args(hint)), value)
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            _wrong(key, "a list of strings", value)
        return tuple(value)
    if origin in (types.UnionType, typing.Union):
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            return value  # text.freeze checks its own range
        _wrong(key, "a word or a whole number", value)
    return _scalar(hint, value, key)


def _scalar(hint: Any, value: Any, key: str) -> Any:  # noqa: ANN401 - plain TOML values
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**1000 else math.inf
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        _wrong(key, names[hint], value)
    if hint is float and not abs(value) < float("inf"):
        _wrong(key, "a finite number", value)
    return value


def _wrong(key: str, expected: str, value: object) -> typing.NoReturn:
    raise ConfigError(key, expected=expected, found=repr(value), remedy="change the setting")
