"""Permissions by the user: downloads from the hub, and folders with models that a run may use.

A run folder may come from anyone, so the names in its ``config.toml`` are not the user's own words.
Such a name may mean pinned weights, a model that is already in the local hub cache, a folder inside
the run, or a folder that the user has named: with ``--model-root``, or in the recipe of an earlier
``cl2cm train``, which keeps a list of them outside of every run. Nothing else is opened.

The environment holds what is allowed, so that worker processes know it too.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cl2cm.encode.environment import environment
from cl2cm.errors import CheckpointError, StorageError
from cl2cm.storage import atomic_file, cache_folder, sha256_text, state_folder

ALLOW_HUB = "CL2CM_ALLOW_HUB"
MODEL_ROOTS = "CL2CM_MODEL_ROOTS"
_NO = ("", "0", "false", "no")
_remembered: set[Path] = set()  # in this process, where the list cannot be written


@contextmanager
def allowed(*, hub: bool = False, roots: Sequence[Path] = ()) -> Iterator[None]:
    """Allow something on the user's behalf for a time, beside what the environment allows."""
    values = {ALLOW_HUB: "1"} if hub else {}
    if roots:
        more = [str(root.expanduser().absolute()) for root in roots]
        values[MODEL_ROOTS] = os.pathsep.join([*more, *filter(None, [os.environ.get(MODEL_ROOTS)])])
    with environment(values):
        yield


def hub_allowed() -> bool:
    """Return whether a model that is not on this machine may be fetched from the hub."""
    return os.environ.get(ALLOW_HUB, "").strip().lower() not in _NO


def model_roots() -> list[Path]:
    """Return the folders in which the user lets a run name models."""
    named = os.environ.get(MODEL_ROOTS, "").split(os.pathsep)
    return [Path(name).expanduser() for name in named if name.strip()]


# --- names of models -------------------------------------------------------------------------


def is_bare(name: str) -> bool:
    """Return whether a name is not a path: ``e5`` is bare; ``./e5`` and ``a/b`` are not.

    A bare name never means a folder, so that no folder of the working directory can take the
    place of pinned weights.
    """
    return name == Path(name).name and name not in ("", ".", "..") and name[0] != "~"


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form OWNER/NAME."""
    owner, slash, model = name.partition("/")
    return bool(slash) and is_bare(owner) and is_bare(model) and owner[0] != "."


def remember(specs: Iterable[str]) -> None:
    """Keep the folders that the user's own recipe names, so that its runs may name them again."""
    for spec in specs:
        name = spec.partition(":")[2]
        path = Path(name).expanduser()
        if not name or is_bare(name) or not path.exists():
            continue
        path = path.resolve()
        _remembered.add(path)
        try:
            with atomic_file(_record_of(path)) as file:
                file.write(os.fsencode(path))
        except StorageError:
            continue  # a read-only home: this process remembers, the next one needs --model-root


def confine(spec: str, run: Path) -> str:
    """Return the spec of an encoder that a run names, with an absolute path where it is a path.

    Args:
        spec: as it is in the run's ``config.toml``.
        run: the run folder.

    Raises:
        CheckpointError: it is a path that neither the run nor the user may vouch for.
    """
    kind, colon, name = spec.partition(":")
    if not name or (is_bare(name) and kind != "features"):
        return spec
    relative = not name.startswith("~") and not Path(name).is_absolute()
    try:
        path = _inside(name, run) if relative else _vouched(Path(name).expanduser().resolve(), run)
    except (OSError, ValueError, RuntimeError):  # a loop of links, an unknown user, a NUL
        path = None
    if path is not None:
        return f"{kind}{colon}{_whole(path, run)}"
    if kind == "hf" and is_hub_id(name) and not Path(name).exists():
        return spec  # of the hub; a folder of the working directory needs the user's word
    raise CheckpointError(
        f"{run / 'config.toml'}: encoder {spec!r}",
        expected="pinned weights, a model inside the run, or a folder that you have named",
        found="another path",
        remedy=f"if you trust it, add --model-root {'FOLDER' if relative else name}",
    )


def _inside(name: str, run: Path) -> Path | None:
    """Return a relative name in the run or in one of the user's roots."""
    for root in (run, *model_roots()):
        path = (root / name).resolve()
        if path.exists() and path.is_relative_to(root.resolve()):
            return path
    return None


def _vouched(path: Path, run: Path) -> Path | None:
    """Return an absolute path that is in a model root or was named by a recipe of the user."""
    roots = [run, cache_folder() / "models", *model_roots()]
    inside = any(path.is_relative_to(root.resolve()) for root in roots)
    return path if inside or is_remembered(path) else None


def is_remembered(path: Path) -> bool:
    """Return whether a recipe of the user has named a folder."""
    if path in _remembered:
        return True
    try:
        return _record_of(path).read_bytes() == os.fsencode(path)
    except OSError:
        return False


def _record_of(path: Path) -> Path:
    return state_folder() / "models" / sha256_text(os.fsdecode(path))


# --- files of a run --------------------------------------------------------------------------


def _whole(path: Path, run: Path) -> Path:
    """Return a path of a model; inside a run, every file of it must be inside too."""
    if path.is_relative_to(run.resolve()):
        for file in (path, *path.rglob("*")) if path.is_dir() else (path,):
            if file.is_symlink() or not file.is_dir():
                check_inside(file, run)
    return path


def check_inside(file: Path, run: Path) -> None:
    """Refuse what is not a regular file, or a link that leads out of the run.

    Raises:
        CheckpointError: opening it would read elsewhere, or wait for ever.
    """
    try:
        regular = stat.S_ISREG(file.stat().st_mode)
        outside = not file.resolve().is_relative_to(run.resolve())
    except OSError:
        return  # it cannot be opened either; who needs it says so
    if outside:
        raise _refused(file, "a link that leads out of the run")
    if not regular:
        raise _refused(file, "a folder, pipe or device")


def _refused(file: Path, found: str) -> CheckpointError:
    return CheckpointError(
        str(file), expected="a regular file inside the run", found=found, remedy="copy it there"
    )
