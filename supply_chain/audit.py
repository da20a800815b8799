"""Hold the dependencies against known vulnerabilities: ``make audit``.

Offline it checks that constraints.txt and requirements.lock pin the same versions, and that no pin,
no lower bound of pyproject.toml and no installed package is below advisories.toml. Where pip-audit
is installed and its service answers, all advisories of the lock are asked for, too.
"""

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
UNHASHED = {"torch"}  # each platform has builds of its own; the Makefile pins its version
SECONDS = 120


def main() -> int:
    """Print what is wrong, a line each; 0 where nothing is."""
    fixed = read_fixed(ROOT / "supply_chain" / "advisories.toml")
    pins = read_pins(ROOT / "constraints.txt")
    lock = read_pins(ROOT / "requirements.lock")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wrong = [*differences(pins, lock), *old_pins(pins, fixed), *low_bounds(project, fixed)]
    wrong += old_pins(installed(fixed), fixed, "installed ")
    for line in wrong:
        print(f"audit: {line}")
    print(f"audit: {len(pins)} pins held against {len(fixed)} known advisories, {len(wrong)} wrong")
    return 1 if wrong else ask_service()


def read_fixed(path: Path) -> dict[str, Version]:
    """Package → first version without its known vulnerabilities."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))["fixed"]
    return {canonicalize_name(name): Version(version) for name, version in table.items()}


def read_pins(path: Path) -> dict[str, Version]:
    """Package → version of the lines NAME==VERSION."""
    found = re.findall(r"^([\w.-]+)==([^\s;\\]+)", path.read_text(encoding="utf-8"), re.M)
    return {canonicalize_name(name): Version(version) for name, version in found}


def differences(pins: dict[str, Version], lock: dict[str, Version]) -> Iterator[str]:
    """Packages that the two files pin differently."""
    for name in sorted((pins.keys() | lock.keys()) - UNHASHED):
        if pins.get(name) != lock.get(name):
            pair = f"{pins.get(name)} in constraints.txt, {lock.get(name)} in requirements.lock"
            yield f"{name}: {pair}; run: make lock"


def old_pins(pins: dict[str, Version], fixed: dict[str, Version], what: str = "") -> Iterator[str]:
    """Pins below the first good version."""
    for name, good in sorted(fixed.items()):
        if name in pins and pins[name] < good:
            yield f"{what}{name} {pins[name]} is vulnerable, {good} is not"


def low_bounds(project: dict[str, object], fixed: dict[str, Version]) -> Iterator[str]:
    """Requirements of the project that allow a vulnerable version."""
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)
    lists = [project["dependencies"], *extras.values()]
    for text in sorted({text for one in lists for text in one}):  # type: ignore[attr-defined]
        requirement = Requirement(text)
        good = fixed.get(canonicalize_name(requirement.name))
        bounds = [Version(s.version) for s in requirement.specifier if s.operator in (">=", "==")]
        if good is not None and not any(bound >= good for bound in bounds):
            yield f"pyproject.toml allows a vulnerable version: {text}; write >={good}"


def installed(fixed: dict[str, Version]) -> dict[str, Version]:
    """Versions in this environment of the packages that have advisories."""
    found = {}
    for name in fixed:
        try:
            found[name] = Version(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def ask_service() -> int:
    """Run pip-audit where it is there; what keeps it from an answer is no failure."""
    if importlib.util.find_spec("pip_audit") is None:
        print("audit: the service was not asked: pip-audit is not installed")
        return 0
    command = [sys.executable, "-m", "pip_audit", "-r", str(ROOT / "requirements.lock")]
    command += ["--disable-pip", "--progress-spinner=off", "--timeout=10"]
    try:
        told = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        print("audit: the service was asked and did not answer")
        return 0
    if "found" in told.stderr.lower() and "vulnerabilit" in told.stderr.lower():
        print(told.stdout, told.stderr, sep="\n")
        return told.returncode
    print("audit: the service could not be asked (offline?)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
