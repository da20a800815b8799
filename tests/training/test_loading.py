import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as fuzz
from hypothesis import strategies as st

from cl2cm.cli.encoding import encode_store
from cl2cm.cli.evaluation import evaluate_manifest
from cl2cm.cli.indexing import index_source
from cl2cm.encode.trust import remember
from cl2cm.errors import EncoderError, LanguageError, ManifestError, MediaError, StoreError
from cl2cm.methods.build import build_method
from cl2cm.model.checkpoint import save_run
from cl2cm.training.loading import load_training_data
from cl2cm.training.loop import train
from fixtures.world import caption

WIDTH = 6
TEXTS = {  # the last one is decomposed
    **{
        code: tuple(caption(*thing, code) for thing in (("red", "circle"), ("blue", "square")))
        for code in ("en", "xx", "yy")
    },
    "pt": ("red", "blue bar"),  # that no training text is in
}
TEXTS["en"] += ("one green bar", "cafe\u0301 red bar that is red")


def write(folder, items, features):
    """A manifest of items, and a folder of their features."""
    (folder / "feat").mkdir(parents=True)
    for name, values in features.items():
        np.save(folder / "feat" / f"{name}.npy", values)
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(item) + "\n" for item in items))
    return manifest


def training_items(count=6, **captions):
    """Items whose English captions are translated into xx and yy."""
    for number in range(count):
        text = TEXTS["en"][number % 4]
        yield {
            "id": f"t{number}",
            "features": f"t{number}",
            "split": "train",
            "captions": captions or {"en": [text]},
            "translations": {
                code: {"x": [TEXTS[code][number % len(TEXTS[code])]]} for code in ("xx", "yy")
            }
            if not captions
            else {},
        }


def features_of(items, seed=0):
    rng = np.random.default_rng(seed)
    return {item["features"]: rng.normal(size=(1, WIDTH)).astype("f4") for item in items}


def config_of(settings, manifest, method="translate-train", **sections):
    return settings(
        method,
        data={"manifest": str(manifest), "skip_bad": True},
        vision={"encoder": f"features:{manifest.parent / 'feat'}"},
        train={"epochs": 1, "batch_size": 4},
        **sections,
    )


def untrained(config, data):
    torch.manual_seed(0)
    return build_method(
        config, text_width=data.backbone.width, vision_width=data.encoder.width
    ).eval()


captions = st.dictionaries(
    st.sampled_from([*TEXTS]),
    st.lists(st.integers(0, 3), min_size=1, max_size=3),
    max_size=4,
)
kinds = st.sampled_from(["own", "own", "own", "same", "nan", "huge", "none", "blank"])


@fuzz(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(kinds, captions), min_size=1, max_size=8), st.sampled_from([0, 1]))
def test_validation_is_what_evaluate_measures(settings, tmp_path_factory, capfd, drawn, layers):
    """Whatever a manifest leaves out, training measures what ``evaluate --split val`` does."""
    items = list(training_items())
    features = features_of(items)
    dropped, bad_lines = set(), set()
    for number, (kind, chosen) in enumerate(drawn):
        name = f"v{number}"
        said = {
            code: [TEXTS[code][i % len(TEXTS[code])] for i in of] for code, of in chosen.items()
        }
        own = features_of([{"features": name}], number)[name]
        values = np.full((1, WIDTH), 0.5, "f4") if kind == "same" else own
        values[0, 0] = {"nan": np.nan, "huge": 3e38}.get(kind, values[0, 0])
        if kind != "none":
            features[name] = values
        if kind == "blank":
            said["en"] = ["red", " "]
            bad_lines.add(len(items) + 1)
        elif kind in ("nan", "huge", "none") or not {"en", "xx", "yy"} & set(said):
            dropped.add(name)
        items.append({"id": name, "features": name, "split": "val", "captions": said})
    manifest = write(tmp_path_factory.mktemp("m"), items, features)
    config = config_of(settings, manifest, network={"layers": layers})
    capfd.readouterr()
    data = load_training_data(config)
    heard = capfd.readouterr().err
    for name in dropped:
        naming = [line for line in heard.splitlines() if re.search(rf"\b{name}\b", line)]
        assert len(naming) == 1, (name, heard)
    for line in bad_lines:
        assert heard.count(f"manifest.jsonl:{line}:") == 1
    method = untrained(config, data)
    found = data.sum_of_recalls(method.student)
    run = manifest.parent / "run"
    provenance = {"config": config.hash, "validation_SumR": {}}
    remember([config.text.encoder, config.vision.encoder])
    save_run(
        run, config, (method.student, method.teacher), (data.backbone, data.encoder), provenance
    )
    try:
        measured = evaluate_manifest(run, manifest, split="val", skip_bad=True, leak_check=False)
    except (LanguageError, ManifestError, MediaError):
        assert found == {}
        return
    expected = {code: scores["SumR"] for code, scores in measured["languages"].items()}
    expected.pop("pt", None)
    assert found == pytest.approx(expected, abs=1e-6)


def test_items_with_captions_in_target_languages_alone_are_measured(settings, tmp_path, capfd):
    items = list(training_items())
    items += [
        {
            "id": f"v{i}",
            "features": f"v{i}",
            "split": "val",
            "captions": {"xx": [TEXTS["xx"][i % 2]]},
        }
        for i in range(3)
    ]
    items[-1]["captions"]["en"] = ["red"]
    manifest = write(tmp_path / "m", items, features_of(items))
    config = config_of(settings, manifest, "cl2cm", teacher={"epochs": 1})
    train(config, tmp_path / "run")
    heard = capfd.readouterr().err
    assert heard.count("no captions in yy: the epoch is chosen by en, xx alone") == 1
    assert heard.count("2 items without captions in 'en' are left out of the cross-lingual") == 1
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    last = {key: value for line in logged for key, value in line.items() if "SumR/" in key}
    measured = evaluate_manifest(tmp_path / "run", manifest, split="val")["languages"]
    assert measured["xx"]["gallery"] == 3
    assert last == pytest.approx({f"SumR/{k}": v["SumR"] for k, v in measured.items()})


@pytest.mark.parametrize(
    ("val", "said"),
    [
        ([], "no items of the split 'val': no epoch is measured"),
        ([{"pt": ["red"]}], "no captions in en, xx, yy: no epoch is measured"),
        ([{"en": ["red"]}], "no captions in xx, yy: the epoch is chosen by en alone"),
    ],
)
def test_what_is_not_measured_is_said_and_has_no_number(val, said, settings, tmp_path, capfd):
    items = list(training_items())
    items += [
        {"id": f"v{i}", "features": f"v{i}", "split": "val", "captions": captions}
        for i, captions in enumerate(val)
    ]
    manifest = write(tmp_path / "m", items, features_of(items))
    provenance = train(
        config_of(settings, manifest, "cl2cm", teacher={"epochs": 1}), tmp_path / "run"
    )
    heard = capfd.readouterr().err
    assert heard.count(said) == 1
    logged = (tmp_path / "run" / "metrics.jsonl").read_text()
    if "no epoch" in said:
        assert "SumR" not in logged
        assert "SumR" not in heard
        assert "epoch 1, not measured" in heard
    assert provenance["validation_SumR"]["cross-lingual"] is None
    assert (provenance["validation_SumR"]["cross-modal"] is None) == ("no epoch" in said)


def test_training_items_that_teach_nothing_are_named(settings, tmp_path, capfd):
    items = [*training_items(), *({**item, "id": f"alone{i}"} for i, item in enumerate(
        training_items(2, xx=["derxx"])))]  # fmt: skip
    manifest = write(tmp_path / "m", items, features_of(items))
    data = load_training_data(config_of(settings, manifest))
    assert data.left_out == {"train": ["alone0", "alone1"]}
    assert "train: 2 items left out" in (heard := capfd.readouterr().err)
    assert heard.count("alone0") == heard.count("alone1") == 1


def test_texts_of_unknown_words_are_refused(settings, tmp_path, capfd):
    items = list(training_items())
    for number, item in enumerate(items):
        item["translations"]["xx"]["x"] = ["зелёный круг"]
        if number > 3:
            item["translations"]["yy"]["x"] = [f"{TEXTS['yy'][number % 2]} {number} яйцо"]
    manifest = write(tmp_path / "m", items, features_of(items))
    config = config_of(settings, manifest)
    with pytest.raises(EncoderError, match=r"captions in 'xx': .* found 100% unknown tokens"):
        load_training_data(config)
    load_training_data(replace(config, data=replace(config.data, languages=("yy",))))
    assert re.search(r"warning: \d\d% of the tokens of yy are unknown", capfd.readouterr().err)


def test_a_source_other_than_english_goes_all_the_way(settings, tmp_path):
    items = [{**item, "captions": {"zh": item["captions"]["en"]}} for item in training_items()]
    items += [
        {**item, "id": f"{split}{item['id']}", "split": split}
        for split in ("val", "test")
        for item in items[:3]
    ]
    manifest = write(tmp_path / "m", items, features_of(items))
    config = config_of(settings, manifest)
    train(replace(config, data=replace(config.data, source="zh")), tmp_path / "run")
    assert set(evaluate_manifest(tmp_path / "run", manifest)["languages"]) == {"zh"}
    stored = encode_store(manifest, tmp_path / "s", config.vision.encoder, side="vision")
    assert stored["items"] > 0
    assert index_source(tmp_path / "run", manifest, tmp_path / "index")["items"] == len(items)


def test_evaluate_names_a_broken_item_or_leaves_it_out(settings, tmp_path, capfd):
    items = list(training_items())
    items += [{**item, "id": f"test{item['id']}", "split": "test"} for item in items[:3]]
    manifest = write(tmp_path / "m", items, features_of(items))
    train(config_of(settings, manifest), tmp_path / "run")
    items[-1]["features"] = "broken"
    np.save(tmp_path / "m" / "feat" / "broken.npy", np.full((1, WIDTH), np.nan))
    manifest.write_text("".join(json.dumps(item) + "\n" for item in items))
    with pytest.raises(StoreError, match="'broken': expected finite numbers"):
        evaluate_manifest(tmp_path / "run", manifest)
    capfd.readouterr()
    found = evaluate_manifest(tmp_path / "run", manifest, skip_bad=True)
    assert found["languages"]["en"]["gallery"] == 2
    assert capfd.readouterr().err.count("skipped testt2") == 1


def validated(translations=None, count=3):
    """Training items, and validation items with English captions alone and their translations."""
    items = list(training_items())
    return items + [
        {
            "id": f"v{i}",
            "features": f"v{i}",
            "split": "val",
            "captions": {"en": [TEXTS["en"][i]]},
            "translations": {c: {"x": [TEXTS[c][i % 2]]} for c in translations or ()},
        }
        for i in range(count)
    ]


def test_translations_validate_where_there_are_no_human_captions(settings, tmp_path, capfd):
    items = validated(["xx", "yy"])
    manifest = write(tmp_path / "m", items, features_of(items))
    config = config_of(settings, manifest, "cl2cm", teacher={"epochs": 1})
    provenance = train(config, tmp_path / "run")
    heard = capfd.readouterr().err
    assert heard.count("no human captions in xx, yy: machine translations of the validation") == 1
    assert "alone" not in heard
    assert provenance["data"]["validated_on_translations"] == ["xx", "yy"]
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    keys = {key for line in logged if line["stage"] == "cross-modal" for key in line}
    assert {"SumR/en", "SumR/xx", "SumR/yy"} <= keys
    assert provenance["validation_SumR"]["cross-lingual"] is not None


def test_human_captions_go_before_translations(settings, tmp_path, capfd):
    items = validated(["xx", "yy"])
    items[-1]["captions"]["xx"] = [TEXTS["xx"][0]]
    manifest = write(tmp_path / "m", items, features_of(items))
    data = load_training_data(config_of(settings, manifest))
    assert "no human captions in yy: machine" in capfd.readouterr().err
    assert len(data.validation.pictures["xx"].texts) == 1
    assert len(data.validation.pictures["yy"].texts) == 3


@pytest.mark.parametrize("kind", ["sentence", "word"])
def test_noise_is_in_the_training_pairs_alone_and_recorded(kind, settings, tmp_path):
    items = validated(["xx", "yy"])
    manifest = write(tmp_path / "m", items, features_of(items))
    clean = load_training_data(config_of(settings, manifest))
    noise = {"noise": 0.5, "noise_kind": kind, "noise_seed": 3}
    config = config_of(settings, manifest)
    config = replace(config, data=replace(config.data, **noise))
    noisy = load_training_data(config)
    assert "noise" not in clean.provenance
    record = noisy.provenance["noise"]
    assert (record["share"], record["kind"], record["seed"]) == (0.5, kind, 3)
    assert record["changed"]["xx/x"][0] > 0
    follows = replace(config, data=replace(config.data, noise_seed=-1))
    seeds = [
        load_training_data(replace(follows, train=replace(config.train, seed=seed)))
        for seed in (3, 4)
    ]
    assert [data.provenance["noise"]["seed"] for data in seeds] == [3, 4]
    assert (seeds[0].batches.pairs.target == noisy.batches.pairs.target).all()
    assert noisy.validation.pictures.keys() == clean.validation.pictures.keys()
    untouched = load_training_data(replace(config, method="zero-shot"))
    assert "noise" not in untouched.provenance


def test_confidence_is_estimated_where_asked_for_and_recorded(settings, tmp_path, capfd):
    items = validated(["xx", "yy"])
    manifest = write(tmp_path / "m", items, features_of(items))
    config = config_of(settings, manifest)
    plain = load_training_data(config)
    assert plain.batches.pairs.confidence is None
    assert "confidence" not in plain.provenance
    capfd.readouterr()
    asked = load_training_data(replace(config, data=replace(config.data, confidence=True)))
    assert (asked.batches.pairs.confidence == 1).all()
    assert len(asked.batches.pairs.confidence) == len(asked.batches.pairs.target)
    assert asked.provenance["confidence"] == {}  # nothing that could be judged
    assert "xx has too few translations to judge them" in capfd.readouterr().err
    silent = load_training_data(
        replace(config, method="zero-shot", data=replace(config.data, confidence=True))
    )
    assert silent.batches.pairs.confidence is None  # it sees no translation
    for name in ("source", "target", "choices", "groups"):
        same = getattr(plain.batches.pairs, name) == getattr(asked.batches.pairs, name)
        assert same.all()


def test_no_noise_leaves_the_data_as_they_are(settings, tmp_path):
    items = validated()
    manifest = write(tmp_path / "m", items, features_of(items))
    config = config_of(settings, manifest)
    before = load_training_data(config)
    after = load_training_data(replace(config, data=replace(config.data, noise_seed=9)))
    assert before.provenance == after.provenance
    for name in ("source", "target", "choices", "groups"):
        assert (getattr(before.batches.pairs, name) == getattr(after.batches.pairs, name)).all()
