"""A reader of exported models: numpy, onnxruntime and tokenizers, and Pillow for image files.

The file is alone: copy it beside an export to use the model elsewhere. It trusts the folder;
``cl2cm.load`` checks one first.

Example:
    model = Reader("export")
    scores = model.encode_text(["a dog", "ein Hund"]) @ model.encode_images(["dog.jpg"]).T
"""

import json
import re
import threading
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
AT_ONCE = 16  # texts, of about one length
OUTPUT = "vectors"
_TURKISH = re.compile("[\u0130\u011e\u015e\u011f\u015f\u0131]")  # beside them, I is dotless
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # no decoder that starts a program


class Reader:
    """The two sides of an exported model, each opened when it is first used."""

    def __init__(
        self, folder: str | Path, contract: dict[str, Any] | None = None, *, threads: int = 0
    ) -> None:
        self.folder, self.threads = Path(folder), threads
        text = "" if contract else (self.folder / "contract.json").read_text(encoding="utf-8")
        self.contract = contract or json.loads(text)
        self._remove = re.compile(self.contract["text"]["normalisation"]["remove"])
        self._opened: dict[str, Any] = {}
        self._opening = threading.RLock()

    @property
    def tokenizer(self) -> Any:  # noqa: ANN401 - it has no types
        """The tokenizer, which cuts texts that are too long."""
        from tokenizers import Tokenizer  # noqa: PLC0415 - the vision side needs none

        with self._opening:
            if "tokenizer" not in self._opened:
                tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
                tokenizer.no_padding()
                tokenizer.enable_truncation(self.contract["text"]["max_tokens"])
                self._opened["tokenizer"] = tokenizer
            return self._opened["tokenizer"]

    def session(self, name: str) -> Any:  # noqa: ANN401
        """Return the onnxruntime session of ``text.onnx`` or ``vision.onnx``."""
        import onnxruntime  # noqa: PLC0415 - heavy

        with self._opening:
            if name not in self._opened:
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads, options.log_severity_level = self.threads, 3
                options.add_session_config_entry("session.intra_op.allow_spinning", "0")
                path = str(self.folder / name)
                self._opened[name] = onnxruntime.InferenceSession(
                    path, options, providers=["CPUExecutionProvider"]
                )
            return self._opened[name]

    def run(self, name: str, inputs: dict[str, npt.NDArray[Any]]) -> Floats:
        """Return the vectors of ``text.onnx`` or ``vision.onnx``."""
        vectors: Floats = self.session(name).run([OUTPUT], inputs)[0]
        return vectors

    def ids(self, text: str) -> list[int]:
        """Normalise a text as the contract says, and return its token ids."""
        rules = self.contract["text"]
        text = unicodedata.normalize(rules["normalisation"]["form"], self._remove.sub("", text))
        text = rules["prefix"] + in_case(text, rules["case"])
        return list(self.tokenizer.encode(text.lower() if rules["lower_case"] else text).ids)

    def encode_text(self, texts: Sequence[str]) -> Floats:
        """Return unit vectors float32 [N, D] of N texts."""
        ids = [self.ids(text) for text in texts]
        vectors = np.empty((len(ids), self.contract["dim"]), np.float32)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for rows in (order[at : at + AT_ONCE] for at in range(0, len(order), AT_ONCE)):
            shape = len(rows), len(ids[rows[-1]])
            padded = np.full(shape, self.contract["text"]["pad"], np.int64)
            mask = np.zeros(shape, bool)
            for line, row in enumerate(rows):
                padded[line, : len(ids[row])], mask[line, : len(ids[row])] = ids[row], True
            vectors[rows] = self.run("text.onnx", {"ids": padded, "mask": mask})
        return vectors

    def encode_frames(self, frames: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> Floats:
        """Return unit vectors float32 [N, D] of frames uint8 [N, F, size, size, 3]."""
        return self.run("vision.onnx", {"frames": frames, "mask": mask})

    def encode_images(self, paths: Sequence[str | Path]) -> Floats:
        """Return unit vectors float32 [N, D] of N image files, for trusted files."""
        frames = np.stack([self._square(path) for path in paths])[:, None]
        return self.encode_frames(frames, np.ones(frames.shape[:2], bool))

    def _square(self, path: str | Path) -> npt.NDArray[np.uint8]:
        from PIL import Image, ImageOps  # noqa: PLC0415 - of image files alone

        how = self.contract["vision"]["preprocess"]
        image = ImageOps.exif_transpose(Image.open(path, formats=_FORMATS))
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        image, side, size = image.convert("RGB"), how["size"], (how["size"], how["size"])
        if not how.get("stretch"):
            short, wanted = min(image.size), how["shorter_side"]
            image = _centre(image, *(min(one, 3 * short) for one in image.size))  # of a long strip
            size = tuple(wanted * one // short for one in image.size)
        if image.size != size:
            resample = Image.Resampling[how["resample"].upper()]
            image = image.resize(size, resample, reducing_gap=3.0)
        return np.asarray(_centre(image, side, side))


def _centre(image: Any, width: int, height: int) -> Any:  # noqa: ANN401 - of Pillow
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def in_case(text: str, rule: str) -> str:
    """Return a query in the case of training: ``keep``, ``capitals`` or ``lower``.

    ``cl2cm.text.in_case`` does the same; a test compares them.
    """
    letters = [letter for letter in text if letter.lower() != letter.upper()]
    all_capitals = len(letters) > 1 and not any(letter != letter.upper() for letter in letters)
    if rule == "keep" or (rule == "capitals" and not all_capitals):
        return text
    lowered = text.replace("I", "\u0131") if _TURKISH.search(text) else text
    lowered = lowered.replace("\u0130", "i").lower()
    if all_capitals:
        return lowered
    first = next((place for place, letter in enumerate(text) if letter.isalpha()), 0)
    return text[:first] + lowered[first : first + 1] + text[first + 1 :]
