"""Connections: clients that are slow, many, or send what is no HTTP."""

import contextlib
import http.client
import logging
import socket
import threading
import time

import pytest
from fastapi.testclient import TestClient
from starlette.datastructures import Headers

from cl2cm.serve import Limits, create_app
from cl2cm.serve.origin import client_of, is_own_host, read_proxies
from fixtures.colours import searcher_of, served, write_colours

TOKEN = "a-secret-of-many-letters"
POST = (b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: 100\r\n\r\ntoken=")  # fmt: skip


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    searcher = searcher_of(write_colours(tmp_path_factory.mktemp("home") / "pictures"))
    TestClient(create_app(searcher)).get("/?q=red")  # loads what is loaded once
    return searcher


def where(address):
    host, _, port = address.removeprefix("http://").partition(":")
    return host, int(port)


@contextlib.contextmanager
def connections(address, number, sent=b""):
    """Open connections that send a little and then nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            connection = stack.enter_context(socket.create_connection(where(address), timeout=30))
            with contextlib.suppress(OSError):
                connection.sendall(sent)
        yield


def asked(address, path="/api/v1/search?q=red", token=TOKEN):
    connection = http.client.HTTPConnection(*where(address), timeout=30)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nA: ", POST,
     POST.replace(b"Content-Length: 100", b"Transfer-Encoding: chunked"),
     b"POST /picture HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\nx",
     b"GET /media?id=red.png HTTP/1.1\r\nHost: x\r\n\r\nGET /"],
)  # fmt: skip
@pytest.mark.parametrize("token", [TOKEN, None])
def test_however_many_clients_sit_there_a_search_is_answered(searcher, sent, token):
    limits = Limits(connections=24, concurrent=8, open=4, uploading=4)
    with (
        served(create_app(searcher, token=token, limits=limits), limits) as address,
        connections(address, 60, sent),
    ):
        for _ in range(3):
            begin = time.monotonic()
            assert asked(address) == 200
            assert time.monotonic() - begin < 4
        if token:
            assert asked(address, "/sign-in", "x") == 200


def test_slow_small_bodies_are_ended_and_do_not_count(searcher):
    limits = Limits(body_seconds=0.3, open=2)
    with served(create_app(searcher, token=TOKEN, limits=limits), limits) as address:
        answers = []

        def send():
            with socket.create_connection(where(address), timeout=30) as connection:
                connection.sendall(POST)
                answers.append(connection.recv(4096))

        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        assert asked(address, "/sign-in", "x") == 200
        for thread in threads:
            thread.join()
        assert all(b" 408 " in answer[:30] and b"onnection: close" in answer for answer in answers)


def test_slow_uploads_are_ended(searcher):
    limits = Limits(body_seconds=0.3)
    with (
        served(create_app(searcher, limits=limits), limits) as address,
        socket.create_connection(where(address), timeout=30) as connection,
    ):
        connection.sendall(b"POST /picture HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n"
                           b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n")  # fmt: skip
        assert b" 408 " in connection.recv(4096)[:30]


def test_requests_that_do_not_wait_for_answers_are_answered_once(searcher):
    with (
        served(create_app(searcher)) as address,
        socket.create_connection(where(address), timeout=30) as connection,
    ):
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET /static/page.css HTTP/1.1\r\nHost: x\r\n\r\n" * 300)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65536):
                answer += part
        assert answer.count(b"HTTP/1.1 200") <= 1
        assert asked(address) == 200


def test_several_requests_one_after_the_other_share_a_connection(searcher):
    with served(create_app(searcher)) as address:
        connection = http.client.HTTPConnection(*where(address), timeout=30)
        connection.connect()
        first = connection.sock
        for _ in range(5):
            connection.request("GET", "/static/page.css")
            assert connection.getresponse().read()
        assert connection.sock is first
        connection.close()


BROKEN = [
    b"POST /api/v1/search HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n\r\nzz\r\n\r\n",
    b"POST /sign-in HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZ\r\n",
    b"POST /sign-in HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX\r\n",
    b"GET /item HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
    b"POST /picture HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"1\r\nx\r\n" * 5000,
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n" + b"y" * 4096,
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"GET /\x1b[31m HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x00" * 500,
    b"\r\n\r\n\r\n",
    b"GET http://evil.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.mark.parametrize(
    "head",
    [
        "GET /static/page.css HTTP/1.1\nHost: x\n\n",
        "GET /static/page.css HTTP/1.1\r\nHost: x\r\nA: b\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
        "GET /static/page.css HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4,\r\n 10.0.0.1\r\n\r\n",
        "POST /sign-out HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\t2\r\n\r\nab",
        "POST /sign-out HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("pieces", [1, 1000])
def test_a_head_that_may_be_read_in_two_ways_is_refused(searcher, head, pieces):
    with (
        served(create_app(searcher)) as address,
        socket.create_connection(where(address), timeout=30) as connection,
    ):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            step = max(1, len(head) // pieces)
            for start in range(0, len(head), step):
                connection.sendall(head[start : start + step].encode())
        answer, was_reset = b"", False
        try:
            while part := connection.recv(65536):
                answer += part
        except ConnectionResetError:  # closed while we still sent: the system drops its answer
            was_reset = True
        assert answer.startswith(b"HTTP/1.1 400 ") or (was_reset and not answer)
        assert answer.count(b"HTTP/1.1") <= 1


def test_line_ends_of_a_body_are_its_own(searcher):
    body = "token=a\n b\n\tc"
    sent = f"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    with served(create_app(searcher, token=TOKEN)) as address:
        for pieces in (1, 2):
            with socket.create_connection(where(address), timeout=30) as connection:
                for n in range(pieces):
                    size = len(sent) // pieces + 1
                    connection.sendall(sent[n * size :][:size].encode())
                assert connection.recv(20).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("sent", BROKEN)
@pytest.mark.parametrize("ends", [True, False])
def test_what_is_no_http_is_refused_without_a_word_in_the_log(searcher, sent, ends, caplog, capfd):
    limits = Limits(header_seconds=0.3, body_seconds=0.3, seconds=5)
    errors = logging.getLogger("uvicorn.error")
    errors.addHandler(caplog.handler)
    with served(create_app(searcher, limits=limits), limits) as address:
        with socket.create_connection(where(address), timeout=30) as connection:
            answer = b""
            with contextlib.suppress(ConnectionError):
                connection.sendall(sent)
                if ends:
                    connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(65536):
                    answer += part
        assert b"HTTP/1.1 5" not in answer
        if answer:
            assert b"nosniff" in answer
        assert asked(address) == 200
    errors.removeHandler(caplog.handler)
    assert caplog.text == ""
    assert "Traceback" not in capfd.readouterr().err


def test_many_small_chunks_do_not_hold_up_others(searcher):
    head = b"POST /sign-in HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with served(create_app(searcher, token=TOKEN)) as address:
        assert asked(address) == 200
        begin = time.monotonic()
        with connections(address, 20, head + b"1\r\nx\r\n" * 40_000):
            assert asked(address) == 200
        assert time.monotonic() - begin < 2


def test_a_large_enough_file_that_shrinks_ends_the_connection_only(searcher, capfd):
    pictures = searcher.index.path.parent / "pictures"
    big = pictures / "green.png"
    big.write_bytes(big.read_bytes() + b"\0" * 30 * 2**20)
    with (
        served(create_app(searcher)) as address,
        socket.create_connection(where(address), timeout=30) as connection,
    ):
        connection.sendall(b"GET /media?id=green.png HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.recv(1000)
        with big.open("r+b") as file:
            file.truncate(2000)
        got = 0
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(2**20):
                got += len(part)
        assert got < 30 * 2**20
        assert asked(address) == 200
    assert "Traceback" not in capfd.readouterr().err


# --- where clients come from ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "client"),
    [("203.0.113.1", "198.51.100.7", [], "203.0.113.1"),
     ("203.0.113.1", "198.51.100.7", ["10.0.0.0/8"], "203.0.113.1"),
     ("10.1.1.1", "198.51.100.7", ["10.0.0.0/8"], "198.51.100.7"),
     ("10.1.1.1", "1.1.1.1, 198.51.100.7, 10.2.2.2", ["10.0.0.0/8"], "198.51.100.7"),
     ("10.1.1.1", "evil, 10.2.2.2", ["10.0.0.0/8"], "10.2.2.2"),
     ("10.1.1.1", "", ["10.0.0.0/8"], "10.1.1.1"),
     ("::1", "2001:db8:1:2:3::4", ["::1"], "2001:db8:1:2::"),
     ("2001:db8:1:2:ffff::9", "", [], "2001:db8:1:2::"), ("::ffff:1.2.3.4", "", [], "1.2.3.4"),
     ("testclient", "1.1.1.1", ["10.0.0.0/8"], "testclient")],
)  # fmt: skip
def test_a_client_is_who_connects_or_whom_the_operators_proxy_names(
    peer, forwarded, proxies, client
):
    headers = Headers({"x-forwarded-for": forwarded})
    assert client_of({"client": (peer, 1)}, headers, read_proxies(proxies)) == client


def test_a_service_on_any_address_knows_its_names():
    scope = {"server": ("192.0.2.5", 8000)}
    hosts = ("localhost", "search.example")
    for host in ("192.0.2.5:8000", "localhost:1", "search.example", "SEARCH.example.:443"):
        assert is_own_host(scope, host, hosts)
    for host in ("evil.example", "192.0.2.6", "search.example.evil", "", "192.0.2.5.evil.example"):
        assert not is_own_host(scope, host, hosts)


def test_no_bind_address_takes_any_host(searcher, monkeypatch):
    from cl2cm.serve import run

    apps = []
    monkeypatch.setattr("cl2cm.serve.server.serve", lambda app, **_: apps.append(app))
    for host in ("0.0.0.0", "::", "192.0.2.5", "127.0.0.1"):
        run(searcher, host=host)
        client = TestClient(apps[-1])
        assert client.get("/api/health", headers={"host": "evil.example"}).status_code == 421
        assert client.get("/api/health", headers={"host": "localhost"}).status_code == 200
