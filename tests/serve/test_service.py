"""What keeps the service alive: batches, a new index, limits, tokens."""

import asyncio
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

import cl2cm.serve.collection
import cl2cm.serve.service
from cl2cm.data.scan import scan_folder
from cl2cm.errors import ConfigError, QueryError, StorageError
from cl2cm.index import Index
from cl2cm.index.update.build import build_index
from cl2cm.search.searcher import Searcher
from cl2cm.serve import Limits, create_app, read_token
from cl2cm.serve.batching import QueryBatcher
from cl2cm.serve.collection import Collection
from cl2cm.types import Item
from fixtures.colours import ColourModel, Page

# --- batches -----------------------------------------------------------------------------------


class SlowModel(ColourModel):
    """Takes as long for many texts as for one; refuses ``bad``."""

    def __init__(self, seconds=0.02):
        super().__init__()
        self.seconds = seconds
        self.threads = set()

    def encode_text(self, texts):
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds)
        if "bad" in texts:
            self.batches.append(len(texts))
            raise QueryError("query", expected="a word", found="bad", remedy="say another")
        return super().encode_text(texts)


def ask(encoder, model, texts):
    async def all_of_them():
        return await asyncio.gather(
            *[encoder.texts(model, [text]) for text in texts], return_exceptions=True
        )

    return asyncio.run(all_of_them())


def test_concurrent_queries_are_encoded_together_and_right():
    model, encoder = SlowModel(), QueryBatcher(16, 100)
    texts = [f"{name} {i}" for i in range(16) for name in ("red", "green")]
    found = ask(encoder, model, texts)
    encoder.stop()
    for text, vector in zip(texts, found, strict=True):
        np.testing.assert_array_equal(vector, ColourModel().encode_text([text]))
    assert sum(model.batches) == 32
    assert max(model.batches) == 16
    assert len(model.batches) <= 4
    assert len(model.threads) == 1


def test_a_query_that_comes_alone_does_not_wait():
    model, encoder = SlowModel(seconds=0), QueryBatcher(64, 100)
    ask(encoder, model, ["warm"])
    spent = []
    for i in range(20):
        begin = time.perf_counter()
        ask(encoder, model, [f"red {i}"])
        spent.append(time.perf_counter() - begin)
    encoder.stop()
    assert min(spent) < 0.05


def test_the_same_text_is_encoded_once():
    model, encoder = SlowModel(), QueryBatcher(8, 2)
    ask(encoder, model, ["red"] * 10)
    ask(encoder, model, ["red"])
    assert model.batches == [1]
    ask(encoder, model, ["a", "b", "c"])  # forget the oldest
    ask(encoder, model, ["red"])
    assert model.batches[-1] == 1
    assert sum(model.batches) == 5
    encoder.stop()


def test_a_bad_query_spoils_no_other():
    model, encoder = SlowModel(), QueryBatcher(8, 10)
    found = ask(encoder, model, ["red", "bad", "green"])
    assert isinstance(found[1], QueryError)
    np.testing.assert_array_equal(found[0], ColourModel().encode_text(["red"]))
    np.testing.assert_array_equal(found[2], ColourModel().encode_text(["green"]))
    encoder.stop()


def test_two_models_are_never_mixed():
    one, other, encoder = SlowModel(), SlowModel(), QueryBatcher(8, 100)
    other.fingerprint = "other"

    async def both():
        await asyncio.gather(
            *[encoder.texts(m, [t]) for t in ("red", "green", "blue") for m in (one, other)]
        )

    asyncio.run(both())
    assert sum(one.batches) == sum(other.batches) == 3
    encoder.stop()


# --- a new index ---------------------------------------------------------------------------------


def test_a_rebuilt_index_is_taken_and_requests_go_on(make_searcher, pictures):
    from PIL import Image

    searcher = make_searcher()
    with TestClient(create_app(searcher)) as client:
        assert client.get("/api/health").json()["items"] == 3
        Image.new("RGB", (9, 9), (250, 240, 10)).save(pictures / "yellow.png")
        failed, stop = [], threading.Event()

        def keep_asking():
            while not stop.is_set():
                answer = client.get("/api/v1/search?q=red")
                if answer.status_code != 200 or answer.json()["hits"][0]["id"] != "red.png":
                    failed.append(answer.text)

        asking = threading.Thread(target=keep_asking)
        asking.start()
        build_index(ColourModel(), scan_folder(pictures), searcher.index.path, run=pictures)
        deadline = time.monotonic() + 10
        while client.get("/api/health").json()["items"] != 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        stop.set()
        asking.join()
        assert client.get("/api/health").json()["items"] == 4
        assert failed == []
        assert client.get("/thumb?id=yellow.png").status_code == 200
        assert "cl2cm_reloads_total 1.0" in client.get("/api/v1/metrics").text


def test_an_unusable_new_index_is_not_taken(make_searcher, pictures, capsys):
    searcher = make_searcher()
    collection = Collection(searcher)
    assert not collection.refresh()
    head = searcher.index.path / "index.json"
    good = head.read_bytes()
    head.write_bytes(b"{")
    assert not collection.refresh()
    assert collection.searcher is searcher
    assert "the old one still is" in capsys.readouterr().err
    assert not collection.refresh()  # says it once
    assert capsys.readouterr().err == ""
    head.write_bytes(good)
    assert collection.refresh()


def test_what_could_not_be_used_is_tried_again_and_told_once(make_searcher, monkeypatch, capsys):
    searcher = make_searcher()
    collection = Collection(searcher)
    assert not collection.refresh()
    now, whole = [0.0], Index.open
    monkeypatch.setattr(cl2cm.serve.collection.time, "monotonic", lambda: now[0])

    def fails(path, allowed):
        raise StorageError(str(path), expected="a disk", found="none", remedy="wait")

    monkeypatch.setattr(Index, "open", fails)
    (searcher.index.path / "index.json").touch()
    for now[0] in (1.0, 2.0, 20.0):
        assert not collection.refresh()
    assert capsys.readouterr().err.count("the old one still is") == 1
    monkeypatch.setattr(Index, "open", whole)
    now[0] = 21.0
    assert not collection.refresh()  # it has not changed, and was tried just now
    now[0] = 40.0
    assert collection.refresh()
    assert not collection.refresh()


def test_the_watch_survives_whatever_goes_wrong(make_searcher, monkeypatch, capsys):
    monkeypatch.setattr(cl2cm.serve.service, "_WATCH_SECONDS", 0.01)
    looked = []

    def fails(self):
        looked.append(True)
        raise OSError("stale")

    monkeypatch.setattr(Collection, "refresh", fails)
    with TestClient(create_app(make_searcher())) as client:
        deadline = time.monotonic() + 10
        while len(looked) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert client.get("/api/health").status_code == 200
    assert "stale" in capsys.readouterr().err


def test_an_index_of_another_model_needs_its_model(make_searcher, pictures):
    searcher = make_searcher()
    path = searcher.index.path
    plain, able = Collection(searcher), Collection(searcher, lambda run: other)
    other = ColourModel()
    other.fingerprint = "another"
    Index.create(path, np.eye(4, dtype=np.float32), [Item(str(i), "") for i in range(4)],
                 model="another", run=pictures)  # fmt: skip
    assert not plain.refresh()
    assert able.refresh()
    assert able.searcher.model is other
    assert [hit.id for hit in searcher.search("red", 1)] == ["red.png"]  # the old one is still open


# --- limits --------------------------------------------------------------------------------------


@pytest.fixture
def slow(make_searcher):
    def make(encoding, **limits):
        searcher = make_searcher()
        searcher = Searcher(SlowModel(encoding), searcher.index)
        return TestClient(create_app(searcher, limits=Limits(**limits)))

    return make


def test_too_many_requests_at_a_time_are_told_to_come_back(slow):
    with slow(0.3, concurrent=2) as client:
        statuses = []
        threads = [
            threading.Thread(
                target=lambda i=i: statuses.append(client.get(f"/api/v1/search?q=a{i}").status_code)
            )
            for i in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200, 503}
        assert statuses.count(200) >= 2
        assert client.get("/api/v1/search?q=red").status_code == 200
        assert 'cl2cm_refused_total{reason="busy"}' in client.get("/api/v1/metrics").text


def test_what_takes_too_long_is_given_up(slow):
    with slow(0.5, seconds=0.1) as client:
        answer = client.get("/api/v1/search?q=red")
        assert answer.status_code == 503
        assert "too long" in answer.json()["error"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert client.get("/api/health").status_code == 200


PART = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n'


def test_a_large_body_is_refused_by_its_word_and_by_its_length(slow):
    with slow(0, body=1000) as client:
        declared = client.post("/api/v1/search", content=b"x" * 1001)
        chunked = client.post("/api/v1/search", content=iter([PART, b"x" * 600, b"x" * 600]), headers={
            "content-type": "multipart/form-data; boundary=x"})  # fmt: skip
        wrong = client.post("/picture", content=b"x", headers={"content-length": "-5"})
        assert [declared.status_code, chunked.status_code, wrong.status_code] == [413, 413, 413]


# --- tokens --------------------------------------------------------------------------------------

TOKEN = "a-secret-of-many-letters"


@pytest.fixture
def private(make_searcher):
    return TestClient(create_app(make_searcher(), token=TOKEN))


def test_without_the_token_nothing_is_told(private):
    for path in ("/", "/?q=red", "/item?id=red.png", "/media?id=red.png", "/thumb?id=red.png",
                 "/api/v1/search?q=red", "/api/v1/metrics", "/api/openapi.json", "/api", "/no"):  # fmt: skip
        for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"},
                      {"cookie": "cl2cm-session=x"}, {"cookie": f"cl2cm-session={TOKEN}"}):  # fmt: skip
            answer = private.get(path, headers=given)
            assert answer.status_code == 401, (path, given)
            assert "red.png" not in answer.text
    assert private.get("/api/v1/health").json() == {"status": "ok"}
    assert private.get("/static/page.css").status_code == 200


def test_with_the_token_everything_is(private):
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert private.get("/api/v1/search?q=red", headers=bearer).status_code == 200
    assert private.get("/api/v1/health", headers=bearer).json()["items"] == 3


def test_a_browser_signs_in(private):
    html = {"accept": "text/html"}
    form = private.get("/?q=red", headers=html)
    assert form.url.path == "/sign-in"
    assert Page(form.text).all("input", type="password")
    assert "red.png" not in form.text
    assert private.post("/sign-in", data={"token": "wrong"}).status_code == 403
    answer = private.post("/sign-in", data={"token": TOKEN}, follow_redirects=False)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert private.get("/?q=red").status_code == 200


def test_where_a_token_comes_from(tmp_path, monkeypatch):
    monkeypatch.delenv("CL2CM_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("CL2CM_TOKEN", f" {TOKEN}\n")
    assert read_token(None) == TOKEN
    file = tmp_path / "token"
    file.write_text(TOKEN[::-1])
    assert read_token(file) == TOKEN[::-1]
    file.write_text("short")
    with pytest.raises(ConfigError, match="at least 16"):
        read_token(file)
    monkeypatch.setenv("CL2CM_TOKEN", "")
    with pytest.raises(ConfigError, match="CL2CM_TOKEN"):
        read_token(None)
    with pytest.raises(ConfigError, match="no such file"):
        read_token(Path("/nowhere/token"))
