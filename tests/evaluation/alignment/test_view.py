import io
import json
import re
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from cl2cm.errors import MediaError, MissingExtraError, QueryError, StorageError
from cl2cm.evaluation.alignment import view as alignment_view
from cl2cm.evaluation.alignment.links import Alignment
from cl2cm.evaluation.alignment.view import (
    align_command,
    to_html,
    to_json,
    to_lines,
    to_svg,
    write_png,
)

SVG = "{http://www.w3.org/2000/svg}"


def make(source=("<b>dog</b>", "&", "runs"), target=("كلب", "狗"), side="teacher"):
    strength = torch.zeros(len(source), len(target))
    strength[0, 0], strength[2, 1] = 0.9, 0.5
    return Alignment(tuple(source), tuple(target), strength, ((0, 0), (2, 1)), side)


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


def test_page_holds_every_word_escaped_and_asks_for_nothing():
    page = to_html(make())
    parsed = Tags(page)
    names = {tag for tag, _ in parsed.tags}
    assert not names & {"script", "img", "link", "iframe", "b"}
    assert not any(
        key in ("src", "href") or key.startswith("on") for _, a in parsed.tags for key in a
    )
    assert "url(" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page
    for word in ("<b>dog</b>", "&", "runs", "كلب", "狗"):
        assert word in parsed.words


def test_page_marks_links_and_lets_words_run_their_way():
    parsed = Tags(to_html(make()))
    cells = [attrs for tag, attrs in parsed.tags if tag == "td"][1:]
    assert len(cells) == 6
    assert [place for place, attrs in enumerate(cells) if attrs.get("class") == "link"] == [0, 5]
    heads = [attrs for tag, attrs in parsed.tags if tag == "th"]
    assert {attrs["dir"] for attrs in heads} == {"auto"}
    assert [attrs["scope"] for attrs in heads] == ["col"] * 2 + ["row"] * 3


def test_colour_grows_with_strength():
    assert alignment_view._colour(0.0) == "#ffffff"
    assert alignment_view._colour(1.0) == "#60a5fa"
    reds = [int(alignment_view._colour(x / 10)[1:3], 16) for x in range(11)]
    assert reds == sorted(reds, reverse=True)
    assert len(set(reds)) == 11


def test_json_by_hand():
    value = to_json(make())
    assert json.loads(json.dumps(value)) == value
    assert value["links"] == [
        {"source": 0, "target": 0, "words": ["<b>dog</b>", "كلب"], "strength": 0.9},
        {"source": 2, "target": 1, "words": ["runs", "狗"], "strength": 0.5},
    ]
    assert value["strength"] == [[0.9, 0.0], [0.0, 0.0], [0.0, 0.5]]


def test_lines_show_words_percent_and_links():
    lines = to_lines(make(source=("[red]dog[/red]", "a", "b"), target=("x", "狗")), 80)
    assert len(lines) == 4
    assert lines[0].split() == ["x", "狗"]
    assert lines[1].split() == ["[red]dog[/red]", "90*", "·"]
    assert lines[3].split() == ["b", "·", "50*"]


def test_lines_number_the_words_where_they_do_not_fit():
    target = tuple(f"Donaudampfschiff{i}" for i in range(12))
    lines = to_lines(make(target=target), 60)
    assert lines[0].split() == [str(i + 1) for i in range(12)]
    assert re.split(r"\s+", " ".join(lines[4:]))[:4] == ["1", target[0], "2", target[1]]


def test_lines_say_that_the_student_was_asked():
    assert "student" in to_lines(make(side="student"))[-1]
    assert not any("student" in line for line in to_lines(make()))


def test_picture_is_well_formed_and_holds_the_words():
    root = ET.fromstring(to_svg(make(source=("<b>\x01", "&", "runs"))))
    assert [text.text for text in root.iter(f"{SVG}text")] == ["<b>", "&", "runs", "كلب", "狗"]
    frames = [r for r in root.iter(f"{SVG}rect") if r.get("stroke-width") == "3"]
    assert len(frames) == 2
    width, height = float(root.get("width")), float(root.get("height"))
    for square in root.iter(f"{SVG}rect"):
        assert float(square.get("x", 0)) + float(square.get("width")) <= width
        assert float(square.get("y", 0)) + float(square.get("height")) <= height


def test_chinese_is_read_downwards_above_its_column():
    root = ET.fromstring(to_svg(make(target=("报纸", "dog"))))
    first, second, turned = list(root.iter(f"{SVG}text"))[-3:]
    assert (first.text, second.text, turned.text) == ("报", "纸", "dog")
    assert first.get("x") == second.get("x")
    assert 0 < int(first.get("y")) < int(second.get("y"))
    (group,) = root.iter(f"{SVG}g")
    assert list(group) == [turned]


def test_png_shows_strength_as_colour(tmp_path):
    pytest.importorskip("resvg_py")
    found = make(source=("1", "2", "3"), target=("4", "5"))
    if not _has_fonts():
        pytest.skip("no fonts on this machine")
    write_png(found, tmp_path / "a.png")
    picture = Image.open(tmp_path / "a.png").convert("RGB")
    root = ET.fromstring(to_svg(found))
    for square in list(root.iter(f"{SVG}rect"))[1:]:
        x, y = (
            float(square.get(a)) + float(square.get(b)) / 2
            for a, b in (("x", "width"), ("y", "height"))
        )
        expected = tuple(bytes.fromhex(square.get("fill")[1:]))
        assert picture.getpixel((int(2 * x), int(2 * y))) == expected


def test_without_a_font_the_letter_is_named(monkeypatch, tmp_path):
    resvg_py = pytest.importorskip("resvg_py")

    class NoFonts:
        @staticmethod
        def svg_to_bytes(**arguments):
            return resvg_py.svg_to_bytes(**arguments, skip_system_fonts=True)

    monkeypatch.setattr(alignment_view, "_resvg", lambda: NoFonts)
    with pytest.raises(MediaError, match=r"a font with '狗'.*install one"):
        write_png(make(source=("狗",) * 3, target=("狗", "狗")), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_the_box_for_what_is_missing_is_known(monkeypatch):
    def drawn(letter):
        shade = {"a": 1, "b": 2}.get(letter, 3)
        file = io.BytesIO()
        Image.new("L", (4, 4), shade).save(file, "PNG")
        return file.getvalue()

    class Boxes:
        @staticmethod
        def svg_to_bytes(*, svg_string, background):
            assert background == "#ffffff"
            return drawn(ET.fromstring(svg_string)[0].text)

    monkeypatch.setattr(alignment_view, "_resvg", lambda: Boxes)
    alignment_view._require_letters("ab, ab")
    with pytest.raises(MediaError, match="LATIN SMALL LETTER C"):
        alignment_view._require_letters("abc")


def test_missing_extra_is_told_before_the_work(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cl2cm\[demo\]'"):
        align_command(tmp_path / "no run", "a", "b", png=tmp_path / "a.png")


def test_command_writes_the_files_and_tells_them(trained, tmp_path):
    page = tmp_path / "a.html"
    value, lines = align_command(trained, "red circle", "derxx elcricxx", html=page)
    assert value["run"] == str(trained)
    assert value["html"] == str(page)
    assert "png" not in value
    assert value["source"] == ["red", "circle"]
    assert "derxx" in page.read_text(encoding="utf-8")
    assert lines[0].split() == ["derxx", "elcricxx"]
    assert json.loads(json.dumps(value)) == value


def test_command_draws(trained, tmp_path):
    pytest.importorskip("resvg_py")
    if not _has_fonts():
        pytest.skip("no fonts on this machine")
    value, _ = align_command(trained, "red circle", "derxx elcricxx", png=tmp_path / "a.png")
    assert Image.open(value["png"]).size[0] > 60


def test_command_writes_nothing_when_it_fails(trained, tmp_path):
    with pytest.raises(QueryError):
        align_command(trained, "red circle", " ", html=tmp_path / "a.html")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        align_command(trained, "red", "derxx", html=tmp_path / "file" / "a.html")


def _has_fonts():
    try:
        alignment_view._require_letters("a1")
    except MediaError:
        return False
    return True
