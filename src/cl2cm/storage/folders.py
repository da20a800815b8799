"""The user's folders: cache, configuration and state."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder for files that can be downloaded or computed again.

    ``$CL2CM_CACHE``, else ``$XDG_CACHE_HOME/cl2cm``, else ``~/.cache/cl2cm``.
    """
    if chosen := os.environ.get("CL2CM_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cl2cm"


def config_folder() -> Path:
    """Return the folder for the user's configuration.

    ``$CL2CM_CONFIG``, else ``$XDG_CONFIG_HOME/cl2cm``, else ``~/.config/cl2cm``.
    """
    if chosen := os.environ.get("CL2CM_CONFIG"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "cl2cm"


def state_folder() -> Path:
    """Return the folder for persistent state that is neither data nor cache.

    ``$CL2CM_STATE``, else ``$XDG_STATE_HOME/cl2cm``, else ``~/.local/state/cl2cm``.
    """
    if chosen := os.environ.get("CL2CM_STATE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "cl2cm"
