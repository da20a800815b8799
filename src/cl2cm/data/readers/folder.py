"""Reader for a user's folder of images and videos, with a table of captions or text files.

A table lies in the folder, alone of its kind or called ``captions`` or ``metadata``:

    ``.csv``, ``.tsv``    a header, and a line for each caption; between cells , ; | or a tab
    ``.json``             a list of objects with these keys; ``caption`` may be a list
    ``.jsonl``            an object a line
    ``captions.txt``      as ``.csv``

Its columns are ``file`` and ``caption``, or what others call them (``columns.py``: ``image``,
``filepath``, ``file_name``; ``title``, ``text``, ``caption_0`` …), and may be ``language`` (a code
such as de), ``split`` and ``id``. ``file`` is a path in the folder, or the name of a file that only
one folder in it has; it is the id where none is given. Without a table, texts beside the images are
read, one caption a line: ``NAME.txt`` of ``NAME.jpg``, ``NAME.de.txt`` its captions in German.

Captions of no language are English, or of the language that is said. SOURCE may also be the table
itself. What has no caption is left out, which is reported.
"""

from collections.abc import Container, Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from cl2cm.data.readers.own_data import Gathering, Row, is_language, left_out, own_files
from cl2cm.data.readers.reading import DataSet, Options, numbered_lines
from cl2cm.data.readers.tables import TABLES, Line, is_table, read_table
from cl2cm.data.scan import walk
from cl2cm.errors import DatasetError
from cl2cm.media.kinds import format_by_name, has_extra, is_unread, kind_by_name
from cl2cm.text import is_blank, name_form

_UNDESCRIBED = "images or videos without a caption, left out"
_OURS = {"manifest.jsonl", "prepared.json"}  # where the folder that is made is the same
_USUAL = ("captions", "metadata")  # names of the table, best first
_TEXTS = tuple(f"{name}.txt" for name in _USUAL)


def read(source: Path, options: Options) -> DataSet:
    """Read a folder, or the table of one.

    Args:
        source: the folder, or the table.
        options: ``images`` is the folder of images and videos, where the table is elsewhere.

    Raises:
        DatasetError: there are no captions, or a line does not fit.
    """
    table = source if source.is_file() else None
    root = (options.images or (source.parent if table else source)).resolve()
    if not root.is_dir():
        found = "a file" if root.exists() else "no such folder"
        raise _error(str(root), "a folder of images or videos", found, "correct it")
    with own_files():
        table = table or _find_table(source)
        gathering = Gathering("folder", options)
        if table is None:
            return _beside(root, gathering, options)
        return _from_table(table, root, gathering, options)


def has_captions(folder: Path) -> bool:
    """Return whether there is a table of captions in a folder, or a text beside an image."""
    if _find_table(folder) is not None:
        return True
    media = {
        name_form(name.removesuffix(PurePosixPath(name).suffix)): [name]
        for name in _files(folder)
        if kind_by_name(name)
    }
    return any(_named(name, media)[0] in media for name in _files(folder) if name.endswith(".txt"))


def _find_table(folder: Path) -> Path | None:
    there = [path for path in sorted(folder.iterdir()) if path.is_file()]
    found = [path for path in there if path.suffix in TABLES and path.name not in _OURS]
    for usual in _USUAL if len(found) > 1 else ():
        if named := [path for path in found if path.stem == usual]:
            found = named
            break
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:4])
        remedy = "name one as the source, or call it captions.csv"
        raise _error(str(folder), "one table of captions", names, remedy)
    if not found:
        found = [path for path in there if path.name in _TEXTS and is_table(path)]
    return found[0] if found else None


# --- captions of a table ---------------------------------------------------------------------


def _from_table(table: Path, root: Path, gathering: Gathering, options: Options) -> DataSet:
    files = _Files(root, look=not options.no_images)
    described: set[str] = set()
    unread: dict[str, None] = {}
    for line in read_table(table, options.columns):
        try:
            if isinstance(line, DatasetError):
                raise line
            unread.update(dict.fromkeys(line.unread))
            file = files.find(line.place, line.file)
        except DatasetError as error:
            gathering.fault(error)
            continue
        described.add(file)
        media = None if options.no_images else root / file
        for row in _rows(line, file, media):
            gathering.add(row)
    notes = left_out("columns that are not read", unread)
    notes += left_out("files that are in a folder below, found by their names", files.below)
    if not options.no_images:
        names = list(_files(root))
        rest = (name for name in names if kind_by_name(name) and name not in described)
        notes += left_out(_UNDESCRIBED, rest) + _unread(names)
    return gathering.dataset(notes)


def _rows(line: Line, file: str, media: Path | None) -> Iterator[Row]:
    for language, captions in line.captions.items():
        said = language or line.language
        yield Row(line.place, line.id or file, media, tuple(captions), said, line.split)


class _Files:
    """Finds the files that a table names, however it spells their names.

    Args:
        root: folder of the images and videos.
        look: whether to look for them there.

    Attributes:
        below: names that were found in a folder below, path → None.
    """

    def __init__(self, root: Path, *, look: bool) -> None:
        self._root, self._look = root, look
        self._known: dict[str, str] = {}
        self._names: dict[str, list[str]] | None = None
        self.below: dict[str, None] = {}

    def find(self, place: str, name: str) -> str:
        """Return the path of a file in the folder; for a missing file, the name as written.

        Raises:
            DatasetError: the name leads out of the folder, or is none of an image or video.
        """
        if name not in self._known:
            path = _inside(place, name, self._root)
            self._known[name] = self._there(path) if self._look else name_form(path)
        return self._known[name]

    def _there(self, path: str) -> str:
        if (self._root / path).is_file():
            return path
        if self._names is None:
            self._names = {}
            for file in _files(self._root):
                for form in {name_form(file), name_form(PurePosixPath(file).name)}:
                    self._names.setdefault(form, []).append(file)
        found = self._names.get(name_form(path), [])
        if len(found) != 1:
            return path
        if name_form(found[0]) != name_form(path):
            self.below[found[0]] = None
        return found[0]


def _inside(place: str, name: str, root: Path) -> str:
    """Return the path of an image or video in the folder, in its plain form."""
    path = PurePosixPath(name)
    if path.is_absolute():
        for parent in (Path(path).parent, Path(path).parent.resolve()):
            if parent.is_relative_to(root) and ".." not in path.parts:
                path = PurePosixPath(parent.relative_to(root).as_posix(), path.name)
                break
    elif "\\" in name and not (root / path).is_file():
        path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts:
        remedy = "name the folder that holds it with --images, or write paths in the folder"
        raise _error(place, "a path in the folder", repr(name[:200]), remedy)
    if not kind_by_name(path.name):
        raise _error(place, "the name of an image or video", repr(name[:60]), "correct it")
    return path.as_posix()


def _files(root: Path) -> Iterator[str]:
    """Yield paths of files in a folder and below it, those that are ignored aside."""
    for path in sorted(walk(root)):
        yield path.relative_to(root).as_posix()


def _unread(names: Iterable[str]) -> list[str]:
    """Return the notes on images and videos that cannot be read here."""
    missing: dict[str, list[str]] = {}
    other: list[str] = []
    for name in names:
        found = format_by_name(name)
        if found is not None and not has_extra(found.extra):
            missing.setdefault(found.extra, []).append(name)
        elif is_unread(name):
            other.append(name)
    notes = left_out("images or videos of a format that is not supported, left out", other)
    for extra, files in missing.items():
        what = f"images or videos that cannot be read here before pip install 'cl2cm[{extra}]'"
        notes += left_out(what, files)
    return notes


# --- captions beside -------------------------------------------------------------------------


def _beside(root: Path, gathering: Gathering, options: Options) -> DataSet:
    names = list(_files(root))
    media: dict[str, list[str]] = {}  # path without ending → paths
    for name in filter(kind_by_name, names):
        stem = name_form(name.removesuffix(PurePosixPath(name).suffix))
        media.setdefault(stem, []).append(name)
    alone: list[str] = []
    described: set[str] = set()
    for text in (name for name in names if name.endswith(".txt")):
        stem, language = _named(text, media)
        if stem not in media:
            alone.append(text)
            continue
        if len(media[stem]) > 1:
            found = " and ".join(media[stem][:2])
            raise _error(str(root / text), "one file that it is of", found, "rename one of them")
        [name] = media[stem]
        described.add(name)
        file = None if options.no_images else root / name
        captions = _captions(root / text) or ("",)
        gathering.add(Row(f"{root / text}:1", name, file, captions, language))
    if not described:
        raise _error(
            str(root),
            f"a table of captions ({', '.join(TABLES)}), or NAME.txt beside NAME.jpg",
            "neither",
            "see docs/data.md",
        )
    rest = (name for names in media.values() for name in names if name not in described)
    notes = left_out(_UNDESCRIBED, rest) + _unread(names)
    return gathering.dataset(notes + left_out("texts that belong to no image or video", alone))


def _named(text: str, media: Container[str]) -> tuple[str, str]:
    """Return what a text is of, without its ending, and the language that its name says."""
    stem = name_form(text.removesuffix(".txt"))
    short, _, code = stem.rpartition(".")
    if stem not in media and short in media and is_language(code):
        return short, code
    return stem, ""


def _captions(path: Path) -> tuple[str, ...]:
    return tuple(text for _, text in numbered_lines(path) if not is_blank(text))


def _error(place: str, expected: str, found: str, remedy: str) -> DatasetError:
    return DatasetError(place, expected=expected, found=found, remedy=remedy)
