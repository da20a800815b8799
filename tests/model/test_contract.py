import json

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from cl2cm.errors import CheckpointError
from cl2cm.model.checkpoint import load
from cl2cm.model.contract import CONTRACT_TEXTS, TOLERANCE
from fixtures.runs import change_contract, change_settings


def test_the_contract_says_how_texts_are_fed(trained):
    contract = json.loads((trained / "contract.json").read_text(encoding="utf-8"))
    model = load(trained)
    assert [example["text"] for example in contract["examples"]] == list(CONTRACT_TEXTS)
    assert [e["ids"] for e in contract["examples"]] == model.backbone.tokenize(CONTRACT_TEXTS)
    assert contract["tokenizer"] == model.backbone.tokenizer_hash
    assert contract["vision"]["fingerprint"] == model.vision.fingerprint
    vectors = np.array([e["vector"] for e in contract["examples"]], dtype=np.float32)
    np.testing.assert_allclose(vectors, model.encode_text(CONTRACT_TEXTS), atol=1e-5, rtol=0)


def test_a_changed_tokenizer_is_refused(own_encoders):
    run, text, _ = own_encoders
    load(run)
    path = text / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["red"], vocabulary["blue"] = vocabulary["blue"], vocabulary["red"]
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(CheckpointError, match="tokenizer: expected the one that it was trained"):
        load(run)


def test_changed_text_weights_are_refused(own_encoders):
    run, text, _ = own_encoders
    state = load_file(text / "model.safetensors")
    name = next(iter(state))
    save_file(state | {name: state[name] + 1e-3}, text / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="text backbone: expected the one"):
        load(run)


def test_a_changed_preprocessing_is_refused(own_encoders):
    run, _, vision = own_encoders
    preprocess = json.loads((vision / "preprocess.json").read_text())
    (vision / "preprocess.json").write_text(json.dumps(preprocess | {"resample": "bilinear"}))
    with pytest.raises(CheckpointError, match="vision backbone: expected the one"):
        load(run)


@pytest.mark.parametrize(
    ("old", "new"), [('prefix = ""', 'prefix = "red "'), ("max_tokens = 16", "max_tokens = 15")]
)
def test_another_way_of_feeding_texts_is_refused(old, new, run):
    change_settings(run, old, new)
    with pytest.raises(CheckpointError, match="text backbone: expected the one"):
        load(run)


def test_the_contract_says_how_capitals_are_read(run):
    assert load(run).case == "lower"  # no caption of the small world has a capital
    shouted, said = load(run).encode_text(["RED CIRCLE", "red circle"])
    np.testing.assert_array_equal(shouted, said)
    change_contract(run, lambda c: c.pop("case"))
    assert load(run).case == "keep"  # as of earlier versions
    change_contract(run, lambda c: c.update(case="upper"))
    with pytest.raises(CheckpointError, match="a rule of capitals"):
        load(run)


def test_changed_ids_are_refused(run):
    change_contract(run, lambda c: c["examples"][1]["ids"].append(5))
    with pytest.raises(CheckpointError, match=r"tokens of 'Ein Hund im Schnee\.'"):
        load(run)


@pytest.mark.parametrize("value", [TOLERANCE * 3, float("nan")])
def test_changed_vectors_are_refused(run, value):
    def change(contract):
        contract["examples"][2]["vector"][0] += value

    change_contract(run, change)
    with pytest.raises(CheckpointError, match="vectors of the contract's texts"):
        load(run)


def test_vectors_of_another_machine_are_accepted(run):
    def change(contract):
        contract["examples"][2]["vector"][0] += TOLERANCE / 3

    change_contract(run, change)
    load(run)
