"""The page in a real browser, as people use it: with a mouse, a finger, keys alone, a reader."""

import base64
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cl2cm.index.update.build import build_index
from cl2cm.search.searcher import Searcher
from cl2cm.serve import create_app
from cl2cm.types import Example
from fixtures.colours import COLOURS, ColourModel, served

playwright = pytest.importorskip(
    "playwright.sync_api", reason="no Playwright: pip install playwright"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium")

SHADES = 30
EXAMPLES = [("en", "red"), ("de", "rot"), ("fr", "rouge"), ("zh", "红"), ("ar", "أحمر")]
PHONE = {"width": 390, "height": 844}
WIDE = {"width": 1280, "height": 860}


def align(query, caption):
    """Each word of the query means the caption's word of the same place."""
    source, target = query.split(), caption.split()
    strength = [[0.9 if i == j else 0.2 for j in range(len(target))] for i in range(len(source))]
    links = [
        {"source": i, "target": i, "words": [source[i], target[i]], "strength": 0.9}
        for i in range(min(len(source), len(target)))
    ]
    return {"side": "teacher", "source": source, "target": target, "links": links,
            "strength": strength}  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Thirty shades of each colour, and a film of three parts."""
    folder = tmp_path_factory.mktemp("browser")
    examples = []
    for name in ("red", "green", "blue"):
        (folder / name).mkdir()
        for i in range(SHADES):
            path = folder / name / f"{i:02}.png"
            colour = tuple(max(0, int(value - 2 * i)) for value in COLOURS[name])
            Image.new("RGB", (64, 48), colour).save(path)
            captions = {"en": (f"{name} {i}",), "de": (f"Farbe {name}",), "ar": (f"لون {i}",)}
            examples.append(Example(f"{name}/{i:02}.png", "x", image=path, captions=captions))
    model = ColourModel()
    vectors = model.encode_visual([example.image for example in examples])
    film = write_film(folder / "film.webm")
    grey = model.encode_text(["grey"] * 3) + 0.01 * np.eye(3, 4, dtype=np.float32)
    examples += [
        Example(f"film#{i}", "x", video=film, start=float(i), end=i + 1.0, captions={})
        for i in range(3)
    ]
    vectors = np.concatenate([vectors, grey])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = build_index(model, examples, folder / "index", run=folder, vectors=vectors)
    app = create_app(Searcher(model, index), title="Colours", examples=EXAMPLES, align=align)
    with served(app) as where:
        yield where


def write_film(path: Path) -> Path:
    """Three seconds, a colour each; without PyAV only what it begins with."""
    try:
        import av
    except ImportError:
        path.write_bytes(b"\x1a\x45\xdf\xa3")
        return path
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libvpx", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(30):
            pixels = np.full((48, 64, 3), (80 * (i // 10), 90, 90), np.uint8)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        film.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, address):
    """Opens a page; the test fails if it logs an error or asks anywhere else."""
    contexts, wrong = [], []

    def open_(path="/", **settings):
        settings = {"viewport": WIDE, "locale": "en-US", "reduced_motion": "reduce"} | settings
        context = chromium.new_context(base_url=address, **settings)
        context.set_default_timeout(8000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda m: wrong.append(m.text) if "Content Security" in m.text else None)
        page.on(
            "request",
            lambda r: None if r.url.startswith((address, "data:")) else wrong.append(r.url),
        )
        page.goto(path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


def wait(page, expression, seconds=8):
    """Wait until a JavaScript expression holds; by asking, as the page's policy forbids eval."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def first(page):
    return page.locator("#results .open img").first.get_attribute("alt")


def serious(page):
    """What axe-core finds serious or critical, as lines."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python"
    )
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(("language", "query"), [*EXAMPLES, ("es", "rojo")])
def test_search_as_you_type_in_any_language(open_page, language, query):
    page = open_page(locale=language)
    page.locator("#q").press_sequentially(query, delay=5)
    page.wait_for_selector("body.found")
    assert re.match(r"red \d", first(page))
    assert page.locator("#q").input_value() == query
    assert page.evaluate("document.activeElement.id") == "q"
    right = page.evaluate("getComputedStyle(document.getElementById('q')).direction")
    assert right == ("rtl" if language == "ar" else "ltr")
    assert page.locator("html").get_attribute("dir") == right
    page.go_back()
    page.wait_for_selector("body.home")


def test_chips_lead_to_their_query_and_the_language_is_shown(open_page):
    page = open_page()
    page.get_by_role("link", name="أحمر").click()
    page.wait_for_selector("body.found")
    assert first(page).startswith("red")
    assert page.locator("#q").input_value() == "أحمر"
    assert page.get_by_role("link", name="أحمر").get_attribute("aria-current") == "page"
    page.locator("#q").fill("un perro corre por la nieve")
    page.wait_for_selector(".tag:has-text('español')")


def test_a_picture_is_dragged_in_and_then_asked_with_words(open_page, tmp_path):
    Image.new("RGB", (40, 40), COLOURS["blue"]).save(tmp_path / "mine.png")
    data = base64.b64encode((tmp_path / "mine.png").read_bytes()).decode()
    page = open_page()
    carried = page.evaluate_handle(
        """data => {
            const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
            const carried = new DataTransfer();
            carried.items.add(new File([bytes], "mine.png", { type: "image/png" }));
            return carried;
        }""",
        data,
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": carried})
    assert page.locator("#drop").is_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": carried})
    page.wait_for_selector(".given img")
    assert not page.locator("#drop").is_visible()
    assert first(page) == "blue 0"
    wait(page, "document.querySelector('.given img').naturalWidth === 40")
    page.locator("#q").fill("green")
    page.wait_for_url("**q=green**")
    wait(page, "!document.querySelector('main').ariaBusy")
    names = page.locator("#results .open img").evaluate_all("all => all.map(i => i.alt)")
    assert {"blue", "green"} <= {name.split()[0] for name in names}
    page.locator(".given a").click()
    page.wait_for_url(lambda url: "picture" not in url)
    assert first(page).startswith("green")


def test_a_picture_is_chosen(open_page, tmp_path):
    Image.new("RGB", (40, 40), COLOURS["green"]).save(tmp_path / "mine.png")
    page = open_page("/?q=red")
    page.locator(".lens summary").click()
    page.locator("#picture").set_input_files(tmp_path / "mine.png")
    page.wait_for_selector(".given img")
    (tmp_path / "no.png").write_text("no picture")
    page.locator(".lens summary").click()
    page.locator("#picture").set_input_files(tmp_path / "no.png")
    page.wait_for_selector("[role=alert]")


def test_filters(open_page):
    page = open_page("/?q=red")
    before = page.locator("#results .open").count()
    page.locator(".filters summary").click()
    page.get_by_label("Show near-duplicates once").check()
    page.wait_for_selector("#results .stack")
    assert page.locator("#results .open").count() < before
    assert "fold=1" in page.url
    assert page.locator(".filters[open]").count() == 1  # stays open for the next one
    page.locator(".filters [name=folder]").select_option("green")
    page.wait_for_url("**folder=green**")
    wait(page, "document.querySelector('#results .open img').alt.startsWith('green')")
    page.locator(".filters [name=media]").select_option("Videos")
    page.wait_for_selector(".notice")
    page.locator(".remove", has_text="Videos").click()
    wait(page, "document.querySelector('#results .open img')?.alt.startsWith('green')")
    page.locator(".filters summary").click()  # closed by the click outside
    page.locator(".filters [name=media]").select_option("Videos")
    page.wait_for_selector(".notice")
    page.keyboard.press("Escape")  # the panel lies over the notice
    page.locator(".notice").get_by_role("link", name="Clear filters").click()
    page.wait_for_url("**/?q=red")
    wait(page, "document.querySelector('#results .open img').alt.startsWith('red')")


def test_pages(open_page):
    page = open_page("/?q=red")
    whole = []
    for number in (1, 2, 3):
        page.wait_for_selector(f".pages [aria-current]:has-text('{number}')")
        whole += page.locator("#results .open").evaluate_all("all => all.map(a => a.href)")
        page.locator("[rel=next]").click()
    page.wait_for_selector(".pages [aria-current]:has-text('4')")
    assert len(set(whole)) == len(whole) == 72
    page.go_back()
    page.wait_for_selector(".pages [aria-current]:has-text('3')")


def test_the_view_of_one_picture_with_its_words(open_page):
    page = open_page("/?q=red bright")
    page.locator("#results .open").first.click()
    dialog = page.locator("dialog[open]")
    dialog.locator(".bands").wait_for()
    assert dialog.locator("h1").first.inner_text().startswith("red")
    assert dialog.locator(".captions dd").count() == 3
    assert dialog.locator(".band.linked").count() == 2
    assert dialog.locator(".bands text").all_text_contents()[0] == "red"
    dialog.locator(".align").nth(2).click()
    page.wait_for_selector("dialog .bands text:has-text('لون')")
    name = dialog.locator("h1").inner_text()
    dialog.locator(".similar .open").first.click()
    wait(page, f"document.querySelector('dialog h1').innerText !== {name!r}")
    page.keyboard.press("Escape")
    assert not page.locator("dialog[open]").count()
    page.locator("#results .card").nth(3).hover()
    page.locator("#results .like").nth(3).click()
    page.wait_for_selector(".given img")


def test_a_moment_of_a_film_is_played_at_its_second(open_page):
    pytest.importorskip("av", reason="no films: pip install av")
    page = open_page("/item?id=film%231&q=grey")
    assert page.locator(".moments li").count() == 3
    video = page.locator("video")
    wait(page, "document.querySelector('video').readyState >= 1")
    assert 0.9 <= video.evaluate("v => v.currentTime") <= 1.1
    video.evaluate("v => { v.muted = true; return v.play(); }")
    wait(page, "document.querySelector('video').paused")
    assert 1.8 <= video.evaluate("v => v.currentTime") <= 2.3
    page.locator(".moments a").nth(2).click()
    page.wait_for_url("**film%232**")


def test_keys_alone(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") != "BODY"
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    page.keyboard.type("green")
    page.keyboard.press("Enter")
    page.wait_for_selector("body.found")
    wait(page, "document.activeElement.id === 'q'")
    page.keyboard.press("ArrowDown")
    name = "document.activeElement.querySelector('img')?.alt"
    assert page.evaluate(name) == first(page)
    page.keyboard.press("ArrowRight")
    second = page.evaluate(name)
    assert second not in (None, first(page))
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] h1")
    assert page.locator("dialog h1").first.inner_text() == second
    page.keyboard.press("Escape")
    wait(page, f"{name} === {second!r}")  # where it was
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "like"
    page.keyboard.press("Enter")
    page.wait_for_selector(".given")
    page.locator(".filters summary").focus()
    page.keyboard.press("Enter")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "fold":
            break
    page.keyboard.press("Space")
    page.wait_for_url("**fold=1**")


def test_without_javascript(open_page):
    page = open_page("/?q=red", java_script_enabled=False)
    page.locator("#results .open").first.click()
    page.get_by_role("link", name="Compare with the query").first.click()
    assert page.locator(".band.linked").count() == 1
    page.get_by_role("link", name="Deutsch").click()
    assert page.locator(".alignment h2").inner_text() == "Wort für Wort"


def test_a_phone(open_page):
    for path in ("/", "/?q=red", "/item?id=red/00.png&q=red"):
        page = open_page(path, viewport=PHONE, has_touch=True, is_mobile=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert page.locator("#q").is_visible()
        box = page.locator(".box > button").bounding_box()
        assert box["height"] >= 40
        assert box["x"] + box["width"] <= PHONE["width"]
    page.goto("/?q=red")
    cards = page.locator("#results .open").all()[1:3]
    left, right = (card.bounding_box() for card in cards)
    assert left["y"] == right["y"]
    cards[0].tap()
    page.wait_for_selector("dialog[open] h1")


@pytest.mark.parametrize(
    ("path", "scheme"),
    [("/", "light"), ("/", "dark"), ("/?q=red&fold=1", "light"), ("/?q=red -blue", "dark"),
     ("/?q=grey", "light"), ("/?q=-red", "light"), ("/item?id=red/00.png&q=red", "light"),
     ("/item?id=film%231", "dark"), ("/align?id=red/00.png&q=red", "dark"), ("/api", "dark")],
)  # fmt: skip
def test_a_reader_finds_nothing_seriously_wrong(open_page, path, scheme):
    page = open_page(path, color_scheme=scheme)
    page.wait_for_load_state("networkidle")
    assert serious(page) == []


def test_a_reader_in_other_languages_and_panels(open_page):
    page = open_page("/?q=red", locale="ar", viewport=PHONE)
    assert serious(page) == []
    page.locator(".filters summary").click()
    assert serious(page) == []
    page.locator(".lens summary").click()
    assert serious(page) == []
    page.locator("#results .open").first.click()
    page.wait_for_selector("dialog .bands")
    assert serious(page) == []


def test_a_picture_that_is_gone_is_marked(open_page, address):
    page = open_page("/?q=red")
    page.route("**/thumb?id=red%2F01.png**", lambda route: route.fulfill(status=404, body=""))
    page.goto("/?q=red&page=1")
    page.wait_for_selector(".gone")
    assert page.locator(".gone").count() == 1


def test_the_viewer_has_an_address_and_back_closes_it(open_page):
    page = open_page("/?q=red", viewport=PHONE, has_touch=True, is_mobile=True)
    page.evaluate("window.here = 1")  # gone after a reload
    page.locator("#results .open").nth(3).tap()
    page.wait_for_selector("dialog[open] #item")
    assert "/item?id=" in page.url
    shared, shown = page.url, page.locator("dialog h1").first.inner_text()
    page.go_back()
    wait(page, "!document.querySelector('dialog[open]')")
    assert page.url.endswith("/?q=red")
    assert page.locator("#q").input_value() == "red"
    page.go_forward()
    page.wait_for_selector("dialog[open] #item")
    page.keyboard.press("Escape")
    wait(page, "!document.querySelector('dialog[open]')")
    wait(page, "location.search === '?q=red'")
    assert page.evaluate("window.here") == 1
    page.goto(shared)
    assert page.locator("h1").first.inner_text() == shown
    page.go_back()
    page.wait_for_selector("body.found")


@pytest.mark.parametrize("locale", ["en", "ar"])
def test_arrows_turn_the_pages_of_the_viewer(open_page, locale):
    page = open_page("/?q=red", locale=locale)
    names = page.locator("#results .open img").evaluate_all("all => all.map(i => i.alt)")
    onward, back = ("ArrowRight", "ArrowLeft") if locale == "en" else ("ArrowLeft", "ArrowRight")
    page.locator("#results .open").first.click()
    page.wait_for_selector("dialog[open] #item")
    title = "document.querySelector('dialog h1').innerText"
    assert page.locator("[data-turn='-1']").is_disabled()
    for key, at in ((onward, 1), (onward, 2), (back, 1)):
        page.keyboard.press(key)
        wait(page, f"{title} === {names[at]!r}")
    page.locator("[data-turn='1']").click()
    wait(page, f"{title} === {names[2]!r}")
    page.locator(".close").click()
    wait(page, "!document.querySelector('dialog[open]')")
    wait(page, f"document.activeElement.querySelector('img')?.alt === {names[2]!r}")
    assert page.url.endswith("/?q=red")


def test_images_keep_their_proportions(open_page):
    page = open_page("/?q=red")
    assert page.locator("#results .open img").evaluate_all(
        "all => all.every(i => getComputedStyle(i).objectFit === 'contain')"
    )


def test_the_strip_of_moments_is_whole_and_marks_the_present_one(open_page):
    page = open_page("/item?id=film%231&q=grey")
    strip = page.locator(".moments ol").bounding_box()
    for box in (entry.bounding_box() for entry in page.locator(".moments li").all()):
        assert strip["x"] <= box["x"]
        assert box["x"] + box["width"] <= strip["x"] + strip["width"] + 1
    assert page.locator(".moments [aria-current]").count() == 1
    assert "shown above" in page.locator(".moments [aria-current]").inner_text()
    assert page.locator("h1").inner_text() == "film, 0:01–0:02"


@pytest.mark.parametrize("locale", ["en", "de", "fr", "es", "zh", "ar"])
def test_the_placeholder_fits_on_a_phone(open_page, locale):
    page = open_page("/", locale=locale, viewport={"width": 360, "height": 740}, is_mobile=True)
    wanted, given = page.evaluate(
        """() => {
            const box = document.getElementById("q"), style = getComputedStyle(box);
            const pen = document.createElement("canvas").getContext("2d");
            pen.font = style.font;
            return [pen.measureText(box.placeholder).width,
                    box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight)];
        }"""
    )
    assert wanted <= given
