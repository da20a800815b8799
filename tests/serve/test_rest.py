"""The API: search, items, files, state, and what a bad request gets."""

import io

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from cl2cm.data.scan import scan_folder
from cl2cm.serve import create_app
from cl2cm.serve.origin import host_name
from fixtures.colours import COLOURS


@pytest.fixture
def client(make_searcher):
    return TestClient(create_app(make_searcher(), title="Colours"))


def png(colour, size=(60, 40)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def ids(answer):
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


def test_search_answers_with_the_contract(client):
    answer = client.get("/api/v1/search", params={"q": " rot ", "k": 2})
    value = answer.json()
    assert list(value) == ["query", "language", "hits", "offset", "more", "total", "ms"]
    assert (value["query"], value["offset"], value["more"]) == ("rot", 0, True)
    assert set(value["hits"][0]) == {
        "id", "score", "match", "start", "end", "thumbnail", "media",
    }  # fmt: skip
    assert ids(answer)[0] == "red.png"
    assert 0 < value["hits"][1]["match"] < value["hits"][0]["match"] < 1
    assert set(value["ms"]) == {"encode", "search"}


def test_no_route_tells_where_files_are(client, pictures):
    value = client.get("/api/search", params={"q": "rot", "k": 2}).json()
    v1 = client.get("/api/v1/search", params={"q": "rot", "k": 2}).json()
    assert value["hits"] == v1["hits"]
    assert list(value) == list(v1)
    for path in ("/api/search?q=rot", "/api/v1/search?q=rot", "/api/v1/item?id=red.png", "/",
                 "/?q=rot", "/item?id=red.png", "/api/v1/similar?id=red.png"):  # fmt: skip
        assert str(pictures) not in client.get(path).text, path


def test_search_in_every_way(client, pictures):
    search = "/api/v1/search"
    assert ids(client.get(search, params={"q": "red blue -blue"}))[0] == "red.png"
    assert ids(client.get(search, params={"q": "red blue", "without": "red"}))[0] == "blue.png"
    assert ids(client.get(search, params={"like": "red.png"})) != []
    assert "red.png" not in ids(client.get(search, params={"like": "red.png"}))
    both = {"q": "green", "like": "red.png", "weight": 0}
    assert ids(client.get(search, params=both))[0] == "green.png"
    assert ids(client.get(search, params={"q": "red", "offset": 1, "k": 1})) != ["red.png"]
    assert client.get(search, params={"q": "x -red", "literal": 1}).json()["query"] == "x -red"
    assert ids(client.get("/api/v1/similar", params={"id": "red.png"})) != []
    for key, value in (("like", "no"), ("weight", "2"), ("q", " -red"), ("offset", "-1")):
        assert client.get(
            search, params={"q": "" if key == "q" else "a", key: value}
        ).status_code in (400, 404)
    assert client.get("/api/v1/similar", params={"id": "none"}).status_code == 404


def test_filters(make_searcher, pictures):
    (pictures / "warm").mkdir()
    (pictures / "red.png").rename(pictures / "warm" / "red.png")
    client = TestClient(create_app(make_searcher()))

    def found(**filters):
        return set(ids(client.get("/api/v1/search", params={"q": "red", **filters})))

    everything = {"warm/red.png", "green.png", "blue.png"}
    assert found() == found(media="picture") == found(media="", folder="") == everything
    assert found(folder="warm") == {"warm/red.png"}
    assert found(media="film") == found(since="2999-01-01") == found(min_bytes=10**9) == set()
    assert found(until="2999-01-01", max_bytes=10**9) == everything
    assert "warm/red.png" not in found(like="warm/red.png", q="")
    for bad in ({"media": "sound"}, {"since": "soon"}, {"min_bytes": -1}, {"max_bytes": 2**70}):
        answer = client.get("/api/v1/search", params={"q": "red", **bad})
        assert answer.status_code in (400, 422), bad
    page = client.get("/?q=red&folder=warm&media=&since=&until=&min_bytes=").text
    assert page.count('class="open"') == 1
    assert '<option value="warm" selected>' in page
    assert found(name="WARM") == {"warm/red.png"}
    assert len(found(min_match=0.99)) < 3
    assert found(sort="newest", min_match=0.001) == everything


def test_search_with_a_picture(client):
    def post(content, **fields):
        return client.post("/api/v1/search", files={"picture": ("x.png", content)}, data=fields)

    answer = post(png(COLOURS["blue"]), k=1)
    assert ids(answer) == ["blue.png"]
    assert answer.json()["hits"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert ids(post(png(COLOURS["blue"]), q="green", weight=0))[0] == "green.png"
    for content in (b"", b"GIF89a", b"<svg/>", png("red")[:50]):
        refused = post(content)
        assert refused.status_code == 400
        assert list(refused.json()) == ["error"]
    assert client.post("/api/v1/search", data={"q": "x"}).status_code == 422


def test_an_item_and_its_files(client, pictures):
    value = client.get("/api/v1/item", params={"id": "blue.png"}).json()
    assert value["id"] == "blue.png"
    assert client.get(value["media"]).content == (pictures / "blue.png").read_bytes()
    assert "immutable" in client.get(value["thumbnail"]).headers["cache-control"]
    assert client.get("/api/v1/item?id=none").status_code == 404
    part = client.get("/media?id=blue.png", headers={"range": "bytes=2-9"})
    assert part.status_code == 206
    assert part.content == (pictures / "blue.png").read_bytes()[2:10]


def test_films_are_addressed_at_their_second(make_searcher, pictures):
    from cl2cm.types import Example

    film = pictures / "film.mp4"
    film.write_bytes(b"\0\0\0\x18ftypmp42")
    examples = [
        Example(f"film/{i}", "x", video=film, start=10.0 * i, end=10.0 * i + 5.5) for i in (0, 1)
    ]
    vectors = np.stack([np.eye(4, dtype=np.float32)[i] for i in (0, 1)])
    from cl2cm.index.update.build import build_index
    from cl2cm.search.searcher import Searcher
    from fixtures.colours import ColourModel

    index = build_index(
        ColourModel(), examples, pictures.parent / "index", run=pictures, vectors=vectors
    )
    client = TestClient(create_app(Searcher(ColourModel(), index)))
    value = client.get("/api/v1/item?id=film/1").json()
    assert value["media"] == "/media?id=film%2F1#t=10,15.5"
    page = client.get("/item?id=film/1").text
    assert '<video controls preload="metadata"' in page
    assert 'src="/media?id=film%2F1#t=10,15.5"' in page
    assert page.count('<li><a href="/item?id=film') == 2  # the moments of the film
    found = client.get("/api/v1/search?q=red&fold=1").json()
    assert [len(hit.get("folded", ())) for hit in found["hits"]] == [1]
    assert client.get("/media?id=film/1").headers["content-type"] == "video/mp4"


def test_words_are_aligned_with_a_caption(make_searcher, pictures):
    asked = []

    def align(query, text):
        asked.append((query, text))
        return {
            "side": "teacher", "source": query.split(), "target": text.split(),
            "links": [{"source": 0, "target": 1, "words": ["rotes", "red"], "strength": 0.9}],
            "strength": [[0.1, 0.9], [0.0, 0.05]],
        }  # fmt: skip

    from dataclasses import replace

    examples = [replace(e, captions={"en": ("a red",)}) for e in scan_folder(pictures)]
    client = TestClient(create_app(make_searcher(examples), align=align))
    value = client.get("/api/v1/align?id=red.png&q=rotes Bild").json()
    assert value["links"][0]["words"] == ["rotes", "red"]
    assert asked == [("rotes Bild", "a red")]
    page = client.get("/align?id=red.png&q=rotes Bild").text
    assert page.count('<path class="band') == 2
    assert page.count('<path class="band linked"') == 1
    assert "rotes – red: 90" in page
    assert client.get("/item?id=red.png&q=rotes Bild").text.count('class="align"') == 1
    assert 'class="align"' not in client.get("/item?id=red.png").text
    for bad in ("id=red.png&q=x&number=1", "id=red.png&q=x&language=de", "id=no&q=x"):
        assert client.get(f"/api/v1/align?{bad}").status_code == 404
    assert client.get("/api/v1/align?id=red.png&q=%20").status_code == 400


def test_without_a_model_that_aligns_nothing_offers_it(client):
    assert client.get("/api/v1/align?id=red.png&q=x").status_code == 404
    assert 'class="align"' not in client.get("/item?id=red.png&q=red").text


@pytest.mark.parametrize(
    ("params", "status", "words"),
    [
        ({}, 400, "some words"),
        ({"q": " "}, 400, "some words"),
        ({"q": "x" * 2001}, 400, "2,000"),
        ({"q": "x", "k": 0}, 400, "1 to 1,000"),
        ({"q": "x", "k": "many"}, 422, "k: "),
        ({"q": "x", "k": "9" * 5000}, 422, "k: "),
        ({"q": "x", "weight": "nan"}, 400, "0 to 1"),
    ],
)
def test_a_bad_request_is_one_line_of_json(client, params, status, words):
    answer = client.get("/api/v1/search", params=params)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_health_and_metrics(client):
    for path in ("/api/health", "/api/v1/health"):
        assert client.get(path).json() == {
            "status": "ok", "items": 3, "dim": 4, "model": "colour-model",
        }  # fmt: skip
    client.get("/api/v1/search?q=red")
    client.get("/nowhere/at/all")
    text = client.get("/api/v1/metrics").text
    assert 'cl2cm_requests_total{route="/api/v1/search",status="200"} 1.0' in text
    assert 'cl2cm_requests_total{route="none",status="404"} 1.0' in text
    assert "cl2cm_batch_queries_count 1.0" in text
    assert "cl2cm_request_seconds_bucket" in text


def test_the_document_of_the_api(client):
    document = client.get("/api/openapi.json").json()
    assert set(document["paths"]) == {
        f"/api/v1/{name}"
        for name in (
            "search",
            "similar",
            "item",
            "thumbnail",
            "media",
            "align",
            "health",
            "metrics",
        )
    }
    page = client.get("/api").text
    for path in document["paths"]:
        assert path in page


def test_host_names(make_searcher):
    assert host_name("[::1]:80") == "::1"
    assert host_name("a.example:80") == "a.example"
    app = create_app(make_searcher(), hosts=("127.0.0.1", "localhost", "::1"))
    for host, status in [
        ("127.0.0.1:8000", 200), ("localhost", 200), ("LOCALHOST:1", 200), ("[::1]:8000", 200),
        ("evil.example:8000", 421), ("127.0.0.1.evil.example", 421), ("", 421),
        ("[::1]evil.example", 421), ("[::1", 421), ("localhost:80@evil.example", 421), ("localhost:x", 421),
    ]:  # fmt: skip
        answer = TestClient(app).get("/api/health", headers={"host": host})
        assert answer.status_code == status, host
