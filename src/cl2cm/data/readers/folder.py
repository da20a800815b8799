"""A folder of one's own pictures and films, with captions from a table or from texts beside them.

A table lies in the folder, alone of its kind or called ``captions``:

    ``.csv``, ``.tsv``    columns ``file`` and ``caption``; a line for each caption
    ``.json``             a list of objects with these keys; ``caption`` may be a list
    ``.jsonl``            an object a line

and may have ``language`` (a code such as de), ``split`` and ``id`` of each line, too. ``file`` is a
path in the folder; it is the id where none is given. Without a table, texts beside the pictures
are read, one caption a line: ``NAME.txt`` of ``NAME.jpg``, ``NAME.de.txt`` its captions in German.

Captions of no language are English, or of the language that is said. SOURCE may also be the table
itself. What has no caption is left out, which is said.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cl2cm.data.readers.csv_files import read_csv
from cl2cm.data.readers.json_files import Record, read_json, read_json_lines
from cl2cm.data.readers.own_data import Gathering, Row, is_language, is_media, left_out, own_files
from cl2cm.data.readers.reading import DataSet, Options, numbered_lines
from cl2cm.errors import DatasetError

TABLES = (".csv", ".tsv", ".json", ".jsonl")
_UNDESCRIBED = "pictures or films without a caption, left out"
_OURS = {"manifest.jsonl", "prepared.json"}  # where the folder that is made is the same
_OPTIONAL = ("language", "split", "id")


def read(source: Path, options: Options) -> DataSet:
    """Read a folder, or the table of one.

    Args:
        source: the folder, or the table.
        options: ``images`` is the folder of pictures and films, where the table is elsewhere.

    Raises:
        DatasetError: there are no captions, or a line does not fit.
    """
    table = source if source.is_file() else None
    root = (options.images or (source.parent if table else source)).resolve()
    if not root.is_dir():
        found = "a file" if root.exists() else "no such folder"
        raise _error(str(root), "a folder of pictures or films", found, "correct it")
    with own_files():
        table = table or _find_table(source)
        gathering = Gathering("folder", options)
        if table is None:
            return _beside(root, gathering, options)
        return _from_table(table, root, gathering, options)


def _find_table(folder: Path) -> Path | None:
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix in TABLES and path.name not in _OURS and path.is_file()
    ]
    if len(found) > 1:
        found = [path for path in found if path.stem == "captions"] or found
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:4])
        remedy = "name one as the source, or call it captions.csv"
        raise _error(str(folder), "one table of captions", names, remedy)
    return found[0] if found else None


# --- captions of a table ---------------------------------------------------------------------


class _Line(NamedTuple):
    """What a table says in one place.

    said: language, split and id, empty where it says none; others: keys that are not read.
    """

    place: str
    file: str
    captions: tuple[str, ...]
    said: Mapping[str, str]
    others: Sequence[str]


def _from_table(table: Path, root: Path, gathering: Gathering, options: Options) -> DataSet:
    described: set[str] = set()
    unread: dict[str, None] = {}
    for line in _lines(table):
        file = _inside(line.place, line.file)
        described.add(file)
        unread.update(dict.fromkeys(line.others))
        media = None if options.no_images else root / file
        name = line.said["id"] or file
        language, split = line.said["language"], line.said["split"]
        gathering.add(Row(line.place, name, media, line.captions, language, split))
    notes = left_out("columns that are not read", unread)
    if not options.no_images:
        rest = (name for name in _files(root) if is_media(name) and name not in described)
        notes += left_out(_UNDESCRIBED, rest)
    return gathering.dataset(notes)


def _lines(table: Path) -> Iterator[_Line]:
    if table.suffix in {".csv", ".tsv"}:
        for number, row in read_csv(table, ("file", "caption")):
            said = {key: row.get(key, "") for key in _OPTIONAL}
            yield _Line(f"{table}:{number}", row["file"], (row["caption"],), said, _others(row))
        return
    records = read_json(table).items() if table.suffix == ".json" else read_json_lines(table)
    for record in records:
        fields = dict(record.fields())
        caption = record.get("caption")
        captions = caption.texts() if isinstance(caption.value, list) else (caption.text(),)
        said = {key: _optional(fields.get(key)) for key in _OPTIONAL}
        place = f"{record.file}: {record.path}" if record.path else record.file
        yield _Line(place, record.get("file").text(), captions, said, _others(fields))


def _optional(record: Record | None) -> str:
    return "" if record is None or record.value in (None, "") else record.text()


def _others(keys: Iterable[str]) -> Sequence[str]:
    return [key for key in keys if key not in {"file", "caption", *_OPTIONAL}]


def _inside(place: str, name: str) -> str:
    """A path of a picture or film in the folder, in its plain form."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        remedy = "name the folder of the pictures with --images, and write paths in it"
        raise _error(place, "a path in the folder", repr(name[:60]), remedy)
    if not is_media(name):
        raise _error(place, "the name of a picture or film", repr(name[:60]), "correct it")
    return path.as_posix()


def _files(root: Path) -> Iterator[str]:
    """Paths of files in a folder and below it, those of hidden ones aside."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if not any(part.startswith(".") for part in name.parts) and path.is_file():
            yield name.as_posix()


# --- captions beside -------------------------------------------------------------------------


def _beside(root: Path, gathering: Gathering, options: Options) -> DataSet:
    names = list(_files(root))
    media: dict[str, list[str]] = {}  # path without ending → paths
    for name in filter(is_media, names):
        media.setdefault(name.removesuffix(PurePosixPath(name).suffix), []).append(name)
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
        gathering.add(Row(f"{root / text}:1", name, file, _captions(root / text), language))
    if not described:
        raise _error(
            str(root),
            f"a table of captions ({', '.join(TABLES)}), or NAME.txt beside NAME.jpg",
            "neither",
            "see docs/data.md",
        )
    rest = (name for names in media.values() for name in names if name not in described)
    notes = left_out(_UNDESCRIBED, rest)
    return gathering.dataset(notes + left_out("texts that belong to no picture or film", alone))


def _named(text: str, media: Container[str]) -> tuple[str, str]:
    """What a text is of, without its ending, and the language that its name says."""
    stem = text.removesuffix(".txt")
    short, _, code = stem.rpartition(".")
    if stem not in media and short in media and is_language(code):
        return short, code
    return stem, ""


def _captions(path: Path) -> tuple[str, ...]:
    lines = (text.removeprefix("\ufeff").strip() for _, text in numbered_lines(path))
    found = tuple(line for line in lines if line)
    if not found:
        raise _error(f"{path}:1", "a caption", "an empty text", "write one, or remove the file")
    return found


def _error(place: str, expected: str, found: str, remedy: str) -> DatasetError:
    return DatasetError(place, expected=expected, found=found, remedy=remedy)
