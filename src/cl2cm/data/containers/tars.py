"""The samples of WebDataset tars: images by their range in the tar, and captions.

``KEY.jpg`` goes with ``KEY.txt`` (one caption a line), ``KEY.de.txt`` and ``KEY.json``; an id is
``SHARD/KEY``, as of ``cl2cm prepare webdataset``.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

from cl2cm.data.containers.place import File, Place
from cl2cm.data.readers.columns import find_columns
from cl2cm.data.readers.json_files import parse_json
from cl2cm.data.readers.own_data import is_language
from cl2cm.data.readers.tables import by_language, texts_of
from cl2cm.data.readers.tar_shards import Member, read_members, read_whole
from cl2cm.errors import DatasetError
from cl2cm.media.blob import Blob
from cl2cm.media.images import FILE_LIMIT
from cl2cm.media.kinds import kind_by_name
from cl2cm.text import is_blank
from cl2cm.types import Example

_TEXT_LIMIT = 2**20  # bytes


@dataclass(frozen=True, slots=True)
class Slice(Blob):
    """An image at a range of bytes of a file."""

    place: Place
    start: int
    end: int

    def read(self) -> bytes:
        """Return its bytes."""
        return self.place.read(self.start, self.end)


@dataclass(slots=True)
class Sample:
    """An image or None, and the captions of its key by language."""

    image: Slice | None
    captions: dict[str, list[str]]


def read_tar(file: File, *, captions: bool) -> tuple[dict[str, Sample], list[str]]:
    """Return the samples of a tar by their ids, and the members that are not read.

    Args:
        file: the tar.
        captions: read the captions too.

    Raises:
        DatasetError: it is compressed or damaged, or captions do not fit.
    """
    if file.name.endswith(".gz"):
        raise DatasetError(
            str(file.place),
            expected="a tar whose images can be read one by one",
            found="a compressed one",
            remedy="unpack it, or use cl2cm prepare webdataset",
        )
    shard = file.name.removesuffix(".tar")
    samples: dict[str, Sample] = {}
    texts: list[tuple[str, dict[str, list[str]]]] = []
    unread: list[str] = []
    for member in read_members(str(file.place), file.place.open(file.size)):
        path = PurePosixPath(member.name)
        key = f"{shard}/{member.name.removesuffix(path.suffix)}"
        if any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
            continue
        if kind_by_name(path.name) == "image":
            _check(member, key, samples)
            end = member.offset + member.size
            image = Slice(member.place, file.place, member.offset, end)
            samples[key] = Sample(image, {})
        elif path.suffix in (".txt", ".json"):
            texts += [(key, _captions(member))] if captions else []
        else:
            unread.append(member.name)
    for key, found in texts:
        _add(samples, key, found)
    return samples, unread


def _check(member: Member, key: str, samples: dict[str, Sample]) -> None:
    if key in samples:
        raise _error(member.place, "one image of a key", "a second one")
    if member.size > FILE_LIMIT:
        limit = FILE_LIMIT // 2**20
        raise _error(member.place, f"at most {limit} MB", f"{member.size // 2**20:,} MB")


def _captions(member: Member) -> dict[str, list[str]]:
    try:
        content = read_whole(member, _TEXT_LIMIT).decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise _error(member.place, "UTF-8", f"bytes that are not ({error.reason})") from None
    if member.name.endswith(".txt"):
        return {"": [line.strip() for line in content.split("\n") if not is_blank(line)]}
    fields = dict(parse_json(content, member.place).fields())
    columns = find_columns(list(fields), {}, member.place, files=False)
    named = [name for name in columns.captions if fields[name].value not in (None, "", [])]
    found = {name: texts_of(fields[name]) for name in named}
    return {k: list(v) for k, v in by_language(found, columns).items()} if found else {}


def _add(samples: dict[str, Sample], key: str, found: dict[str, list[str]]) -> None:
    """Give captions to the sample of their key; ``KEY.de`` names a language."""
    code = ""
    short, _, last = key.rpartition(".")
    if key not in samples and short and is_language(last):
        key, code = short, last
    captions = samples.setdefault(key, Sample(None, {})).captions
    for language, texts in found.items():
        captions.setdefault(language or code or "en", []).extend(texts)


def example_of(identity: str, sample: Sample) -> Example:
    """Return a sample as an item without a file."""
    captions = {language: tuple(texts) for language, texts in sample.captions.items() if texts}
    return Example(identity, "all", captions=captions)


def _error(place: str, expected: str, found: str) -> DatasetError:
    return DatasetError(place, expected=expected, found=found, remedy="correct it")
