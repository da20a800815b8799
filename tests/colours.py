"""A small collection of coloured pictures, and a model that knows colours by name."""

import contextlib
import threading
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from cl2cm.data.scan import scan_folder
from cl2cm.errors import MediaError
from cl2cm.index.update.build import build_index
from cl2cm.search.searcher import Searcher

COLOURS = {
    "red": (230, 30, 30),
    "rot": (230, 30, 30),
    "rouge": (230, 30, 30),
    "rojo": (230, 30, 30),
    "أحمر": (230, 30, 30),
    "红": (230, 30, 30),
    "green": (30, 200, 30),
    "blue": (40, 60, 230),
}


class ColourModel:
    """Each word is its colour, a text the mean of its words; what it does not know is grey."""

    fingerprint = "colour-model"
    dim = 4

    def __init__(self):
        self.batches = []

    def encode_text(self, texts):
        self.batches.append(len(texts))
        return np.stack([self._unit(self._mean(text)) for text in texts])

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
    def _mean(text):
        return np.mean([COLOURS.get(word, (90, 90, 90)) for word in text.split()], axis=0)

    @staticmethod
    def _unit(colour):
        vector = np.array([*colour, 20], np.float32)
        return vector / np.linalg.norm(vector)


def write_colours(folder: Path) -> Path:
    folder.mkdir()
    for name in ("red", "green", "blue"):
        Image.new("RGB", (900, 600), COLOURS[name]).save(folder / f"{name}.png")
    return folder


def searcher_of(pictures: Path, examples=None) -> Searcher:
    """Index pictures beside their folder."""
    home = pictures.parent
    examples = examples or scan_folder(pictures)
    index = build_index(ColourModel(), examples, home / "index", run=home / "run")
    return Searcher(ColourModel(), index)


@contextlib.contextmanager
def served(app, limits=None):
    """Serve an app on a free port of loopback; gives its address."""
    from cl2cm.serve import Limits
    from cl2cm.serve.server import configure, listen, uvicorn

    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(configure(app, limits or Limits()))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


class Page(HTMLParser):
    """What matters of a page: its links, its scripts and styles, its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.stack = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.stack.append(tag)

    def handle_endtag(self, tag):
        while tag in self.stack and self.stack.pop() != tag:
            pass

    def handle_data(self, data):
        if self.stack and self.stack[-1] in ("script", "style"):
            raise AssertionError(f"inline {self.stack[-1]}: {data!r}")
        self.text.append(data)

    def all(self, tag, **wanted):
        return [
            attributes
            for name, attributes in self.tags
            if name == tag and all(attributes.get(key) == value for key, value in wanted.items())
        ]

    def cards(self):
        return [tag["href"] for tag in self.all("a") if tag.get("class") == "open"]
