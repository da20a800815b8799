"""What strangers try: each is refused, or does nothing."""

import json
import os
import socket
import struct
import threading
import time
import urllib.request
import zlib
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, settings

from cl2cm.data.scan import scan_folder
from cl2cm.serve import Limits, create_app
from fixtures.colours import Page, searcher_of, served, write_colours

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;{{ 7*7 }}"
PATHS = (
    "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd",
    "....//....//etc/passwd", "red.png/../../index.json", "red.png%00.txt", "C:%5Cboot.ini",
    "..%5c..%5cindex.json", "file:///etc/passwd", "%252e%252e%252fetc%252fpasswd", ".", "..", "",
    "~/.ssh/id_rsa", "index.json", "../index/index.json", "%c0%ae%c0%ae/etc/passwd", "a" * 4000,
    "%ff%fe", "red.png ", "RED.PNG", "*", "red.png'--", "' OR 1=1 --",
)  # fmt: skip


@pytest.fixture
def pictures(tmp_path):
    return write_colours(tmp_path / "pictures")


@pytest.fixture
def make_app(pictures):
    def make(examples=None, examples_=(), **settings_):
        return create_app(searcher_of(pictures, examples), examples=examples_, **settings_)

    return make


@pytest.fixture
def client(make_app):
    return TestClient(make_app())


# --- the whole document, with made-up values ------------------------------------------------------


def test_no_request_that_fits_the_document_or_does_not_is_an_error_of_ours(make_app):
    schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")
    app = make_app(align=lambda a, b: {"side": "x", "source": [a], "target": [b], "links": [],
                                       "strength": [[0.5]]})  # fmt: skip
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app)
    answered = []
    for operation in schema.get_all_operations():
        answered += statuses_of(operation.ok())
    assert len(answered) > 100
    assert 200 in answered


def test_without_the_token_no_such_request_is_answered(make_app):
    schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")
    document = make_app().openapi()
    schema = schemathesis.openapi.from_dict(document)
    schema.app = make_app(token="a-secret-of-many-letters")
    for operation in schema.get_all_operations():
        open_ = operation.ok().path == "/api/v1/health"
        assert set(statuses_of(operation.ok())) <= ({200, 400} if open_ else {400, 401, 413, 414})


def statuses_of(operation):
    from hypothesis import given
    from schemathesis.checks import not_a_server_error

    answered = []

    @settings(max_examples=25, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=operation.as_strategy())
    def ask(case):
        response = case.call()
        answered.append(response.status_code)
        case.validate_response(response, checks=[not_a_server_error])

    ask()
    return answered


# --- files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["media", "thumb", "item", "api/v1/media", "api/v1/thumbnail",
                                   "api/v1/item", "picture"])  # fmt: skip
def test_only_items_of_the_index_are_served(client, route):
    for path in PATHS:
        name = "name" if route == "picture" else "id"
        for address in (f"/{route}?{name}={path}", f"/{route}/{path}x"):
            answer = client.get(address)
            assert answer.status_code in (400, 404, 422), address
            assert "root:" not in answer.text
            assert "cl2cm-index" not in answer.text


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "%2e%2e%2fapp.py", "page.html", ""])
def test_only_the_files_of_the_page_are_static(client, name):
    assert client.get(f"/static/{name}").status_code == 404


def test_links_out_of_the_folder_are_neither_indexed_nor_followed(pictures, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key.png").write_bytes((pictures / "red.png").read_bytes())
    (pictures / "out.png").symlink_to(secret / "key.png")
    (pictures / "album").symlink_to(secret)
    client = TestClient(create_app(searcher_of(pictures)))
    found = client.get("/api/v1/search?q=red&k=100").json()["hits"]
    assert {hit["id"] for hit in found} == {"red.png", "green.png", "blue.png"}
    for path in ("out.png", "album/key.png"):
        assert client.get("/media", params={"id": path}).status_code == 404


def test_a_file_that_is_no_picture_is_not_served(client, pictures, tmp_path):
    (tmp_path / "secret").write_text("root:x:0:0")
    (pictures / "blue.png").unlink()
    (pictures / "blue.png").symlink_to(tmp_path / "secret")
    (pictures / "green.png").write_text("<html><script>alert(1)</script></html>")
    (pictures / "red.png").unlink()
    for name in ("blue", "green", "red"):
        for kind in ("media", "thumb"):
            answer = client.get(f"/{kind}?id={name}.png")
            assert answer.status_code == 404
            assert "root" not in answer.text
            assert str(pictures) not in answer.text


# --- what is shown --------------------------------------------------------------------------------


def test_html_in_queries_captions_and_names_is_text(make_app, pictures):
    (pictures / "red.png").rename(pictures / "<b onclick=alert(1)>.png")
    examples = [
        replace(example, captions={} if "<b" in example.id else {EVIL: (EVIL,), "de": (EVIL,)})
        for example in scan_folder(pictures)
    ]

    def align(query, text):
        return {"side": "x", "source": [query], "target": [text], "strength": [[1.0]],
                "links": [{"source": 0, "target": 0, "strength": 1.0}]}  # fmt: skip

    app = make_app(examples, title=EVIL, examples_=[(EVIL, EVIL)], align=align)
    client = TestClient(app)
    q = quote(EVIL)
    paths = [f"/?q={q}", f"/?q={q}&page=9999", f"/?q=a+-%22{q}%22", f"/item?id={q}", f"/?like={q}",
             f"/item?id=green.png&q={q}", f"/align?id=green.png&q={q}&language=de", "/", "/api",
             f"/?picture={q}"]  # fmt: skip
    for path in paths:
        answer = client.get(path, headers={"accept-language": EVIL})
        page = Page(answer.text)
        assert {tag["src"].split("?")[0] for tag in page.all("script")} == {"/static/page.js"}
        assert all(tag["src"].startswith(("/thumb?", "/static/")) for tag in page.all("img")), path
        assert not page.all("b")
        assert not [tag for _, tag in page.tags if any(name.startswith("on") for name in tag)]
        assert all(tag["href"].startswith(("/", "#")) for tag in page.all("a"))
        assert "49" not in "".join(page.text)
    shown = Page(client.get(f"/?q={q}").text)
    assert EVIL in "".join(str(tag.get("value")) for tag in shown.all("input"))


@pytest.mark.parametrize(
    "path",
    ["/", "/?q=red", "/?q=red&page=0&k=x", "/item?id=red.png", "/api/v1/search?q=a", "/nowhere",
     "/api/v1/search", "/thumb?id=red.png", "/media?id=red.png", "/static/page.js", "/api"],
)  # fmt: skip
def test_every_answer_carries_the_policy(client, path):
    headers = client.get(path).headers
    rules = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert rules["default-src"] == "'none'"
    for kind in ("script-src", "style-src", "img-src", "media-src", "connect-src"):
        assert rules[kind] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_an_unexpected_error_tells_nothing_and_keeps_the_policy(pictures, monkeypatch):
    searcher = searcher_of(pictures)
    monkeypatch.setattr(searcher.model, "encode_text", lambda texts: 1 / 0, raising=False)
    client = TestClient(create_app(searcher), raise_server_exceptions=False)
    answer = client.get("/api/v1/search?q=red")
    assert answer.status_code == 500
    assert "division" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_other_methods_and_places_are_refused(client):
    assert client.put("/api/v1/search?q=x", content=b"x" * 10_000).status_code == 405
    assert client.delete("/media?id=red.png").status_code == 405
    for path in ("/docs", "/redoc", "/index.json", "/media", "/.git/config"):
        assert client.get(path).status_code in (404, 422)


# --- pictures that explode --------------------------------------------------------------------------


def bomb(side):
    """A PNG of a few hundred bytes that says that it has ``side`` times ``side`` pixels."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.mark.parametrize("side", [100_000, 10_100])
def test_a_decompression_bomb_is_refused(client, pictures, side):
    (pictures / "blue.png").write_bytes(bomb(side))
    answer = client.get("/thumb?id=blue.png")
    assert answer.status_code == 404
    assert "of at most 100 million pixels, found 10" in answer.json()["error"]
    for address in ("/api/v1/search", "/picture"):
        sent = client.post(address, files={"picture": ("x.png", bomb(side))})
        assert sent.status_code == 400
        assert "100 million pixels" in sent.text or "100 megapixels" in sent.text


# --- bodies and clients without end ----------------------------------------------------------------


FORM = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n'


def raw(address, head, pieces=(), pause=0.0, timeout=10.0):
    """Send bytes to a server; gives what it answered and how many bytes it took."""
    host, _, port = address.removeprefix("http://").partition(":")
    sent = 0
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        try:
            connection.sendall(head)
            for piece in pieces:
                connection.sendall(piece)
                sent += len(piece)
                time.sleep(pause)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except (ConnectionResetError, TimeoutError):
            pass
    return answer, sent


def test_a_gigabyte_is_not_taken(make_app):
    chunk = b"100000\r\n" + b"x" * 2**20 + b"\r\n"
    first = f"{len(FORM):x}\r\n".encode() + FORM + b"\r\n"
    head = (
        b"POST /api/v1/search HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    with served(make_app()) as address:
        before = memory()
        answer, sent = raw(address, head + first, (chunk for _ in range(1024)))
        assert sent < 200 * 2**20
        assert answer == b"" or b" 413 " in answer[:40]
        declared = head.replace(b"Transfer-Encoding: chunked", b"Content-Length: 1073741824")
        answer, sent = raw(address, declared, (b"x" * 2**20 for _ in range(1024)))
        assert b" 413 " in answer[:40] or sent < 200 * 2**20
        assert memory() - before < 120 * 2**20
        assert health(address) == 200


def memory():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def health(address):
    with urllib.request.urlopen(address + "/api/v1/health", timeout=30) as answer:
        return answer.status if json.load(answer)["status"] == "ok" else 0


def test_slow_clients_are_let_go_and_hold_up_nobody(make_app):
    limits = Limits(header_seconds=0.4, seconds=0.5)
    request = b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\n"
    body = (
        b"POST /api/v1/search HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + FORM
    )
    cases = [
        (b"", []),  # says nothing
        (b"GET /", [b"a"] * 100),  # never comes to the point
        (request, [b"X-A: b\r\n"] * 100),  # headers without end
        (request + b"\r\nGET /", [b"a"] * 100),  # the second request is slow
        (body, [b"-"] * 100),  # a letter at a time
    ]
    with served(make_app(limits=limits), limits) as address:
        ended = []

        def try_it(head, pieces):
            begin = time.monotonic()
            answer, _ = raw(address, head, pieces, pause=0.05)
            ended.append((time.monotonic() - begin, answer))

        threads = [threading.Thread(target=try_it, args=case) for case in cases for _ in range(3)]
        for thread in threads:
            thread.start()
        assert health(address) == 200
        for thread in threads:
            thread.join()
        assert len(ended) == 15
        assert max(seconds for seconds, _ in ended) < 4
        assert sum(b" 503 " in answer[:40] for _, answer in ended) == 3
        assert health(address) == 200


def test_a_client_that_does_not_read_is_let_go(make_app, pictures):
    big = pictures / "green.png"
    big.write_bytes(big.read_bytes() + b"\0" * 30 * 2**20)
    limits = Limits(seconds=0.5)
    with served(make_app(limits=limits), limits) as address:
        host, _, port = address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"GET /media?id=green.png HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(1.2)  # reads nothing
            got = 0
            try:
                while part := connection.recv(2**20):
                    got += len(part)
            except ConnectionResetError:
                pass
        assert got < 30 * 2**20
        assert health(address) == 200


def test_requests_that_are_no_http_are_refused(make_app):
    with served(make_app()) as address:
        for nonsense in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 9 + b"x y z\r\n\r\n",
                         b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 200_000 + b"\r\n\r\n",
                         b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"):  # fmt: skip
            answer, _ = raw(address, nonsense, timeout=0.4)
            assert b"HTTP/1.1 5" not in answer
        assert health(address) == 200
