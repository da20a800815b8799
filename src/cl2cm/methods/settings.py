"""The settings of methods: from tables of a configuration to the dataclasses beside each method.

A configuration may hold tables of methods other than its own, as every run of an earlier version
does: those of cl2cm's methods are checked, those of other packages are taken as they are, and
neither has any effect.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

from cl2cm.methods.registry import METHODS, method_class, plug_ins, warn_of_shadowed
from cl2cm.model.config import COMMON, Config, as_table
from cl2cm.model.config import load_config as read_config
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
    kinds = _sections_of_all() | dict(cls.sections)
    for name in config.sections:
        if name in kinds:
            config.section(name, kinds[name])
        elif name not in (others := plug_ins()):
            raise unknown_setting(name, ("method", *COMMON, *kinds, *others))
    own = {name: as_table(settings) for name, settings in settings_of(config).items()}
    return dataclasses.replace(config, sections=own)


def settings_of(config: Config) -> dict[str, Any]:
    """Return the settings of a configuration's method, by section.

    Raises:
        ConfigError: an unknown method or key, a wrong type or an impossible value.
    """
    kinds = method_class(config.method).sections
    return {name: config.section(name, kind) for name, kind in kinds.items()}


def _sections_of_all() -> dict[str, type[Any]]:
    """The sections of cl2cm's own methods."""
    return {
        section: kind for name in METHODS for section, kind in method_class(name).sections.items()
    }
