import json
import logging

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from cl2cm.encode.bert_folder import write_bert_folder
from cl2cm.encode.e5s1 import decode_q4, read_e5s1
from cl2cm.errors import WeightsError
from fixtures.small_weights import PIECES, SIZES, e5_tensors, encode_q4, write_e5s1, write_tokenizer

DATA, EXACT = write_e5s1()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("e5")
    write_bert_folder(path, read_e5s1(DATA, "small.bin"), write_tokenizer(), "tokenizer.json")
    return path


def test_blocks_decode_as_number_by_number():
    values = np.random.default_rng(1).normal(size=(7, 96)).astype(np.float32)
    blocks, _ = encode_q4(values)
    slow = []
    for start in range(0, len(blocks), 18):
        scale = float(np.frombuffer(blocks[start : start + 2], "<f2")[0])
        nibbles = blocks[start + 2 : start + 18]
        slow += [((byte & 15) - 8) * scale for byte in nibbles]
        slow += [((byte >> 4) - 8) * scale for byte in nibbles]
    decoded = decode_q4(blocks, values.size)
    assert_array_equal(decoded, np.array(slow, np.float32))
    assert np.abs(decoded - values.ravel()).max() < 0.3


def test_a_block_worked_by_hand():
    block = np.float16(0.5).tobytes() + bytes([0x08, 0xF0, *[0x88] * 14])
    expected = np.zeros(32, np.float32)
    expected[0], expected[1], expected[16], expected[17] = 0, -4, -4, 3.5
    assert_array_equal(decode_q4(block, 32), expected)


def test_a_file_is_decoded():
    model = read_e5s1(DATA, "small.bin")
    assert model.sizes._asdict() == SIZES
    assert model.eps == 1e-12
    assert tuple(model.pieces) == PIECES
    assert model.special == (0, 2, 1, 3)
    pairs = {
        "emb.word": "embeddings.word_embeddings.weight",
        "emb.pos": "embeddings.position_embeddings.weight",
        "l1.k.w": "encoder.layer.1.attention.self.key.weight",
        "l0.ao.b": "encoder.layer.0.attention.output.dense.bias",
        "l0.aln.w": "encoder.layer.0.attention.output.LayerNorm.weight",
        "l1.fi.w": "encoder.layer.1.intermediate.dense.weight",
        "l1.fo.w": "encoder.layer.1.output.dense.weight",
        "l1.oln.b": "encoder.layer.1.output.LayerNorm.bias",
    }
    for ours, theirs in pairs.items():
        assert_array_equal(model.tensors[theirs], EXACT[ours])


def test_transformers_loads_the_folder_whole(folder):
    from transformers import BertModel

    logging.disable(logging.WARNING)
    model, info = BertModel.from_pretrained(
        folder, add_pooling_layer=False, output_loading_info=True
    )
    logging.disable(logging.NOTSET)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    assert model.dtype == torch.float32
    assert model.config.hidden_act == "gelu"
    assert_array_equal(model.embeddings.word_embeddings.weight.detach(), EXACT["emb.word"])


def test_transformers_loads_the_tokenizer_as_it_is(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("a Hund")["input_ids"] == [0, 4, 6, 2]
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id) == (1, 3)
    assert tokenizer.model_max_length == SIZES["positions"]


@pytest.mark.parametrize("length", [0, 3, 8, 40, 60, 110, 200, 400, len(DATA) // 2, len(DATA) - 1])
def test_a_truncated_file_is_refused(length):
    with pytest.raises(WeightsError, match=r"^small\.bin: expected a complete E5S1 file, found "):
        read_e5s1(DATA[:length], "small.bin")


def test_flipped_bytes_never_crash():
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(DATA)
        damaged[rng.integers(0, 1500)] ^= int(rng.integers(1, 256))
        try:
            read_e5s1(bytes(damaged), "small.bin")
        except WeightsError:
            refused += 1
    assert refused > 100


def without(name):
    return {key: value for key, value in e5_tensors().items() if key != name}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (write_e5s1(magic=b"GGUF")[0], "the beginning b'GGUF'"),
        (write_e5s1(version=2)[0], "version 2"),
        (write_e5s1(block=64)[0], "blocks of 64"),
        (write_e5s1(without("l1.q.w"))[0], "no tensor 'l1.q.w'"),
        (write_e5s1(sizes=SIZES | {"heads": 5})[0], "heads=5"),
        (write_e5s1(sizes=SIZES | {"layers": -1})[0], "layers = -1"),
        (write_e5s1(sizes=SIZES | {"vocab": 17})[0], "tensor 'emb.word'"),
        (write_e5s1(sizes=SIZES | {"vocab": 5})[0], "12 pieces for 5 embeddings"),
        (
            write_e5s1(e5_tensors() | {"emb.ln.w": np.full(32, np.nan, np.float32)})[0],
            "not finite",
        ),
    ],
)
def test_a_wrong_file_is_refused(data, said):
    with pytest.raises(WeightsError, match=said):
        read_e5s1(data, "small.bin")


@pytest.mark.parametrize(
    ("tokenizer", "said"),
    [
        (write_tokenizer(PIECES[:-1]), "the 12 pieces of the weights, found 11 others"),
        (write_tokenizer((*PIECES[:4], "▁cat", *PIECES[5:])), "found 12 others"),
        (b"{}", "a damaged one"),
        (write_tokenizer()[:-9], "a damaged one"),
    ],
)
def test_another_tokenizer_is_refused(tokenizer, said, tmp_path):
    with pytest.raises(WeightsError, match=said):
        write_bert_folder(tmp_path, read_e5s1(DATA, "small.bin"), tokenizer, "tokenizer.json")
    assert not any(tmp_path.iterdir())


def test_the_same_file_gives_the_same_bytes(folder, tmp_path):
    write_bert_folder(tmp_path, read_e5s1(DATA, "small.bin"), write_tokenizer(), "tokenizer.json")
    for path in folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert json.loads((folder / "config.json").read_bytes())["layer_norm_eps"] == 1e-12
