"""The items of a source that is no plain folder or manifest: containers, and whatever a URL names.

A folder at a URL has images, tars or Parquet files, or a manifest is named in it. Whatever a
manifest says is below its own folder.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cl2cm.data.containers.place import File, Place, find, is_url
from cl2cm.data.containers.tables import read_parquet
from cl2cm.data.containers.tars import Slice, example_of, read_tar
from cl2cm.data.manifest import read_manifest
from cl2cm.data.scan import LeftOut, walk
from cl2cm.errors import CL2CMError, ConfigError, ManifestError, MediaError, OnSkip
from cl2cm.media.blob import Blob
from cl2cm.media.images import FILE_LIMIT
from cl2cm.media.kinds import kind_by_name
from cl2cm.types import Example

TARS, TABLES, MANIFESTS = (".tar", ".tar.gz"), (".parquet",), (".jsonl", ".jsonl.gz")


@dataclass(frozen=True, slots=True)
class Stored:
    """Items whose images are in containers or at a URL.

    Attributes:
        examples: items, with captions where they were asked for.
        images: of each item; None where there is none.
        states: of each item's file or container.
        left_out: what is not read.
    """

    examples: list[Example] = field(default_factory=list[Example])
    images: list[Blob | None] = field(default_factory=list[Blob | None])
    states: list[str] = field(default_factory=list[str])
    left_out: LeftOut = field(default_factory=LeftOut)

    def add(self, example: Example, image: Blob | None, state: str) -> None:
        """Take up an item."""
        self.examples.append(example)
        self.images.append(image)
        self.states.append(state)


def is_stored(source: str) -> bool:
    """Return whether a source is a URL, a container, a pattern, or a folder of containers alone."""
    if "://" in source or "*" in source or source.endswith((*TARS, *TABLES)):
        return True
    folder = Path(source)
    if not folder.is_dir():
        return False
    containers = False
    for path in walk(folder.absolute()):
        if kind_by_name(path.name):
            return False
        containers |= path.name.endswith((*TARS, *TABLES))
    return containers


def read_stored(source: str, *, captions: bool = False, on_skip: OnSkip | None = None) -> Stored:
    """Return the items of such a source, in a fixed order.

    Args:
        source: URL, container, pattern or folder, in the user's words.
        captions: read captions, and keep items without an image.
        on_skip: told what does not fit; None: that is an error.

    Raises:
        CL2CMError: nothing is there, it cannot be read, or does not fit.
    """
    if "::" in source or source.lower().startswith("file://"):
        raise ConfigError(
            "source", expected="a path, or one URL", found=repr(source), remedy="name it plainly"
        )
    place, stored = Place(source), Stored()
    if source.endswith(MANIFESTS) and is_url(source):
        _manifest(place, stored, on_skip)
    else:
        for file in find(place):
            _take(file, stored, captions=captions)
    _check(stored, source)
    return stored


def _take(file: File, stored: Stored, *, captions: bool) -> None:
    if file.name.endswith(TARS):
        samples, unread = read_tar(file, captions=captions)
        for name in unread:
            stored.left_out.add(name)
        for identity, sample in samples.items():
            if sample.image is not None or captions:
                where = "" if sample.image is None else f" {sample.image.start}"
                stored.add(example_of(identity, sample), sample.image, file.state + where)
    elif file.name.endswith(TABLES):
        for example, row in read_parquet(file, captions=captions):
            stored.add(example, row, file.state)
    elif kind_by_name(file.name) == "image":
        stored.add(Example(file.name, "all"), _whole(file), file.state)
    else:
        stored.left_out.add(file.name)


def _whole(file: File) -> Slice:
    if file.size > FILE_LIMIT:
        raise MediaError(
            str(file.place),
            expected="an image",
            found=f"a file of {file.size // 2**20:,} MB",
            remedy="remove it from there",
        )
    return Slice(str(file.place), file.place, 0, file.size)


def _manifest(place: Place, stored: Stored, on_skip: OnSkip | None) -> None:
    """Take up the items of a manifest at a URL; their images are below its folder."""
    (file,) = find(place)
    folder = place.url.rpartition("/")[0]
    files = {found.name: found for found in find(Place(folder))}
    with _copied(file) as path, _renamed(path, place, on_skip) as told:
        for example in read_manifest(path, source=None, skip_bad=told is not None, on_skip=told):
            try:
                stored.add(example, *_named(example, path.parent.resolve(), files, place))
            except ManifestError as error:
                if told is None:
                    raise
                told(example.id, error)


def _named(example: Example, root: Path, files: dict[str, File], place: Place) -> tuple[Slice, str]:
    """Return the image that an item names below the folder of its manifest, and its state."""
    path = example.path
    found = "another folder" if path is not None else "no image"
    if path is not None and example.kind == "video":
        found = "a video"
    elif path is not None and path.is_relative_to(root):
        name = path.relative_to(root).as_posix()
        if name in files:
            return _whole(files[name]), files[name].state
        found = f"no such file ({name})"
    raise ManifestError(
        f"{place}: item {example.id!r}",
        expected="an image in the manifest's folder or below",
        found=found,
        remedy="correct it, or leave it out (--skip-bad)",
    )


@contextmanager
def _copied(file: File) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cl2cm-manifest-") as folder:
        path = Path(folder, file.place.name)
        with file.place.open(file.size) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
        yield path


@contextmanager
def _renamed(path: Path, place: Place, on_skip: OnSkip | None) -> Iterator[OnSkip | None]:
    """Name the URL in errors, not its local copy."""

    def told(name: str, error: CL2CMError) -> None:
        if on_skip is not None:
            on_skip(name.replace(str(path), place.url), _as_of(error, path, place))

    try:
        yield None if on_skip is None else told
    except ManifestError as error:
        raise _as_of(error, path, place) from None


def _as_of(error: CL2CMError, path: Path, place: Place) -> ManifestError:
    return ManifestError(
        error.subject.replace(str(path), place.url),
        expected=error.expected,
        found=error.found,
        remedy=error.remedy,
    )


def _check(stored: Stored, source: str) -> None:
    """Refuse a source without items, or with an id twice."""
    if not stored.examples:
        raise MediaError(
            source,
            expected="images, WebDataset tars (.tar) or Parquet files",
            found=stored.left_out.line() or "none",
            remedy="check the address",
        )
    seen: set[str] = set()
    for example in stored.examples:
        if example.id in seen:
            raise ManifestError(
                source,
                expected="ids that are unique",
                found=f"{example.id!r} twice",
                remedy="name one folder or file that has each once",
            )
        seen.add(example.id)
