import json
import re
import sys
from html.parser import HTMLParser

import pytest
from PIL import Image

from cl2cm.errors import MissingExtraError, QueryError, StorageError
from cl2cm.evaluation.alignment.view import align_command, to_html, to_json, to_lines
from fixtures.alignments import has_fonts, make_alignment


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
    page = to_html(make_alignment())
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
    parsed = Tags(to_html(make_alignment()))
    cells = [attrs for tag, attrs in parsed.tags if tag == "td"][1:]
    assert len(cells) == 6
    assert [place for place, attrs in enumerate(cells) if attrs.get("class") == "link"] == [0, 5]
    heads = [attrs for tag, attrs in parsed.tags if tag == "th"]
    assert {attrs["dir"] for attrs in heads} == {"auto"}
    assert [attrs["scope"] for attrs in heads] == ["col"] * 2 + ["row"] * 3


def test_json_by_hand():
    value = to_json(make_alignment())
    assert json.loads(json.dumps(value)) == value
    assert value["links"] == [
        {"source": 0, "target": 0, "words": ["<b>dog</b>", "كلب"], "strength": 0.9},
        {"source": 2, "target": 1, "words": ["runs", "狗"], "strength": 0.5},
    ]
    assert value["strength"] == [[0.9, 0.0], [0.0, 0.0], [0.0, 0.5]]


def test_lines_show_words_percent_and_links():
    lines = to_lines(make_alignment(source=("[red]dog[/red]", "a", "b"), target=("x", "狗")), 80)
    assert len(lines) == 4
    assert lines[0].split() == ["x", "狗"]
    assert lines[1].split() == ["[red]dog[/red]", "90*", "·"]
    assert lines[3].split() == ["b", "·", "50*"]


def test_lines_number_the_words_where_they_do_not_fit():
    target = tuple(f"Donaudampfschiff{i}" for i in range(12))
    lines = to_lines(make_alignment(target=target), 60)
    assert lines[0].split() == [str(i + 1) for i in range(12)]
    assert re.split(r"\s+", " ".join(lines[4:]))[:4] == ["1", target[0], "2", target[1]]


def test_lines_say_that_the_student_was_asked():
    assert "student" in to_lines(make_alignment(side="student"))[-1]
    assert not any("student" in line for line in to_lines(make_alignment()))


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
    if not has_fonts():
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
