"""Find the images and videos in a folder."""

import os
from collections.abc import Iterator
from pathlib import Path

from cl2cm.errors import MediaError
from cl2cm.media.images import FILMS, PICTURES, is_film
from cl2cm.types import Example, StrPath


def scan_folder(folder: StrPath) -> list[Example]:
    """Find the pictures and films in a folder and the folders in it, in the order of their names.

    An id is the path relative to ``folder``, with ``/``. Hidden files and folders are left out,
    and so is a link that leads out of the folder.

    Raises:
        MediaError: no such folder, neither picture nor film in it, or a folder within that cannot
            be read: what is in it is not gone.

    Example:
        >>> import cl2cm
        >>> examples = cl2cm.scan_folder("images")
        >>> len(examples), examples[0].id
        (24, 'black-bar.png')
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MediaError(
            str(folder),
            expected="a folder of pictures or films",
            found="a file" if folder.exists() else "no such folder",
            remedy="give the folder that holds them",
        )
    root = folder.absolute()
    real = root.resolve()
    paths = {}
    for path in _walk(root, PICTURES | FILMS):
        if not path.is_symlink():
            paths[path] = path
        elif (target := path.resolve()).is_relative_to(real):
            paths[path] = root / target.relative_to(real)  # it is opened without a link
    if not paths:
        raise MediaError(
            str(folder),
            expected=f"at least one picture or film ({' '.join(sorted(PICTURES | FILMS))})",
            found="none",
            remedy="give the folder that holds them",
        )
    found = sorted((path.relative_to(root).as_posix(), file) for path, file in paths.items())
    return [
        Example(id=name, split="all", video=path)
        if is_film(path)
        else Example(id=name, split="all", image=path)
        for name, path in found
    ]


def _walk(root: Path, known: frozenset[str]) -> Iterator[Path]:
    for folder, folders, names in os.walk(root, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and path.suffix.lower() in known and _may_be_file(path):
                yield path


def _unreadable(error: OSError) -> None:
    raise MediaError(
        str(error.filename),
        expected="a folder that can be read",
        found=(error.strerror or str(error)).lower(),
        remedy="correct its permissions, or move it elsewhere",
    ) from error


def _may_be_file(path: Path) -> bool:
    """Whether to read it; what cannot even be looked at fails there, with its reason."""
    try:
        return path.is_file()
    except OSError:
        return True


def check_name(example: Example) -> None:
    """Refuse an id or a file name that is no text: it could be neither stored nor shown.

    Raises:
        MediaError: it is one.
    """
    path = example.image or example.video or Path()
    try:
        f"{path}{example.id}".encode()
    except UnicodeEncodeError as error:
        raise MediaError(
            ascii(str(path)),
            expected="a file name in Unicode",
            found=ascii(error.object[error.start : error.end]),
            remedy="rename the file",
        ) from error
