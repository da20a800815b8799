"""A small collection of coloured pictures and a model that knows colours by name."""

import numpy as np
import pytest
from PIL import Image

from cl2cm.errors import MediaError
from cl2cm.search import Searcher, build_index, scan_folder

COLOURS = {
    "red": (230, 30, 30),
    "rot": (230, 30, 30),
    "أحمر": (230, 30, 30),
    "红": (230, 30, 30),
    "green": (30, 200, 30),
    "blue": (40, 60, 230),
}


class ColourModel:
    fingerprint = "colour-model"
    dim = 4

    def encode_text(self, texts):
        return np.stack([self._unit(COLOURS.get(text, (90, 90, 90))) for text in texts])

    def encode_visual(self, paths):
        vectors = []
        for path in paths:
            try:
                with Image.open(path) as picture:
                    pixel = picture.convert("RGB").resize((1, 1)).getpixel((0, 0))
            except OSError as error:
                raise MediaError(
                    str(path), expected="a picture", found="none", remedy="remove it"
                ) from error
            vectors.append(self._unit(pixel))
        return np.stack(vectors)

    @staticmethod
    def _unit(colour):
        vector = np.array([*colour, 20], np.float32)
        return vector / np.linalg.norm(vector)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("red", "green", "blue"):
        Image.new("RGB", (900, 600), COLOURS[name]).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def make_searcher(tmp_path, pictures):
    def make(examples=None):
        examples = examples or scan_folder(pictures)
        index = build_index(ColourModel(), examples, tmp_path / "index", run=tmp_path / "run")
        return Searcher(ColourModel(), index)

    return make
