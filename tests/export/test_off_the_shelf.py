"""Exports of off-the-shelf models of every layout, against the models themselves."""

import json

import numpy as np
import pytest

from cl2cm.cli.app import run as cli
from cl2cm.errors import ConfigError, EncoderError
from cl2cm.export import write
from cl2cm.export.hub.folder import export_hub
from cl2cm.export.load import load
from cl2cm.export.parity import parity_images, parity_texts
from cl2cm.export.runtime import Reader
from fixtures import shelf, world


def specs(folder):
    """One of each layout; a pair has two folders."""
    clip = shelf.write_clip(folder / "clip")
    return {
        "clip": f"hf:{clip}",
        "legacy": f"hf:{shelf.write_clip(folder / 'legacy', legacy_eos=True)}",
        "siglip": f"hf:{shelf.write_siglip(folder / 'siglip')}",
        "chinese": f"hf:{shelf.write_chinese_clip(folder / 'chinese')}",
        "m-clip": f"hf:{clip}+{shelf.write_m_clip(folder / 'm-clip')[0]}",
        "sentences": f"hf:{clip}+{shelf.write_sentence_text(folder / 'sentences')[0]}",
        "open_clip": f"hf:{shelf.write_open_clip(folder / 'open')[0]}",
        "open_clip-hf": f"hf:{shelf.write_open_clip(folder / 'open-hf', hf_text=True)[0]}",
    }


NAMES = ["clip", "legacy", "siglip", "chinese", "m-clip", "sentences", "open_clip", "open_clip-hf"]


@pytest.fixture(scope="module")
def shelves(tmp_path_factory):
    return specs(tmp_path_factory.mktemp("shelf"))


@pytest.mark.parametrize("name", NAMES)
def test_both_sides_have_the_vectors_of_the_model(name, shelves, tmp_path):
    model = load(shelves[name])
    (made,) = write.export_run(shelves[name], tmp_path / "export")
    export = load(made.path)
    assert (export.fingerprint, export.dim) == (model.fingerprint, model.dim)
    texts = [*shelf.TEXTS, *parity_texts(), "RED Circle"]
    wanted = model.encode_text(texts)
    np.testing.assert_allclose(export.encode_text(texts), wanted, atol=1e-5)
    alone = np.concatenate([export.encode_text([text]) for text in texts[:9]])
    np.testing.assert_allclose(alone, wanted[:9], atol=1e-5)
    images = [*parity_images(shelf.SIDE), world.draw("red", "circle", 1)]
    np.testing.assert_allclose(export.encode_visual(images), model.encode_visual(images), atol=1e-5)
    np.testing.assert_allclose(Reader(made.path).encode_text(texts), wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_the_reader_alone_scales_images_as_the_model(name, shelves, small, tmp_path):
    (made,) = write.export_run(shelves[name], tmp_path / "export")
    paths = sorted((small.manifest.parent / "images").iterdir())[:2]
    for number, size in enumerate([(40, 31), (17, 60)]):
        paths.append(tmp_path / f"{number}.png")
        world.draw("red", "circle", 1).resize(size).save(paths[-1])
    found = Reader(made.path).encode_images(paths)
    np.testing.assert_allclose(found, load(shelves[name]).encode_images(paths), atol=1e-5)


def test_its_index_is_searched_with_the_export(shelves, small, tmp_path, capfd):
    index, out = str(tmp_path / "index"), str(tmp_path / "export")
    photos = str(small.manifest.parent / "images")
    assert cli(["index", shelves["clip"], photos, index]) == 0
    assert cli(["export", shelves["clip"], out, "--precision", "int8"]) == 0
    capfd.readouterr()
    assert cli(["search", index, "red circle", "--run", out, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["hits"]
    assert "off-the-shelf" in (tmp_path / "export" / "card.md").read_text("utf-8")


def test_what_has_no_graph_or_layout_is_refused_in_one_line(shelves, tmp_path):
    naflex = f"hf:{shelf.write_siglip2(tmp_path / 'siglip2')}"
    with pytest.raises(EncoderError, match="fixed size"):
        write.export_run(naflex, tmp_path / "out")
    with pytest.raises(ConfigError, match="publish the model as it is"):
        export_hub(shelves["clip"], tmp_path / "hub")
    assert not (tmp_path / "out").exists()
