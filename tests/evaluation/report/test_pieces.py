"""Charts, tables, curves, the map, and statistics of a report."""

import csv
import io
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from scipy.stats import spearmanr

from cl2cm.evaluation.ranks import Ranks
from cl2cm.evaluation.report.charts import (
    Estimate,
    Line,
    Point,
    estimate_chart,
    line_chart,
    scatter_chart,
)
from cl2cm.evaluation.report.curves import finite, read_curves
from cl2cm.evaluation.report.matrices import HeatMap, heat_maps
from cl2cm.evaluation.report.measurements import chained, likeness
from cl2cm.evaluation.report.quality import CHRF, SCORE, translation_quality
from cl2cm.evaluation.report.recall import consistency_rows, recall_rows, spearman
from cl2cm.evaluation.report.subjects import Run, Subjects
from cl2cm.evaluation.report.svg import (
    Axis,
    fitting,
    inline,
    mark,
    ramp,
    standalone,
    text_of,
    ticks,
)
from cl2cm.evaluation.report.tables import Number, Table, csv_table, html_table, latex_table
from cl2cm.evaluation.report.tsne import tsne
from cl2cm.types import Example

EVIL = '<script>"&\x00\ud800\x1b'


def drawings():
    lines = [Line(EVIL, [(1, 2.0), (2, 3.0)]), Line("one point", [(1, 5.0)])]
    yield line_chart("a", EVIL, lines, "step", "loss")
    panels = {
        "R@1": {EVIL: {"de": Estimate(10, 5, 15)}, "b": {"de": Estimate(3), "fr": Estimate(4)}}
    }
    yield estimate_chart("b", EVIL, panels, ["de", "fr"], "language")
    yield scatter_chart("c", EVIL, [Point(9, 1, 1, EVIL), Point(0, 1, 1)], ["x"] * 10, None, EVIL)
    yield scatter_chart("d", EVIL, [Point(0, 0.5, 40)], ["x"], ("x", "y"), EVIL, tags=[(EVIL, 0.5)])
    yield line_chart("g", EVIL, [Line(EVIL, [(10, 0.02), (1e6, 40)])], "rows", "ms", log=True)
    yield heat_maps("e", EVIL, [HeatMap(EVIL, np.eye(3), 0, 1)] * 5, EVIL, labels=["a", "b", EVIL])
    yield heat_maps("f", EVIL, [HeatMap("flat", np.ones((2, 2)), 1, 1)], EVIL)


@pytest.mark.parametrize("figure", list(drawings()), ids=lambda figure: figure.name)
def test_every_chart_is_well_formed_and_stays_inside(figure):
    for text in (
        standalone(figure),
        f'<p xmlns="http://www.w3.org/1999/xhtml">{inline(figure)}</p>',
    ):
        root = ET.fromstring(text)
        assert not [element for element in root.iter() if element.tag.endswith("script")]
    root = ET.fromstring(standalone(figure))
    for element in root.iter():
        for key, most in (("x", figure.width), ("y", figure.height)):
            if element.get(key) is not None:
                assert -1 <= float(element.get(key)) <= most + 1


def test_each_of_sixteen_series_has_a_mark_of_its_own():
    assert len({mark(series, 10, 10) for series in range(16)}) == 16


def test_text_of_leaves_nothing_that_xml_cannot_hold():
    every = "".join(map(chr, range(0x250))) + "\ud800\udfff\ufffe\uffff"
    ET.fromstring(f"<p>{text_of(every)}</p>")
    assert text_of("<a & 'b'>") == "&lt;a &amp; &#x27;b&#x27;&gt;"


def test_axes_have_round_ends():
    axis = fitting([3.2, 18.9], 0, 100)
    assert (axis.low, axis.high) == (0, 20)
    assert ticks(axis) == [0, 5, 10, 15, 20]
    assert fitting([7], 0, 1).low < 7 < fitting([7], 0, 1).high
    assert fitting([], 0, 1).low == 0
    assert Axis(0, 10, 100, 0).at(2.5) == 75
    assert ramp(-1) == "#00204c"
    assert ramp(2) == "#ffe945"


TABLE = Table(
    "t",
    "50 % & more",
    ("name", "R@1"),
    [["=1+1", Number(12.34567, 10, 15)], [EVIL, Number(None)], ["a_b", Number(3)]],
)


def test_tables():
    rows = list(csv.reader(io.StringIO(csv_table(TABLE))))
    assert rows[0] == ["name", "R@1", "R@1 low", "R@1 high"]
    assert rows[1] == ["'=1+1", "12.3457", "10.0000", "15.0000"]
    assert rows[2][1:] == ["", "", ""]
    latex = latex_table(TABLE)
    assert r"50 \% \& more" in latex
    assert r"a\_b & 3.0 \\" in latex
    assert "12.3 [10.0, 15.0]" in latex
    html = html_table(TABLE)
    ET.fromstring(f"<div>{html}</div>")
    assert '<data value="12.34567">12.3</data>' in html


def test_curves_of_a_log_with_bad_lines(tmp_path, trained):
    curves = read_curves(trained)
    assert set(curves.losses) == set(curves.validation) == {"cross-lingual", "cross-modal"}
    assert [epoch for epoch, _ in curves.validation["cross-modal"]] == list(range(1, 16))
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.toml", "contract.json", "provenance.json"):
        (run / name).write_bytes((trained / name).read_bytes())
    provenance = run / "provenance.json"
    provenance.write_text('{"config": "", "validation_SumR": {}}')
    lines = [
        '{"stage": "s", "epoch": 0, "step": 1, "loss": 2.0, "part": NaN, "more": "x"}',
        '{"stage": "s", "epoch": 0, "step": 2, "loss": 1e999}',
        "[" * 50_000,
        "nonsense",
        "[1]",
        '{"stage": "s", "epoch": 0, "step": 9, "SumR": 12.5}',
        *(f'{{"stage": "{n}", "epoch": 0, "step": {n}, "loss": 1}}' for n in range(50)),
    ]
    (run / "metrics.jsonl").write_text("\n".join(lines))
    found = read_curves(run)
    assert found.losses["s"] == {"loss": [(1, 2.0)]}
    assert found.validation == {"s": [(1, 12.5)]}
    assert len(found.losses) == 4  # a page has room for a few
    (run / "metrics.jsonl").unlink()
    assert "no log" in read_curves(run).missing
    (run / "metrics.jsonl").symlink_to(trained / "metrics.jsonl")
    assert read_curves(run).missing


def test_the_map_keeps_groups_together():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 16)) * 4
    groups = np.repeat(np.arange(3), 20)
    vectors = centres[groups] + rng.normal(size=(60, 16)) * 0.3
    places = tsne(vectors)
    assert np.isfinite(places).all()
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (groups[distances.argmin(1)] == groups).all()
    np.testing.assert_array_equal(places, tsne(vectors))
    assert np.isfinite(tsne(np.ones((6, 4)))).all()


def test_spearman_is_scipys():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 6, 40), rng.normal(size=40)
    assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    assert spearman([1, 2], [1, 2]) is None


def ranks(captions, pictures):
    rows = np.arange(len(captions)) * len(pictures) // len(captions)
    ids = np.array([f"p{i}" for i in range(len(pictures))])
    return Ranks(np.array(captions), np.array(pictures), rows, ids)


def test_recall_and_consistency_by_hand():
    found = {"en": ranks([1, 2, 40], [1, 1, 30]), "de": ranks([3, 20, 50], [2, 6, 40])}
    run = Run("a", "a", ranks=found)
    from cl2cm.evaluation.bench.report import figures_of

    run.rows = [{"language": code, **figures_of(one)} for code, one in found.items()]
    subjects = Subjects([run])
    english, german = recall_rows(subjects, ["en", "de"])
    assert english["t2v R@1"]["value"] == pytest.approx(100 / 3)
    assert english["v2t R@10"]["value"] == pytest.approx(200 / 3)
    assert german["t2v R@1"] == {"value": 0.0, "ci95": [0.0, 0.0]}
    (row,) = consistency_rows(subjects, ["en", "de"], "fr")
    assert (row["in_all"], row["in_some"], row["in_none"]) == pytest.approx((100 / 3,) * 3)
    assert row["MRV"] == pytest.approx(np.mean([1, 81, 25]))


def test_chained_and_likeness():
    similarity = np.array([[1, 0.1, 0.9], [0.1, 1, 0.2], [0.9, 0.2, 1]])
    order = chained(similarity)
    assert sorted(order) == [0, 1, 2]
    assert abs(order.index(0) - order.index(2)) == 1
    assert likeness(similarity, 2 * similarity + 1) == pytest.approx(1)
    assert likeness(similarity, np.ones((3, 3))) is None


def test_translation_quality_prefers_scores():
    captions = {"en": ("a dog",), "de": ("ein Hund",)}
    translations = {"de": {"x": ("ein Hund",), "y": ("eine Katze",)}}
    scored = Example(
        "1", "train", captions=captions, translations=translations, quality={"de": {"x": (0.25,)}}
    )
    plain = Example("1", "train", captions=captions, translations=translations)
    assert translation_quality([scored], ["de", "fr"], ()) == (SCORE, {"de": 0.25}, {"de": 1})
    found = translation_quality([plain], ["de"], ("x",))
    assert (found.measure, found.counts) == (CHRF, {"de": 1})
    assert found.means["de"] == pytest.approx(1)
    assert translation_quality([plain], ["de"], ()).means["de"] < 1
    assert translation_quality([plain], ["fr"], ()) is None


@pytest.mark.parametrize("value", [1e300, -1.7e308, float("nan"), float("inf"), 10**400, "1", True])
def test_numbers_that_no_chart_can_show_are_left_out(value):
    assert finite(value) is None
