import functools
import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from cl2cm.encode.text import TextBackbone
from cl2cm.encode.tokens import pad_tokens
from cl2cm.errors import EncoderError, WeightsError

WORDS = ("a", "dog", "Dog", "DOG", "A", "cat", "Hund", "im", "Schnee", "query", ":")
KINDS = ("bert", "xlm-roberta", "distilbert")


def write_tokenizer(folder, words=WORDS, *, lower=False, **settings):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    vocabulary = {word: i for i, word in enumerate((*names, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if lower:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    keys = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **dict(zip(keys, names, strict=True)), **settings
    ).save_pretrained(folder)


def write_model(folder, kind="bert", seed=0, layers=3):
    from transformers import AutoConfig, AutoModel

    small = {"vocab_size": 24, "hidden_size": 16, "num_attention_heads": 2}
    small |= {"num_hidden_layers": layers, "max_position_embeddings": 20, "pad_token_id": 1}
    small |= {"dim": 16, "hidden_dim": 32} if kind == "distilbert" else {"intermediate_size": 32}
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, **small)
    model = AutoModel.from_config(config)
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    model.save_pretrained(folder)


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    write_tokenizer(path)
    write_model(path, request.param)
    return path


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    path = tmp_path_factory.mktemp("bert")
    write_tokenizer(path)
    write_model(path)
    return path


def load(folder, **settings):
    return TextBackbone.load(f"hf:{folder}", **{"max_tokens": 16, **settings})


def states(backbone, texts, extra=0):
    ids = backbone.tokenize(texts)
    tokens = pad_tokens(ids, backbone.special)
    values = torch.nn.functional.pad(tokens.values, (0, extra), value=backbone.special.pad)
    mask = torch.nn.functional.pad(tokens.mask, (0, extra))
    return backbone(values, mask), ids


# --- states ----------------------------------------------------------------------------------


def test_padding_and_neighbours_change_nothing(folder):
    backbone = load(folder)
    texts = ["a dog", "Hund", "a cat im Schnee a dog"]
    together, ids = states(backbone, texts, extra=5)
    for row, (text, length) in enumerate(zip(texts, map(len, ids), strict=True)):
        alone, _ = states(backbone, [text])
        assert alone.shape == (1, length, backbone.width) == (1, length, 16)
        assert_close(together[row, :length], alone[0], atol=1e-5, rtol=0)


def test_states_are_those_of_transformers(folder):
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    ids = torch.tensor([[0, 5, 6, 2]])
    expected = model(ids, output_hidden_states=True).hidden_states
    mask = torch.ones(1, 4, dtype=torch.bool)
    assert_close(load(folder)(ids, mask), expected[-1], atol=1e-6, rtol=0)
    for layer in (1, 2, 3):
        backbone = load(folder, layer=layer)
        assert backbone.layers == layer
        assert_close(backbone(ids, mask), expected[layer], atol=1e-6, rtol=0)


def test_dropped_layers_are_gone(folder):
    def size(backbone):
        return sum(weights.numel() for weights in backbone.parameters())

    whole, half = load(folder), load(folder, layer=1)
    assert size(half) < size(whole)


@pytest.mark.parametrize("layer", [0, 4, -1])
def test_impossible_layers(layer, bert):
    with pytest.raises(EncoderError, match="expected a layer from 1 to 3"):
        load(bert, layer=layer)


# --- freezing --------------------------------------------------------------------------------


def gradients(backbone):
    """Names of the weights that a step would change."""
    backbone.train()
    result, _ = states(backbone, ["a dog", "Hund im Schnee"])
    if result.requires_grad:
        (
            result * torch.randn(result.shape, generator=torch.Generator().manual_seed(0))
        ).sum().backward()
    return {
        name
        for name, weights in backbone.named_parameters()
        if weights.grad is not None and weights.grad.abs().sum() > 0
    }


def layer_of(name):
    """0 for the embeddings, 1 … for the layers."""
    numbers = [part for part in name.split(".") if part.isdigit()]
    return int(numbers[0]) + 1 if numbers else 0


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        ("all", set()),
        ("embeddings", {1, 2, 3}),
        (0, {1, 2, 3}),
        (1, {2, 3}),
        (2, {3}),
        (3, set()),
        ("none", {0, 1, 2, 3}),
    ],
)
def test_gradients_reach_what_is_not_frozen(freeze, trained, folder):
    backbone = load(folder, freeze=freeze)
    names = gradients(backbone)
    assert {layer_of(name) for name in names} == trained
    if freeze == "none":
        assert any("word_embeddings" in name for name in names)
    free = {layer_of(name) for name, w in backbone.named_parameters() if w.requires_grad}
    assert free == trained


def test_no_grad_is_respected(bert):
    backbone = load(bert, freeze="none").train()
    with torch.no_grad():
        result, _ = states(backbone, ["a dog"])
    assert not result.requires_grad


def test_a_frozen_part_has_no_dropout(bert):
    ids, mask = torch.tensor([[0, 5, 6, 2]]), torch.ones(1, 4, dtype=torch.bool)

    def differ(freeze):
        backbone = load(bert, freeze=freeze).train()
        return not torch.equal(backbone(ids, mask), backbone(ids, mask))

    assert not differ("all")
    assert not differ(3)
    assert differ(2)
    assert differ("none")
    backbone = load(bert, freeze=1).train()
    assert [layer.training for layer in backbone.model.encoder.layer] == [False, True, True]
    assert not backbone.model.embeddings.dropout.training
    assert not backbone.eval().model.encoder.layer[2].training


@pytest.mark.parametrize("freeze", ["some", -1, 4, "2"])
def test_impossible_freezing(freeze, bert):
    with pytest.raises(EncoderError, match="all, embeddings, none or 0 to 3 layers"):
        load(bert, freeze=freeze)


# --- tokens ----------------------------------------------------------------------------------


def test_case_is_kept(bert):
    assert load(bert).tokenize(["Dog dog DOG"]) == [[0, 7, 6, 8, 2]]


def test_a_cased_vocabulary_is_not_lower_cased(bert, tmp_path):
    with pytest.raises(EncoderError, match=r"set text\.lower_case to false"):
        load(bert, lower_case=True)
    write_model(tmp_path)
    write_tokenizer(tmp_path, lower=True)
    with pytest.raises(EncoderError, match="set do_lower_case to false"):
        load(tmp_path)


def test_an_uncased_vocabulary_may_be(tmp_path):
    write_model(tmp_path)
    write_tokenizer(tmp_path, ("a", "dog"))
    assert load(tmp_path).tokenize(["A Dog"]) == [[0, 3, 3, 2]]
    assert load(tmp_path, lower_case=True).tokenize(["A Dog"]) == [[0, 5, 6, 2]]


def test_long_texts_keep_their_special_tokens(bert):
    backbone = load(bert, max_tokens=6)
    assert backbone.tokenize(["a dog " * 30, "a"]) == [[0, 5, 6, 5, 6, 2], [0, 5, 2]]


def test_truncation_and_padding_of_the_files_are_overruled(tmp_path, bert):
    write_model(tmp_path)
    write_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    value = json.loads(path.read_bytes())
    value["truncation"] = {
        "direction": "Left",
        "max_length": 3,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    value["padding"] = {
        "strategy": {"Fixed": 12},
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 1,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    path.write_text(json.dumps(value))
    texts = ["a dog im Schnee", "", "cat " * 40]
    assert load(tmp_path).tokenize(texts) == load(bert).tokenize(texts)


def test_an_empty_text_is_special_tokens_alone(bert):
    backbone = load(bert)
    assert backbone.tokenize([""]) == [[0, 2]]
    assert backbone.tokenize([]) == []
    result, _ = states(backbone, ["", "a dog"])
    assert torch.isfinite(result).all()


def test_special_tokens_and_prefix_are_no_words(bert):
    plain, prefixed = load(bert), load(bert, prefix="query: ")
    assert plain.special == (1, frozenset({0, 1, 2, 4}), 1)
    assert prefixed.special.start == 3
    assert prefixed.tokenize(["a dog"]) == [[0, 14, 15, 5, 6, 2]]
    tokens = pad_tokens(prefixed.tokenize(["a unheard"]), prefixed.special)
    assert tokens.content.tolist() == [[False, False, False, True, True, False]]


def test_too_few_tokens_for_the_prefix(bert):
    with pytest.raises(EncoderError, match="at least 5 tokens, for a prefix of 3"):
        load(bert, prefix="query: ", max_tokens=4)


@pytest.mark.parametrize(("kind", "longest"), [("bert", 20), ("xlm-roberta", 18)])
def test_more_tokens_than_positions(kind, longest, tmp_path):
    write_model(tmp_path, kind)
    write_tokenizer(tmp_path)
    backbone = load(tmp_path, max_tokens=longest)
    result, ids = states(backbone, ["a dog " * 30])
    assert result.shape[1] == len(ids[0]) == longest
    with pytest.raises(EncoderError, match=f"expected at most {longest} tokens"):
        load(tmp_path, max_tokens=longest + 1)


# --- identity --------------------------------------------------------------------------------


def test_the_fingerprint_names_weights_tokenizer_and_contract(bert, tmp_path):
    base = load(bert)
    assert len(base.fingerprint) == len(base.tokenizer_hash) == 64
    assert load(bert, freeze="none").fingerprint == base.fingerprint
    assert load(bert, layer=3).fingerprint == base.fingerprint
    write_model(tmp_path, seed=1)
    write_tokenizer(tmp_path)
    other_weights = load(tmp_path)
    assert other_weights.tokenizer_hash == base.tokenizer_hash
    write_tokenizer(tmp_path, (*WORDS, "new"))
    other_words = load(tmp_path)
    assert other_words.tokenizer_hash != base.tokenizer_hash
    contracts = ({"layer": 2}, {"prefix": "a "}, {"max_tokens": 15})
    others = [load(bert, **contract) for contract in contracts]
    prints = {one.fingerprint for one in (base, other_weights, other_words, *others)}
    assert len(prints) == 6


def test_other_files_do_not_count(bert, tmp_path):
    for path in bert.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "README.md").write_text("words")
    assert load(tmp_path).fingerprint == load(bert).fingerprint


# --- what goes wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("multilingual-e5-small", "expected hf:DIR, hf:NAME or hf:OWNER/NAME"),
        ("hf:", "expected hf:DIR"),
        ("onnx:x", "expected hf:DIR"),
        ("hf:no-such-model", "found no such folder; correct the name, or run: cl2cm doctor"),
        ("hf:/no/such/folder", "found no such folder"),
        ("hf:./nothing", "found no such folder"),
        ("hf:owner/absent-model", "or a model on the hub, found none .*install-weights"),
    ],
)
def test_specs_that_name_nothing(spec, said, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match=said) as caught:
        TextBackbone.load(spec)
    assert "\n" not in str(caught.value)


def test_absent_and_damaged_offline_models(tmp_path):
    name = "multilingual-e5-small"
    with pytest.raises(WeightsError, match="found none; run: cl2cm doctor --install-weights"):
        TextBackbone.load(f"hf:{name}", cache=tmp_path)
    (tmp_path / "models" / name).mkdir(parents=True)
    with pytest.raises(WeightsError, match="found a damaged one; run: cl2cm doctor"):
        TextBackbone.load(f"hf:{name}", cache=tmp_path)


@pytest.mark.parametrize("how", ["config", "truncated", "missing", "tokenizer", "lost", "decoder"])
def test_damaged_folders(how, bert, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in bert.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "model.safetensors"
    if how == "config":
        (tmp_path / "config.json").write_text("{")
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-50])
    elif how == "missing":
        weights.unlink()
    elif how == "tokenizer":
        (tmp_path / "tokenizer.json").write_text("{}")
    elif how == "lost":
        state = load_file(weights)
        del state["encoder.layer.1.output.dense.weight"]
        save_file(state, weights, metadata={"format": "pt"})
    else:
        (tmp_path / "config.json").write_text('{"model_type": "t5", "is_encoder_decoder": true}')
    with pytest.raises(WeightsError, match=r"damaged or unknown one \(.+\); restore") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_not_read(bert, tmp_path):
    for path in bert.iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    from safetensors.torch import load_file

    torch.save(load_file(bert / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError):
        load(tmp_path)


# --- the real weights ------------------------------------------------------------------------

FIRST = [0.03115, 0.00235, 0.00273, -0.07606, 0.08490, -0.00216, 0.01179, -0.02294]


load_once = functools.cache(TextBackbone.load)


@pytest.fixture
def real():
    return load_once("hf:multilingual-e5-small", prefix="query: ")


def vectors(backbone, texts):
    with torch.no_grad():
        tokens = pad_tokens(backbone.tokenize(texts), backbone.special)
        values = backbone(tokens.values, tokens.mask)
    mask = tokens.mask[..., None]
    mean = (values * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(mean, dim=-1).numpy()


@pytest.mark.weights("multilingual-e5-small")
def test_the_real_weights_know_what_is_alike(real):
    dog, *same, other = vectors(
        real,
        [
            "a dog in the snow",
            "ein Hund im Schnee",
            "pes ve sněhu",
            "雪地里的狗",
            "un chat sur la table",
        ],
    )
    assert_allclose(dog[:8], FIRST, atol=1e-4)
    assert min(dog @ vector for vector in same) > dog @ other + 0.05


@pytest.mark.weights("multilingual-e5-small")
def test_the_real_tokenizer_reads_as_it_should(real):
    assert (real.width, real.layers) == (384, 12)
    assert real.special == (1, frozenset({0, 1, 2, 250001}), 4)
    assert real.tokenize(["a dog"]) == [[0, 41, 1294, 12, 10, 10269, 2]]
    assert real.tokenize(["A Dog"]) != real.tokenize(["a dog"])
    assert np.ptp([len(ids) for ids in real.tokenize(["a dog", "a dog " * 200])]) == 57


# --- vocabularies ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "distilbert", "xlm-roberta", "roberta"])
def test_a_folder_without_tokenizer_files_is_refused(kind, tmp_path):
    write_model(tmp_path, kind)
    with pytest.raises(WeightsError, match="found no tokenizer files"):
        load(tmp_path)


def test_a_vocabulary_larger_than_the_embedding_is_refused(tmp_path):
    write_model(tmp_path)
    write_tokenizer(tmp_path, [f"word{number}" for number in range(20)])
    with pytest.raises(EncoderError, match=r"ids below 24, .* found a tokenizer with ids to 24"):
        load(tmp_path)


def test_share_of_unknown_words(tmp_path):
    write_model(tmp_path)
    write_tokenizer(tmp_path, ("a", "dog", "query"))
    backbone = load(tmp_path, prefix="query ")
    assert backbone.unknown_share(["a dog", "dog"]) == 0
    assert backbone.unknown_share(["a cat", "a dog"]) == 0.25
    assert backbone.unknown_share([]) == 0
