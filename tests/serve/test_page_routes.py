"""The pages: what they show, that they work without JavaScript, and in which language."""

import io
import re
import string
import time
from dataclasses import replace
from importlib import resources
from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from cl2cm.data.scan import scan_folder
from cl2cm.serve import create_app, page_routes
from cl2cm.serve.alignment_drawing import draw
from cl2cm.serve.messages import FALLBACK, all_messages, choose
from cl2cm.serve.page_routes import _local
from cl2cm.serve.rendering import clock, emphasise, name_of
from cl2cm.types import Item
from fixtures.colours import COLOURS, Page

EXAMPLES = [("de", "rot"), ("ar", "أحمر"), ("zh", "红")]
PAGES = ["/", "/?q=red", "/?q=red -blue&fold=1", "/?like=red.png", "/?like=none", "/?picture=none",
         "/?q=red&page=2", "/item?id=red.png", "/item?id=none", "/api"]  # fmt: skip


@pytest.fixture
def client(make_searcher):
    return TestClient(create_app(make_searcher(), title="Colours", examples=EXAMPLES))


def test_the_page_works_without_javascript(client):
    page = Page(client.get("/", params={"q": "أحمر"}).text)
    (box,) = page.all("input", name="q")
    assert (box["value"], box["dir"]) == ("أحمر", "auto")
    (form,) = page.all("form", role="search")
    assert (form["action"], form["method"]) == ("/", "get")
    assert len(page.cards()) == 3
    item = Page(client.get(page.cards()[0]).text)
    assert "red" in item.text
    assert item.all("a", href="/media?id=red.png")
    (send,) = page.all("form", id="send")
    assert (send["method"], send["enctype"]) == ("post", "multipart/form-data")
    assert page.all("a", href="/?like=red.png")


def test_a_picture_is_sent_shown_and_searched_with(client):
    file = io.BytesIO()
    Image.new("RGB", (50, 50), COLOURS["green"]).save(file, "PNG")
    answer = client.post("/picture", files={"picture": ("x.png", file.getvalue())}, data={"q": ""})
    page = Page(answer.text)
    assert answer.url.path == "/"
    assert page.cards()[0] == "/item?id=green.png"
    (shown,) = page.all("img", alt="Your image")
    with Image.open(io.BytesIO(client.get(shown["src"]).content)) as copy:
        assert copy.size == (50, 50)
    (kept,) = page.all("input", name="picture", type="hidden")
    both = client.get("/", params={"picture": kept["value"], "q": "red"})
    assert {card.split("&")[0] for card in Page(both.text).cards()[:2]} == {
        "/item?id=red.png", "/item?id=green.png",
    }  # fmt: skip
    assert client.post("/picture", files={"picture": ("x", b"no")}).status_code == 400


def test_the_first_page_shows_pictures_and_queries_to_try(client):
    page = Page(client.get("/").text)
    assert page.all("a", href="/?q=%E7%BA%A2")
    assert page.cards()
    assert "Colours" in "".join(page.text)


def test_captions_are_suggested_where_no_queries_are_given(make_searcher, pictures):
    captions = [{"de": ("ein Bild", "x")}, {"de": ("noch eins",), "fr": ("une image",)}, {}]
    examples = [
        replace(e, captions=c) for e, c in zip(scan_folder(pictures), captions, strict=True)
    ]
    page = Page(TestClient(create_app(make_searcher(examples))).get("/").text)
    assert [tag["href"] for tag in page.all("a") if "hreflang" in tag and "/?q" in tag["href"]] == [
        "/?q=ein+Bild", "/?q=une+image",
    ]  # fmt: skip


def test_pages_of_hits(client, monkeypatch):
    monkeypatch.setattr(page_routes, "PAGE_HITS", 2)
    first = Page(client.get("/?q=red&fold=1").text)
    (following,) = first.all("a", rel="next")
    assert following["href"] == "/?q=red&fold=1&page=2"
    second = Page(client.get(following["href"]).text)
    assert not second.all("a", rel="next")
    assert second.all("a", rel="prev")[0]["href"] == "/?q=red&fold=1"
    assert not set(first.cards()) & set(second.cards())
    assert second.all("ol")[0]["start"] == "3"
    assert "No results" in client.get("/?q=red&page=3").text
    assert client.get("/?q=red&page=99999").status_code == 400


@pytest.mark.parametrize(
    ("path", "status"),
    [("/?q=-red", 400), ("/?page=x", 422), ("/item?id=none", 404), ("/?picture=gone", 400),
     ("/?like=none", 400), ("/item", 422)],
)  # fmt: skip
def test_a_page_that_fails_says_so_in_html(client, path, status):
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert Page(answer.text).all("div", role="alert")


@pytest.mark.parametrize("path", PAGES)
def test_every_picture_and_field_has_a_name(client, path):
    page = Page(client.get(path).text)
    assert all("alt" in tag for tag in page.all("img"))
    labelled = {tag["for"] for tag in page.all("label") if "for" in tag}
    assert {tag["id"] for tag in page.all("input") if "id" in tag} <= labelled
    assert page.all("div", role="status")
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


# --- the languages of the page ----------------------------------------------------------------


def test_texts_of_the_page_stand_in_the_language_files_alone():
    """What a template shows is a text by its key, a value, or a mark; and each key is used."""
    folder = resources.files("cl2cm.serve")
    templates = [f for f in (folder / "templates").iterdir() if f.name != "api.html"]  # in English
    sources = [f.read_text("utf-8").replace("loop.index > 12", "late") for f in templates]
    for file, text in zip(templates, sources, strict=True):
        marks = r"{% block kind %}.*?{% endblock %}|{{.*?}}|{%.*?%}|{#.*?#}|<[^>]*>|&[#\w]+;"
        shown = re.sub(marks, " ", text, flags=re.DOTALL)
        assert not re.findall(r"[^\W\d_]{2,}", shown.replace("API", "")), file.name
        assert not re.findall(r'(?:alt|title|placeholder|aria-label)="[^"{]*[a-z]', text), file.name
    code = "".join(f.read_text("utf-8") for f in folder.iterdir() if f.name.endswith(".py"))
    used = "".join(sources) + code
    made = ("kind_", "sort_", "filter_")  # keys that are put together
    for key in set(all_messages()[FALLBACK]._texts) - {"name", "direction", "thousands"}:
        assert f'"{key}"' in used or f"'{key}'" in used or key.startswith(made), key


def test_every_language_says_the_same():
    messages = all_messages()
    assert set(messages) == {"en", "de", "fr", "es", "zh", "ar"}
    english = messages[FALLBACK]._texts
    for code, other in messages.items():
        assert set(other._texts) == set(english), code
        for key, text in english.items():
            names = {name for _, name, _, _ in string.Formatter().parse(text) if name}
            theirs = string.Formatter().parse(other._texts[key])
            assert {name for _, name, _, _ in theirs if name} == names, (code, key)
            assert other._texts[key], (code, key)
        assert other._texts["hero"].count("*") == 2


@pytest.mark.parametrize(
    ("wanted", "accepted", "language"),
    [
        (None, "", "en"), (None, "de", "de"), (None, "pt, fr;q=0.5, de;q=0.8", "de"),
        (None, "zh-Hans-CN,en;q=0.1", "zh"), ("ar", "de", "ar"), ("xx", "es", "es"),
        (None, "de;q=0, fr;q=x", "en"), (None, "*,;;q=,=" * 500, "en"),
    ],
)  # fmt: skip
def test_the_language_is_what_was_chosen_or_is_accepted(wanted, accepted, language):
    assert choose(wanted, accepted).language == language


def test_the_page_speaks_arabic_from_right_to_left(client):
    page = Page(client.get("/?q=red", headers={"accept-language": "ar-EG,en;q=0.5"}).text)
    assert page.all("html", lang="ar", dir="rtl")
    assert "بحث" in page.text


def test_another_language_can_be_chosen(client):
    page = Page(client.get("/?q=red").text)
    (link,) = page.all("a", hreflang="fr", lang="fr")
    again = client.get(link["href"])
    assert (again.url.path, again.url.query) == ("/", b"q=red")
    assert Page(again.text).all("html", lang="fr")
    assert Page(client.get("/").text).all("html", lang="fr")
    assert client.get("/language?to=xx").status_code == 404


@pytest.mark.parametrize(
    "back",
    ["//evil.example/", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "", "x",
     "/a\r\nSet-Cookie: x=1"],
)  # fmt: skip
def test_the_way_back_leads_nowhere_else(client, back):
    assert _local(back) == "/"
    answer = client.get("/language", params={"to": "de", "back": back}, follow_redirects=False)
    assert answer.headers["location"] == "/"


def test_small_things():
    assert [clock(s) for s in (0, 9.9, 61, 3723)] == ["0:00", "0:09", "1:01", "1:02:03"]
    assert emphasise("a <b> *c&d* e") == "a &lt;b&gt; <em>c&amp;d</em> e"
    assert all_messages()["de"].number(1234567) == "1.234.567"


@pytest.mark.parametrize(
    "back", ["//[", "//[::1", "//evil.example", "/\\evil.example", "evil", "/\t/evil"]
)
def test_a_way_back_leads_nowhere_else_and_breaks_nothing(back):
    assert page_routes._local(back) == "/"
    assert page_routes._local("/search?q=[a") == "/search?q=[a"


# --- counts, filters, and what fits -------------------------------------------------------------


@pytest.fixture
def folders(make_searcher, pictures):
    (pictures / "warm" / "deep").mkdir(parents=True)
    (pictures / "red.png").rename(pictures / "warm" / "deep" / "red.png")
    return TestClient(create_app(make_searcher()))


def test_the_folder_is_chosen_from_a_list(folders):
    page = Page(folders.get("/?q=red&folder=warm").text)
    assert page.all("select", name="folder")
    values = [tag["value"] for tag in page.all("option") if "warm" in tag.get("value", "")]
    assert values == ["warm", "warm/deep"]
    assert page.all("option", value="warm")[0].get("selected", "") is None
    assert "1–1 of 1" in "".join(page.text)


@pytest.mark.parametrize(
    ("query", "label", "rest"),
    [
        ("folder=warm", "Folder: warm", ""), ("name=red", "Name: red", ""), ("fold=1", "near", ""),
        ("media=picture&name=r", "Images", "&name=r"), ("sort=newest", "Newest first", ""),
        ("min_match=0.25", "at least 25%", ""), ("since=2020-01-01", "From 2020-01-01", ""),
        ("min_bytes=10", "At least 10 B", ""),
    ],
)  # fmt: skip
def test_each_active_filter_is_a_chip_that_removes_it(folders, query, label, rest):
    page = Page(folders.get(f"/?q=red&{query}").text)
    chip = next(tag for tag in page.all("a", **{"class": "tag remove"}) if label in tag["title"])
    assert chip["href"] == f"/?q=red{rest}"


def test_nothing_found_offers_to_clear_the_filters(folders):
    page = Page(folders.get("/?q=red&folder=none").text)
    assert page.all("a", **{"class": "button strong"})[0]["href"] == "/?q=red"
    assert page.all("option", value="none")  # what was chosen stays in the list


def test_a_name_alone_lists_files(folders):
    page = Page(folders.get("/?q=&name=RED").text)
    assert [card.partition("&")[0] for card in page.cards()] == ["/item?id=warm%2Fdeep%2Fred.png"]
    assert not page.all("meter")
    assert Page(folders.get("/?q=&sort=oldest").text).all("meter") == []


def shades(pictures, count=40):
    for i in range(count):
        Image.new("RGB", (30, 20), (40, 200 - i, 60 + 2 * i)).save(pictures / f"shade{i:02}.png")


def test_size_and_bars_follow_the_match(make_searcher, pictures, monkeypatch):
    from cl2cm.search.match import Background

    shades(pictures)
    client = TestClient(create_app(make_searcher()))
    for match, large, unsure in ((0.9, 1, False), (0.3, 0, False), (0.05, 0, True)):
        monkeypatch.setattr(Background, "matches", lambda *a, m=match: [m] * len(a[2]))
        text = client.get("/?q=red").text
        assert text.count('class="grid featured"') == large
        assert ("Nothing fits well" in text) == unsure
        assert ('class="card weak"' in text) == unsure


def test_bands_of_a_probably_wrong_image_are_thin():
    aligned = {"source": ["a"], "target": ["b"], "strength": [[1.0]],
               "links": [{"source": 0, "target": 0, "words": ["a", "b"], "strength": 1.0}]}  # fmt: skip
    sure, unsure = (draw(aligned, match).bands[0] for match in (0.9, 0.05))
    assert sure.width > 4 * unsure.width
    assert sure.opacity > unsure.opacity


@pytest.mark.parametrize(
    ("item", "title"),
    [
        (Item("trip/holiday.mp4#t=12.0,15", "x", 12.0, 15.0), "holiday.mp4, 0:12–0:15"),
        (Item("holiday.mp4#3", "x", 3700.0, None), "holiday.mp4, 1:01:40–"),
        (Item("trip/IMG_1.jpg", "x"), "IMG_1"), (Item(".jpg", "x"), ".jpg"),
        (Item("a#b.jpg", "x"), "a#b"),
        (Item("v#t=1,2", "x", 1.0, 2.0, {"en": ("a goal",)}), "a goal"),
    ],
)  # fmt: skip
def test_titles(item, title):
    assert name_of(item)[1] == title


def test_an_index_without_captions_suggests_what_it_has(make_searcher):
    with TestClient(create_app(make_searcher())) as client:
        for _ in range(100):
            page = Page(client.get("/").text)
            if links := [tag for tag in page.all("a") if "/?q=" in tag["href"]]:
                break
            time.sleep(0.05)
    assert links


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [("/nowhere", 404), ("/media?id=none", 404), ("/static/none.js", 404), ("/item?id=none", 404),
     ("/?q=red&since=soon", 400), ("/?page=x", 422), ("/language?to=xx", 404), ("/?q=-red", 400)],
)  # fmt: skip
def test_browsers_get_errors_as_pages_in_their_language(client, path, status):
    asked = {"accept": "text/html,*/*", "accept-language": "fr"}
    answer = client.get(path, headers=asked)
    assert answer.status_code == status
    page = Page(answer.text)
    assert page.all("html", lang="fr")
    assert page.all("div", role="alert")
    assert "Retour à l’accueil" in "".join(page.text)


@pytest.mark.parametrize(
    "path", ["/nowhere", "/media?id=none", "/api/v1/none", "/api/v1/item?id=x"]
)
def test_programs_get_errors_as_json(client, path):
    asked = {"accept": "text/html"} if path.startswith("/api/") else {}
    assert "error" in client.get(path, headers=asked).json()


def test_a_bad_upload_says_what_a_visitor_can_do(client):
    answer = client.post(
        "/picture", files={"picture": ("x", b"no")}, headers={"accept-language": "de"}
    )
    assert "JPEG-, PNG-, WebP- oder GIF-Datei" in answer.text
    assert "index" not in Page(answer.text).text
    huge = {"content-length": str(10**9), "accept": "text/html", "accept-language": "es"}
    answer = client.post("/picture", headers=huge)
    assert answer.status_code == 413
    assert "demasiado grande" in answer.text
