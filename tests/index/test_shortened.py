"""Prefixes of vectors: trained for, indexed, searched, exported and measured."""

import json
from pathlib import Path

import numpy as np
import pytest

import cl2cm
from cl2cm.cli.app import run as cli
from cl2cm.errors import ConfigError, VectorIndexError
from cl2cm.export.load import load, load_visual
from cl2cm.export.write import export_run
from cl2cm.index import Index
from cl2cm.index.shortened import fitting, prefix_fingerprint, prefixes, shortened


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory):
    """A run that was trained for vectors of 32, 16 and 8 numbers."""
    from cl2cm.training.loop import train

    run = tmp_path_factory.mktemp("runs") / "short"
    train(settings("cl2cm", match={"smallest_dim": 8}, train={"epochs": 15}), run)
    return run


@pytest.fixture
def photos(small):
    return str(small.manifest.parent / "images")


def told(capfd, *arguments):
    assert cli([*map(str, arguments), "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def test_prefixes_are_unit_vectors_and_a_space_of_their_own(trained, small):
    model, side = load(trained), load_visual(trained)
    short = shortened(model, 8)
    texts, images = ["red circle"], sorted((small.manifest.parent / "images").iterdir())[:3]
    np.testing.assert_array_equal(short.encode_text(texts), prefixes(model.encode_text(texts), 8))
    found = short.encode_visual(images)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(shortened(side, 8).encode_visual(images), found)
    assert (short.dim, short.fingerprint) == (8, prefix_fingerprint(model.fingerprint, 8))
    assert short.case == model.case  # all else is the model's
    assert shortened(model, 0) is model
    assert shortened(model, 32) is model
    for width in (7, 33, -1):
        with pytest.raises(ConfigError, match="8 to 32"):
            shortened(model, width)


def test_a_model_fits_its_own_prefixes_alone(trained):
    model = load(trained)
    assert fitting(model, prefix_fingerprint(model.fingerprint, 8), 8).dim == 8
    assert fitting(model, model.fingerprint, 8) is model  # which search then refuses
    assert fitting(model, prefix_fingerprint("another", 8), 8) is model


def test_an_index_remembers_its_width(run, photos, tmp_path, capfd):
    index = tmp_path / "index"
    first = told(capfd, "index", run, photos, index, "--dim", 16)
    again = told(capfd, "index", run, photos, index)
    assert (first["dim"], again["dim"], again["encoded"]) == (16, 16, 0)
    assert Index.open(index).dim == 16
    (hit,) = told(capfd, "search", index, "red circle", "-k", 1)["hits"]
    model = load(run)
    images = prefixes(model.encode_visual(sorted(Path(photos).iterdir())), 16)
    best = float((images @ prefixes(model.encode_text(["red circle"]), 16)[0]).max())
    assert hit["score"] == pytest.approx(best, abs=1e-3)
    assert cli(["index", str(run), photos, str(index), "--dim", "8"]) == 2
    assert "--rebuild" in capfd.readouterr().err


def test_exports_of_both_widths_search_it(run, photos, tmp_path, capfd):
    index = tmp_path / "index"
    told(capfd, "index", run, photos, index, "--dim", 16)
    wanted = told(capfd, "search", index, "red circle", "-k", 3)["hits"]
    for dim in (0, 16):
        (made,) = export_run(run, tmp_path / f"export{dim}", dim=dim)
        found = told(capfd, "search", index, "red circle", "-k", 3, "--run", made.path)["hits"]
        assert [hit["id"] for hit in found] == [hit["id"] for hit in wanted]
    (made,) = export_run(run, tmp_path / "export8", dim=8)
    assert load(made.path).dim == 8
    with pytest.raises(VectorIndexError, match="width 8"):
        cl2cm.Searcher(load(made.path), Index.open(index))


def test_short_vectors_are_measured(run, small, tmp_path, capfd):
    whole = told(capfd, "evaluate", run, small.manifest)
    short = told(capfd, "evaluate", run, small.manifest, "--dim", 16)
    out = tmp_path / "out"
    made = told(
        capfd, "export", run, out, "--dim", 16, "--manifest", small.manifest, "--split", "test"
    )
    for language, scores in short["languages"].items():
        row = made["exports"][0]["recall"][language]
        assert row["run"] == pytest.approx(whole["languages"][language]["SumR"], abs=0.1)
        assert row["export"] == pytest.approx(scores["SumR"], abs=0.1)
    assert "width 16" in (out / "card.md").read_text("utf-8")


def test_untrained_widths_are_said(trained, tmp_path, capfd):
    export_run(trained, tmp_path / "out", dim=8)
    assert "not trained for vectors of 8" in capfd.readouterr().err


def test_the_smallest_width_is_below_the_whole(settings):
    with pytest.raises(ConfigError, match=r"less than network\.dim = 32"):
        settings("cl2cm", match={"smallest_dim": 32})
    with pytest.raises(ConfigError, match="0 to 8192"):
        settings("cl2cm", match={"smallest_dim": -1})
