"""Files of items: ranges, conditions, and what is exchanged while it is read."""

import os
import threading
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from cl2cm.serve import create_app
from cl2cm.serve.files import parse_range


@pytest.fixture
def client(make_searcher):
    return TestClient(create_app(make_searcher()))


@pytest.mark.parametrize(
    ("header", "size", "found"),
    [("bytes=0-0", 10, (0, 1)), ("bytes=2-5", 10, (2, 6)), ("bytes=2-", 10, (2, 10)),
     ("bytes=-3", 10, (7, 10)), ("bytes=-30", 10, (0, 10)), ("bytes=5-99", 10, (5, 10)),
     ("Bytes= 1-2", 10, (1, 3)), ("bytes=10-", 10, (10, 10)), ("bytes=11-12", 10, (11, 10)),
     ("bytes=-0", 10, (10, 10)), ("bytes=0-", 0, (0, 0)),
     ("bytes=5-2", 10, None), ("bytes=-", 10, None), ("bytes=", 10, None), ("bytes", 10, None),
     ("items=0-1", 10, None), ("bytes=0-1,3-4", 10, None), ("bytes=" + "0-1," * 999, 10, None),
     ("bytes=a-b", 10, None), ("bytes=+1-2", 10, None), ("bytes=1--2", 10, None),
     ("bytes=" + "9" * 5000 + "-", 10, None), ("bytes=٣-٤", 10, None), ("bytes=0x1-2", 10, None)],
)  # fmt: skip
def test_ranges(header, size, found):
    assert parse_range(header, size) == found


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_range_is_sent_where_the_client_has_the_same_file(client, pictures, method):
    content = (pictures / "red.png").read_bytes()
    whole = client.get("/media?id=red.png")
    assert whole.headers["content-length"] == str(len(content))
    cases = [
        ({}, 206), ({"if-range": whole.headers["etag"]}, 206),
        ({"if-range": whole.headers["last-modified"]}, 206), ({"if-range": '"x"'}, 200),
        ({"if-range": "Mon, 01 Jan 2001 00:00:00 GMT"}, 200),
        ({"if-none-match": whole.headers["etag"]}, 304),
        ({"if-modified-since": whole.headers["last-modified"]}, 304),
        ({"if-modified-since": "Mon, 01 Jan 2001 00:00:00 GMT"}, 206),
        ({"if-modified-since": "nonsense"}, 206),
    ]  # fmt: skip
    for headers, status in cases:
        answer = client.request(
            method, "/media?id=red.png", headers={"range": "bytes=3-7", **headers}
        )
        assert answer.status_code == status, headers
        expected = {206: content[3:8], 200: content, 304: b""}[status]
        assert answer.content == (expected if method == "GET" else b"")
        if status == 206:
            assert answer.headers["content-range"] == f"bytes 3-7/{len(content)}"
            assert answer.headers["content-length"] == "5"
    answer = client.get("/media?id=red.png", headers={"range": "bytes=999999-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(content)}")


def unshown(client, name):
    answers = []
    for kind in ("media", "thumb", "api/v1/media", "api/v1/thumbnail"):
        answer = client.get(f"/{kind}?id={name}")
        assert answer.status_code == 404
        answers.append(answer.text)
    return set(answers)


def test_no_answer_tells_what_exists_elsewhere(client, pictures, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes((pictures / "blue.png").read_bytes())
    red, told = pictures / "red.png", []
    for change in (
        lambda: None,
        lambda: red.symlink_to(secret),
        lambda: red.symlink_to(tmp_path / "nothing"),
        lambda: red.symlink_to("/etc/shadow"),
        lambda: os.mkfifo(red),
        red.mkdir,
        lambda: red.write_text("root:x:0:0"),
        lambda: red.write_bytes(b""),
    ):
        if red.is_dir() and not red.is_symlink():
            red.rmdir()
        else:
            red.unlink(missing_ok=True)
        change()
        told.append(unshown(client, "red.png"))
    assert all(texts == told[0] for texts in told)
    assert len(told[0]) == 1


def test_what_is_exchanged_while_it_is_read_never_leads_out(client, pictures, tmp_path):
    secret, good = b"\x89PNG\r\n\x1a\nsecret", (pictures / "red.png").read_bytes()
    (tmp_path / "secret.png").write_bytes(secret)
    (pictures / "good.png").write_bytes(good)
    stop = threading.Event()

    def exchange():
        while not stop.is_set():
            for target in (tmp_path / "secret.png", pictures / "good.png"):
                new = pictures / "new.png"
                if target.parent == tmp_path:
                    new.symlink_to(target)
                else:
                    os.link(target, new)
                new.replace(pictures / "red.png")

    thread = threading.Thread(target=exchange)
    thread.start()
    seen = set()
    try:
        for _ in range(300):
            answer = client.get("/media?id=red.png")
            seen.add(answer.content if answer.status_code == 200 else b"")
    finally:
        stop.set()
        thread.join()
    assert seen <= {good, b""}


def test_descriptors_are_closed(client, pictures):
    def count():
        return len(list(Path("/proc/self/fd").iterdir()))

    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc")
    for kind in ("media", "thumb"):  # starts threads and decoders
        client.get(f"/{kind}?id=red.png")
    before = count()
    for headers in ({}, {"range": "bytes=0-1"}, {"range": "bytes=9999999-"},
                    {"if-none-match": "*"}):  # fmt: skip
        client.get("/media?id=red.png", headers=headers)
        client.head("/media?id=red.png", headers=headers)
        client.get("/thumb?id=red.png", headers=headers)
    (pictures / "green.png").write_text("no image")
    client.get("/media?id=green.png")
    assert count() <= before
