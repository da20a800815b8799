"""Off-the-shelf models on the command line: indexed, searched, served, evaluated, trained on."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

import cl2cm
from cl2cm.cli.app import app
from cl2cm.cli.app import run as command
from cl2cm.encode.clip.catalogue import MODELS
from cl2cm.encode.trust import confine
from cl2cm.errors import CheckpointError, VectorIndexError
from cl2cm.index import Index
from cl2cm.index.metadata import METADATA
from fixtures import shelf, world
from fixtures.runs import change_record

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
LINES = [line[2:] for kind, block in BLOCKS if kind == "console" for line in block.splitlines()]
SIGLIP = "google/siglip2-base-patch16-224"


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, colour in enumerate(world.COLOURS):
        world.draw(colour, "circle", number).save(folder / f"{colour}.png")
    return folder


@pytest.fixture
def clip(tmp_path):
    return shelf.write_clip(tmp_path / "models" / "clip")


@pytest.fixture
def pair(tmp_path):
    image = shelf.write_sentence_clip(tmp_path / "models" / "image")
    text, *_ = shelf.write_sentence_text(tmp_path / "models" / "text")
    return f"hf:{image}+{text}"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A local hub cache that holds a tiny SigLIP under the name of a large one."""
    cache = tmp_path / "hub"
    model = cache / f"models--{SIGLIP.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0" * 40)
    shelf.write_siglip(model / "snapshots" / ("0" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return cache


def accepted(capfd, *arguments):
    capfd.readouterr()
    assert command([str(argument) for argument in arguments]) == 0, capfd.readouterr().err
    return capfd.readouterr().out


def refused(capfd, *arguments):
    capfd.readouterr()
    assert command([str(argument) for argument in arguments]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err.splitlines()[-1]


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2", "open_clip", "m-clip", "pair"])
def test_from_a_folder_of_images_to_hits(kind, photos, tmp_path, capfd, pair):
    models = tmp_path / "models"
    spec = {
        "clip": lambda: f"hf:{shelf.write_clip(models / 'clip')}",
        "siglip": lambda: f"hf:{shelf.write_siglip(models / 'siglip')}",
        "siglip2": lambda: f"hf:{shelf.write_siglip2(models / 'siglip2')}",
        "open_clip": lambda: f"hf:{shelf.write_open_clip(models / 'open', hf_text=True)[0]}",
        "m-clip": lambda: (
            f"hf:{shelf.write_clip(models / 'clip')}+{shelf.write_m_clip(models / 'm')[0]}"
        ),
        "pair": lambda: pair,
    }[kind]()
    out = tmp_path / "index"
    made = json.loads(accepted(capfd, "index", spec, photos, out, "--json"))
    assert (made["items"], made["encoded"]) == (len(world.COLOURS), len(world.COLOURS))
    found = json.loads(accepted(capfd, "search", out, "red circle", "-k", "3", "--json"))
    model = cl2cm.load(spec)
    names = sorted(photos.iterdir())
    scores = model.encode_images(names) @ model.encode_text(["red circle"])[0]
    best = [names[i].name for i in np.argsort(-scores)[:3]]
    assert [hit["id"] for hit in found["hits"]] == best
    np.testing.assert_allclose(
        [hit["score"] for hit in found["hits"]], np.sort(scores)[::-1][:3], atol=1e-5
    )
    like = json.loads(accepted(capfd, "search", out, "--picture", names[0], "-k", "1", "--json"))
    assert like["hits"][0]["id"] == names[0].name
    world.draw("red", "bar", 9).save(photos / "new.png")
    again = json.loads(accepted(capfd, "index", spec, photos, out, "--json"))
    assert (again["items"], again["encoded"]) == (len(world.COLOURS) + 1, 1)


def test_the_same_from_python(photos, pair, tmp_path):
    cl2cm.build_index(cl2cm.load(pair), photos, tmp_path / "index")
    with cl2cm.open(tmp_path / "index") as searcher:
        assert len(searcher.search("one red circle", k=4)) == 4
        assert searcher.index.run == pair


def test_an_index_opens_from_any_folder(photos, clip, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path / "models")
    accepted(capfd, "index", "hf:./clip", photos, tmp_path / "index")
    monkeypatch.chdir(photos)
    accepted(capfd, "search", tmp_path / "index", "red")
    assert Index.open(tmp_path / "index").run == f"hf:{clip}"


def test_a_model_that_moved_is_named_and_another_refused(photos, clip, tmp_path, capfd):
    out, moved = tmp_path / "index", tmp_path / "moved"
    accepted(capfd, "index", f"hf:{clip}", photos, out)
    clip.rename(moved)
    assert "no such folder" in refused(capfd, "search", out, "red")
    accepted(capfd, "search", out, "red", "--run", f"hf:{moved}")
    other = shelf.write_clip(tmp_path / "other", seed=1)
    line = refused(capfd, "search", out, "red", "--run", f"hf:{other}")
    assert "expected an index of the model" in line
    assert "--rebuild" in refused(capfd, "index", f"hf:{other}", photos, out)


def test_evaluate(small, pair, capfd):
    result = json.loads(accepted(capfd, "evaluate", pair, small.manifest, "--json"))
    assert set(result["languages"]) == {"en", *world.LANGUAGES}
    model = cl2cm.load(pair)
    wanted = cl2cm.evaluate(model, small.manifest, languages=["en"])
    assert result["languages"]["en"]["SumR"] == pytest.approx(wanted["en"]["SumR"], abs=5)
    assert result["run"] == pair


def test_serve(photos, pair, tmp_path, capfd, monkeypatch):
    testclient = pytest.importorskip("fastapi.testclient", reason="pip install 'cl2cm[serve]'")
    served = {}
    monkeypatch.setattr("cl2cm.serve.run", lambda searcher, **told: served.update(told, s=searcher))
    accepted(capfd, "index", pair, photos, tmp_path / "index")
    accepted(capfd, "serve", tmp_path / "index")
    assert served["align"] is None
    page = cl2cm.serve.create_app(served["s"], load_model=served["load_model"])
    with testclient.TestClient(page) as client:
        hits = client.get("/api/v1/search", params={"q": "red circle", "k": 2}).json()["hits"]
        assert len(hits) == 2
        assert client.get("/", params={"q": "red circle"}).status_code == 200


# --- no model --------------------------------------------------------------------------------


def test_models_are_listed(capfd, hub):
    found = json.loads(accepted(capfd, "models", "--json"))["models"]
    assert [model["model"] for model in found] == [model.spec for model in MODELS]
    assert [model["here"] for model in found] == [model.image == SIGLIP for model in MODELS]
    assert all(model["use"] and model["megabytes"] and model["licence"] for model in found)
    assert f"hf:{SIGLIP}\n" in accepted(capfd, "models")


def test_index_without_a_model_says_which_there_are(photos, tmp_path, capfd):
    out = tmp_path / "index"
    line = refused(capfd, "index", photos, out)
    assert "expected a model before the folder" in line
    assert f"cl2cm index {MODELS[0].spec} {photos} {out} --allow-hub" in line
    command(["index", str(photos), str(out)])
    told = capfd.readouterr().err
    for model in MODELS:
        assert model.spec in told
        assert model.licence in told
    assert not out.exists()


def test_index_without_an_index(photos, clip, trained, capfd):
    for model in (f"hf:{clip}", trained):
        line = refused(capfd, "index", model, photos)
        assert line.endswith(f"write cl2cm index {model} {photos} INDEX")
        assert "INDEX" in refused(capfd, "index", model)


def test_models_that_do_not_exist_or_fit(photos, clip, tmp_path, capfd, small):
    out = tmp_path / "index"

    def line(spec):
        assert not out.exists()
        return refused(capfd, "index", spec, photos, out)

    text, *_ = shelf.write_m_clip(tmp_path / "text")
    wide = shelf.write_clip(tmp_path / "wide", dim=14)
    assert "--allow-hub" in line("hf:no/such-model")
    assert "no such folder" in line("hf:clip")
    assert "expected hf:MODEL" in line("hf:")
    assert f"hf:IMAGE_MODEL+{text}" in line(f"hf:{text}")
    assert "a text side of 14 dimensions" in line(f"hf:{wide}+{text}")
    assert "with a text side" in line(f"hf:{clip}+{small.text}")
    (text / "model.safetensors").rename(text / "pytorch_model.bin")
    accepted(capfd, "index", f"hf:{clip}+{text}", photos, out)  # the text side is only hashed
    assert "docs/models.md" in refused(capfd, "search", out, "red")


def test_a_pair_that_was_not_made_for_each_other_is_told(hub, capfd):
    from cl2cm.encode.clip.catalogue import partners

    text = "M-CLIP/XLM-Roberta-Large-Vit-B-32"
    assert "openai/clip-vit-base-patch32" in partners(text)
    model = hub / f"models--{text.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("1" * 40)
    folder, *_ = shelf.write_m_clip(model / "snapshots" / ("1" * 40))
    config = json.loads((folder / "config.json").read_text())
    shelf.write_json(folder / "config.json", config | {"numDims": 16})
    with pytest.raises(cl2cm.CL2CMError):
        cl2cm.load(f"hf:{SIGLIP}+{text}")
    assert "was made for openai/clip-vit-base-patch32 or" in capfd.readouterr().err
    with pytest.raises(
        cl2cm.CL2CMError, match=re.escape(f"hf:openai/clip-vit-base-patch32+{text}")
    ):
        cl2cm.load(f"hf:{text}")


# --- trust -----------------------------------------------------------------------------------


@pytest.fixture
def strangers(photos, hub, tmp_path, capfd, monkeypatch):
    """An index of somebody else, which names a model that is in the local hub cache."""
    out = tmp_path / "index"
    accepted(capfd, "index", f"hf:{SIGLIP}", photos, out)
    accepted(capfd, "search", out, "red")
    monkeypatch.setenv("CL2CM_CONFIG", str(tmp_path / "other-user"))
    return out


def test_a_strangers_index_loads_no_model_that_it_names(strangers, clip, capfd, monkeypatch):
    def loaded(*_, **__):
        raise AssertionError("a model was looked for")

    with monkeypatch.context() as patch:
        patch.setattr("cl2cm.encode.clip.layout.from_hub", loaded)
        patch.setattr("cl2cm.encode.vision_hf.load_image_side", loaded)
        for spec in (f"hf:{SIGLIP}", f"hf:{clip}", "hf:a/b+c/d", "hf:../models/clip"):
            change_record(
                strangers / METADATA, lambda head, spec=spec: head.update(run={"spec": spec})
            )
            for more in ([], ["--allow-hub"]):
                line = refused(capfd, "search", strangers, "red", *more)
                assert f"--run {spec}" in line
            assert f"--run {spec}" in refused(capfd, "serve", strangers, "--port", "0")
            with pytest.raises(VectorIndexError, match="a model that you name"):
                cl2cm.open(strangers)


def test_a_strangers_index_is_searched_with_a_model_that_the_user_names(strangers, capfd):
    accepted(capfd, "search", strangers, "red", "--run", f"hf:{SIGLIP}")


@pytest.mark.parametrize(
    "run", [{"spec": 1}, {"spec": "run"}, {"spec": "hf:a\0"}, {"spec": ""}, {}]
)
def test_forged_names_are_damage(strangers, run):
    head = json.loads((strangers / METADATA).read_text())
    (strangers / METADATA).write_text(json.dumps(head | {"run": run}))
    with pytest.raises(VectorIndexError):
        _ = Index.open(strangers).run


def test_a_run_follows_no_link_out_of_a_model_in_folders(tmp_path):
    run, secret = tmp_path / "run", tmp_path / "secret"
    shelf.write_sentence_clip(run / "clip")
    assert confine("hf:./clip", run) == f"hf:{run / 'clip'}"
    (run / "clip" / "0_CLIPModel").rename(secret)
    (run / "clip" / "0_CLIPModel").mkdir()
    (run / "clip" / "0_CLIPModel" / "config.json").symlink_to(secret / "config.json")
    with pytest.raises(CheckpointError, match="a link that leads out of the run"):
        confine("hf:./clip", run)
    shutil.rmtree(run / "clip" / "0_CLIPModel")
    (run / "clip" / "0_CLIPModel").symlink_to(secret)
    with pytest.raises(CheckpointError, match="a link that leads out of the run"):
        confine("hf:./clip", run)


# --- starting points -------------------------------------------------------------------------


def test_its_image_side_stays_frozen_under_a_trained_text_side(
    clip, small, settings, tmp_path, capfd
):
    store = tmp_path / "features"
    made = json.loads(
        accepted(
            capfd, "encode", small.manifest, "--encoder", f"hf:{clip}", "--out", store, "--json"
        )
    )
    assert made["width"] == shelf.DIM
    before = (clip / "model.safetensors").read_bytes()
    run = tmp_path / "run"
    vision = {"encoder": f"hf:{clip}"}
    config = settings("translate-train", vision=vision, train={"epochs": 30, "lr": 0.01})
    cl2cm.train(config, run)
    assert (clip / "model.safetensors").read_bytes() == before
    model = cl2cm.load(run)
    assert model.vision.fingerprint == cl2cm.load(f"hf:{clip}").vision.fingerprint
    stored = cl2cm.FeatureStore.open(store)
    some = [example for example in cl2cm.read_manifest(small.manifest) if example.split == "test"]
    rows = torch.tensor([stored.row(example.id) for example in some])
    np.testing.assert_allclose(
        model.encode_features(stored.gather(rows).values), model.encode_examples(some), atol=2e-3
    )
    trained = cl2cm.evaluate(model, small.manifest, languages=["xx"])
    assert trained["xx"]["text_to_vision"]["R@10"] > 2 * 100 * 10 / 24 * 0.75


# --- docs/models.md --------------------------------------------------------------------------


def test_its_three_commands_run_as_they_stand(photos, hub, tmp_path, capfd, monkeypatch, small):
    """With a tiny model under the name of the large one, and without a port."""
    served = []
    monkeypatch.setattr("cl2cm.serve.run", lambda searcher, **_: served.append(len(searcher.index)))
    monkeypatch.chdir(tmp_path)
    three = next(block for kind, block in BLOCKS if kind == "console").splitlines()
    assert [line.split()[2] for line in three] == ["models", "index", "serve"]
    for line in three:
        accepted(capfd, *shlex.split(line)[2:])
    assert served == [len(world.COLOURS)]
    inline = re.findall(r'`cl2cm (search photos-index "[^"]+")`', PAGE)
    assert inline
    accepted(capfd, *shlex.split(inline[0]))
    shutil.copytree(small.manifest.parent, tmp_path / "data")
    monkeypatch.chdir(tmp_path / "data")
    for line in LINES:
        words = shlex.split(line)[1:]
        if words[0] in ("evaluate", "encode") and "runs/mine" not in words:
            accepted(capfd, *words)


@pytest.mark.parametrize("line", LINES)
def test_its_commands_parse(line):
    _, name, *rest = shlex.split(line)
    found = typer.main.get_command(app).commands[name]
    assert found.make_context(name, rest, resilient_parsing=False).params


def test_its_table_is_the_list_of_the_command():
    rows = re.findall(r"^\| `(hf:\S+)` \| (.+?) \| (\d+) \| .+? \| (.+?) \|$", PAGE, re.MULTILINE)
    assert [row[0] for row in rows] == [model.spec for model in MODELS]
    for model, (_, languages, dim, licence) in zip(MODELS, rows, strict=True):
        assert (model.dim, model.licence) == (int(dim), licence)
        assert model.languages.startswith(languages)


def test_its_conversion_of_weights_works(tmp_path, monkeypatch):
    (block,) = [block for kind, block in BLOCKS if kind == "python"]
    monkeypatch.chdir(tmp_path)
    folder, *_ = shelf.write_m_clip(tmp_path / "m")
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    torch.save(weights, tmp_path / "pytorch_model.bin")
    exec(block, {})
    made = load_file(tmp_path / "model.safetensors")
    assert made.keys() == weights.keys()
    assert all(torch.equal(made[name], weights[name]) for name in made)
