"""The process that listens, and what it says when it cannot."""

import io
import json
import socket
import subprocess
import sys
import threading
import urllib.request

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from cl2cm.errors import ConfigError, MissingExtraError
from cl2cm.serve import create_app, media, run
from cl2cm.serve.media import Thumbnails, shrink
from cl2cm.serve.server import _Server, listen


def test_a_taken_port_is_named(make_searcher):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port}.*already in use.*--port"):
            run(make_searcher(), port=port)


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 65536), ("127.0.0.1", -1), ("203.0.113.9", 0)]
)
def test_an_impossible_address_is_refused(host, port):
    with pytest.raises(ConfigError):
        listen(host, port)


def test_it_answers_once_it_says_so(make_searcher, monkeypatch):
    ready, servers, addresses = threading.Event(), [], []
    startup = _Server.startup

    async def remember(self, sockets=None):
        self.install_signal_handlers = lambda: None
        servers.append(self)
        await startup(self, sockets)

    monkeypatch.setattr(_Server, "startup", remember)
    thread = threading.Thread(
        target=run,
        args=(make_searcher(),),
        kwargs={"port": 0, "on_ready": lambda address: (addresses.append(address), ready.set())},
    )
    thread.start()
    assert ready.wait(10)
    with urllib.request.urlopen(addresses[0] + "api/health", timeout=30) as answer:
        assert json.load(answer)["items"] == 3
        assert "server" not in answer.headers
    servers[0].should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def test_further_names_are_as_people_write_them(make_searcher, monkeypatch):
    apps = []
    monkeypatch.setattr("cl2cm.serve.server.serve", lambda app, **_: apps.append(app))
    run(make_searcher(), names=["Search.Example.ORG:8443", " proxy "])
    for host in ("search.example.org", "SEARCH.example.org:8443", "proxy"):
        assert TestClient(apps[0]).get("/api/health", headers={"host": host}).status_code == 200
    assert TestClient(apps[0]).get("/api/health", headers={"host": "other"}).status_code == 421


def test_thumbnails_and_uploads_have_decoders_of_their_own():
    pools = [media.decoders("thumbnails"), media.decoders("uploads")]
    assert pools[0] is not pools[1]
    assert media.decoders("uploads") is pools[1]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "I;16", "RGB", "RGBA", "CMYK"])
def test_every_kind_of_picture_becomes_small_and_upright(mode, tmp_path):
    file, turn = io.BytesIO(), Image.Exif()
    turn[0x0112] = 6
    kind = "TIFF" if mode in ("PA", "CMYK") else "PNG"
    source = Image.new("RGBA", (400, 200), (250, 10, 10, 255))
    if mode == "I;16":
        source = Image.new("I;16", (400, 200), 60_000)
    elif mode == "PA":
        source = source.convert("P").convert("PA")
    else:
        source = source.convert(mode)
    if mode == "PA":
        source, kind = source.convert("RGBA"), "PNG"
    source.save(file, kind, exif=turn)
    (tmp_path / "x").write_bytes(file.getvalue())
    small, media_type = shrink(tmp_path / "x", 100, "x")
    picture = Image.open(io.BytesIO(small))
    assert picture.size == (50, 100)
    assert media_type == ("image/png" if picture.mode == "RGBA" else "image/jpeg")


@pytest.mark.parametrize(
    "package", ["fastapi", "uvicorn", "jinja2", "python_multipart", "prometheus_client"]
)
def test_a_missing_extra_names_the_install_line(make_searcher, monkeypatch, package):
    searcher = make_searcher()
    monkeypatch.setitem(sys.modules, package, None)
    for start in (create_app, run):
        with pytest.raises(MissingExtraError, match=r"pip install 'cl2cm\[serve\]'"):
            start(searcher)


def test_importing_the_service_loads_no_framework():
    code = "import sys, cl2cm.serve; print({'fastapi', 'torch', 'PIL'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_thumbnails_are_kept_within_bounds_and_the_last_used_stay():
    made = []
    thumbnails = Thumbnails(cache_bytes=25)
    for name in ("red", "green", "red", "blue", "red", "green"):
        thumbnails.get(name, lambda name=name: (made.append(name), (b"0" * 10, "image/png"))[1])
    assert made == ["red", "green", "blue", "green"]
