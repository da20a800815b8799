"""An export that was changed, or made by a stranger: every change is found, nothing else is read."""

import json
import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cl2cm.cli.app import run as run_cli
from cl2cm.encode import onnx_session
from cl2cm.errors import CheckpointError, ConfigError, ExportError
from cl2cm.export import contract as contract_module
from cl2cm.export.load import load, load_visual
from cl2cm.export.model import load_export
from cl2cm.storage import sha256_file
from fixtures.damage import flip_bit


def change(export, edit, *, files=()):
    """Edit the contract; ``files`` get their new hashes, as a careful stranger would see to."""
    path = export / "contract.json"
    contract = json.loads(path.read_text("utf-8"))
    edit(contract)
    for name in files:
        file = export / name
        contract["files"][name] = {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
    path.write_text(json.dumps(contract), encoding="utf-8")


@pytest.mark.parametrize(
    "name", ["text.onnx", "vision.onnx", "tokenizer.json", "text.weights", "vision.weights"]
)
def test_a_flipped_byte_is_named(name, export):
    file = export / name
    if not file.exists():
        pytest.skip("the small world's weights are within the graph")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ExportError, match=name):
        load_export(export)


def test_doctor_verifies_an_export(export, capfd):
    assert run_cli(["doctor", str(export), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["kind"] == "export"
    flip_bit(export / "text.weights", 100)
    assert run_cli(["doctor", str(export), "--json"]) == 2
    [told] = json.loads(capfd.readouterr().out)["damaged"]
    assert "text.weights" in told


@pytest.mark.parametrize("name", ["text.onnx", "vision.onnx", "tokenizer.json", "contract.json"])
def test_a_missing_file_is_named(name, export):
    (export / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_export(export)


def test_an_altered_tokenizer_is_caught_even_with_its_hash(export):
    path = export / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    tokenizer["post_processor"] = None
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(ExportError, match=r"tokenizer\.json: expected [\d,]+ bytes"):
        load_export(export)
    change(export, lambda _: None, files=["tokenizer.json"])
    with pytest.raises(ExportError, match="tokens of 'a dog in the snow'"):
        load_export(export)


def cased(export):
    """Give the tokenizer words with capitals, so that their case makes a difference."""
    path = export / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["Ein"] = vocabulary.pop("red")
    path.write_text(json.dumps(tokenizer), encoding="utf-8")

    def edit(contract):
        example = next(e for e in contract["examples"] if e["text"].startswith("Ein"))
        example["ids"][1] = vocabulary["Ein"]

    change(export, edit, files=["tokenizer.json"])


def test_a_switched_lower_casing_is_caught(export):
    cased(export)
    change(export, lambda contract: contract["text"].update(lower_case=True))
    with pytest.raises(ExportError, match=r"tokens of 'Ein Hund im Schnee\.'"):
        load_export(export)


@pytest.mark.parametrize(("key", "value"), [("prefix", "query: "), ("max_tokens", 3)])
def test_another_prefix_or_length_is_caught(key, value, export):
    change(export, lambda contract: contract["text"].update({key: value}))
    with pytest.raises(ExportError, match="tokens of"):
        load_export(export)


def test_a_missing_prefix_is_caught(settings, tmp_path):
    from cl2cm.export.write import export_run
    from cl2cm.training.loop import train

    train(settings("zero-shot", text={"prefix": "red: "}, train={"epochs": 1}), tmp_path / "run")
    (made,) = export_run(tmp_path / "run", tmp_path / "out")
    load_export(made.path)
    change(made.path, lambda contract: contract["text"].update(prefix=""))
    with pytest.raises(ExportError, match="tokens of"):
        load_export(made.path)


def test_weights_of_another_model_are_caught_even_with_their_hash(export):
    graph = onnx.load(export / "text.onnx")
    for tensor in graph.graph.initializer:
        if tensor.name.endswith("head.linear.bias"):
            values = onnx.numpy_helper.to_array(tensor) + 1
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(graph, export / "text.onnx")
    change(export, lambda _: None, files=["text.onnx"])
    with pytest.raises(ExportError, match="vectors of the contract's texts"):
        load_export(export)


SPOILT = [
    ({"kind": "other"}, "in place of"),
    ({"format": 2}, "this version reads 1"),
    ({"dim": 0}, "dim = 0"),
    ({"dim": 10**9}, "dim"),
    ({"model": 5}, "text should be"),
    ({"examples": []}, "0 examples"),
    ({"examples": [{"text": "a", "ids": [], "vector": [1.0]}]}, "another width"),
    ({"text": {"normalisation": {"form": "NFC", "remove": "(a+)+$"}}}, "does not know"),
    ({"text": {"normalisation": {"form": "nonsense", "remove": "[a]"}}}, "does not know"),
    ({"text": {"max_tokens": 10**9}}, "max_tokens"),
    ({"text": {"pad": -1}}, "pad"),
    ({"text": {"prefix": "a" * 5000}}, "prefix"),
    ({"text": {"lower_case": "no"}}, "lower_case"),
    ({"text": {"case": "upper"}}, "case 'upper'"),
    ({"text": {"case": ["lower"]}}, "case"),
    ({"vision": {"preprocess": {"size": 10**6}}}, "size"),
    ({"vision": {"preprocess": {"resample": "/etc/passwd"}}}, "resample"),
    ({"vision": {"sampling": {"kind": "uniform", "frames": 10**9, "fps": 2}}}, "frames"),
    ({"vision": {"sampling": {"kind": "uniform", "frames": 1, "fps": 0}}}, "fps"),
    ({"vision": {"input": "code"}}, "kind 'code'"),
]


def merge(into, changes):
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


@pytest.mark.parametrize(("changes", "words"), SPOILT, ids=lambda value: str(value)[:40])
def test_a_contract_out_of_bounds_is_refused(changes, words, export):
    change(export, lambda contract: merge(contract, changes))
    with pytest.raises(ExportError, match=words):
        load_export(export)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", "[" * 100_000, '{"kind": "cl2cm-export"}']
)
def test_a_contract_that_is_none_is_refused(text, export):
    (export / "contract.json").write_text(text)
    with pytest.raises(ExportError, match="the contract of an export"):
        load_export(export)


def test_a_contract_that_is_too_large_is_not_read(export, monkeypatch):
    monkeypatch.setattr(contract_module, "MAX_CONTRACT", 100)
    with pytest.raises(ExportError, match="more than 100 bytes"):
        load_export(export)


# --- nothing outside the folder ----------------------------------------------------------------


@pytest.mark.parametrize("side", ["text", "vision"])
@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "link", "other.bin"])
def test_weights_elsewhere_are_not_read(side, location, export):
    (export.parent / "secret").write_bytes(b"0" * 4096)
    (export / "link").symlink_to(export.parent / "secret")
    (export / "other.bin").write_bytes(b"0" * 4096)
    name = f"{side}.onnx"
    graph = onnx.load(export / name)
    tensor = next(t for t in graph.graph.initializer if t.data_type == TensorProto.FLOAT)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    (export / name).write_bytes(graph.SerializeToString())
    change(export, lambda _: None, files=[name])
    with pytest.raises(ExportError, match="weights in"):
        load_export(export)


@pytest.mark.parametrize("name", ["text.onnx", "tokenizer.json", "contract.json", "vision.onnx"])
def test_links_that_lead_out_are_refused(name, export):
    away = export.parent / "away"
    (export / name).rename(away)
    (export / name).symlink_to(away)
    with pytest.raises(CheckpointError, match="a link that leads out"):
        load_export(export)


def test_a_pipe_does_not_hang(export):
    (export / "tokenizer.json").unlink()
    os.mkfifo(export / "tokenizer.json")
    with pytest.raises(CheckpointError, match="pipe"):
        load_export(export)


def test_a_tokenizer_that_never_ends_is_refused(export):
    path = export / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    tokenizer["normalizer"] = {
        "type": "Replace",
        "pattern": {"Regex": "(a+)+$"},
        "content": "",
    }
    whole = json.dumps(tokenizer)
    for text in (whole, whole.replace('"Regex"', '"\\u0052egex"')):
        path.write_text(text, encoding="utf-8")
        change(export, lambda _: None, files=["tokenizer.json"])
        with pytest.raises(ExportError, match="a repeated group"):
            load_export(export)


@pytest.mark.skipif(not hasattr(os, "SEEK_HOLE"), reason="no holes in files on this system")
def test_a_file_of_holes_is_not_read(export):
    with (export / "tokenizer.json").open("r+b") as file:
        file.truncate(2**31)
    change(export, lambda contract: contract["files"]["tokenizer.json"].update(bytes=2**31))
    with pytest.raises(ExportError, match=r"tokenizer\.json"):
        load_export(export)


def extend(export, side, *nodes, **constants):
    """Let a stranger's nodes follow a graph, whose vectors they read as ``before``."""
    name = f"{side}.onnx"
    model = onnx.load(export / name, load_external_data=False)
    for node in model.graph.node:
        node.output[:] = ["before" if one == "vectors" else one for one in node.output]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()
    )
    (export / name).write_bytes(model.SerializeToString())
    change(export, lambda _: None, files=[name])


def open_and_use(export, side, small):
    model = load_export(export, text=side == "text")  # texts of the contract are encoded
    model.encode_visual(sorted((small.manifest.parent / "images").iterdir())[:2])


ONES = helper.make_node(
    "ConstantOfShape", ["big"], ["a0"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1])
)
MEAN = helper.make_node("ReduceMean", ["extra"], ["mean"], keepdims=0)
ADD = helper.make_node("Add", ["before", "mean"], ["vectors"])


@pytest.mark.parametrize("side", ["text", "vision"])
def test_a_graph_that_asks_for_terabytes_is_refused(side, export, small):
    same = helper.make_node("Identity", ["a0"], ["extra"])
    extend(export, side, ONES, same, MEAN, ADD, big=np.int64([10**6, 2000]))
    with pytest.raises(ExportError, match="within bounds"):
        open_and_use(export, side, small)


@pytest.mark.parametrize("side", ["text", "vision"])
def test_a_graph_that_computes_for_years_is_ended(side, export, small, monkeypatch):
    monkeypatch.setattr(onnx_session, "SECONDS", 0.2)
    monkeypatch.setattr(onnx_session, "FRAME_SECONDS", 0.0)
    steps = [helper.make_node("MatMul", [f"a{i}", f"a{i}"], [f"a{i + 1}"]) for i in range(2000)]
    last = helper.make_node("Identity", ["a2000"], ["extra"])
    extend(export, side, ONES, *steps, last, MEAN, ADD, big=np.int64([600, 600]))
    with pytest.raises(ExportError, match="more than 0 s"):
        open_and_use(export, side, small)


@pytest.mark.parametrize("side", ["text", "vision"])
def test_vectors_of_another_width_are_refused(side, export, small):
    extend(export, side, helper.make_node("Concat", ["before", "before"], ["vectors"], axis=1))
    with pytest.raises(ExportError, match=r"vectors float32 \[\d+, 32\]"):
        open_and_use(export, side, small)


def test_a_graph_with_a_loop_is_refused(export):
    graph = onnx.load(export / "text.onnx")
    graph.graph.node[0].op_type = "Loop"
    (export / "text.onnx").write_bytes(graph.SerializeToString())
    change(export, lambda _: None, files=["text.onnx"])
    with pytest.raises(ExportError, match="without loops"):
        load_export(export)


# --- beside runs -------------------------------------------------------------------------------


def test_the_vision_side_alone_reads_no_text(export, small):
    (export / "text.onnx").unlink()
    (export / "tokenizer.json").unlink()
    images = sorted((small.manifest.parent / "images").iterdir())[:2]
    assert load_visual(export).encode_visual(images).shape == (2, 32)


def test_a_run_is_a_run_and_an_export_an_export(export, trained):
    assert load(trained).fingerprint == load(export).fingerprint
    np.testing.assert_allclose(
        load(trained).encode_text(["red circle"]),
        load(export).encode_text(["red circle"]),
        atol=1e-5,
    )
    with pytest.raises(ConfigError, match="no such option with an export"):
        load(export, text_encoder="hf:./x")
