"""One's own pairs in the WebDataset layout: shards that are tar files, read from start to end.

Members of one key belong together, ``KEY.jpg`` and its captions: ``KEY.txt`` with one a line,
``KEY.de.txt`` in German, or ``KEY.json`` with ``caption`` (a text or a list of texts) and, where
it is known, ``language`` and ``split``. All else is left out, which is said. SOURCE is a shard, or
a folder of shards ``*.tar`` or ``*.tar.gz``; a shard whose name, or whose folder's, begins with
``train``, ``val`` or ``test`` is of that split. An id is ``SHARD/KEY``.

Pictures and films are written to ``pictures`` in the folder that is made: what a tar calls its
members decides no path.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from cl2cm.data.readers.json_files import parse_json
from cl2cm.data.readers.own_data import (
    SPLITS,
    Gathering,
    Row,
    is_film,
    is_language,
    is_media,
    left_out,
    own_files,
)
from cl2cm.data.readers.reading import DataSet, Options
from cl2cm.data.readers.tar_shards import Member, read_members, read_pieces, read_whole
from cl2cm.data.readers.unpacking import Unpacking, unpacking
from cl2cm.errors import DatasetError
from cl2cm.progress import track

PICTURE_LIMIT, FILM_LIMIT, TEXT_LIMIT = 2**28, 2**33, 2**20  # bytes: 256 MB, 8 GB, 1 MB
_NAME = re.compile(r"(?P<key>(?:.*/)?[^./][^./]*)\.(?P<kind>[^/]+)")  # up to the first dot
_WORD = re.compile(r"[a-z]+")


@dataclass(slots=True)
class _Sample:
    """What the members of one key hold.

    media: the picture or film where it was written, or its name where none is; texts: place,
    language (empty: none said) and captions of each member that has some.
    """

    media: str | Path | None = None
    texts: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    language: str = ""
    split: str = ""


class _Reader:
    """Reads shards one by one.

    Args:
        source: shard, or folder of shards.
        options: what the user says.
        files: where pictures and films are written; None: nowhere.
    """

    def __init__(self, source: Path, options: Options, files: Unpacking | None) -> None:
        self._folder = source if source.is_dir() else source.parent
        self._files = files
        self._gathering = Gathering("webdataset", options)
        self._unread: dict[str, None] = {}
        self._bare: list[str] = []

    def shard(self, path: Path) -> None:
        """Take up all samples of a shard.

        Raises:
            DatasetError: it is damaged, or a sample does not fit.
        """
        name = path.relative_to(self._folder).as_posix().removesuffix(".gz").removesuffix(".tar")
        split = _split_named(name)
        seen: set[str] = set()
        for key, members in groupby(read_members(path), key=lambda member: _parts(member)[0]):
            if key in seen:
                raise _error(f"{path}: {key!r}", "members of a key side by side", "it again")
            seen.add(key)
            self._add(f"{name}/{key}", self._sample(f"{name}/{key}", members), split)

    def dataset(self) -> DataSet:
        """All that was read."""
        notes = left_out("members that are not read, by their endings", self._unread)
        notes += left_out("samples without a caption or without a picture, left out", self._bare)
        return self._gathering.dataset(notes)

    def _sample(self, identity: str, members: Iterable[Member]) -> _Sample:
        sample = _Sample()
        for member in members:
            kind = _parts(member)[1]
            language, _, ending = f".{kind}".rpartition(".")
            if is_media(f"x.{kind}") and not language:
                self._media(identity, sample, member)
            elif ending == "txt" and (not language or is_language(language[1:])):
                lines = (line.strip() for line in _text(member).split("\n"))
                found = tuple(line for line in lines if line)
                sample.texts.append((member.place, language[1:], found))
            elif kind == "json":
                _read_json(sample, member)
            else:
                self._unread[f".{kind}"] = None
        return sample

    def _media(self, identity: str, sample: _Sample, member: Member) -> None:
        if sample.media is not None:
            raise _error(member.place, "one picture or film of a key", "a second one")
        sample.media = member.name
        if self._files is not None:
            limit = FILM_LIMIT if is_film(member.name) else PICTURE_LIMIT
            suffix = f".{member.name.rpartition('.')[2].lower()}"
            sample.media = self._files.write(identity, suffix, read_pieces(member, limit))

    def _add(self, identity: str, sample: _Sample, split: str) -> None:
        if sample.media is None or not any(captions for *_, captions in sample.texts):
            self._bare.append(identity)
            if self._files is not None and isinstance(sample.media, Path):
                self._files.drop(sample.media)
            return
        media = sample.media if isinstance(sample.media, Path) else None
        split = sample.split or split
        for place, language, captions in sample.texts:
            if captions:
                said = language or sample.language
                self._gathering.add(Row(place, identity, media, captions, said, split))


def read(source: Path, options: Options) -> DataSet:
    """Read a shard, or a folder of shards.

    Raises:
        DatasetError: there is no shard, one is damaged, or a sample does not fit.
        StorageError: the disk is full, read-only or closed to us.
    """
    shards = _shards(source)
    sizes = [max(1, path.stat().st_size // 2**20) for path in shards]
    with (
        own_files(),
        unpacking(source, options) as files,
        track("reading shards (MB)", sum(sizes)) as advance,
    ):
        reader = _Reader(source, options, files)
        for path, size in zip(shards, sizes, strict=True):
            reader.shard(path)
            advance(size)
        return reader.dataset()


def _shards(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    found = [path for path in sorted(source.rglob("*")) if path.name.endswith((".tar", ".tar.gz"))]
    if not found:
        absent = "no such file" if source.is_dir() else "no such folder"
        raise _error(str(source), "a shard, or a folder of shards (*.tar, *.tar.gz)", absent)
    return found


def _split_named(shard: str) -> str:
    """Split that a shard's name or the names of its folders begin with; empty where none does."""
    words = (_WORD.match(part.lower()) for part in reversed(shard.split("/")))
    found = (SPLITS[word[0]] for word in words if word is not None and word[0] in SPLITS)
    return next(found, "")


def _parts(member: Member) -> tuple[str, str]:
    """Key and kind of a member; its name and nothing where it has no kind."""
    match = _NAME.fullmatch(member.name)
    return (match["key"], match["kind"]) if match else (member.name, "")


def _text(member: Member) -> str:
    try:
        return read_whole(member, TEXT_LIMIT).decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        found = f"bytes that are not ({error.reason})"
        raise _error(member.place, "UTF-8", found) from None


def _read_json(sample: _Sample, member: Member) -> None:
    fields = dict(parse_json(_text(member), member.place).fields())
    for key in ("language", "split"):
        if (said := fields.get(key)) is not None and said.value not in (None, ""):
            setattr(sample, key, said.text())
    caption = fields.get("caption")
    if caption is not None and caption.value not in (None, "", []):
        captions = caption.texts() if isinstance(caption.value, list) else (caption.text(),)
        sample.texts.append((member.place, "", captions))


def _error(place: str, expected: str, found: str) -> DatasetError:
    return DatasetError(place, expected=expected, found=found, remedy="correct it")
