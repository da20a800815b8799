"""Licences of the data sets that have a reader, as their publishers state them.

``captions`` and ``media`` are the publisher's terms; "unknown" where the publisher names none. The
docstring of each reader has the publication and the files.
"""

from typing import NamedTuple

UNKNOWN = "unknown"


class DataLicence(NamedTuple):
    """Licences of a data set: of its captions, of its images or videos, and where it comes from."""

    captions: str
    media: str
    source: str


_FLICKR = "Flickr's terms, research only"
_COCO = "Flickr's terms, each photo under its own licence"
_YOUTUBE = "YouTube's terms"
_RESEARCH = "research only"
_KARPATHY = "split: cs.stanford.edu/people/karpathy/deepimagesent"
_MSRVTT = "Xu et al., CVPR 2016 (Microsoft Research)"
_OWN = DataLicence(f"{UNKNOWN} (your own files)", f"{UNKNOWN} (your own files)", "your own files")

# Columns of translations that come with a data set and not from an engine of cl2cm.
COLUMNS = {"cldr": "Unicode-3.0"}

LICENCES: dict[str, DataLicence] = {
    "coco-cn": DataLicence("MIT", _COCO, "github.com/li-xirong/coco-cn"),
    "coco-cn-ext": DataLicence("MIT", _COCO, "github.com/li-xirong/coco-cn"),
    "crossmodal-3600": DataLicence(
        "CC BY 4.0",
        "Creative Commons licences of each photo (Open Images)",
        "google.github.io/crossmodal-3600",
    ),
    "flickr30k": DataLicence(
        _RESEARCH,
        _FLICKR,
        f"shannon.cs.illinois.edu/DenotationGraph; {_KARPATHY}",
    ),
    "flickr8k": DataLicence(_RESEARCH, _FLICKR, "hockenmaier.cs.illinois.edu"),
    "flickr8k-ar": DataLicence(
        UNKNOWN, _FLICKR, "github.com/ObeidaElJundi/Arabic-Image-Captioning"
    ),
    "flickr8k-cn": DataLicence(_RESEARCH, _FLICKR, "github.com/li-xirong/flickr8kcn"),
    "flickr8k-multi": DataLicence(
        f"en, zh: research only; de, fr, cs (Multi30K): research and education, not commerce; "
        f"ar: {UNKNOWN}",
        _FLICKR,
        "joined from Flickr8k, Flickr8k-CN, Multi30K and two Arabic collections",
    ),
    "folder": _OWN,
    "huggingface": _OWN,
    "mscoco": DataLicence("CC BY 4.0", _COCO, f"cocodataset.org; {_KARPATHY}"),
    "msrvtt": DataLicence(_RESEARCH, _YOUTUBE, _MSRVTT),
    "msrvtt-1ka": DataLicence(_RESEARCH, _YOUTUBE, _MSRVTT),
    "msrvtt-cn": DataLicence(_RESEARCH, _YOUTUBE, "github.com/LiJiaBei-7/nrccr"),
    "msvd": DataLicence(_RESEARCH, _YOUTUBE, "cs.utexas.edu/users/ml/clamp/videoDescription"),
    "msvd-cn": DataLicence(UNKNOWN, _YOUTUBE, "github.com/mcislab-machine-learning/MSVD-CN"),
    "multi30k": DataLicence(
        "research and education, not commerce", _FLICKR, "github.com/multi30k/dataset"
    ),
    "openmoji": DataLicence(
        "Unicode-3.0 (CLDR names, from the package emoji)",
        "CC BY-SA 4.0 (OpenMoji)",
        "openmoji.org",
    ),
    "stair": DataLicence("CC BY 4.0", _COCO, "github.com/STAIR-Lab-CIT/STAIR-captions"),
    "vatex": DataLicence("CC BY 4.0", _YOUTUBE, "eric-xw.github.io/vatex-website"),
    "webdataset": _OWN,
    "xflickrco": DataLicence("MIT", f"{_FLICKR}; COCO: {_COCO}", "github.com/e-bug/iglue"),
    "xtd10": DataLicence(
        "Adobe Research License (research, not commerce)",
        _COCO,
        "github.com/adobe-research/Cross-lingual-Test-Dataset-XTD10",
    ),
}
