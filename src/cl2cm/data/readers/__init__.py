"""Readers of data sets: each turns files as published, or one's own, into a manifest.

A reader is found by name and imported only when it is used.
"""

import difflib
from importlib import import_module
from pathlib import Path

from cl2cm.data.readers.reading import Options
from cl2cm.errors import ConfigError

EMBEDDED = "openmoji"  # drawn from a wheel, which is fetched
# Name → module with a function ``read``, a Reader (reading.py).
READERS = {
    "coco-cn": "coco_cn",
    "coco-cn-ext": "coco_cn_ext",
    "crossmodal-3600": "crossmodal3600",
    "flickr30k": "flickr30k",
    "flickr8k": "flickr8k",
    "flickr8k-ar": "flickr8k_ar",
    "flickr8k-cn": "flickr8k_cn",
    "flickr8k-multi": "flickr8k_multi",
    "folder": "folder",
    "huggingface": "huggingface",
    "mscoco": "mscoco",
    "msrvtt": "msrvtt",
    "msrvtt-1ka": "msrvtt_1ka",
    "msrvtt-cn": "msrvtt_cn",
    "msvd": "msvd",
    "msvd-cn": "msvd_cn",
    "multi30k": "multi30k",
    "stair": "stair",
    "vatex": "vatex",
    "webdataset": "webdataset",
    "xflickrco": "xflickrco",
    "xtd10": "xtd10",
}
TASKED = ("coco-cn", "flickr8k-cn", "multi30k")  # those that have more than one task
DATASETS = (EMBEDDED, *READERS)


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
        name: one of ``DATASETS``.
        source: file or folder as its publisher ships it; None where the reader fetches it.
        out: folder to make, or to make again.
        options: what the user says of the files.
        allow_partial: go on where numbers differ from the published ones, or pictures are missing.
        allow_leaks: go on where one's own data have a picture in two splits.
        leak_check: look for pictures that are in two splits.

    Returns:
        Path of the manifest.

    Raises:
        ConfigError: no such data set, or ``out`` holds something else.
        CL2CMError: whatever the reader finds wrong with its files.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, 1)
        raise ConfigError(
            f"data set {name!r}",
            expected=f"one of {', '.join(sorted(DATASETS))}",
            found="no reader of that name",
            remedy=f"did you mean {near[0]!r}?" if near else "choose one of them",
        )
    if options is not None and options.task is not None and name not in TASKED:
        raise ConfigError(
            "task", expected=f"a data set with tasks ({', '.join(TASKED)})", found=name,
            remedy="leave --task out",
        )  # fmt: skip
    if name == EMBEDDED:
        prepared: Path = import_module("cl2cm.data.readers.openmoji").prepare(out, source=source)
        return prepared
    if source is None:
        raise ConfigError(
            f"data set {name!r}",
            expected="its files as published",
            found="'-'",
            remedy="fetch them from their publisher and name the folder",
        )
    from cl2cm.data.prepare import Leniency, prepare_official  # noqa: PLC0415 — reads pictures

    leniency = Leniency(partial=allow_partial, leaks=allow_leaks, unseen=not leak_check)
    module = f"cl2cm.data.readers.{READERS[name]}"
    return prepare_official(name, module, source, out, options or Options(), leniency)
