"""What the tests of strangers' indexes share: a socket that must stay silent, and forged files."""

import hashlib
import json
import socket
import threading
from contextlib import contextmanager

import numpy as np

from cl2cm.index import Index
from cl2cm.types import Item


class Silent:
    """A listening socket; ``heard`` is what anyone sent to it, ``called`` who connected."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.called, self.heard = 0, b""
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.called += 1
            with connection:
                connection.settimeout(0.3)
                try:
                    self.heard += connection.recv(65536)
                    connection.sendall(self.answer())
                    self.heard += connection.recv(65536)
                except OSError:
                    pass

    def answer(self):
        return b"HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n"

    def close(self):
        self._socket.close()


@contextmanager
def listening(kind=Silent):
    server = kind()
    try:
        yield server
    finally:
        server.close()


def unit(n, d=8):
    values = np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def make_index(path, n=10, **changes):
    """An index of our own, closed."""
    values = {"vectors": unit(n), "items": [Item(f"{i}.png", "") for i in range(n)]}
    values |= {"model": "m", "run": path.parent / "run"} | changes
    Index.create(path, **values).close()
    return path


def head_of(path):
    return json.loads((path / "index.json").read_text())


def write_head(path, **changes):
    """Change a head as a stranger would, who has no key."""
    head = head_of(path) | changes
    (path / "index.json").write_text(
        json.dumps({key: value for key, value in head.items() if value is not ...})
    )


def the_file(path, kind):
    return path / head_of(path)["files"][kind]["name"]


def forge(path, kind, content):
    """Replace a data file, with a head that fits it."""
    file = the_file(path, kind)
    if isinstance(content, bytes):
        file.write_bytes(content)
    files = head_of(path)["files"]
    files[kind] |= {
        "bytes": file.stat().st_size,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    write_head(path, files=files)


def forge_server(path, backend, url, name="cl2cm_00000000"):
    """Turn an index into one whose vectors a server is said to hold."""
    place = path / "place-00000000.json"
    place.write_text(json.dumps({"backend": backend, "url": url, "name": name}))
    files = {"place": {"name": place.name, "bytes": place.stat().st_size, "sha256": "0"}}
    if backend == "qdrant":
        files |= head_of(path)["files"]
    write_head(path, backend=backend, url=url, files=files)
    return place
