"""The process that listens, and what it says when it cannot."""

import json
import socket
import subprocess
import sys
import threading
import urllib.request

import pytest

from cl2cm.errors import ConfigError, MissingExtraError
from cl2cm.serve import create_app, run
from cl2cm.serve.media import Thumbnails
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
    with urllib.request.urlopen(addresses[0] + "api/health", timeout=5) as answer:
        assert json.load(answer)["items"] == 3
        assert "server" not in answer.headers
    servers[0].should_exit = True
    thread.join(10)
    assert not thread.is_alive()


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


def test_thumbnails_are_kept_within_bounds_and_the_last_used_stay(pictures, monkeypatch):
    from cl2cm.serve import media

    made = []
    shrink = media.shrink
    monkeypatch.setattr(
        media, "shrink", lambda path, *rest: (made.append(path.stem), shrink(path, *rest))[1]
    )
    one = len(shrink(pictures / "red.png", 320, "red")[0])
    thumbnails = Thumbnails(cache_bytes=int(one * 2.5))
    for name in ("red", "green", "red", "blue", "red", "green"):
        thumbnails.get(pictures / f"{name}.png", 320)
    assert made == ["red", "green", "blue", "green"]
