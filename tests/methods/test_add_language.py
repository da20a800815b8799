"""A language added to a finished run: what is learned, what stays, indexes, lineage, resume."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from cl2cm.cli.app import run
from cl2cm.data.manifest import read_manifest
from cl2cm.errors import CheckpointError, ConfigError, LanguageError
from cl2cm.export.hub.folder import export_hub
from cl2cm.export.model import load_export
from cl2cm.export.write import export_run
from cl2cm.index.folder import Index
from cl2cm.methods.new_language import NewLanguage, language_config
from cl2cm.model.checkpoint import load, load_visual
from cl2cm.model.contract import vision_side
from cl2cm.model.run_folder import languages_of
from cl2cm.search.searcher import Searcher
from cl2cm.training.loop import train
from cl2cm.training.stages import Loop
from fixtures.runs import change_contract

CHANCE = 100 * 5 / 24  # of R@5
LONGER = ("train.epochs=20", "train.batch_size=32")


@pytest.fixture(scope="module")
def first(settings, tmp_path_factory):
    """A run that knows English and xx."""
    out = tmp_path_factory.mktemp("first") / "run"
    train(settings("translate-train", data={"languages": ["xx"]}, train={"epochs": 15}), out)
    return out


def added(first, manifest, language="yy", **changes):
    """The settings of a run with one language more."""
    new = NewLanguage(first, language, manifest, **{"settings": LONGER, **changes})
    return language_config(new, list(read_manifest(manifest)))


@pytest.fixture(scope="module")
def second(first, small, tmp_path_factory):
    """The same run with yy."""
    out = tmp_path_factory.mktemp("second") / "run"
    train(added(first, small.manifest), out, init_from=first)
    return out


def evaluated(folder, manifest, capsys):
    assert run(["evaluate", str(folder), str(manifest), "--split", "test", "--json"]) == 0
    return json.loads(capsys.readouterr().out)["languages"]


def test_the_weights_of_the_run_are_bit_equal_and_an_adapter_is_new(first, second):
    before, after = (load_file(folder / "model.safetensors") for folder in (first, second))
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    new = after.keys() - before.keys()
    assert all(name.startswith("text.adapters.0.") for name in new)
    assert len(new) == 8
    sides = [load_visual(folder) for folder in (first, second)]
    assert vision_side(sides[0].head, sides[0].vision) == vision_side(
        sides[1].head, sides[1].vision
    )


def test_the_new_language_is_learned_and_the_others_are_kept(first, second, small, capsys):
    before, after = (evaluated(folder, small.manifest, capsys) for folder in (first, second))
    assert after["yy"]["text_to_vision"]["R@5"] > 2.5 * CHANCE
    assert after["yy"]["SumR"] > before["yy"]["SumR"] + 50
    assert after["yy"]["SumR"] > 0.8 * after["xx"]["SumR"]


def test_texts_in_earlier_languages_keep_their_vectors_bit_for_bit(first, second, small):
    lines = [json.loads(line) for line in small.manifest.read_text().splitlines()]
    before, after = load(first), load(second)
    for language, least in (("en", 0.9), ("xx", 0.9)):
        texts = [text for line in lines for text in line["captions"].get(language, ())]
        pairs = zip(before.encode_text(texts), after.encode_text(texts), strict=True)
        assert np.mean([np.array_equal(*pair) for pair in pairs]) > least
    new = [text for line in lines for text in line["captions"].get("yy", ())]
    assert not np.isclose(before.encode_text(new), after.encode_text(new)).all(axis=1).any()


def test_lineage_is_recorded(first, second):
    contract = json.loads((second / "contract.json").read_text())
    provenance = json.loads((second / "provenance.json").read_text())
    before = json.loads((first / "provenance.json").read_text())["model"]
    assert contract["space"]["model"] == before
    assert provenance["init_from"] == {"run": str(first), "model": before}
    assert provenance["model"] != before
    assert provenance["learned"] == ["en", "xx", "yy"]
    assert languages_of(second) == ("en", "xx", "yy")
    assert "space" not in json.loads((first / "contract.json").read_text())


def test_an_index_opens_with_the_new_run_and_nothing_is_encoded_again(
    first, second, small, tmp_path, capsys, monkeypatch
):
    images = str(small.manifest.parent / "images")
    assert run(["index", str(first), images, str(tmp_path / "index"), "--json"]) == 0
    capsys.readouterr()
    with Searcher(load(second), Index.open(tmp_path / "index")) as searcher:
        assert len(searcher.search("derYy erauqsyy", k=5)) == 5
    command = ["index", str(second), images, str(tmp_path / "index"), "--json"]
    assert run(command) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["encoded"], done["kept"]) == (0, done["items"])
    vectors = [
        load_visual(folder).encode_visual([small.manifest.parent / "images" / name])
        for folder in (first, second)
        for name in ("red-square-0.png",)
    ]
    assert np.array_equal(*vectors)
    assert run(["search", str(tmp_path / "index"), "derYy", "--run", str(second), "--json"]) == 0


def test_a_third_language_continues_the_space(settings, small, tmp_path):
    train(settings("zero-shot", train={"epochs": 1}), tmp_path / "a")
    few = {"settings": ("train.epochs=1",)}
    for language, start, out in (("xx", "a", "b"), ("yy", "b", "c")):
        config = added(tmp_path / start, small.manifest, language, **few)
        train(config, tmp_path / out, init_from=tmp_path / start)
        before, after = (load_file(tmp_path / n / "model.safetensors") for n in (start, out))
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert config.network.adapters == ("xx", "yy")
    names = [load(tmp_path / name).fingerprint for name in "abc"]
    assert len(set(names)) == 1
    assert languages_of(tmp_path / "c") == ("en", "xx", "yy")
    assert config.data.languages == ("yy", "xx")


def test_a_space_that_is_claimed_for_another_vision_side_is_refused(second, tmp_path):
    shutil.copytree(second, tmp_path / "a")
    change_contract(tmp_path / "a", lambda c: c["space"].update(vision_side="0" * 64))
    for open_run in (load, load_visual):
        with pytest.raises(CheckpointError, match="vision side: expected the one of the run that"):
            open_run(tmp_path / "a")
    change_contract(tmp_path / "a", lambda c: c.update(space={"model": 3}))
    with pytest.raises(CheckpointError, match="unreadable settings"):
        load(tmp_path / "a")


def test_a_trained_backbone_learns_it_too(settings, small, tmp_path):
    text = {"freeze": "embeddings"}
    train(settings("zero-shot", text=text, train={"epochs": 1}), tmp_path / "a")
    config = added(tmp_path / "a", small.manifest, settings=("train.epochs=1",))
    train(config, tmp_path / "b", init_from=tmp_path / "a")
    assert load(tmp_path / "a").fingerprint == load(tmp_path / "b").fingerprint


def test_a_grown_run_is_exported(second, tmp_path):
    (made,) = export_run(second, tmp_path / "export")
    export, model = load_export(made.path), load(second)
    texts = ["red square", "derxx erauqsxx", "derYy erauqsyy"]
    assert_close(export.encode_text(texts), model.encode_text(texts), atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="found adapters for yy, of add-language"):
        export_hub(second, tmp_path / "hub")


# --- texts alone -------------------------------------------------------------------------------


@pytest.fixture
def parallel(small, tmp_path):
    """Parallel text whose images are not there."""
    lines = [json.loads(line) for line in small.manifest.read_text().splitlines()]
    for line in lines:
        line["image"] = f"gone/{line['id']}.png"
    path = tmp_path / "parallel.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def test_it_is_learned_from_texts_alone(first, small, parallel, tmp_path, capsys):
    config = added(first, parallel, text_only=True)
    train(config, tmp_path / "run", init_from=first)
    assert load(tmp_path / "run").fingerprint == load(first).fingerprint
    before, after = (evaluated(f, small.manifest, capsys) for f in (first, tmp_path / "run"))
    assert after["yy"]["text_to_vision"]["R@5"] > 2.5 * CHANCE
    assert after["yy"]["SumR"] > before["yy"]["SumR"] + 50


def test_features_stay_the_runs_own(settings, small, parallel, tmp_path):
    (tmp_path / "features").mkdir()
    rng = np.random.default_rng(0)
    for line in small.manifest.read_text().splitlines():
        values = rng.normal(size=5).astype(np.float32)
        np.save(tmp_path / "features" / f"{json.loads(line)['id']}.npy", values)
    vision = {"encoder": f"features:{tmp_path / 'features'}"}
    languages = {"languages": ["xx"]}
    config = settings("translate-train", vision=vision, data=languages, train={"epochs": 1})
    train(config, tmp_path / "a")
    some = tmp_path / "some.jsonl"  # other items than those of training
    some.write_text("\n".join(small.manifest.read_text().splitlines()[20:]))
    few = ("train.epochs=1",)
    train(added(tmp_path / "a", some, settings=few), tmp_path / "b", init_from=tmp_path / "a")
    (tmp_path / "features").rename(tmp_path / "moved")
    text_only = added(tmp_path / "a", parallel, settings=few, text_only=True)
    train(text_only, tmp_path / "c", init_from=tmp_path / "a")
    names = [load(tmp_path / name).fingerprint for name in "abc"]
    assert len(set(names)) == 1


# --- refusals ----------------------------------------------------------------------------------


def test_a_language_that_is_known_and_one_without_translations_are_refused(first, small):
    with pytest.raises(LanguageError, match="found a run with en, xx"):
        added(first, small.manifest, "xx")
    with pytest.raises(LanguageError, match=r"--language zz: .* found translations into xx, yy"):
        added(first, small.manifest, "zz")
    with pytest.raises(ConfigError, match="--set method"):
        added(first, small.manifest, settings=("method=dcot",))


def test_a_grown_run_is_no_start_for_networks_without_its_adapters(second, settings, tmp_path):
    with pytest.raises(CheckpointError, match=r"network.adapters: \['yy'\] → \[\], which drops"):
        train(settings("translate-train"), tmp_path / "run", init_from=second)
    adapters = {"network": {"adapters": ["yy"]}, "train": {"epochs": 1}}
    train(settings("translate-train", **adapters), tmp_path / "run", init_from=second)


def test_the_method_needs_a_run_to_start_from(settings, tmp_path):
    with pytest.raises(ConfigError, match="expected a finished run to start from"):
        train(settings("add-language"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_languages_that_cannot_be_replayed_are_said(first, small, tmp_path, capsys):
    lines = [json.loads(line) for line in small.manifest.read_text().splitlines()]
    for line in lines:
        line.get("translations", {}).pop("xx", None)
    path = tmp_path / "other.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    assert added(first, path).data.languages == ("yy",)
    assert "no translations into xx" in capsys.readouterr().err


# --- resume ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "calls"), [("_step", 2), ("_validate", 2), ("_save", 1)])
def test_a_stopped_one_resumes_to_the_same_weights(name, calls, first, small, tmp_path):
    config = added(first, small.manifest, settings=("train.epochs=3", "train.batch_size=32"))
    train(config, tmp_path / "whole", init_from=first)
    real, seen = getattr(Loop, name), []

    def stop(self, *args, **named):
        seen.append(1)
        if len(seen) == calls:
            raise KeyboardInterrupt
        return real(self, *args, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, name, stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run", init_from=first)
    train(config, tmp_path / "run", resume=True)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("run", "whole")]
    assert_close(*weights, rtol=0, atol=0)
    contracts = [json.loads((tmp_path / n / "contract.json").read_text()) for n in ("run", "whole")]
    assert contracts[0] == contracts[1]
