"""The readers of data sets by name, and a manifest made by one of them.

A reader is found by name and imported only when it is used. Those of other packages are found by
their entry points in the group ``cl2cm.readers``, ``NAME = "package.module:read"``; a name of ours
is always ours.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

from cl2cm.data.readers.reading import DataSet, Options, Reader
from cl2cm.errors import ConfigError
from cl2cm.plugins import Registry


class Built(NamedTuple):
    """A reader of ours.

    module: in this package, with a function ``read``, a `Reader`; tasks: the data set has more
    than one task; own: the files are the user's, whose tables may call columns as they like;
    fetches: it needs no files of the user's.
    """

    module: str
    tasks: bool = False
    own: bool = False
    fetches: bool = False


READERS = {
    "coco-cn": Built("coco_cn", tasks=True),
    "coco-cn-ext": Built("coco_cn_ext"),
    "crossmodal-3600": Built("crossmodal3600"),
    "flickr30k": Built("flickr30k"),
    "flickr8k": Built("flickr8k"),
    "flickr8k-ar": Built("flickr8k_ar"),
    "flickr8k-cn": Built("flickr8k_cn", tasks=True),
    "flickr8k-multi": Built("flickr8k_multi"),
    "folder": Built("folder", own=True),
    "huggingface": Built("huggingface", own=True),
    "mscoco": Built("mscoco"),
    "msrvtt": Built("msrvtt"),
    "msrvtt-1ka": Built("msrvtt_1ka"),
    "msrvtt-cn": Built("msrvtt_cn"),
    "msvd": Built("msvd"),
    "msvd-cn": Built("msvd_cn"),
    "multi30k": Built("multi30k", tasks=True),
    "openmoji": Built("openmoji", fetches=True),
    "stair": Built("stair"),
    "vatex": Built("vatex"),
    "webdataset": Built("webdataset", own=True),
    "xflickrco": Built("xflickrco"),
    "xtd10": Built("xtd10"),
}


def _flaw(found: object, name: str) -> str:
    del name
    return "" if callable(found) else f"{found!r:.80}, no function of source and options"


REGISTRY = Registry(
    "reader",
    "cl2cm.readers",
    "data set",
    __package__,
    {name: f"{built.module}:read" for name, built in READERS.items()},
    _flaw,
)


def dataset_names() -> tuple[str, ...]:
    """Return the sorted names of all readers, including readers of other packages."""
    return tuple(sorted(REGISTRY.names()))


def fetches(name: str) -> bool:
    """Return whether a data set needs no files of the user's."""
    return name in READERS and READERS[name].fetches


def prepare_dataset(
    name: str,
    source: Path | None,
    out: Path,
    options: Options | None = None,
    *,
    allow_partial: bool = False,
    allow_leaks: bool = False,
    leak_check: bool = True,
) -> Path:
    """Turn a data set into a manifest.

    Args:
        name: one of `dataset_names`.
        source: file or folder as its publisher ships it; None where the reader fetches it.
        out: folder to make, or to make again.
        options: what the user says of the files.
        allow_partial: continue where numbers differ from the published ones, files are missing, or
            lines of one's own do not fit; all of them are named.
        allow_leaks: continue where one's own data have an image in two splits.
        leak_check: look for images that are in two splits.

    Returns:
        Path of the manifest.

    Raises:
        ConfigError: no such data set, or ``out`` holds something else.
        CL2CMError: whatever the reader finds wrong with its files.
    """
    options = options or Options()
    read = _reader(name, options)
    if source is None and not fetches(name):
        raise ConfigError(
            f"data set {name!r}",
            expected="its files as published",
            found="'-'",
            remedy="fetch them from their publisher and name the folder",
        )
    from cl2cm.data.prepare import Leniency, prepare_official  # noqa: PLC0415 — reads images

    leniency = Leniency(partial=allow_partial, leaks=allow_leaks, unseen=not leak_check)
    return prepare_official(name, read, source, out, options, leniency)


def _reader(name: str, options: Options) -> Reader:
    """Return the reader of a data set.

    Raises:
        ConfigError: there is none, it cannot be loaded, or an option is not for it.
    """
    read = cast("Reader", REGISTRY.load(name))
    REGISTRY.warn_of_shadowed([name])
    if name not in READERS:
        return partial(_guarded, name, read)
    built = READERS[name]
    tasked = [other for other, reader in READERS.items() if reader.tasks]
    own = [other for other, reader in READERS.items() if reader.own]
    for option, given, takes, fitting, what in (
        ("task", options.task is not None, built.tasks, tasked, "a data set with tasks"),
        ("columns", bool(options.columns), built.own, own, "a data set of your own"),
    ):
        if given and not takes:
            expected = f"{what} ({', '.join(fitting)})"
            raise ConfigError(option, expected=expected, found=name, remedy=f"remove --{option}")
    return read


def _guarded(name: str, read: Reader, source: Path | None, options: Options) -> DataSet:
    """Read with a reader of another package; what it raises and returns is held to its kind."""
    with REGISTRY.guarded(name):
        data: object = read(source, options)
    if not isinstance(data, DataSet):
        raise REGISTRY.broken(name, "to return a DataSet", f"{data!r:.80}")
    return data
