"""Files that are ignored in a folder: other programs' files, and the user's patterns.

Patterns have the syntax of ``.gitignore``. They are in files called ``.cl2cmignore``, each for its
own folder and the folders below, or come from the command line (``--exclude``), for all folders.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from cl2cm.errors import ConfigError, MediaError
from cl2cm.text import name_form

IGNORE_FILE = ".cl2cmignore"
NO_MEDIA = ".nomedia"  # a folder with such a file is not an album, on Android and elsewhere
# Folders that file servers, operating systems and package managers make; compared in lower case.
FOLDERS = frozenset(
    {"@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "$recycle.bin"}
    | {"__macosx", "lost+found", "node_modules", "recycler", "system volume information"}
)
_LONGEST = 2**20  # bytes of an ignore file


class Ignored:
    """Says which folders and files below a root are left out; the root itself never is.

    Args:
        root: the folder.
        exclude: patterns for all of it.

    Raises:
        ConfigError: one of ``exclude`` is not a pattern.
    """

    def __init__(self, root: Path, exclude: Sequence[str] = ()) -> None:
        self._root = root
        # On a command line "#" begins no comment.
        escaped = [f"\\{one}" if one.startswith("#") else one for one in exclude]
        self._exclude = _parsed(escaped, "--exclude")
        self._rules: dict[Path, GitIgnoreSpec] = {}

    def enter(self, folder: Path, names: Sequence[str]) -> bool:
        """Read the rules of a folder of these files; returns False if its files are left out."""
        if IGNORE_FILE in names and (folder / IGNORE_FILE).is_file():
            self._rules[folder] = _read(folder / IGNORE_FILE)
        return NO_MEDIA not in names or folder == self._root

    def has_folder(self, folder: Path, name: str) -> bool:
        """Return whether a folder in a folder is left out, with all that is in it."""
        known = name.startswith(".") or name.lower() in FOLDERS
        return known or self._matches(folder, name, "/")

    def has_file(self, folder: Path, name: str) -> bool:
        """Return whether a file in a folder is left out; its folder is not."""
        return name.startswith(".") or self._matches(folder, name, "")

    def _matches(self, folder: Path, name: str, end: str) -> bool:
        if not self._rules and not len(self._exclude):  # as nearly always
            return False
        path = folder / name
        if _said(self._exclude, self._root, path, end):
            return True
        for above in path.parents:  # the nearest rules decide
            rules = self._rules.get(above)
            found = None if rules is None else _said(rules, above, path, end)
            if found is not None:
                return found
            if above == self._root:
                break
        return False


def _said(rules: GitIgnoreSpec, folder: Path, path: Path, end: str) -> bool | None:
    """Return what rules say of a path: True to leave it out, False to keep it, None for neither."""
    name = PurePosixPath(path.relative_to(folder)).as_posix()
    return rules.check_file(name_form(name) + end).include


def _read(path: Path) -> GitIgnoreSpec:
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(
            str(path),
            expected="patterns of files to ignore, in UTF-8",
            found=getattr(error, "strerror", None) or "other bytes",
            remedy="correct it",
        ) from error
    return _parsed(text.splitlines(), str(path))


def _parsed(patterns: Sequence[str], place: str) -> GitIgnoreSpec:
    for number, pattern in enumerate(patterns, start=1):
        try:
            GitIgnoreSpec.from_lines([name_form(pattern)])
        except ValueError:
            raise ConfigError(
                place if place.startswith("--") else f"{place}:{number}",
                expected="a pattern as in .gitignore, such as *.png or drafts/",
                found=repr(pattern[:80]),
                remedy="correct it",
            ) from None
    return GitIgnoreSpec.from_lines(name_form(pattern) for pattern in patterns)
