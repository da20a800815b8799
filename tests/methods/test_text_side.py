"""A language for an off-the-shelf model: its image side stays, and its text side is learned."""

import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cl2cm.cli.app import run
from cl2cm.data.manifest import read_manifest
from cl2cm.errors import ConfigError, EncoderError, LanguageError
from cl2cm.export.model import load_export
from cl2cm.export.write import export_run
from cl2cm.index.folder import Index
from cl2cm.methods.new_language import NewLanguage, language_config
from cl2cm.model.checkpoint import load, load_visual
from cl2cm.model.encoders import Encoders
from cl2cm.model.networks import MeanOfFrames
from cl2cm.model.run_folder import languages_of
from cl2cm.search.searcher import Searcher
from cl2cm.training.loop import train
from fixtures import shelf

CHANCE = 100 * 5 / 24  # of R@5


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The spec of a small CLIP."""
    return f"hf:{shelf.write_clip(tmp_path_factory.mktemp('models') / 'clip')}"


def settings(clip, small, language="xx", epochs=15, **changes):
    encoders = Encoders(text=f"hf:{small.text}")
    rates = (
        "text_side.match=0.1",
        "train.batch_size=32",
        "train.lr=3e-3",
        "text.prefix=",
        "text.max_tokens=16",
    )
    new = NewLanguage(
        clip,
        language,
        small.manifest,
        **{"settings": (f"train.epochs={epochs}", *rates), "encoders": encoders, **changes},
    )
    return language_config(new, list(read_manifest(small.manifest)))


@pytest.fixture(scope="module")
def made(clip, small, tmp_path_factory):
    """A run on the CLIP's image side that knows English and xx."""
    out = tmp_path_factory.mktemp("made") / "run"
    train(settings(clip, small), out, init_from=clip)
    return out


def test_the_image_side_is_the_models_and_so_is_the_space(clip, made, small, tmp_path):
    images = [small.manifest.parent / "images" / f"red-square-{i}.png" for i in range(2)]
    before, after = load_visual(clip), load_visual(made)
    assert isinstance(after.head, MeanOfFrames)
    assert np.array_equal(before.encode_visual(images), after.encode_visual(images))
    assert load(made).fingerprint == before.fingerprint == load(clip).fingerprint
    contract = json.loads((made / "contract.json").read_text())
    assert contract["space"]["model"] == before.fingerprint
    assert json.loads((made / "provenance.json").read_text())["init_from"]["run"] == clip
    assert languages_of(made) == ("en", "xx")


def test_an_index_of_the_model_opens_with_the_run(clip, made, small, tmp_path, capsys):
    images = str(small.manifest.parent / "images")
    assert run(["index", clip, images, str(tmp_path / "index"), "--json"]) == 0
    capsys.readouterr()
    with Searcher(load(made), Index.open(tmp_path / "index")) as searcher:
        assert len(searcher.search("derxx erauqsxx", k=5)) == 5
    assert run(["index", str(made), images, str(tmp_path / "index"), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["encoded"], done["kept"]) == (0, done["items"])


def test_texts_go_to_the_models_own_vectors_of_the_captions(clip, made, small):
    lines = [json.loads(line) for line in small.manifest.read_text().splitlines()]
    items = [line for line in lines if line["split"] == "train"]
    english = [line["captions"]["en"][0] for line in items]
    translated = [next(iter(line["translations"]["xx"].values()))[0] for line in items]
    goals, model = load(clip).encode_text(english), load(made)
    for texts in (english, translated):
        found = model.encode_text(texts) @ goals.T
        assert np.diag(found).mean() > found.mean() + 0.1


def test_a_second_language_grows_the_run(made, small, tmp_path):
    new = NewLanguage(made, "yy", small.manifest, settings=("train.epochs=1",))
    train(language_config(new, list(read_manifest(small.manifest))), tmp_path / "b", init_from=made)
    assert load(tmp_path / "b").fingerprint == load(made).fingerprint
    assert languages_of(tmp_path / "b") == ("en", "xx", "yy")


def test_it_is_exported(made, small, tmp_path):
    export_run(made, tmp_path / "export")
    export, model = load_export(tmp_path / "export"), load(made)
    texts = ["red square", "derxx erauqsxx"]
    assert_close(export.encode_text(texts), model.encode_text(texts), atol=1e-4, rtol=0)
    images = [small.manifest.parent / "images" / "red-square-0.png"]
    assert_close(export.encode_visual(images), model.encode_visual(images), atol=1e-4, rtol=0)


def test_the_command_measures_the_model_before(clip, small, tmp_path, capsys):
    command = [
        *("add-language", clip, str(small.manifest), "--language", "xx", "--max-regression", "600"),
        *("--text-encoder", f"hf:{small.text}", "--out", str(tmp_path / "run"), "--json"),
        *("--set", "train.epochs=2", "--set", "train.batch_size=32", "--set", "text.max_tokens=16"),
    ]
    assert run(command) == 0
    found = json.loads(capsys.readouterr().out)
    roles = {row["language"]: row["role"] for row in found["languages"]}
    assert roles == {"en": "learned", "xx": "new", "yy": "other"}
    assert run([*command, "--resume"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["languages"] == found["languages"]


def test_texts_alone_suffice(clip, small, tmp_path):
    config = settings(clip, small, epochs=1, text_only=True)
    train(config, tmp_path / "run", init_from=clip)
    assert load(tmp_path / "run").fingerprint == load(clip).fingerprint


def test_refusals(clip, made, small, tmp_path):
    with pytest.raises(LanguageError, match="found a run with en"):
        settings(clip, small, "en")
    with pytest.raises(EncoderError, match="no/model"):
        settings(f"hf:{tmp_path}/no/model", small)
    config = settings(clip, small, epochs=1)
    for start in (made, None):
        with pytest.raises(ConfigError, match="expected a"):
            train(config, tmp_path / "run", init_from=start)
    for key in ("network.dim=16", "method=add-language"):
        with pytest.raises(ConfigError):
            train(
                settings(clip, small, settings=(key, "text.max_tokens=16")),
                tmp_path / "run",
                init_from=clip,
            )


@pytest.mark.parametrize("stop", [1, 3])
def test_a_stopped_one_resumes_to_the_same_weights(stop, clip, small, tmp_path, monkeypatch):
    from cl2cm.training.stages import Loop

    config = settings(clip, small, epochs=2)
    train(config, tmp_path / "whole", init_from=clip)
    real, calls = Loop._step, []

    def step(self, *given):
        calls.append(1)
        if len(calls) == stop + 2:
            raise KeyboardInterrupt
        return real(self, *given)

    monkeypatch.setattr(Loop, "_step", step)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", init_from=clip)
    train(config, tmp_path / "run", resume=True)
    sides = [load(tmp_path / name).student.state_dict() for name in ("run", "whole")]
    assert_close(*sides, rtol=0, atol=0)
    assert torch.equal(*(side["text.linear.weight"] for side in sides))
