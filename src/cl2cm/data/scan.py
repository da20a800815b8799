"""Find the images and videos in a folder, and count what else is there."""

import errno
import gc
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cl2cm.data.ignored import Ignored
from cl2cm.errors import MediaError
from cl2cm.media.kinds import (
    START,
    format_by_name,
    has_extra,
    is_ambiguous,
    is_unread,
    is_video_type,
    media_type,
)
from cl2cm.progress import say
from cl2cm.types import Example, Kind, StrPath

_KINDS = 12  # suffixes of a message
_TABLES = frozenset(  # of captions, for ``cl2cm prepare`` and ``cl2cm init``: not worth a word
    f"{stem}{suffix}"
    for stem in ("captions", "metadata")
    for suffix in (".csv", ".tsv", ".json", ".jsonl", ".txt")
)


@dataclass(slots=True)
class LeftOut:
    """Files of a folder that are not read.

    Attributes:
        media: names of images and videos of formats that are not read, or whose extra is missing.
        suffixes: suffix → how many files have it, of all that are left out.
        extras: suffix → the extra that would read these files.
    """

    media: list[str] = field(default_factory=list[str])
    suffixes: Counter[str] = field(default_factory=Counter[str])
    extras: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, name: str, extra: str = "") -> None:
        """Note a file, by its path in the folder; and the extra that would read it."""
        suffix = os.path.splitext(name)[1].lower() or "(no suffix)"  # noqa: PTH122 - of a name
        self.suffixes[suffix] += 1
        if extra:
            self.extras[suffix] = extra
        if extra or is_unread(name) or is_ambiguous(name):
            self.media.append(name)

    def line(self) -> str:
        """Return a line that lists skipped files; empty if there are none."""
        if not self.suffixes:
            return ""
        known = {s for s in self.suffixes if s in self.extras or is_unread(f"x{s}")}
        order = sorted(self.suffixes, key=lambda s: (s not in known, -self.suffixes[s], s))
        parts = []
        for suffix in order[:_KINDS]:
            extra = self.extras.get(suffix)
            how = f" (pip install 'cl2cm[{extra}]')" if extra else ""
            how = how or (" (not supported)" if suffix in known else "")
            parts.append(f"{self.suffixes[suffix]:,} {suffix}{how}")
        rest = sum(self.suffixes[suffix] for suffix in order[_KINDS:])
        parts += [f"{rest:,} others"] if rest else []
        return f"left out: {', '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Scan:
    """What is in a folder: images and videos in the order of their names, and the rest."""

    examples: list[Example]
    left_out: LeftOut


def scan_folder(folder: StrPath, *, exclude: Sequence[str] = ()) -> list[Example]:
    """Find the images and videos in a folder and the folders in it, in the order of their names.

    An id is the path relative to ``folder``, with ``/``. Hidden files and folders are left out,
    folders that other programs keep for themselves (such as ``@eaDir``), folders with a file
    ``.nomedia``, what ``.cl2cmignore`` files name, and links that lead out of the folder. Files
    that cannot be read here are counted on standard error, by suffix.

    Args:
        folder: the folder.
        exclude: patterns of files and folders to leave out, as in ``.gitignore``.

    Raises:
        MediaError: no such folder, no image or video in it, or a folder within that cannot be
            read: what is in it is not gone.

    Example:
        >>> import cl2cm
        >>> examples = cl2cm.scan_folder("images")
        >>> len(examples), examples[0].id
        (24, 'black-bar.png')
    """
    found = survey_folder(folder, exclude=exclude)
    if line := found.left_out.line():
        say(line)
    return found.examples


def survey_folder(folder: StrPath, *, exclude: Sequence[str] = ()) -> Scan:
    """Find the images and videos in a folder and list the files left out; see `scan_folder`."""
    folder = Path(folder)
    if not _is_folder(folder):
        raise MediaError(
            str(folder),
            expected="a folder of images or videos",
            found="a file" if folder.exists() else "no such folder",
            remedy="give the folder that holds them",
        )
    left_out = LeftOut()
    with _no_collection():
        examples = _find(folder.absolute(), exclude, left_out)
    if not examples:
        raise MediaError(
            str(folder),
            expected="at least one image or video of a format in cl2cm index --help",
            found=left_out.line() or "none",
            remedy="give the folder that holds them",
        )
    left_out.media.sort()
    return Scan(examples, left_out)


def _find(root: Path, exclude: Sequence[str], left_out: LeftOut) -> list[Example]:
    """Return the images and videos below a folder in the order of their names."""
    real = root.resolve()
    found: dict[str, tuple[Kind, Path]] = {}
    for folder, prefix, entry in _files(root, exclude):
        name = prefix + entry.name
        kind = _kind(entry.path, name, left_out)
        if kind is None:
            continue
        if not entry.is_symlink():
            found[name] = kind, folder / entry.name
        elif (target := Path(entry.path).resolve()).is_relative_to(real):
            found[name] = kind, root / target.relative_to(real)  # it is opened without a link
    return [_example(name, *found[name]) for name in sorted(found)]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause the collection of garbage: of a million new objects that stay it looks in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def walk(root: Path, exclude: Sequence[str] = ()) -> Iterator[Path]:
    """Yield the files of a folder and those below it that are not ignored; see `scan_folder`.

    Raises:
        MediaError: a folder that cannot be read.
    """
    for folder, _, entry in _files(root, exclude):
        yield folder / entry.name


def _files(root: Path, exclude: Sequence[str]) -> Iterator[tuple[Path, str, os.DirEntry[str]]]:
    """Yield the folder of each file, the folder's name below the root with ``/``, and the file.

    A path is made for no file, since there may be a million; an entry knows what it is.
    """
    ignored = Ignored(root, exclude)
    waiting = [(root, "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            with os.scandir(folder) as found:
                entries = list(found)
        except OSError as error:
            raise _unreadable(folder, error) from error
        if not ignored.enter(folder, [entry.name for entry in entries]):
            continue
        for entry in entries:
            name = entry.name
            if _is_folder(entry):
                if not entry.is_symlink() and not ignored.has_folder(folder, name):
                    waiting.append((folder / name, f"{prefix}{name}/"))
            elif not ignored.has_file(folder, name) and _may_be_file(entry):
                yield folder, prefix, entry


def _example(name: str, kind: Kind, path: Path) -> Example:
    if kind == "video":
        return Example(name, "all", video=path)
    return Example(name, "all", image=path)


def _kind(path: str, name: str, left_out: LeftOut) -> Kind | None:
    """Return what a file is; None if it cannot be read here, which is noted."""
    found = format_by_name(name)
    if found is None or found.is_video or found.extra:
        if found is None and name.lower() in _TABLES:
            return None
        if found is None or (is_ambiguous(name) and not _is_video(path)):
            left_out.add(name)
            return None
        if not has_extra(found.extra):
            left_out.add(name, found.extra)
            return None
    return "video" if found.is_video else "image"


def _is_video(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            return is_video_type(media_type(file.read(START)))
    except (OSError, MediaError):
        return False


def _unreadable(folder: Path, error: OSError) -> MediaError:
    return MediaError(
        str(folder),
        expected="a folder that can be read",
        found=(error.strerror or str(error)).lower(),
        remedy="correct its permissions, or exclude it with --exclude",
    )


def _is_folder(entry: os.DirEntry[str] | Path) -> bool:
    """Return whether it is a folder, or a link to one; a disk that is gone has none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _may_be_file(entry: os.DirEntry[str]) -> bool:
    """Return whether to read it; what cannot even be looked at fails there, with its reason."""
    try:
        return entry.is_file()
    except OSError as error:
        return error.errno not in (errno.ELOOP, errno.ENOTDIR)  # a link to nowhere


def check_name(example: Example) -> None:
    """Refuse an id or a file name that is not text: it could be neither stored nor shown.

    Raises:
        MediaError: it is one.
    """
    path = example.path or Path()
    try:
        f"{path}{example.id}".encode()
    except UnicodeEncodeError as error:
        raise MediaError(
            ascii(str(path)),
            expected="a file name in Unicode",
            found=ascii(error.object[error.start : error.end]),
            remedy="rename the file",
        ) from error
