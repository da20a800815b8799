"""Specs of off-the-shelf models: ``hf:MODEL``, or ``hf:IMAGE+TEXT`` for sides of two models.

A name is a folder or OWNER/NAME on the hub. A text side of another model must have been made for
the image side: both have to have vectors of one width, and where the catalogue knows the text side
it also says which image sides it fits.
"""

import os
from pathlib import Path
from typing import NamedTuple

from cl2cm.encode.clip.catalogue import partners
from cl2cm.encode.clip.hashes import hash_layout
from cl2cm.encode.clip.layout import Layout, find_model, is_folder, layout_of
from cl2cm.encode.clip.text import TextSide, text_width
from cl2cm.encode.text_loading import loading
from cl2cm.encode.trust import is_bare, is_hub_id
from cl2cm.encode.vision_hf import HuggingFaceVision
from cl2cm.errors import EncoderError
from cl2cm.progress import say
from cl2cm.storage import sha256_text
from cl2cm.types import is_model_spec


class Pair(NamedTuple):
    """Names of the image side and the text side; text is "" where one model has both."""

    image: str
    text: str = ""

    @property
    def spec(self) -> str:
        """As it is written."""
        return f"hf:{self.image}+{self.text}" if self.text else f"hf:{self.image}"


def parse_pair(spec: str) -> Pair:
    """Return the sides that a spec names.

    Raises:
        EncoderError: it is not a spec of an off-the-shelf model.
    """
    name = spec.partition(":")[2]
    if not is_model_spec(spec) or not name.strip("+"):
        raise EncoderError(
            "model",
            expected="hf:MODEL or hf:IMAGE_MODEL+TEXT_MODEL",
            found=repr(spec),
            remedy="see cl2cm models",
        )
    if "+" not in name or is_folder(name):
        return Pair(name)
    cuts = [at for at, letter in enumerate(name) if letter == "+" and 0 < at < len(name) - 1]
    pairs = [Pair(name[:at], name[at + 1 :]) for at in cuts]
    known = [pair for pair in pairs if is_folder(pair.image) and is_folder(pair.text)]
    named = [pair for pair in pairs if _is_name(pair.image) and _is_name(pair.text)]
    return (known or named or pairs or [Pair(name)])[0]


def absolute_pair(pair: Pair) -> Pair:
    """Return the pair with absolute paths, so that it means the same from any folder."""
    return Pair(*(_absolute(name) if name else "" for name in pair))


def _absolute(name: str) -> str:
    return os.path.abspath(Path(name).expanduser()) if is_folder(name) else name  # noqa: PTH100


def _is_name(name: str) -> bool:
    return is_hub_id(name) or is_folder(name)


def side_of(spec: str) -> str:
    """Return which side of a manifest an encoder is for: ``vision`` or ``text``."""
    if not is_model_spec(spec):
        return "vision"
    name = parse_pair(spec).image
    if is_bare(name):  # a pinned text encoder
        return "text"
    return "vision" if _find(spec, name).two_sided else "text"


def load_image(pair: Pair) -> HuggingFaceVision:
    """Load the image side of a pair.

    Raises:
        EncoderError: it cannot be found, has no image side, or prepares images in another way.
        WeightsError: its files are absent or damaged.
    """
    spec = f"hf:{pair.image}"
    layout = _find(spec, pair.image)
    if layout.kind in ("sentence-transformers", "m-clip"):
        fitting = partners(pair.image)
        example = fitting[0] if fitting else "IMAGE_MODEL"
        raise EncoderError(
            spec,
            expected="a model with an image side",
            found="a text side alone",
            remedy=f"name its image side before it: hf:{example}+{pair.image}",
        )
    return HuggingFaceVision(spec, pair.image)


def load_text(pair: Pair, image: HuggingFaceVision) -> TextSide:
    """Load the text side of a pair whose image side is loaded; see `load_image`."""
    layout = find_text(pair, image.width)
    name = pair.text or pair.image
    shared = image.model if not pair.text and layout.kind == "transformers" else None
    with loading(f"hf:{name}", layout.folder, "text side"):
        text = TextSide(f"hf:{name}", layout, shared)
    _check_width(pair, image.width, text.width)
    return text


def find_text(pair: Pair, image_width: int) -> Layout:
    """Find the text side of a pair, without loading it, and check that it can fit.

    Raises:
        EncoderError: there is none, it has no text side, or another width than the image side.
    """
    name = pair.text or pair.image
    layout = _find(f"hf:{name}", name)
    if not layout.two_sided and layout.kind == "transformers":
        raise EncoderError(
            f"hf:{name}",
            expected="a model with a text side for images, such as CLIP or SigLIP",
            found=layout.model_type or "a model of another kind",
            remedy="name a text side after it: hf:IMAGE_MODEL+TEXT_MODEL; see cl2cm models",
        )
    with loading(f"hf:{name}", layout.folder, "text side"):
        told = text_width(layout)
    if told is not None:
        _check_width(pair, image_width, told)
    fitting = partners(pair.text) if pair.text else ()
    if fitting and is_hub_id(pair.image) and pair.image not in fitting:
        say(f"warning: {pair.text} was made for {' or '.join(fitting)}, not for {pair.image}")
    return layout


def pair_fingerprint(pair: Pair) -> str:
    """Return the fingerprint of a pair's vector space, from its files, without loading them."""
    names = (pair.image, pair.text or pair.image)
    prints = [hash_layout(_find(f"hf:{name}", name))[1] for name in names]
    return sha256_text(f"off the shelf {' '.join(prints)}")


def _find(spec: str, name: str) -> Layout:
    def failed(found: str, remedy: str) -> EncoderError:
        expected = "a model folder with a slash in its path, or OWNER/NAME on the hub"
        return EncoderError(spec, expected=expected, found=found, remedy=remedy)

    folder = find_model(name, failed)
    with loading(spec, folder, "model"):
        return layout_of(folder)


def _check_width(pair: Pair, image: int, text: int) -> None:
    if image != text:
        raise EncoderError(
            pair.spec,
            expected=f"a text side of {image} dimensions, like its image side",
            found=f"one of {text}",
            remedy="name the text side that was made for this image side; see cl2cm models",
        )
