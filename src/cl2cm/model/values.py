"""Check plain TOML values against the dataclasses of settings."""

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

from cl2cm.errors import ConfigError, nearest

T = TypeVar("T")


def unknown_setting(key: str, known: Iterable[str]) -> ConfigError:
    """Return the error for an unknown key, with the nearest known key as remedy."""
    name = key.rpartition(".")[2]
    return ConfigError(
        key, expected="a known setting", found="an unknown key", remedy=nearest(name, known)
    )


class _Typed(str):
    """A text that was typed in a shell, where ``de,fr`` may stand for a list."""

    __slots__ = ()


def typed_value(text: str) -> Any:  # noqa: ANN401 - plain TOML values
    """Return the value of a command-line text; a bare word is a string."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text  # a bare word is a string
    return _Typed(value) if isinstance(value, str) else value


def _words(text: str) -> tuple[str, ...]:
    inner = text.strip().removeprefix("[").removesuffix("]")  # a shell takes its quotes away
    return tuple(word.strip().strip("\"'") for word in inner.split(",") if word.strip())


def build_settings(cls: Callable[..., T], tree: Mapping[str, Any], prefix: str) -> T:
    """Return a settings dataclass from a table; missing keys have their defaults.

    Args:
        cls: the dataclass.
        tree: plain values by key.
        prefix: of the keys in messages, such as ``train.``.

    Raises:
        ConfigError: an unknown key, a wrong type or an impossible value.
    """
    hints = typing.get_type_hints(cls)
    for key in tree:
        if key not in hints:
            raise unknown_setting(f"{prefix}{key}", hints)
    return cls(**{key: _value(hints[key], value, f"{prefix}{key}") for key, value in tree.items()})


def unsupported(kind: type[Any]) -> str:
    """Return why a dataclass cannot hold the settings of a section; empty where it can."""
    hints = typing.get_type_hints(kind)
    for key in dataclasses.fields(kind):
        hint = hints[key.name]
        plain = hint in (bool, int, float, str, tuple[str, ...])
        if not plain and typing.get_origin(hint) is not Literal:
            return f"{key.name} of the type {hint}"
        if key.default is dataclasses.MISSING and key.default_factory is dataclasses.MISSING:
            return f"{key.name} without a default"
    return ""


def _value(hint: Any, value: Any, key: str) -> Any:  # noqa: ANN401 - plain TOML values
    origin = typing.get_origin(hint)
    if isinstance(value, _Typed):
        value = _words(value) if origin is tuple else str(value)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            _wrong(key, "a table", value)
        return build_settings(typing.cast("Callable[..., Any]", hint), value, f"{key}.")
    if origin is Literal:
        if value not in typing.get_args(hint):
            _wrong(key, " or ".join(repr(word) for word in typing.get_args(hint)), value)
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            _wrong(key, 'a list of strings such as ["de", "fr"]', value)
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
