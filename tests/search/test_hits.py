"""Hits in a notebook: small thumbnails, escaped text, a bounded number."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from cl2cm.search.hits import SHOWN, Hits
from cl2cm.search.query import Query
from cl2cm.search.result import SearchResult
from cl2cm.types import Hit


class Parsed(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def thumbnails(html):
    found = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", html)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (400, 300), (200, 30, 30)).save(path)
    return path


def test_a_hit_is_a_small_image_with_its_match(image):
    html = Hits([Hit("a.png", 0.71234, str(image), match=0.943)])._repr_html_()
    (thumbnail,) = thumbnails(html)
    assert thumbnail.size == (128, 96)  # the whole image, not a square of it
    red, green, blue = thumbnail.convert("RGB").getpixel((64, 48))
    assert abs(red - 200) < 8
    assert abs(green - 30) < 8
    assert abs(blue - 30) < 8
    assert "94% · 0.712" in html
    assert "a.png" in Parsed(html).text
    assert len(html) < 10_000


def test_without_a_match_none_is_shown(image):
    assert "nan" not in Hits([Hit("a.png", 0.7, str(image))])._repr_html_()


def test_text_is_escaped(image):
    bad = '"><script>alert(1)</script>&\udc80'
    hits = [Hit(bad, 0.5, str(image), captions={"en": (bad,)}), Hit(bad, 0.5, bad)]
    html = Hits(hits)._repr_html_()
    assert "<script" not in html
    assert {tag for tag, _ in Parsed(html).tags} <= {"div", "img", "br", "p"}
    assert not Parsed(html).open
    html.encode()


def test_only_the_first_are_drawn(image):
    hits = Hits([Hit(f"{i}", 0.5, str(image)) for i in range(SHOWN + 76)])
    html = hits._repr_html_()
    assert len(thumbnails(html)) == SHOWN
    assert "and 76 more" in html
    assert len(html) < 200_000


def test_what_cannot_be_read_says_why(image, tmp_path):
    (tmp_path / "b.png").write_bytes(b"rubbish")
    paths = [str(tmp_path / "gone.png"), str(tmp_path / "b.png"), "", str(image)]
    html = Hits([Hit(f"{i}", 0.5, path) for i, path in enumerate(paths)])._repr_html_()
    assert len(thumbnails(html)) == 1
    assert "no such file" in html
    assert "no file" in html


def test_a_part_of_a_video_shows_a_frame_of_it(tmp_path):
    pytest.importorskip("av")
    from fixtures import videos

    frames = [np.full((48, 64, 3), colour, np.uint8) for colour in ((200, 30, 30), (30, 30, 200))]
    film = videos.write_film(tmp_path / "a.mp4", [frame for frame in frames for _ in range(20)])
    html = Hits([Hit("a.mp4", 0.5, str(film), 2.5, 3.5, kind="video")])._repr_html_()
    (thumbnail,) = thumbnails(html)
    red, _, blue = thumbnail.convert("RGB").getpixel((64, 64))
    assert blue > red
    assert "2.5 s" in html


def test_slices_and_results_are_shown_too(image):
    hits = Hits([Hit(f"{i}", 0.5, str(image)) for i in range(5)])
    assert isinstance(hits[1:3], Hits)
    assert [hit.id for hit in hits[1:3]] == ["1", "2"]
    assert hits[1].id == "1"
    assert hits == list(hits)
    result = SearchResult(
        Query("q"), tuple(hits), (0.5,) * 5, ((),) * 5, False, encode_ms=1, search_ms=1
    )
    assert result._repr_html_() == hits._repr_html_()


def test_nothing_found_says_so():
    assert "no hits" in Hits()._repr_html_()
