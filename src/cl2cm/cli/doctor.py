"""What is installed, which weights are here, and what each extra would add."""

import importlib.metadata
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from packaging.requirements import Requirement

from cl2cm.storage import cache_folder

NAME = "cl2cm"


def report() -> dict[str, Any]:
    """Versions, weights and extras, as ``doctor --json`` prints them."""
    from cl2cm.encode.pinned_weights import OFFLINE_MODELS, is_installed

    found = importlib.metadata.metadata(NAME)
    extras = found.get_all("Provides-Extra") or []
    requirements = [Requirement(text) for text in found.get_all("Requires-Dist") or []]
    return {
        NAME: version_of(NAME),
        "python": platform.python_version(),
        "core": {name: version_of(name) for name in packages(requirements, "")},
        "extras": {
            extra: {name: version_of(name) for name in packages(requirements, extra)}
            for extra in extras
        },
        "cache": str(cache_folder()),
        "weights": {name: is_installed(name) for name in OFFLINE_MODELS},
    }


def packages(requirements: list[Requirement], extra: str) -> list[str]:
    """Packages that an extra asks for on this machine, those of its own extras among them.

    Args:
        requirements: of the whole project.
        extra: its name; empty: what is always needed.
    """
    return sorted(set(_packages(requirements, extra)))


def _packages(requirements: list[Requirement], extra: str) -> Iterator[str]:
    for one in requirements:
        if not _asks(one, extra) or (extra and _asks(one, "")):
            continue
        if one.name == NAME:
            for other in one.extras:
                yield from _packages(requirements, other)
        else:
            yield one.name


def _asks(one: Requirement, extra: str) -> bool:
    return one.marker is None or one.marker.evaluate({"extra": extra})


def version_of(name: str) -> str | None:
    """Installed version of a package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def lines(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    out = [f"cl2cm {report['cl2cm']}, Python {report['python']}", "", "Packages"]
    out += [f"  {name:14} {found or 'MISSING'}" for name, found in report["core"].items()]
    out += ["", "Extras"]
    for extra, packages in report["extras"].items():
        missing = [name for name, found in packages.items() if not found]
        state = f"adds {', '.join(missing)}: pip install 'cl2cm[{extra}]'" if missing else "ready"
        out.append(f"  {extra:14} {state}")
    out += ["", f"Weights in {report['cache']}"]
    for name, here in report["weights"].items():
        state = "ready" if here else "absent: cl2cm doctor --install-weights"
        out.append(f"  {name:24} {state}")
    return out
