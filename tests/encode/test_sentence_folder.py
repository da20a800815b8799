"""Folders of sentence-transformers and of ALBERT, against the forward of transformers."""

import json

import pytest
import torch
from torch.testing import assert_close

from cl2cm.encode.sentence_folder import read_sentence_folder
from cl2cm.encode.text import TextBackbone
from cl2cm.errors import EncoderError, WeightsError
from cl2cm.model.checkpoint import load
from cl2cm.training.loop import train
from fixtures.text_folders import (
    POOLING,
    TRANSFORMER,
    sentence_folder,
    write_albert,
    write_pooling,
)

TEXTS = ["red square", "one circle that is blue", "bar"]


def forward(folder, texts, *, layers=None):
    """The states of each text, by transformers alone."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    if layers:
        model.config.num_hidden_layers = layers
        model.encoder.config.num_hidden_layers = layers
    with torch.no_grad():
        return [
            model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in texts
        ]


def states(backbone, texts):
    with torch.no_grad():
        return [
            backbone(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))[0]
            for ids in backbone.tokenize(texts)
        ]


def write_prompts(folder, **value):
    (folder / "config_sentence_transformers.json").write_text(json.dumps(value))


# --- ALBERT ------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 2])
def test_albert_gives_the_states_of_transformers(groups, small, tmp_path):
    folder = write_albert(tmp_path / "albert", small, groups=groups)
    backbone = TextBackbone.load(f"hf:{folder}", max_tokens=16)
    assert (backbone.width, backbone.layers) == (32, 4)
    assert_close(states(backbone, TEXTS), forward(folder, TEXTS))


def test_an_earlier_layer_of_albert(small, tmp_path):
    folder = write_albert(tmp_path / "albert", small)
    backbone = TextBackbone.load(f"hf:{folder}", max_tokens=16, layer=2)
    assert backbone.layers == 2
    assert_close(states(backbone, TEXTS), forward(folder, TEXTS, layers=2))
    whole = TextBackbone.load(f"hf:{folder}", max_tokens=16)
    assert whole.fingerprint != backbone.fingerprint
    with pytest.raises(EncoderError, match="a layer from 1 to 4"):
        TextBackbone.load(f"hf:{folder}", max_tokens=16, layer=5)


def test_groups_of_albert_are_not_divided_otherwise(small, tmp_path):
    folder = write_albert(tmp_path / "albert", small, groups=2)
    with pytest.raises(EncoderError, match="all 4 layers, in 2 groups that share"):
        TextBackbone.load(f"hf:{folder}", max_tokens=16, layer=2)
    assert TextBackbone.load(f"hf:{folder}", max_tokens=16, layer=4).layers == 4


def test_shared_layers_are_frozen_together(small, tmp_path):
    folder = write_albert(tmp_path / "albert", small)
    with pytest.raises(EncoderError, match="since its layers share their weights"):
        TextBackbone.load(f"hf:{folder}", max_tokens=16, freeze=2)
    for freeze, trained in (("all", False), (4, False), (0, True), ("none", True)):
        backbone = TextBackbone.load(f"hf:{folder}", max_tokens=16, freeze=freeze)
        layers = backbone.model.encoder.albert_layer_groups.parameters()
        assert {weight.requires_grad for weight in layers} == {trained}


# --- sentence-transformers ---------------------------------------------------------------------


@pytest.mark.parametrize("below", ["0_Transformer", "."])
def test_its_transformer_is_the_encoder(below, small, tmp_path):
    folder = tmp_path / "st"
    path = "" if below == "." else below
    sentence_folder(
        folder, small, below=below, modules=[(TRANSFORMER, path), (POOLING, "1_Pooling")]
    )
    backbone = TextBackbone.load(f"hf:{folder}", max_tokens=16)
    assert_close(states(backbone, TEXTS), forward(small.text, TEXTS))
    plain = TextBackbone.load(f"hf:{small.text}", max_tokens=16)
    assert backbone.fingerprint == plain.fingerprint


def test_a_folder_without_a_list_of_modules(small, tmp_path):
    folder = sentence_folder(tmp_path / "st", small)
    (folder / "modules.json").unlink()
    backbone = TextBackbone.load(f"hf:{folder}", max_tokens=16)
    assert_close(states(backbone, TEXTS), forward(small.text, TEXTS))


def test_newer_names_of_modules_and_normalisation(small, tmp_path, capsys):
    kinds = [
        ("sentence_transformers.base.modules.transformer.Transformer", "0_Transformer"),
        ("sentence_transformers.sentence_transformer.modules.pooling.Pooling", "1_Pooling"),
        ("sentence_transformers.models.Normalize", "2_Normalize"),
    ]
    folder = sentence_folder(tmp_path / "st", small, modules=kinds)
    assert TextBackbone.load(f"hf:{folder}", max_tokens=16).width == 32
    assert not capsys.readouterr().err


def test_another_pooling_is_said(small, tmp_path, capsys):
    folder = sentence_folder(tmp_path / "st", small)
    write_pooling(folder, "cls_token")
    TextBackbone.load(f"hf:{folder}", max_tokens=16)
    assert "pools by cls; cl2cm takes the mean of the tokens" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["Dense", "LSTM", "CNN", "WeightedLayerPooling", "Custom"])
def test_other_modules_are_refused(kind, small, tmp_path):
    modules = [
        *((TRANSFORMER, "0_Transformer"), (POOLING, "1_Pooling")),
        (f"sentence_transformers.models.{kind}", "2_More"),
    ]
    folder = sentence_folder(tmp_path / "st", small, modules=modules)
    with pytest.raises(
        EncoderError, match=f"found a module {kind}; name another encoder, or remove"
    ):
        TextBackbone.load(f"hf:{folder}", max_tokens=16)


def test_what_does_not_begin_with_a_transformer_is_refused(small, tmp_path):
    modules = [("sentence_transformers.models.StaticEmbedding", "0_Transformer")]
    folder = sentence_folder(tmp_path / "st", small, modules=modules)
    with pytest.raises(EncoderError, match="a Transformer as its first module"):
        TextBackbone.load(f"hf:{folder}", max_tokens=16)


def test_its_lower_casing_holds(small, tmp_path, settings):
    folder = sentence_folder(tmp_path / "st", small, do_lower_case=True)
    backbone = TextBackbone.load(f"hf:{folder}", max_tokens=16)
    assert backbone.lower_case
    assert backbone.tokenize(["RED Square"]) == backbone.tokenize(["red square"])
    plain = TextBackbone.load(f"hf:{small.text}", max_tokens=16)
    assert backbone.fingerprint != plain.fingerprint
    config = settings("translate-train", text={"encoder": f"hf:{folder}"}, train={"epochs": 1})
    train(config, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "contract.json").read_text())["lower_case"] is True
    a, b = load(tmp_path / "run").encode_text(["RED Square", "red square"])
    assert_close(a, b)


def test_its_greatest_length_holds(small, tmp_path):
    folder = sentence_folder(tmp_path / "st", small, max_seq_length=12)
    with pytest.raises(
        EncoderError, match=r"at most 12 tokens \(max_seq_length\), found max_tokens"
    ):
        TextBackbone.load(f"hf:{folder}", max_tokens=16)
    assert TextBackbone.load(f"hf:{folder}", max_tokens=12).max_tokens == 12


def test_its_prompts_hold(small, tmp_path, capsys):
    folder = sentence_folder(tmp_path / "st", small)
    prompts = {"query": "one ", "passage": "that ", "none": ""}
    write_prompts(folder, prompts=prompts, default_prompt_name="query")
    with pytest.raises(EncoderError, match=r"set text\.prefix to 'one '"):
        TextBackbone.load(f"hf:{folder}", max_tokens=16, prefix="query: ")
    for prefix in ("one ", "that "):
        backbone = TextBackbone.load(f"hf:{folder}", max_tokens=16, prefix=prefix)
        expected = forward(small.text, [prefix + text for text in TEXTS])
        assert_close(states(backbone, TEXTS), expected)
    assert "has prompts" not in capsys.readouterr().err
    TextBackbone.load(f"hf:{folder}", max_tokens=16)
    assert (
        "has prompts (query 'one ', passage 'that '), and text.prefix is ''"
        in capsys.readouterr().err
    )
    write_prompts(folder, prompts={"query": "", "document": ""}, default_prompt_name=None)
    TextBackbone.load(f"hf:{folder}", max_tokens=16, prefix="one ")
    assert "has prompts" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("modules.json", "{"),
        ("modules.json", "[]"),
        ("modules.json", "[1]"),
        ("modules.json", json.dumps([{"type": TRANSFORMER, "path": "../elsewhere"}])),
        ("modules.json", json.dumps([{"type": TRANSFORMER, "path": "/etc"}])),
        ("modules.json", json.dumps([{"type": 3, "path": ""}])),
        ("1_Pooling/config.json", "[]"),
        ("0_Transformer/sentence_bert_config.json", "3"),
        ("0_Transformer/sentence_bert_config.json", '{"max_seq_length": "many"}'),
        ("config_sentence_transformers.json", '{"prompts": [1]}'),
        ("config_sentence_transformers.json", '{"prompts": {"a": 1}}'),
        ("config_sentence_transformers.json", '{"prompts": {}, "default_prompt_name": "a"}'),
    ],
)
def test_damage_is_told(name, content, small, tmp_path):
    folder = sentence_folder(tmp_path / "st", small)
    (folder / name).write_text(content)
    with pytest.raises(WeightsError, match="expected the format of sentence-transformers in"):
        read_sentence_folder("hf:st", folder)
