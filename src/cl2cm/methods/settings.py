"""The settings of methods: from tables of a configuration to the dataclasses beside each method.

A configuration may hold tables of methods other than its own, as every run of an earlier version
does: those of cl2cm's methods are checked, those of other packages are taken as they are, and
neither has any effect.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cl2cm.errors import ConfigError
from cl2cm.methods.base import Lesson
from cl2cm.methods.registry import METHODS, method_class, plug_ins, warn_of_shadowed
from cl2cm.methods.teacher import CrossLingual, TeacherConfig
from cl2cm.methods.word_level import TransportConfig
from cl2cm.model.config import COMMON, Config, as_table
from cl2cm.model.config import load_config as read_config
from cl2cm.model.networks import CrossLingualNetwork
from cl2cm.model.settings import require
from cl2cm.model.values import unknown_setting
from cl2cm.types import StrPath


def load_config(path: StrPath, overrides: Iterable[str] = ()) -> Config:
    """Read a recipe and check all of it, after overrides.

    Relative paths are taken from the file's folder, in an override from the working directory.

    Args:
        path: the TOML file.
        overrides: ``key=value``, such as ``train.epochs=3``; words between commas for a list.

    Returns:
        All settings; those that the file does not have are at their default.

    Raises:
        ConfigError: no such file, no TOML, an unknown key or method, a wrong type or an impossible
            value.

    Example:
        >>> import cl2cm
        >>> changes = ["train.epochs=3", "data.languages=de,fr"]
        >>> config = cl2cm.load_config("recipe.toml", changes)
        >>> config.train.epochs, config.data.languages
        (3, ('de', 'fr'))
    """
    config = checked(read_config(path, overrides))
    warn_of_shadowed([config.method])
    return config


def checked(config: Config) -> Config:
    """Return the configuration with all settings of its method, and of no other method.

    Raises:
        ConfigError: an unknown method, a section of none, an unknown key, a wrong type or an
            impossible value.
    """
    cls = method_class(config.method)
    kinds = section_kinds() | dict(cls.sections)
    for name in config.sections:
        if name in kinds:
            config.section(name, kinds[name])
        elif name not in (others := plug_ins()):
            raise unknown_setting(name, ("method", *COMMON, *kinds, *others))
    smallest, dim = config.match.smallest_dim, config.network.dim
    require("match.smallest_dim", smallest < dim, f"less than network.dim = {dim}", smallest)
    settings = _of(config, dict(cls.sections) | _start_sections(config))
    own = {name: as_table(values) for name, values in settings.items()}
    return dataclasses.replace(config, sections=own)


def settings_of(config: Config) -> dict[str, Any]:
    """Return the settings of a configuration's method, by section.

    Raises:
        ConfigError: an unknown method or key, a wrong type or an impossible value.
    """
    return _of(config, method_class(config.method).sections)


def warm_start_of(config: Config) -> Callable[[CrossLingualNetwork], Lesson] | None:
    """Return the lesson of the teacher that the student starts as; None where it starts fresh.

    Raises:
        ConfigError: the teacher would need translations, and the method sees none.
    """
    if not config.train.warm_start:
        return None
    teacher, transport = config.section("teacher", TeacherConfig), _transport(config)
    if method_class(config.method).targets == "none" and teacher.pairs != "source":
        raise ConfigError(
            "train.warm_start",
            expected=f"teacher.pairs = 'source' for {config.method!r}, which sees no translations",
            found=repr(teacher.pairs),
            remedy="change it, or train the method without a warm start",
        )
    return lambda network: CrossLingual(network, teacher, transport)


def _transport(config: Config) -> TransportConfig:
    return config.section("transport", TransportConfig)


def _start_sections(config: Config) -> dict[str, type[Any]]:
    """Return the sections of the teacher that a warm start needs, whatever the method."""
    if not config.train.warm_start:
        return {}
    return {"teacher": TeacherConfig, "transport": TransportConfig}


def _of(config: Config, kinds: Mapping[str, type[Any]]) -> dict[str, Any]:
    return {name: config.section(name, kind) for name, kind in kinds.items()}


def section_kinds() -> dict[str, type[Any]]:
    """Return the sections of the built-in methods, by name."""
    return {
        section: kind for name in METHODS for section, kind in method_class(name).sections.items()
    }
