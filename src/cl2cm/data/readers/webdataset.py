"""Reader for a user's data in the WebDataset layout: tar shards, read sequentially.

Members of one key belong together, ``KEY.jpg`` and its captions: ``KEY.txt`` with one per line,
``KEY.de.txt`` in German, or ``KEY.json`` with ``caption`` (a text or a list of texts) and, where
it is known, ``language`` and ``split``. A key may have dots in it. All else is left out, which is
said; so are hidden members (``._KEY.jpg``), which a Mac adds. SOURCE is a shard, or a folder of
shards ``*.tar`` or ``*.tar.gz``; a shard whose name, or whose folder's, begins with ``train``,
``val`` or ``test`` is of that split. An id is ``SHARD/KEY``; samples of a split whose images are
equal, byte for byte, become one item of the first one's id.

Images and videos are written to ``pictures`` in the folder that is made: what a tar calls its
members decides no path.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cl2cm.data.readers.columns import find_columns
from cl2cm.data.readers.json_files import Record, parse_json
from cl2cm.data.readers.own_data import (
    SPLITS,
    Gathering,
    Row,
    is_language,
    left_out,
    own_files,
)
from cl2cm.data.readers.reading import DataSet, Options
from cl2cm.data.readers.tables import by_language, texts_of
from cl2cm.data.readers.tar_shards import Member, read_members, read_pieces, read_whole
from cl2cm.data.readers.unpacking import Unpacking, unpacking
from cl2cm.errors import DatasetError
from cl2cm.media.kinds import kind_by_name
from cl2cm.progress import track
from cl2cm.text import is_blank

PICTURE_LIMIT, FILM_LIMIT, TEXT_LIMIT = 2**28, 2**33, 2**20  # bytes: 256 MB, 8 GB, 1 MB
_WORD = re.compile(r"[a-z]+")


@dataclass(slots=True)
class _Text:
    """Captions of a member.

    place: for messages; key: name without the ending; captions: language (empty: none said) →
    texts; language, split: what a JSON member says of its sample; code: the language in the name.
    """

    place: str
    key: str
    captions: dict[str, list[str]]
    language: str = ""
    split: str = ""
    code: str = ""


@dataclass(slots=True)
class _Sample:
    """What the members of one key hold.

    name: of the member with the image or video, empty if there is none; media: where it was
    written, None if nothing is.
    """

    name: str = ""
    media: Path | None = None
    texts: list[_Text] = field(default_factory=list)


class _Reader:
    """Reads shards one by one.

    Args:
        source: shard, or folder of shards.
        options: what the user says.
        files: where images and videos are written; None: nowhere.
    """

    def __init__(self, source: Path, options: Options, files: Unpacking | None) -> None:
        self._folder = source if source.is_dir() else source.parent
        self._options, self._files = options, files
        self._gathering = Gathering("webdataset", options)
        self._unread: dict[str, None] = {}
        self._hidden: list[str] = []
        self._bare: list[str] = []
        self._first: dict[tuple[str, str], tuple[str, Path]] = {}
        self._merged = 0

    def shard(self, path: Path) -> None:
        """Take up all samples of a shard.

        Raises:
            DatasetError: it is damaged, or a sample does not fit.
        """
        name = path.relative_to(self._folder).as_posix().removesuffix(".gz").removesuffix(".tar")
        samples: dict[str, _Sample] = {}
        texts: list[_Text] = []
        for member in read_members(path):
            base = PurePosixPath(member.name)
            if any(part.startswith(".") or part == "__MACOSX" for part in base.parts):
                self._hidden.append(member.name)
            elif kind_by_name(base.name):
                self._media(f"{name}/{_key(member)}", samples.setdefault(_key(member), _Sample()),
                            member)  # fmt: skip
            elif base.suffix in {".txt", ".json"}:
                try:
                    texts.append(self._text(member))
                except DatasetError as error:
                    self._gathering.fault(error)
            else:
                self._unread[_kind(member.name)] = None
        for text in texts:
            _sample_of(text, samples).texts.append(text)
        self._leave_extras(samples)
        for key, sample in samples.items():
            self._add(f"{name}/{key}", sample, _split_named(name))

    def dataset(self) -> DataSet:
        """Return all that was read."""
        notes = left_out("members that are not read, by their endings", self._unread)
        notes += left_out("hidden members, left out", self._hidden)
        notes += left_out("samples without a caption or without an image, left out", self._bare)
        if self._merged:
            notes.append(
                f"{self._merged:,} samples have the image of an earlier one of their split, byte "
                "for byte, and are captions of its item"
            )
        return self._gathering.dataset(notes)

    def _media(self, identity: str, sample: _Sample, member: Member) -> None:
        if sample.name:
            raise _error(member.place, "one image or video of a key", "a second one")
        sample.name = member.name
        if self._files is not None:
            limit = FILM_LIMIT if kind_by_name(member.name) == "video" else PICTURE_LIMIT
            suffix = PurePosixPath(member.name).suffix.lower()
            sample.media = self._files.write(identity, suffix, read_pieces(member, limit))

    def _text(self, member: Member) -> _Text:
        content = _decoded(member)
        if member.name.endswith(".txt"):
            lines = [line.strip() for line in content.split("\n") if not is_blank(line)]
            return _Text(member.place, _key(member), {"": lines})
        record = parse_json(content, member.place)
        fields = dict(record.fields())
        chosen = {role: name for role, name in self._options.columns.items() if name in fields}
        columns = find_columns(list(fields), chosen, member.place, files=False)
        captions = {
            name: texts_of(fields[name])
            for name in columns.captions
            if fields[name].value not in (None, "", [])
        }
        said = (_said(fields.get(name or "")) for name in (columns.language, columns.split))
        texts = by_language(captions, columns) if captions else {}
        found = {language: list(some) for language, some in texts.items()}
        return _Text(member.place, _key(member), found, *said)

    def _leave_extras(self, samples: dict[str, _Sample]) -> None:
        """Leave out ``KEY.seg.png`` beside ``KEY.jpg``: another image of a complete sample."""
        for key in [key for key, sample in samples.items() if not sample.texts]:
            folder, _, base = key.rpartition("/")
            first = "/".join([*([folder] if folder else []), base.partition(".")[0]])
            if first != key and first in samples and samples[first].texts:
                self._unread[_kind(samples[key].name)] = None
                self._drop(samples.pop(key))

    def _drop(self, sample: _Sample) -> None:
        if self._files is not None and sample.media is not None:
            self._files.drop(sample.media)

    def _add(self, identity: str, sample: _Sample, split: str) -> None:
        texts = [
            (text, language, tuple(captions))
            for text in sample.texts
            for language, captions in text.captions.items()
            if captions
        ]
        if not sample.name or not texts:
            self._bare.append(identity)
            self._drop(sample)
            return
        split = next((text.split for text in sample.texts if text.split), split)
        spoken = next((text.language for text in sample.texts if text.language), "")
        media = sample.media
        if media is not None and self._files is not None:
            first = self._first.setdefault((split, self._files.hash(media)), (identity, media))
            if first[0] != identity:
                self._merged += 1
                self._drop(sample)
                identity, media = first
        for text, language, captions in texts:
            said = language or text.code or spoken
            self._gathering.add(Row(text.place, identity, media, captions, said, split))


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
    found = [
        path
        for path in sorted(source.rglob("*"))
        if path.name.endswith((".tar", ".tar.gz")) and not path.name.startswith(".")
    ]
    if not found:
        absent = "no such file" if source.is_dir() else "no such folder"
        raise _error(str(source), "a shard, or a folder of shards (*.tar, *.tar.gz)", absent)
    return found


def _split_named(shard: str) -> str:
    """Split that a shard's name or the names of its folders begin with; empty where none does."""
    words = (_WORD.match(part.lower()) for part in reversed(shard.split("/")))
    found = (SPLITS[word[0]] for word in words if word is not None and word[0] in SPLITS)
    return next(found, "")


def _key(member: Member) -> str:
    """Return what a member belongs to: its name without the ending."""
    return member.name.removesuffix(PurePosixPath(member.name).suffix)


def _kind(name: str) -> str:
    """Return all endings of a name: ``.seg.png``."""
    return "." + PurePosixPath(name).name.partition(".")[2]


def _sample_of(text: _Text, samples: dict[str, _Sample]) -> _Sample:
    """Return the sample of a text, ``KEY.txt`` or ``KEY.de.txt``, whose language is noted."""
    short, _, code = text.key.rpartition(".")
    by_code = text.key not in samples and short and "/" not in code and is_language(code)
    if by_code and (short in samples or "." not in PurePosixPath(short).name):
        text.code = code
        return samples.setdefault(short, _Sample())
    return samples.setdefault(text.key, _Sample())


def _decoded(member: Member) -> str:
    try:
        return read_whole(member, TEXT_LIMIT).decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        found = f"bytes that are not ({error.reason})"
        raise _error(member.place, "UTF-8", found) from None


def _said(record: Record | None) -> str:
    return "" if record is None or record.value in (None, "") else record.text()


def _error(place: str, expected: str, found: str) -> DatasetError:
    return DatasetError(place, expected=expected, found=found, remedy="correct it")
