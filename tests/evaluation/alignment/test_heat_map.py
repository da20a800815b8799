import io
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from cl2cm.errors import MediaError
from cl2cm.evaluation.alignment import heat_map
from cl2cm.evaluation.alignment.heat_map import to_svg, write_png
from fixtures.alignments import has_fonts, make_alignment

SVG = "{http://www.w3.org/2000/svg}"


def test_colour_grows_with_strength():
    assert heat_map.shade(0.0) == "#ffffff"
    assert heat_map.shade(1.0) == "#60a5fa"
    reds = [int(heat_map.shade(x / 10)[1:3], 16) for x in range(11)]
    assert reds == sorted(reds, reverse=True)
    assert len(set(reds)) == 11


def test_picture_is_well_formed_and_holds_the_words():
    root = ET.fromstring(to_svg(make_alignment(source=("<b>\x01", "&", "runs"))))
    assert [text.text for text in root.iter(f"{SVG}text")] == ["<b>", "&", "runs", "كلب", "狗"]
    frames = [r for r in root.iter(f"{SVG}rect") if r.get("stroke-width") == "3"]
    assert len(frames) == 2
    width, height = float(root.get("width")), float(root.get("height"))
    for square in root.iter(f"{SVG}rect"):
        assert float(square.get("x", 0)) + float(square.get("width")) <= width
        assert float(square.get("y", 0)) + float(square.get("height")) <= height


def test_chinese_is_read_downwards_above_its_column():
    root = ET.fromstring(to_svg(make_alignment(target=("报纸", "dog"))))
    first, second, turned = list(root.iter(f"{SVG}text"))[-3:]
    assert (first.text, second.text, turned.text) == ("报", "纸", "dog")
    assert first.get("x") == second.get("x")
    assert 0 < int(first.get("y")) < int(second.get("y"))
    (group,) = root.iter(f"{SVG}g")
    assert list(group) == [turned]


def test_png_shows_strength_as_colour(tmp_path):
    pytest.importorskip("resvg_py")
    found = make_alignment(source=("1", "2", "3"), target=("4", "5"))
    if not has_fonts():
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

    monkeypatch.setattr(heat_map, "resvg", lambda: NoFonts)
    with pytest.raises(MediaError, match=r"a font with '狗'.*install one"):
        write_png(make_alignment(source=("狗",) * 3, target=("狗", "狗")), tmp_path / "a.png")
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

    monkeypatch.setattr(heat_map, "resvg", lambda: Boxes)
    heat_map._require_letters("ab, ab")
    with pytest.raises(MediaError, match="LATIN SMALL LETTER C"):
        heat_map._require_letters("abc")
