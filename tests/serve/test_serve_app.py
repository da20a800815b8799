"""The service: REST, the page, and what it refuses."""

import io
import struct
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from urllib.parse import quote, urlsplit

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from cl2cm.search import scan_folder
from cl2cm.serve import create_app
from cl2cm.serve.guard import host_name

EXAMPLES = [("de", "rot"), ("ar", "أحمر"), ("zh", "红")]
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;"
PAGES = ["/", "/?q=red", "/?q=red&k=0", "/item/0", "/item/99"]


@pytest.fixture
def client(make_searcher):
    return TestClient(create_app(make_searcher(), title="Colours", examples=EXAMPLES))


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

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_search_answers_with_the_contract(client, pictures):
    answer = client.get("/api/search", params={"q": " rot ", "k": 2})
    assert answer.status_code == 200
    value = answer.json()
    assert list(value) == ["query", "hits", "ms"]
    assert value["query"] == "rot"
    assert [list(hit) for hit in value["hits"]] == [["id", "score", "path", "start", "end"]] * 2
    assert value["hits"][0]["id"] == "red.png"
    assert value["hits"][0]["path"] == str(pictures / "red.png")
    assert set(value["ms"]) == {"encode", "search"}


@pytest.mark.parametrize(
    ("params", "status", "words"),
    [
        ({}, 422, "q: field required"),
        ({"q": " "}, 400, "some words"),
        ({"q": "x" * 2001}, 400, "2,000"),
        ({"q": "x", "k": 0}, 400, "1 to 1,000"),
        ({"q": "x", "k": "many"}, 422, "k: "),
        ({"q": "x", "k": "9" * 5000}, 422, "k: "),
    ],
)
def test_a_bad_request_is_one_line_of_json(client, params, status, words):
    answer = client.get("/api/search", params=params)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_health(client):
    assert client.get("/api/health").json() == {
        "status": "ok", "items": 3, "dim": 4, "model": "colour-model",
    }  # fmt: skip


def test_the_page_works_without_javascript(client):
    page = Page(client.get("/", params={"q": "أحمر"}).text)
    (box,) = [tag for tag in page.all("input") if tag.get("name") == "q"]
    assert (box["value"], box["dir"]) == ("أحمر", "auto")
    (form,) = [tag for tag in page.all("form") if tag.get("role") == "search"]
    assert (form["action"], form["method"]) == ("/", "get")
    cards = [tag["href"] for tag in page.all("a") if tag.get("class") == "card"]
    assert cards[0] == "/item/2"
    assert len(cards) == 3
    item = Page(client.get(cards[0]).text)
    assert "red" in item.text
    assert any(tag.get("href") == "/media/2" for tag in item.all("a"))


def test_the_first_page_shows_pictures_and_queries_to_try(client):
    page = Page(client.get("/").text)
    links = [tag["href"] for tag in page.all("a")]
    assert "/?q=%E7%BA%A2" in links
    assert [tag for tag in page.all("a") if tag.get("class") == "card"]
    assert "Colours" in "".join(page.text)


def test_more_hits_are_offered_only_while_there_are_more(client):
    assert "Show more" in client.get("/?q=red&k=2").text
    assert "Show more" not in client.get("/?q=red&k=3").text
    assert "Show more" not in client.get("/?q=red").text


@pytest.mark.parametrize(
    ("path", "status"), [("/?q=red&k=0", 400), ("/?k=x", 422), ("/item/3", 404)]
)
def test_a_page_that_fails_says_so_in_html(client, path, status):
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert any(tag.get("role") == "alert" for tag in Page(answer.text).all("div"))


@pytest.mark.parametrize("path", PAGES)
def test_every_picture_and_field_has_a_name(client, path):
    page = Page(client.get(path).text)
    assert all("alt" in tag for tag in page.all("img"))
    labelled = {tag["for"] for tag in page.all("label")}
    assert {tag["id"] for tag in page.all("input")} <= labelled
    assert [tag for tag in page.all("p") if tag.get("role") == "status"]
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    ids = [tag["id"] for _, tag in page.tags if "id" in tag]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_inline_and_nothing_comes_from_elsewhere(client, path):
    page = Page(client.get(path).text)  # raises on an inline script or style
    for tag, attributes in page.tags:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "action", "srcset", "poster"):
            if address := attributes.get(name):
                parts = urlsplit(address)
                assert (parts.scheme, parts.netloc) == ("", ""), tag
    assert all("src" in tag for tag in page.all("script"))


def test_the_files_of_the_page_name_no_other_place(client):
    for file in (resources.files("cl2cm.serve") / "static").iterdir():
        text = file.read_text("utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "http:" not in text
        assert "https:" not in text
        assert "@import" not in text
        answer = client.get(f"/static/{file.name}")
        assert answer.status_code == 200
        assert answer.content == file.read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        *PAGES,
        "/api/search?q=a",
        "/api/search",
        "/thumb/0",
        "/media/0",
        "/nowhere",
        "/static/page.js",
    ],
)
def test_every_answer_carries_the_policy(client, path):
    headers = client.get(path).headers
    rules = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["img-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_an_unexpected_error_tells_nothing_and_keeps_the_policy(make_searcher, monkeypatch):
    searcher = make_searcher()
    monkeypatch.setattr(searcher.model, "encode_text", lambda texts: 1 / 0, raising=False)
    client = TestClient(create_app(searcher), raise_server_exceptions=False)
    answer = client.get("/api/search?q=red")
    assert answer.status_code == 500
    assert "division" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_html_in_queries_captions_and_names_is_text(make_searcher, pictures):
    (pictures / "red.png").rename(pictures / "<b onclick=alert(1)>.png")
    examples = [
        replace(example, captions={} if "<b" in example.id else {EVIL: (EVIL,), "de": (EVIL,)})
        for example in scan_folder(pictures)
    ]
    client = TestClient(create_app(make_searcher(examples), title=EVIL, examples=[(EVIL, EVIL)]))
    for path in ("/", "/item/0", "/item/1", "/item/2"):
        Page(client.get(path).text)
    answers = [client.get("/item/" + quote(EVIL, safe="")).text]
    answers += [client.get("/", params={"q": EVIL, "k": k}).text for k in (2, 0)]
    answers += [client.get(path).text for path in ("/", "/item/0", "/item/1", "/item/2")]
    for answer in answers:
        page = Page(answer)
        assert {tag["src"].split("?")[0] for tag in page.all("script")} == {"/static/page.js"}
        assert all(tag["src"].startswith(("/thumb/", "/static/")) for tag in page.all("img"))
        assert not page.all("b")
        assert not [tag for _, tag in page.tags if any(name.startswith("on") for name in tag)]
        assert EVIL in "".join(page.text) + "".join(
            str(tag.get("value")) for tag in page.all("input")
        )


@pytest.mark.parametrize("kind", ["media", "thumb"])
@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd",
        "red.png", "0/../../index.json", "0%00.png", "....//index.json", "C:%5Cboot.ini", "-1", "3",
        "1e0", "9" * 30,
    ],
)  # fmt: skip
def test_only_rows_of_the_index_are_served(client, kind, name):
    answer = client.get(f"/{kind}/{name}")
    assert answer.status_code in (404, 422)
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "%2e%2e%2fapp.py", "page.html", ""])
def test_only_the_files_of_the_page_are_static(client, name):
    assert client.get(f"/static/{name}").status_code == 404


def test_media_is_the_file_itself(client, pictures):
    answer = client.get("/media/0")
    assert answer.content == (pictures / "blue.png").read_bytes()
    assert answer.headers["content-type"] == "image/png"


def test_a_file_that_is_no_picture_is_not_served(client, pictures, tmp_path):
    (tmp_path / "secret").write_text("root:x:0:0")
    (pictures / "blue.png").unlink()
    (pictures / "blue.png").symlink_to(tmp_path / "secret")
    (pictures / "green.png").write_text("<html><script>alert(1)</script></html>")
    (pictures / "red.png").unlink()
    for row in (0, 1, 2):
        for kind in ("media", "thumb"):
            answer = client.get(f"/{kind}/{row}")
            assert answer.status_code == 404
            assert "root" not in answer.text
            assert str(pictures) not in answer.text


def test_a_thumbnail_is_small_and_kept(client, pictures):
    answer = client.get("/thumb/0")
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (320, 213)
        assert picture.getpixel((5, 5)) == pytest.approx((40, 60, 230), abs=6)
    assert Image.open(io.BytesIO(client.get("/thumb/0?size=1280").content)).size == (900, 600)
    assert client.get("/thumb/0?size=5000").status_code == 404
    Image.new("RGB", (30, 60), "white").save(pictures / "blue.png")
    assert Image.open(io.BytesIO(client.get("/thumb/0").content)).size == (30, 60)


def test_a_browser_keeps_thumbnails_only_of_this_index(client, make_searcher):
    version = Page(client.get("/").text).all("img")[1]["src"].partition("v=")[2]
    assert "immutable" in client.get(f"/thumb/0?v={version}").headers["cache-control"]
    assert "no-cache" in client.get("/thumb/0?v=another").headers["cache-control"]


def test_other_kinds_of_pictures(client, pictures):
    turned = Image.new("L", (40, 20), 200)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(pictures / "blue.png", "JPEG", exif=exif)
    Image.new("RGBA", (20, 20), (1, 2, 3, 0)).save(pictures / "green.png", "WEBP", lossless=True)
    Image.new("CMYK", (20, 20)).save(pictures / "red.png", "TIFF")
    first, second, third = (client.get(f"/thumb/{row}") for row in range(3))
    assert Image.open(io.BytesIO(first.content)).size == (20, 40)
    assert second.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(second.content)).getpixel((0, 0))[3] == 0
    assert third.headers["content-type"] == "image/jpeg"


def bomb(side):
    """A PNG of a few hundred bytes that says that it has ``side`` times ``side`` pixels."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.mark.parametrize(("side", "words"), [(100_000, "exceeds limit"), (8_100, "8100 x 8100")])
def test_a_decompression_bomb_is_refused(client, pictures, side, words):
    (pictures / "blue.png").write_bytes(bomb(side))
    assert words in client.get("/thumb/0").json()["error"]
    (pictures / "green.png").write_bytes((pictures / "green.png").read_bytes()[:60])
    for row in (0, 1):
        answer = client.get(f"/thumb/{row}")
        assert answer.status_code == 404
        assert "picture" in answer.json()["error"]


def test_other_methods_and_places_are_refused(client):
    assert client.post("/api/search?q=x", content=b"x" * 10_000).status_code == 405
    for path in ("/docs", "/redoc", "/api", "/index.json"):
        assert client.get(path).status_code == 404
    assert client.get("/api/openapi.json").status_code == 200


def test_a_name_that_another_site_points_at_this_machine_is_refused(make_searcher):
    app = create_app(make_searcher(), hosts=("127.0.0.1", "localhost", "::1"))
    for host, status in [
        ("127.0.0.1:8000", 200), ("localhost", 200), ("LOCALHOST:1", 200), ("[::1]:8000", 200),
        ("evil.example:8000", 421), ("127.0.0.1.evil.example", 421), ("", 421),
    ]:  # fmt: skip
        answer = TestClient(app).get("/api/health", headers={"host": host})
        assert answer.status_code == status, host


def test_host_names():
    assert host_name("[::1]:80") == "::1"
    assert host_name("a.example:80") == "a.example"
